"""Cross entropy of labels, and class weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks
from .classes import class_labels, or_nan
from .sequences import Sequences


def cross_entropy(
    logits: Float[Array, "*shape num_classes"], labels: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Negative log-likelihood of each label under a softmax of `logits`."""
    log_p = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_p, labels[..., None], axis=-1, mode="clip")[..., 0]
    return -or_nan(labels, logits.shape[-1], picked)


def weighted(
    losses: Float[Array, "*shape"],
    labels: Int[Array, "..."],
    weight: Float[ArrayLike, " num_classes"] | None,
    num_classes: int,
) -> Float[Array, "*shape"]:
    """Loss of each sample times the weight of its class."""
    if weight is None:
        return losses
    factors = checks.numbers("weight", weight)
    if factors.shape != (num_classes,):
        raise ValueError(
            f"weight must have shape ({num_classes},), one per class, got shape {factors.shape}."
        )
    good = "finite and >= 0"
    checks.check_elements("weight", factors, lambda v: np.isfinite(v) & (v >= 0), good)
    return losses * jnp.asarray(factors, losses.dtype)[labels]


def weighted_cross_entropy(
    scores: Float[Array, "*batch num_classes"],
    labels: Int[Array, "*batch"],
    weight: Float[ArrayLike, " num_classes"] | None,
) -> Float[Array, ""]:
    """Mean over the batch of the cross entropy of each sample times the weight of its class."""
    labels = class_labels(labels, scores.shape[:-1], scores.shape[-1])
    return jnp.mean(weighted(cross_entropy(scores, labels), labels, weight, scores.shape[-1]))


def step_cross_entropy(
    found: Sequences,
    labels: Int[Array, "*batch"],
    weight: Float[ArrayLike, " num_classes"] | None,
    *,
    over_time: Callable[[Sequences, Array], Array],
) -> Float[Array, ""]:
    """Cross entropy of each step, reduced by `Sequences.sum` or `Sequences.mean`; mean of the
    batch."""
    outputs = found.values
    labels = class_labels(labels, outputs.shape[1:-1], outputs.shape[-1])
    every_step = jnp.broadcast_to(labels, outputs.shape[:-1])
    losses = over_time(found, cross_entropy(outputs, every_step))
    return jnp.mean(weighted(losses, labels, weight, outputs.shape[-1]))
