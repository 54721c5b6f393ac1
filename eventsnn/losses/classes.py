"""Shared helpers of the losses: labels, class weights, population codes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks


def sum_populations(
    x: Float[Array, "*shape n_out"], num_classes: int | None
) -> Float[Array, "*shape num_classes"]:
    """Sum over the population of outputs of each class.

    The outputs are split into `num_classes` blocks of consecutive neurons, one block per class.
    Every loss accepts pooled spikes, for example `ce_rate(sum_populations(spikes, 10), labels)`.

    **Arguments:**

    - `x`: spikes or counts, with the outputs on the last axis.
    - `num_classes`: the number of classes. None returns `x` unchanged.

    **Raises:** `ValueError` if `num_classes` does not divide the number of outputs.
    """
    x = jnp.asarray(checks.numbers("x", x, boolean=True))
    if x.ndim == 0:
        raise ValueError("x must have shape (..., n_out), got shape ().")
    if num_classes is None:
        return x
    n_out = x.shape[-1]
    sizes = [n for n in range(1, n_out + 1) if n_out % n == 0]
    if not checks.is_integer_scalar(num_classes) or num_classes not in sizes:
        expected = f"an integer that divides the {n_out} outputs"
        raise checks.value_error("num_classes", num_classes, expected)
    return jnp.sum(x.reshape(*x.shape[:-1], int(num_classes), -1), axis=-1)


def at_least_float32(name: str, value: ArrayLike) -> Float[Array, "..."]:
    """Convert real numbers to float32 or higher precision."""
    return checks.at_least_float32(checks.floating(name, value, boolean=True))


def class_labels(
    value: ArrayLike,
    batch: tuple[int, ...],
    num_classes: int,
    name: str = "labels",
    of: str = "an array of shape (time, *batch, outputs)",
) -> Int[Array, "*batch"]:
    """Convert labels to int32. Raise unless there is one valid class per sample."""
    expected = f"integers of shape {batch}, one per sample of {of}"
    labels = checks.numbers(name, value, expected)
    if labels.shape != batch or not checks.is_integer(labels):
        found = f"{labels.dtype} of shape {labels.shape}"
        raise ValueError(f"{name} must be {expected}, got {found}.")
    if checks.is_concrete(labels):
        bad = (np.asarray(labels) < 0) | (np.asarray(labels) >= num_classes)
        checks.raise_if(name, labels, bad, f"must lie in 0 ... {num_classes - 1}")
    return jnp.asarray(labels).astype(jnp.int32)


def array_and_labels(
    name: str, value: ArrayLike, labels: ArrayLike, axes: tuple[str, ...]
) -> tuple[Float[Array, "..."], Int[Array, "*batch"]]:
    """Check an array of shape (*batch, *axes) and its labels. Return both.

    The array is returned in float32 or higher precision.

    **Raises:** `ValueError` if the shapes do not match, or a label is out of range.
    """
    x = at_least_float32(name, value)
    if x.ndim < len(axes) or x.size == 0:
        raise ValueError(
            f"{name} must have shape (*batch, {', '.join(axes)}), at least one of each, "
            f"got shape {x.shape}."
        )
    batch = x.shape[: x.ndim - len(axes)]
    return x, class_labels(labels, batch, x.shape[len(batch)], of=name)


def on_off(
    labels: Int[Array, "*labels"], num_classes: int, on: ArrayLike, off: ArrayLike, dtype
) -> Float[Array, "*shape num_classes"]:
    """Array with `on` at the class of the label and `off` at all other classes."""
    correct = labels[..., None] == jnp.arange(num_classes, dtype=labels.dtype)
    values = jnp.where(correct, jnp.asarray(on, dtype), jnp.asarray(off, dtype))
    return or_nan(labels[..., None], num_classes, values)


def or_nan(labels: Int[Array, "..."], num_classes: int, values: Array) -> Array:
    """Values with NaN where a label is out of range.

    Under jit such a label cannot raise an error, and indexing would select another class.
    """
    return jnp.where((labels >= 0) & (labels < num_classes), values, jnp.nan)
