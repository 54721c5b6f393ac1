"""Checks of sparse connectivity: indices of neurons, and one value per synapse."""

from typing import Any

import numpy as np
from jaxtyping import Array

from .arrays import Range, numbers, within
from .kinds import Wrapped, array_or_none, is_concrete, is_integer, unwrapped
from .messages import raise_if, value_error
from .values import LARGEST, count, is_integer_scalar


def connectivity_shape(value: Any) -> tuple[int, int]:
    """Convert `value` to the shape of a weight matrix. Raise unless it is `(n + n_in, n)`."""
    sizes = value if isinstance(value, list | tuple) else ()
    whole = all(is_integer_scalar(size) and 1 <= size <= LARGEST for size in sizes)
    if len(sizes) != 2 or not whole or sizes[0] < sizes[1]:
        raise value_error("shape", value, "two integers (n + n_in, n) with n + n_in >= n >= 1")
    return int(sizes[0]), int(sizes[1])


def synapse_indices(
    sources: Any, targets: Any, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Convert the source and the target of each synapse to int32. Raise unless they fit `shape`."""
    pre = _indices("sources", sources, shape[0])
    post = _indices("targets", targets, shape[1])
    if pre.shape != post.shape:
        raise ValueError(
            f"sources and targets must have the same length, got shapes {pre.shape} "
            f"and {post.shape}."
        )
    return pre, post


def _indices(name: str, value: Any, n: int) -> np.ndarray:
    expected = f"integers in 0 ... {n - 1}, one per synapse"
    x = array_or_none(value)
    if x is None or x.ndim != 1 or not is_integer(x):
        raise value_error(name, value, expected)
    if x.size > LARGEST:
        raise ValueError(f"{name} must have at most {LARGEST} entries, got {x.size}.")
    x = known(name, x, expected)
    raise_if(name, x, (x < 0) | (x >= n), f"must be {expected}")
    return x.astype(np.int32, copy=False)


def known(name: str, value: Any, expected: str) -> np.ndarray:
    """Convert to a NumPy array. Raise for a traced array."""
    x = array_or_none(value)
    if not is_concrete(x):
        raise value_error(
            name, value, f"{expected}, made with NumPy or outside `jax.jit`, not traced by JAX"
        )
    return np.asarray(x)


def one_each(name: str, value: Any, values: Range, sizes: dict[str, int]) -> Any:
    """Return `value` as an array. Raise unless it is a number, or has one number per item.

    `sizes` is the number of items of each kind: `{"synapse": 7}`. Wrapped values stay wrapped.
    """
    x = within(name, unwrapped(value), values)
    if x.ndim and x.shape not in [(size,) for size in sizes.values()]:
        wanted = " or ".join(f"({size},), one value per {kind}" for kind, size in sizes.items())
        raise ValueError(f"{name} must be a number or have shape {wanted}, got shape {x.shape}.")
    return value if isinstance(value, Wrapped) else x


def dense_weights(value: Any) -> np.ndarray | Array:
    """Convert weights to an array of numbers. Raise unless it has the shape `(n + n_in, n)`."""
    expected = "have shape (n + n_in, n), rows are sources (neurons, then input channels)"
    w = numbers("weights", unwrapped(value), f"real numbers and {expected}")
    if w.ndim != 2 or not w.shape[0] >= w.shape[1] >= 1:
        raise ValueError(f"weights must {expected}, got shape {w.shape}.")
    return w


def population(name: str, value: Any) -> np.ndarray:
    """Convert a number of neurons, or their distinct indices, to an array of indices, int32."""
    if is_integer_scalar(value):
        return np.arange(count(name, value), dtype=np.int32)
    expected = "a number of neurons, a range, or distinct indices of neurons, at least one"
    x = array_or_none(value)
    if x is None or x.ndim != 1 or not is_integer(x) or not is_concrete(x) or x.size == 0:
        raise value_error(name, value, expected)
    x = np.asarray(x)
    raise_if(name, x, (x < 0) | (x > LARGEST), f"must be indices in 0 ... {LARGEST}")
    if np.unique(x).size < x.size:
        raise value_error(name, value, expected)
    return x.astype(np.int32)


def positions(name: str, value: Any) -> np.ndarray:
    """Convert the positions of neurons, of shape `(neurons, dimensions)`, to a NumPy array."""
    expected = "finite numbers of shape (neurons, dimensions), with sizes >= 1"
    x = numbers(name, value, expected)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} must be {expected}, got shape {x.shape}.")
    x = known(name, x, expected)
    raise_if(name, x, ~np.isfinite(x), "must be finite")
    return x.astype(float)
