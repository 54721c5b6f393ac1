"""Errors: "<name> must be <expected>, got <value>.", with the value shortened to one line."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .kinds import array_or_none, is_concrete, unwrapped


def raise_if(name: str, value: Any, bad: ArrayLike, expected: str) -> None:
    """Raise a `ValueError` if `bad` is concrete and true anywhere.

    `expected` begins with "must". The message shows the first bad element of a large array.
    """
    if is_concrete(bad) and np.any(bad):
        x = unwrapped(value)
        small = np.size(bad) <= 8 or np.shape(x) != np.shape(bad)
        found = short_repr(x) if small else _element(x, np.asarray(bad))
        raise ValueError(f"{name} {expected}, got {found}.")


def check_elements(
    name: str, value: np.ndarray | Array, is_good: Callable[[np.ndarray], Any], expected: str
) -> None:
    """Raise a `ValueError` with the first concrete element for which `is_good` is false."""
    if is_concrete(value):
        bad = ~np.asarray(is_good(np.asarray(value)))
        if np.any(bad):
            raise ValueError(f"{name} must be {expected}, got {_element(value, bad)}.")


def value_error(name: str, value: Any, expected: str) -> ValueError:
    """Make the error "<name> must be <expected>, got <value>."."""
    return ValueError(f"{name} must be {expected}, got {short_repr(value)}.")


def short_repr(value: Any) -> str:
    """Format a value as one short line for an error message."""
    try:
        text = " ".join(_text(value).split())
    except Exception:  # an error in a user-defined repr, or an integer with too many digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:70]}...{text[-20:]}"


def _text(value: Any) -> str:
    if not isinstance(value, list | tuple | range | np.ndarray | np.generic | jax.Array):
        return repr(value)
    x = array_or_none(value)
    if x is None or not (jnp.issubdtype(x.dtype, np.number) or x.dtype == bool):
        return repr(value)
    if not is_concrete(x):
        return f"a traced array of {x.dtype} and shape {x.shape}"
    if x.ndim == 0:
        return str(np.asarray(x)[()])
    if x.ndim == 1 and x.size <= 8:
        return f"[{', '.join(map(str, np.asarray(x)))}]"
    return np.array2string(np.asarray(x), threshold=8, separator=", ")


def _element(value: Any, bad: np.ndarray) -> str:
    """Format the first bad element and its index."""
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{np.asarray(value)[where]}" + (f" at index {where}" if where else "")
