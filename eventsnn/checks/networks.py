"""Checks of the arguments of a network."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .arrays import as_floating, numbers, own_arrays
from .kinds import Wrapped, array_or_none, is_concrete, is_integer, unwrapped
from .messages import check_elements, raise_if, value_error


def weight_matrix(value: Any, receptors: int = 1) -> Any:
    """Convert weights of shape `(n + n_in, receptors * n)` to floating point.

    Wrapped weights stay wrapped.
    """
    columns = "n" if receptors == 1 else f"{receptors} n"
    expected = f"have shape (n + n_in, {columns}), rows are sources (neurons, then input channels)"
    return _matrix(value, expected, receptors, lambda rows, n: rows >= n)


def layer_weights(value: Any, receptors: int = 1) -> Any:
    """Convert weights of a layer, of shape `(n_in, receptors * n)`, to floating point.

    Wrapped weights stay wrapped.
    """
    columns = "n" if receptors == 1 else f"{receptors} n"
    expected = f"have shape (n_in, {columns}) with sizes >= 1, rows are input channels"
    return _matrix(value, expected, receptors, lambda rows, n: rows > 0)


def _matrix(value: Any, expected: str, receptors: int, fits: Callable[[int, int], bool]) -> Any:
    """Convert a matrix with `receptors * n` columns; `fits(rows, n)` must hold."""
    w = numbers("weights", unwrapped(value), f"real numbers and {expected}")
    whole_blocks = w.ndim == 2 and w.shape[1] > 0 and w.shape[1] % receptors == 0
    if not whole_blocks or not fits(w.shape[0], w.shape[1] // receptors):
        raise ValueError(f"weights must {expected}, got shape {w.shape}.")
    return own_arrays(value) if isinstance(value, Wrapped) else jnp.array(as_floating(w))


def precision(dtype: Any) -> None:
    """Raise for a dtype of fewer than 32 bits. Spike times would be wrong in the event mode."""
    if jnp.finfo(dtype).bits < 32:
        raise ValueError(f"weights must be float32 or float64 in the event mode, got {dtype}.")


def mask_like(value: Any, shape: tuple[int, ...], of: str = "weights") -> Array | None:
    """Convert a mask to a boolean array of the shape of the weights. None is returned unchanged."""
    if value is None:
        return None
    expected = f"boolean and have the shape {shape} of {of}"
    m = array_or_none(value)
    if m is None:
        raise value_error("mask", value, expected)
    if m.shape != shape or m.dtype != bool:
        raise ValueError(f"mask must be {expected}, got {m.dtype} of shape {m.shape}.")
    return jnp.asarray(m)


def delays(value: Any, shapes: tuple[tuple[int, ...], ...], dtype) -> Any:
    """Convert delays to a dtype. Raise unless they have one of the shapes and are finite and >= 0.

    Wrapped delays stay wrapped. None is returned unchanged.
    """
    if value is None:
        return None
    d = numbers("delays", unwrapped(value))
    if d.shape not in shapes:
        names = (" (axonal)", " (synaptic)") if len(shapes) > 1 else ("",)
        wanted = " or ".join(f"{shape}{name}" for shape, name in zip(shapes, names, strict=True))
        raise ValueError(f"delays must have shape {wanted}, got shape {d.shape}.")
    check_elements("delays", d, lambda v: (v >= 0) & np.isfinite(v), "finite and >= 0")
    return own_arrays(value, dtype) if isinstance(value, Wrapped) else jnp.array(d, dtype)


def output_indices(value: Any, n: int) -> tuple[int, ...]:
    """Convert the outputs to a tuple. Raise unless they are distinct neuron indices."""
    x = array_or_none(value)
    valid = x is not None and is_concrete(x) and is_integer(x)
    out = tuple(int(i) for i in np.asarray(x).reshape(-1)) if valid else ()
    if not out or not all(0 <= i < n for i in out) or len(set(out)) < len(out):
        raise value_error("outputs", value, f"distinct neuron indices in 0 ... {n - 1}")
    return out


def input_times(value: Any, n_inputs: int, dtype, throw: bool = True) -> Array:
    """Convert input spike times of shape `(..., n_inputs, k)` to a dtype.

    Raise for NaN and negative times, unless `throw` is false. `inf` is padding.
    """
    x = numbers("in_times", value)
    if x.ndim < 2 or x.shape[-2] != n_inputs:
        raise ValueError(
            f"in_times must have shape (..., {n_inputs}, k), one row per input channel, "
            f"got shape {x.shape}."
        )
    if throw:
        check_elements("in_times", x, lambda v: v >= 0, ">= 0 (inf: no spike) and not NaN")
    return jnp.asarray(x, dtype)


def observation_times(value: Any, t_max: float, dtype) -> Array:
    """Convert observation times of shape `(k,)` to a dtype. Raise unless they are in [0, t_max]."""
    t = numbers("times", value)
    if t.ndim != 1:
        raise ValueError(f"times must have shape (k,), got shape {t.shape}.")
    if is_concrete(t):
        outside = ~((np.asarray(t) >= 0) & (np.asarray(t) <= t_max))
        raise_if("times", t, outside, f"must lie in [0, t_max = {t_max}]")
    return jnp.asarray(t, dtype)


def kernel(name: str, value: Any) -> Any:
    """Convert the kernel of a convolution, with four axes, to floating point.

    A wrapped kernel stays wrapped.
    """
    expected = "have shape (c_out, c_in, kh, kw) with sizes >= 1"
    w = numbers(name, unwrapped(value), f"real numbers and {expected}")
    if w.ndim != 4 or 0 in w.shape:
        raise ValueError(f"{name} must {expected}, got shape {w.shape}.")
    return own_arrays(value) if isinstance(value, Wrapped) else jnp.array(as_floating(w))


def image_of_trains(
    value: Any,
    window: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    channels: int | None = None,
    throw: bool = False,
) -> Array:
    """Convert spike times of shape `(..., c, h, w, k)` to an array.

    Raise for another number of channels, or an image that is smaller than the window after padding
    and, with `throw`, for NaN and negative times. `inf` is padding of the trains.
    """
    x = numbers("in_times", value)
    c = "c" if channels is None else channels
    if x.ndim < 4 or channels not in (None, x.shape[-4]):
        raise ValueError(f"in_times must have shape (..., {c}, h, w, k), got shape {x.shape}.")
    height, width = (n + 2 * p for n, p in zip(x.shape[-3:-1], padding, strict=True))
    if height < window[0] or width < window[1]:
        raise ValueError(
            f"in_times must have shape (..., {c}, h, w, k) with an image, after padding, of at "
            f"least {window[0]} x {window[1]}, got shape {x.shape} with a padding of {padding}."
        )
    if throw:
        check_elements("in_times", x, lambda v: v >= 0, ">= 0 (inf: no spike) and not NaN")
    return jnp.asarray(as_floating(x))
