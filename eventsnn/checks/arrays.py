"""Checks of arrays and of the parameters of neurons."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from .kinds import Wrapped, array_or_none, is_concrete, is_floating, is_integer, unwrapped
from .messages import check_elements, raise_if, value_error


def numbers(
    name: str, value: Any, expected: str = "an array of real numbers", *, boolean: bool = False
) -> np.ndarray | Array:
    """Convert `value` to an array of integers or floating-point numbers.

    Booleans are accepted only with `boolean`.

    **Raises:** `ValueError` for anything else: strings, None, complex numbers, ragged lists.
    """
    x = array_or_none(value)
    if x is None or not (is_floating(x) or is_integer(x) or (boolean and x.dtype == bool)):
        raise value_error(name, value, expected)
    return x


def floating(
    name: str, value: Any, expected: str = "an array of real numbers", *, boolean: bool = False
) -> Array:
    """Convert `value` to a floating-point array, with the same checks as [`numbers`][]."""
    return as_floating(numbers(name, value, expected, boolean=boolean))


def as_floating(x: np.ndarray | Array) -> Array:
    """Convert an array to floating point, without the weak type of Python numbers."""
    out = jnp.asarray(x if is_floating(x) else x.astype(float))
    return jax.lax.convert_element_type(out, out.dtype)


def at_least_float32(x: Array) -> Array:
    """Convert half precision to float32; other floating-point arrays are returned unchanged."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def broadcast(name: str, value: Any, shape: tuple[int, ...], other: str, dtype: Any) -> Array:
    """Convert `value` to a dtype. Raise unless it is finite and broadcasts to `shape`.

    `other` is the name of the array of that shape, for the error message.
    """
    x = numbers(name, value, "a real number or an array of real numbers")
    try:
        good = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            f"{name} must be a number or broadcast to the shape {shape} of {other}, "
            f"got shape {x.shape}."
        )
    check_elements(name, x, np.isfinite, "finite")
    return jnp.asarray(x, dtype)


class Range(NamedTuple):
    """Range of allowed values of the elements of an array."""

    expected: str
    """Text for the error message, beginning with "must"."""
    contains: Callable[[np.ndarray], Any]
    """Function that returns for each element whether it is allowed."""


FINITE = Range("must be finite", np.isfinite)
POSITIVE = Range("must be finite and > 0", lambda x: (x > 0) & (x < math.inf))
NOT_NEGATIVE = Range("must be finite and >= 0", lambda x: (x >= 0) & (x < math.inf))


def within(name: str, value: Any, values: Range = FINITE) -> np.ndarray | Array:
    """Convert `value` as [`numbers`][] does. Raise unless all elements are in a range.

    The elements are checked in the dtype that JAX gives them: in float32, 1e-60 is 0.
    """
    x = numbers(name, value, "a real number or an array of real numbers")
    if is_concrete(x):
        raise_if(name, x, ~np.asarray(values.contains(_as_jax_dtype(x))), values.expected)
    return x


def _as_jax_dtype(x: np.ndarray | Array) -> np.ndarray:
    """Convert a concrete array to the dtype that [`as_floating`][] gives it, as a NumPy array."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype if is_floating(x) else float)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x).astype(dtype)


def parameter(name: str, value: Any, *, positive: bool = False, not_negative: bool = False) -> Any:
    """Convert `value` to a floating-point leaf, a scalar or of shape `(n,)`.

    A wrapped leaf stays wrapped. An array is copied, so that no two leaves share a buffer.

    **Raises:** `ValueError` for a value that is not finite. With `positive`, also unless it is > 0.
    With `not_negative`, also unless it is >= 0.
    """
    x = numbers(name, unwrapped(value), "a real number or an array of shape (n,)")
    if x.ndim > 1:
        raise ValueError(f"{name} must be a scalar or have shape (n,), got shape {x.shape}.")
    if is_concrete(x):
        v = _as_jax_dtype(x)
        if positive or not_negative:
            sign = "> 0" if positive else ">= 0"
            raise_if(name, x, ~(v > 0 if positive else v >= 0), f"must be {sign}")
        raise_if(name, x, ~np.isfinite(v), "must be finite")
    return own_arrays(value) if isinstance(value, Wrapped) else jnp.array(as_floating(x))


def above(name: str, value: Any, bound: str, low: Any) -> None:
    """Raise unless a parameter is above another one, elementwise, and has a matching length.

    `bound` and `low` are name and value of the other parameter.
    """
    x, y = unwrapped(value), unwrapped(low)
    same_length(name, x, bound, y)
    if is_concrete(x) and is_concrete(y):
        x, y = np.asarray(x), np.asarray(y)
        raise_if(name, x, ~(x > y), f"must be above {bound}")


def same_length(name: str, value: Any, other: str, reference: Any) -> None:
    """Raise if two parameters have different shapes and neither is a scalar."""
    a, b = np.shape(unwrapped(value)), np.shape(unwrapped(reference))
    if a and b and a != b:
        raise ValueError(f"{name} must be a scalar or have shape {b}, as {other}, got shape {a}.")


def own_arrays(tree: PyTree, dtype: Any = None) -> PyTree:
    """Copy the floating-point arrays of a pytree to their own buffers, in a dtype."""
    return jax.tree.map(lambda x: jnp.array(x, dtype) if eqx.is_inexact_array(x) else x, tree)


def lengths(value: Any, batch: tuple[int, ...], num_steps: int) -> Int[Array, "*batch"] | None:
    """Convert the lengths of sequences to int32. None is returned unchanged.

    Raise unless there is one length per sample, from 1 to `num_steps`.
    """
    if value is None:
        return None
    expected = f"integers of shape {batch}, one per sample" if batch else "an integer"
    x = numbers("lengths", value, expected)
    if x.shape != batch or not is_integer(x):
        raise ValueError(f"lengths must be {expected}, got {x.dtype} of shape {x.shape}.")
    if is_concrete(x):
        v = np.asarray(x)
        raise_if("lengths", x, (v < 1) | (v > num_steps), f"must lie in 1 ... {num_steps}")
    return jnp.asarray(x).astype(jnp.int32)
