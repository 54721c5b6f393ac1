"""Layers of a model: its parts, with their places in it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import PyTree

from .. import discrete
from ..constraints import AbstractWrapper
from ..event import EventSequential, Populations, Refractory

#: Modules whose layers are applied one after the other.
SEQUENCES = EventSequential | discrete.Sequential | eqx.nn.Sequential

_LIBRARY = ("equinox", "eventsnn.event", "eventsnn.discrete")


class Part(NamedTuple):
    """A layer, or the arrays that a user-defined module has besides its layers."""

    name: str
    """Place in the model; empty for the model itself."""
    content: PyTree
    """The layer, or these arrays."""
    owner: Any
    """The module with these arrays; for a layer, the layer."""

    @property
    def whole(self) -> bool:
        """True for a layer."""
        return self.content is self.owner


def parts(node: Any, name: str = "") -> Iterator[Part]:
    """Yield the layers of a model, in order."""
    if not is_composed(node):
        yield Part(name, node, node)
        return
    own = []
    for path, inner in children(node):
        if eqx.is_array(inner) or isinstance(inner, AbstractWrapper):
            own.append(inner)
        elif isinstance(inner, eqx.Module) or isinstance(node, SEQUENCES):
            yield from parts(inner, joined(name, path))
    if own:
        yield Part(name, own, node)


def joined(name: str, path: str) -> str:
    """Place of a part in a model, from the place of the module and its path in that module."""
    return f"{name}{path}" if name else path.lstrip(".")


def is_composed(node: Any) -> bool:
    """Return whether a module consists of layers: a sequence, or a user-defined module."""
    if isinstance(node, SEQUENCES):
        return True
    if not isinstance(node, eqx.Module) or type(node).__module__.startswith(_LIBRARY):
        return False
    return any(_is_module(inner) for _, inner in children(node))


def children(node: eqx.Module) -> list[tuple[str, Any]]:
    """Modules, arrays and functions in the fields of a module, with their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(
        node, is_leaf=lambda x: x is not node and isinstance(x, eqx.Module)
    )
    return [(jax.tree_util.keystr(path), inner) for path, inner in leaves]


def type_of(layer: Callable[..., Any]) -> str:
    """Name of the type of a layer, with the type of its neurons."""
    name = type(layer).__name__ if isinstance(layer, eqx.Module) else _function_name(layer)
    neuron = getattr(layer, "neuron", None)
    return name if neuron is None else f"{name} ({_neurons(neuron)})"


def _neurons(neuron: Any) -> str:
    if isinstance(neuron, Populations):
        return ", ".join(dict.fromkeys(map(_neurons, neuron.parts)))
    if isinstance(neuron, Refractory):
        return f"Refractory {_neurons(neuron.neuron)}"
    return type(neuron).__name__


def _function_name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _is_module(x: Any) -> bool:
    return isinstance(x, eqx.Module) and not isinstance(x, AbstractWrapper)
