"""Parameters of neurons as fields of NIR nodes, and back.

NIR has one value per neuron, and times in seconds, so that scalars, and the last bit of some times,
would be lost. The values of the model are therefore also written to the metadata of the node. They
are used where the fields of the node still have these values.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

KEY = "eventsnn"
"""Key of the metadata of this package."""


class Field(NamedTuple):
    """Field of a NIR node that represents a parameter."""

    name: str
    to_nir: Callable[[Any], np.ndarray] = np.asarray
    from_nir: Callable[[np.ndarray], np.ndarray] = np.asarray


Fields = Mapping[str, Field]


def time(name: str, unit: float) -> Field:
    """Field with a time in seconds; `unit` is the unit of time of the model in seconds."""
    return Field(name, lambda t: np.asarray(t, float) * unit, lambda s: s / unit)


def decay(name: str, dt: float) -> Field:
    """Field with the time constant of a decay per step of `dt` seconds: tau = dt / (1 - beta)."""
    return Field(name, lambda beta: dt / (1 - np.asarray(beta, float)), lambda tau: 1 - dt / tau)


def written(
    model: Any, fields: Fields, shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the fields of the node of neurons of the given shape, and its metadata."""
    values = {name: np.asarray(getattr(model, name)) for name in fields}
    node = {field.name: _spread(field, values[name], shape) for name, field in fields.items()}
    return node, record(**values)


def read(node: Any, fields: Fields) -> dict[str, np.ndarray]:
    """Return the parameters by name: scalars, or arrays of the shape of the neurons."""
    return {name: _parameter(node, name, field) for name, field in fields.items()}


def record(**values: np.ndarray) -> dict[str, Any]:
    """Metadata of a node with the given arrays. HDF5 files need scalars that are no arrays."""
    return {KEY: {name: x if x.ndim else x[()] for name, x in values.items()}}


def recorded(node: Any, name: str) -> Any:
    """Value in the metadata of a node, or of a graph; None if it is missing."""
    own = node.metadata.get(KEY)
    return own.get(name) if isinstance(own, dict) else None


def numbers(node: Any, name: str) -> np.ndarray:
    """Field of a node as an array of float64. Raise unless all elements are finite."""
    value = np.asarray(getattr(node, name), float)
    if not np.all(np.isfinite(value)):
        raise ValueError(f"{name} must be finite, got {value[~np.isfinite(value)][0]}.")
    return value


def _parameter(node: Any, name: str, field: Field) -> np.ndarray:
    value, known = numbers(node, field.name), recorded(node, name)
    if known is not None and np.ndim(known) <= max(value.ndim, 1):
        try:
            if np.array_equal(_spread(field, known, value.shape), value):
                return np.asarray(known)
        except ValueError:  # another number of neurons
            pass
    return field.from_nir(value)


def _spread(field: Field, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Convert a parameter to one value per neuron; one of shape `(c,)` has a value per channel."""
    x = field.to_nir(value)
    if x.ndim == 1:
        x = x.reshape(-1, *[1] * (len(shape) - 1))
    return np.broadcast_to(x, shape).copy()
