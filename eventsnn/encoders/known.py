"""What the encoders refuse. Values can be judged only where they are known: not under `jax.jit`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike


def floating(x: ArrayLike) -> Array:
    """`x` in floating point: pixels of 8 bits would wrap around in a difference."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def refuse_values(name: str, value: Array, is_good, expected: str) -> None:
    """Raise a `ValueError` with the first element that is not good, if it can be seen."""
    if isinstance(value, Tracer):
        return
    seen = np.asarray(jax.device_get(value))
    bad = np.argwhere(~is_good(seen))
    if bad.size:
        where = tuple(int(i) for i in bad[0])
        at = f" at index {where}" if where else ""
        raise ValueError(f"{name} must be {expected}, got {seen[where]}{at}.")


def real(name: str, value: float, is_good, expected: str) -> float:
    """A Python number that satisfies a condition; NaN and infinities do not."""
    if not (isinstance(value, int | float | np.number) and math.isfinite(value) and is_good(value)):
        raise ValueError(f"{name} must be {expected}, got {value!r}.")
    return float(value)


def whole(name: str, value: int, low: int = 1, high: float = math.inf) -> int:
    """A whole number within bounds."""
    number = isinstance(value, int | float | np.number) and math.isfinite(value)
    if not number or value != math.floor(value) or not low <= value <= high:
        upper = "" if high == math.inf else f" and <= {high}"
        raise ValueError(f"{name} must be an integer >= {low}{upper}, got {value!r}.")
    return int(value)
