"""Kinds of values: wrapped or plain, traced or concrete, integer or floating-point."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array


@runtime_checkable
class Wrapped(Protocol):
    """Protocol of wrapped parameters, such as those of `eventsnn.constraints`."""

    raw: Array

    def unwrap(self) -> Array: ...


def unwrapped(value: Any) -> Any:
    """Return the value of a wrapped leaf, and anything else unchanged."""
    return value.unwrap() if isinstance(value, Wrapped) else value


def array_or_none(value: Any) -> np.ndarray | Array | None:
    """Convert `value` to a NumPy array. JAX arrays are returned unchanged.

    None if `value` cannot be converted to an array.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ma.MaskedArray | eqx.Module):
        return None
    try:
        x = np.asarray(value)
        return np.asarray(float(value)) if x.dtype == object and isinstance(value, int) else x
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return jnp.asarray(value)  # a list of traced values
    except (TypeError, ValueError, OverflowError):
        return None


def is_concrete(x: Any) -> bool:
    """Return whether the value is concrete, not traced by JAX."""
    return not isinstance(x, Tracer)


def is_floating(x: np.ndarray | Array) -> bool:
    """Return whether an array holds floating-point numbers, of any precision."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def is_integer(x: np.ndarray | Array) -> bool:
    """Return whether an array holds integers."""
    return jnp.issubdtype(x.dtype, jnp.integer)
