"""Names of the states that a run records: paths in the state of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from .. import checks
from .base import AbstractCell
from .sequential import Sequential


class Path(NamedTuple):
    """Path to a state variable."""

    name: str
    """The path as the user wrote it, such as "1.syn"."""
    layer: int
    """Index of the layer, 0 for a model that is no `Sequential`."""
    parts: tuple[str, ...]
    """Names in the state of that layer, outermost first. None of them: the whole state."""
    owner: str
    """Description of the layer, for error messages."""


def state_paths(record: str | Sequence[str], model: AbstractCell) -> tuple[Path, ...]:
    """Convert the names of states to paths. Raise unless they are strings that name layers."""
    names = (record,) if isinstance(record, str) else record
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n for n in names):
        raise checks.value_error("record", record, "the name of a state or a sequence of names")
    return tuple(_path(name, model) for name in names)


def _path(name, model):
    parts = tuple(name.split("."))
    if not isinstance(model, Sequential):
        return Path(name, 0, parts, type(model).__name__)
    layers, n = model.layers, len(model.layers)
    index = _index(parts[0], n)
    cells = [i for i, layer in enumerate(layers) if isinstance(layer, AbstractCell)]
    if index not in cells:
        expected = " or ".join(map(str, cells)) or "no layer, since none has a state"
        found = f" of layers[{index}] ({type(layers[index]).__name__})" if index is not None else ""
        raise ValueError(
            f"record must begin with the index of a layer with states, {expected}, as in "
            f"'{cells[0] if cells else 0}.mem', got {checks.short_repr(name)}{found}."
        )
    return Path(name, index, parts[1:], f"layers[{index}] ({type(layers[index]).__name__})")


def _index(text, n):
    """Convert the index of one of `n` layers to a non-negative integer, anything else to None."""
    try:
        i = int(text)
    except ValueError:
        return None
    return i % n if -n <= i < n else None


def state_at(state: Any, path: Path) -> Any:
    """Return the part of a layer's state at a path. Raise if there is none."""
    for depth, part in enumerate(path.parts):
        found = _children(state)
        if part not in found:
            before = path.name.split(".")[: -(len(path.parts) - depth)]
            names = ", ".join(repr(".".join([*before, name])) for name in found)
            raise ValueError(
                f"record must name a state of {path.owner}{f', {names}' if names else ''}, "
                f"got {checks.short_repr(path.name)}."
            )
        state = found[part]
    return state


def _children(state: Any) -> dict[str, Any]:
    """Parts of a state by name: fields of a record, keys of a dict, indices of a sequence."""
    if hasattr(state, "_asdict"):
        return state._asdict()
    if isinstance(state, Mapping):
        return {str(key): value for key, value in state.items()}
    if isinstance(state, list | tuple):
        return {str(i): value for i, value in enumerate(state)}
    if is_dataclass(state):
        return {field.name: getattr(state, field.name) for field in fields(state)}
    return {}
