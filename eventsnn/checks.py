"""What is refused, and how: one clear line with the argument, its value and what was expected.

Values can be judged only where they are known: under `jax.jit` and `jax.vmap` these checks see
shapes only, and bad values become a status.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, PyTree


def parameter(name: str, value: ArrayLike, *, positive: bool = False) -> Array:
    """`value` as a floating-point leaf, a scalar or of shape `(n,)`, refused if out of range.

    **Raises:** `ValueError` that names the parameter and its value.
    """
    out = jnp.asarray(value)
    if not jnp.issubdtype(out.dtype, jnp.floating):
        out = out.astype(float)
    out = jax.lax.convert_element_type(out, out.dtype)  # drops a Python float's weak type
    if out.ndim > 1:
        raise ValueError(f"{name} must be a scalar or have shape (n,), got shape {out.shape}.")
    if positive:
        refuse(name, value, ~(out > 0), "must be > 0")
    return out


def known(x: Any) -> bool:
    """Whether the value can be looked at now: it is not being traced."""
    return not isinstance(x, Tracer)


def refuse(name: str, value: ArrayLike, bad: ArrayLike, expected: str) -> None:
    """Raise a `ValueError` if `bad` is true anywhere and can be seen while building."""
    if known(bad) and np.any(np.asarray(bad)):
        raise ValueError(f"{name} {expected}, got {shown(value)}.")


def shown(value: Any) -> str:
    """A value as one short line for an error message."""
    return np.array2string(np.asarray(value), threshold=8, separator=", ").replace("\n", "")


def positive(name: str, value: float) -> float:
    """`value` as a float, refused unless finite and > 0."""
    if not (isinstance(value, int | float | np.number) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}.")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """`value` as a float, refused unless finite and >= 0."""
    if not (isinstance(value, int | float | np.number) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}.")
    return float(value)


def count(name: str, value: int) -> int:
    """`value` as an int, refused unless it is a whole number >= 1."""
    if not isinstance(value, int | float | np.number) or value != math.floor(value) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
    return int(value)


def weight_matrix(value: ArrayLike, ports: int = 1) -> Array:
    """Weights of shape `(n + n_in, ports * n)`, in floating point."""
    w = jnp.asarray(value)
    fits = w.ndim == 2 and w.shape[1] > 0 and w.shape[1] % ports == 0
    if not fits or w.shape[0] < w.shape[1] // ports:
        columns = "n" if ports == 1 else f"{ports} n"
        raise ValueError(
            f"weights must have shape (n + n_in, {columns}), rows are sources (neurons, then "
            f"input channels), got shape {w.shape}."
        )
    return w if jnp.issubdtype(w.dtype, jnp.floating) else w.astype(float)


def mask_like(value: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """A boolean mask of the weights' shape, or None."""
    if value is None:
        return None
    m = jnp.asarray(value)
    if m.shape != shape or m.dtype != bool:
        raise ValueError(
            f"mask must be boolean and have the shape {shape} of weights, "
            f"got {m.dtype} of shape {m.shape}."
        )
    return m


def delays(value: ArrayLike | None, shapes: tuple[tuple[int, ...], ...], dtype) -> Array | None:
    """Delays of one of these shapes, finite and >= 0, or None."""
    if value is None:
        return None
    d = jnp.asarray(value, dtype)
    if d.shape not in shapes:
        wanted = " (axonal) or ".join(map(str, shapes))
        raise ValueError(f"delays must have shape {wanted} (synaptic), got shape {d.shape}.")
    refuse("delays", value, ~((d >= 0) & jnp.isfinite(d)), "must be finite and >= 0")
    return d


def neuron_parameters(neuron: PyTree, n: int, dtype) -> PyTree:
    """The neuron with its parameters in the weights' dtype, each a scalar or of shape `(n,)`."""

    def one(path, x):
        if not eqx.is_inexact_array(x):
            return x
        if x.shape not in ((), (n,)):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"neuron parameter {name} must be a scalar or have shape ({n},), one value for "
                f"each column of weights, got shape {x.shape}."
            )
        return x.astype(dtype)

    return jax.tree_util.tree_map_with_path(one, neuron)


def output_indices(value: Sequence[int], n: int) -> tuple[int, ...]:
    """Different neuron indices."""
    out = tuple(int(i) for i in np.asarray(value).reshape(-1))
    if not out or not all(0 <= i < n for i in out) or len(set(out)) < len(out):
        raise ValueError(
            f"outputs must be different neuron indices in 0 ... {n - 1}, got {shown(value)}."
        )
    return out


def input_times(value: ArrayLike, n_inputs: int, dtype) -> Array:
    """Input spike times of shape `(..., n_inputs, k)`: not NaN, not negative; inf is padding."""
    x = jnp.asarray(value)
    if x.ndim < 2 or x.shape[-2] != n_inputs:
        raise ValueError(
            f"in_times must have shape (..., {n_inputs}, k), one row an input channel, "
            f"got shape {x.shape}."
        )
    if known(x):
        bad = ~(np.asarray(x) >= 0)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                "in_times must be >= 0 (inf: no spike) and not NaN, "
                f"got {np.asarray(x)[where]} at index {where}."
            )
    return x.astype(dtype)


def observation_times(value: ArrayLike, t_max: float, dtype) -> Array:
    """Times of shape `(k,)` in [0, t_max]."""
    t = jnp.asarray(value, dtype)
    if t.ndim != 1:
        raise ValueError(f"times must have shape (k,), got shape {t.shape}.")
    outside = ~((t >= 0) & (t <= t_max))
    refuse("times", value, outside, f"must lie in [0, t_max = {t_max}]")
    return t
