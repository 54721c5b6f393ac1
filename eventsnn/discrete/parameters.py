"""Parameters of cells: conversion, range and shape."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .. import checks

ArrayOrStruct = Array | jax.ShapeDtypeStruct
ResetName = Literal["subtract", "zero", "set", "none"]
RESETS = ("subtract", "zero", "set", "none")

UNIT_INTERVAL = checks.Range("must lie in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def to_parameter(name: str, values: checks.Range = checks.FINITE) -> Callable[[ArrayLike], Array]:
    """Make a converter for a parameter, which is a scalar or has one value per neuron.

    The converter returns a floating-point array and raises for values out of range.
    """

    def convert(value: ArrayLike) -> Array:
        return checks.as_floating(checks.within(name, value, values))

    return convert


def to_layer(name: str, kind: type) -> Callable[[Any], Any]:
    """Make a converter for a layer of `equinox.nn`, which raises for anything else."""
    return lambda value: checks.instance(name, value, kind, f"an equinox.nn.{kind.__name__}")


def check_broadcast(name: str, value: Array, other: str, reference: Array) -> None:
    """Raise if the shape of a parameter does not broadcast against the shape of another one."""
    try:
        np.broadcast_shapes(value.shape, reference.shape)
    except ValueError:
        raise ValueError(
            f"{name} must have a shape that broadcasts against {reference.shape} of {other}, "
            f"got shape {value.shape}."
        ) from None


def parameter_like(value: Any, x: ArrayOrStruct, name: str) -> Array:
    """Unwrap a parameter and convert it to the dtype of `x`.

    Raise unless it is a scalar, or has as many axes as `x`, each of the same length or of length 1.
    """
    value = jnp.asarray(checks.unwrapped(value))
    fits = value.ndim == 0 or (
        value.ndim == len(x.shape)
        and all(have in (1, n) for have, n in zip(value.shape, x.shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"{name} must be a scalar or have one value per neuron, for inputs of shape "
            f"{tuple(x.shape)}, got shape {value.shape} (an axis of length 1 shares a value: "
            "(C, 1, 1) is per channel)."
        )
    return value.astype(x.dtype)


def decay(value: Array, x: Array, name: str) -> Array:
    """Clip a decay rate to [0, 1], as [`clipped`][]."""
    return clipped(parameter_like(value, x, name), 0, 1)


def clipped(value: Array, low: float, high: float) -> Array:
    """Clip a value to [low, high].

    The derivative is 1 on the closed interval, including the limits, where `jnp.clip` has the
    derivative 1/2. It is 0 outside.
    """
    inside = (value >= low) & (value <= high)
    return jnp.where(inside, value, jax.lax.stop_gradient(jnp.clip(value, low, high)))


def zero_state(x: ArrayOrStruct) -> Array:
    """Array of zeros with the shape and dtype of `x`. Raise unless `x` is one float array."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"inputs of a cell must be one array, got {type(x).__name__}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"inputs of a cell must be floating-point, got {x.dtype}.")
    return jnp.zeros(x.shape, x.dtype)


def reset_name(value: Any) -> ResetName:
    """Return `value`. Raise unless it is the name of a reset."""
    return checks.choice("reset", value, RESETS)


reset_delay = partial(checks.flag, "reset_delay")
