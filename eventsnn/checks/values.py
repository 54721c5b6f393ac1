"""Checks of single values: numbers, names, functions, keys, paths, dtypes."""

import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from .messages import short_repr, value_error

#: Largest count, since all counters of the package have 32 bits.
LARGEST = 2**31 - 1


def is_real_scalar(value: Any) -> TypeGuard[float]:
    """Return whether a value is one real number, finite or not. Booleans are not numbers."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_integer_scalar(value: Any) -> TypeGuard[int]:
    """Return whether a value is one integer, of Python or NumPy. Booleans are not integers."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def number(
    name: str,
    value: Any,
    expected: str = "a finite number",
    is_good: Callable[[float], bool] = lambda _: True,
) -> float:
    """Convert `value` to a float. Raise unless it is one finite number that satisfies `is_good`."""
    try:
        good = is_real_scalar(value) and math.isfinite(value) and is_good(value)
    except OverflowError:  # an integer beyond the range of floats
        good = False
    if not good:
        raise value_error(name, value, expected)
    return float(value)


def positive(name: str, value: Any) -> float:
    """Convert `value` to a float. Raise unless it is finite and > 0."""
    return number(name, value, "a finite number > 0", lambda v: v > 0)


def not_negative(name: str, value: Any) -> float:
    """Convert `value` to a float. Raise unless it is finite and >= 0."""
    return number(name, value, "a finite number >= 0", lambda v: v >= 0)


def count(name: str, value: Any) -> int:
    """Convert `value` to an int. Raise unless it is an integer from 1 to 2**31 - 1."""
    return integer(name, value)


def count_or_none(name: str, value: Any) -> int | None:
    """Convert `value` to an integer as `count`. None is returned unchanged."""
    return None if value is None else count(name, value)


def pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """Convert one integer or two to a pair of integers. Raise unless they are >= `least`."""
    expected = f"an integer >= {least} or two of them"
    both = (value, value) if is_integer_scalar(value) else value
    if not isinstance(both, list | tuple) or len(both) != 2:
        raise value_error(name, value, expected)
    if not all(is_integer_scalar(v) and least <= v <= LARGEST for v in both):
        raise value_error(name, value, expected)
    return int(both[0]), int(both[1])


def integer(name: str, value: Any, low: int = 1, high: int = LARGEST) -> int:
    """Convert `value` to an int. Raise unless it is an integer from `low` to `high`."""
    if not is_integer_scalar(value) or not low <= value <= high:
        too_large = is_integer_scalar(value) and value > high
        upper = f" and <= {high}" if too_large or high < LARGEST else ""
        raise value_error(name, value, f"an integer >= {low}{upper}")
    return int(value)


def index(name: str, value: Any, n: int) -> int:
    """Convert `value` to an int. Raise unless it is an integer from 0 to `n` - 1."""
    if not is_integer_scalar(value) or value not in range(n):
        raise value_error(name, value, f"an integer in 0 ... {n - 1}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Convert `value` to a bool. Raise unless it is a boolean of Python or NumPy."""
    if not isinstance(value, bool | np.bool_):
        raise value_error(name, value, "True or False")
    return bool(value)


def choice(name: str, value: Any, options: Sequence[str]) -> Any:
    """Return `value`. Raise unless it is one of the strings in `options`."""
    if not isinstance(value, str) or value not in options:
        raise value_error(name, value, " or ".join(f'"{option}"' for option in options))
    return value


def function(name: str, value: Any, expected: str = "a function") -> Any:
    """Return `value`. Raise unless it is callable."""
    if not callable(value):
        raise value_error(name, value, expected)
    return value


def instance(name: str, value: Any, kind: Any, expected: str) -> Any:
    """Return `value`. Raise unless it is an instance of `kind`, one or several classes."""
    if not isinstance(value, kind):
        raise value_error(name, value, expected)
    return value


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Convert `value` to a tuple of ints. Raise unless all elements are integers >= 0."""
    expected = "a tuple of integers >= 0"
    sizes = instance(name, value, list | tuple, expected)
    if not all(is_integer_scalar(n) and 0 <= n <= LARGEST for n in sizes):
        raise value_error(name, value, expected)
    return tuple(int(n) for n in sizes)


def key(name: str, value: Any) -> Any:
    """Return `value`. Raise unless it is one JAX random key, typed or raw."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    raw = isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32
    if not (typed and value.ndim == 0) and not (raw and value.shape in ((2,), (4,))):
        raise value_error(name, value, "one jax.random key")
    return value


def path(name: str, value: Any) -> pathlib.Path:
    """Convert `value` to a path.

    **Raises:** `TypeError` unless it is a string, or an `os.PathLike` object that returns one.
    """
    try:
        return pathlib.Path(value)
    except TypeError:
        raise TypeError(f"{name} must be a path, got {short_repr(value)}.") from None


def real_dtype(name: str, value: Any) -> Any:
    """Return `value`. Raise unless it is a dtype of booleans, integers or floats."""
    expected = "a dtype of real numbers"
    if value is None:
        raise value_error(name, value, expected)
    try:
        found = jnp.dtype(value)
    except TypeError:
        raise value_error(name, value, expected) from None
    if not any(jnp.issubdtype(found, kind) for kind in (np.bool_, np.integer, np.floating)):
        raise value_error(name, value, expected)
    return value
