"""What the losses of the discrete mode share: records, labels, class weights, populations."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int


def sum_populations(
    x: Float[Array, "*shape n_out"], num_classes: int | None
) -> Float[Array, "*shape num_classes"]:
    """The sum over each class's population of outputs.

    The outputs are cut into `num_classes` blocks of consecutive neurons, one a class. Pooled
    spikes can be handed to every loss, as in `ce_rate(sum_populations(spikes, 10), labels)`.

    **Arguments:**

    - `x`: spikes or counts, with the outputs on the last axis.
    - `num_classes`: the number of classes; None leaves `x` as it is.

    **Raises:** `ValueError` if `num_classes` does not divide the number of outputs.
    """
    if num_classes is None:
        return x
    n_out = x.shape[-1]
    if not isinstance(num_classes, int | np.integer) or num_classes < 1 or n_out % num_classes:
        raise ValueError(
            f"num_classes must be an integer that divides the {n_out} outputs, got {num_classes!r}."
        )
    return jnp.sum(x.reshape(*x.shape[:-1], int(num_classes), -1), axis=-1)


def record(name: str, value: ArrayLike) -> Float[Array, "time *batch n_out"]:
    """Spikes or membranes in float32 or more, so that counts and steps are whole numbers."""
    x = jnp.asarray(value)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"{name} must have shape (time, *batch, outputs), at least one of each, "
            f"got shape {x.shape}."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(float)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def class_labels(
    value: ArrayLike, batch: tuple[int, ...], num_classes: int, name: str = "labels"
) -> Int[Array, "*batch"]:
    """Labels as int32, refused unless they are one class a sample."""
    labels = jnp.asarray(value)
    if labels.shape != batch or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be integers of shape {batch}, one for each sample of a record of shape "
            f"(time, *batch, outputs), got {labels.dtype} of shape {labels.shape}."
        )
    if not isinstance(labels, Tracer):
        bad = np.asarray(labels)
        bad = bad[(bad < 0) | (bad >= num_classes)]
        if bad.size:
            raise ValueError(f"{name} must lie in 0 ... {num_classes - 1}, got {bad[0]}.")
    return labels.astype(jnp.int32)


def on_off(
    labels: Int[Array, "*shape"], num_classes: int, on: ArrayLike, off: ArrayLike, dtype
) -> Float[Array, "*shape num_classes"]:
    """`on` for the class of the label, `off` for the others."""
    right = labels[..., None] == jnp.arange(num_classes, dtype=labels.dtype)
    values = jnp.where(right, jnp.asarray(on, dtype), jnp.asarray(off, dtype))
    return _or_nan(labels[..., None], num_classes, values)


def cross_entropy(
    logits: Float[Array, "*shape num_classes"], labels: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of each label under a softmax of `logits`."""
    log_p = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_p, labels[..., None], axis=-1, mode="clip")[..., 0]
    return -_or_nan(labels, logits.shape[-1], picked)


def weighted(
    losses: Float[Array, "*shape"],
    labels: Int[Array, "*shape"],
    weight: Float[ArrayLike, " num_classes"] | None,
    num_classes: int,
) -> Float[Array, "*shape"]:
    """Each sample's loss times the weight of its class."""
    if weight is None:
        return losses
    if jnp.shape(weight) != (num_classes,):
        raise ValueError(
            f"weight must have shape ({num_classes},), one for each class, "
            f"got shape {jnp.shape(weight)}."
        )
    return losses * jnp.asarray(weight, losses.dtype)[labels]


def _or_nan(labels, num_classes, values):
    # Under jit the value of a label cannot be refused, and indexing would take another class.
    return jnp.where((labels >= 0) & (labels < num_classes), values, jnp.nan)
