"""Losses of the membranes of the outputs."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks
from .classes import class_labels, cross_entropy, on_off, record, weighted


def ce_max_membrane(
    membranes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
) -> Float[Array, ""]:
    r"""The cross entropy of each membrane's maximum, $-\log\operatorname{softmax}(\max_t U_t)_y$
    (Cramer et al., 2022, IEEE Trans. Neural Netw. Learn. Syst. 33, 2744-2757).

    **Arguments:**

    - `membranes`: time first.
    - `labels`: the right class of each sample.
    - `weight`: a factor for the loss of the samples of each class. Default: 1.

    **Returns:** the mean over the batch.

    **Raises:** `ValueError` if shapes do not fit, or a label is not a class.
    """
    membranes = record("membranes", membranes)
    labels = class_labels(labels, membranes.shape[1:-1], membranes.shape[-1])
    losses = cross_entropy(jnp.max(membranes, axis=0), labels)
    return jnp.mean(weighted(losses, labels, weight, membranes.shape[-1]))


def ce_membrane_sum(
    membranes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
) -> Float[Array, ""]:
    r"""The cross entropy of the membranes of every step, summed over the steps:

    $$-\sum_t \log \operatorname{softmax}(U_t)_y$$

    The loss of snnTorch's tutorial 5. It grows with the number of steps, and so do gradients.

    **Arguments:** as for [`ce_max_membrane`][].
    """
    membranes = record("membranes", membranes)
    labels = class_labels(labels, membranes.shape[1:-1], membranes.shape[-1])
    every_step = jnp.broadcast_to(labels, membranes.shape[:-1])
    losses = jnp.sum(cross_entropy(membranes, every_step), axis=0)
    return jnp.mean(weighted(losses, labels, weight, membranes.shape[-1]))


def mse_membrane(
    membranes: Float[Array, "time *batch n_out"],
    targets: Int[Array, "*batch"]
    | Int[Array, " time *batch"]
    | Float[Array, "*batch n_out"]
    | Float[Array, "time *batch n_out"],
    *,
    on_target: float = 1.0,
    off_target: float = 0.0,
    weight: Float[ArrayLike, " n_out"] | None = None,
) -> Float[Array, ""]:
    r"""The mean squared error of the membranes over steps, samples and outputs:

    $$\operatorname{mean}(U_t - \hat U_t)^2$$

    snnTorch's own has no way to a negative `off_target`: below a larger `on_target` it becomes 0.
    Its labels that vary over time have shape `(time,)`, the same for all samples.

    **Arguments:**

    - `membranes`: time first.
    - `targets`: integers are labels, one a sample or one a step and sample; floating-point
        numbers are the membranes wanted, constant or one a step.
    - `on_target`, `off_target`: with labels, the membrane wanted of the output of the right
        class and of the others. An array that broadcasts against the outputs will do.
    - `weight`: with labels, a factor for the samples (and steps) of each class. Default: 1.

    **Raises:** `ValueError` if shapes do not fit, a label is not a class, or there is a `weight`
    without labels.
    """
    membranes = record("membranes", membranes)
    found = checks.numbers("targets", targets)
    if checks.is_floating(found):
        if weight is not None:
            raise checks.wrong("weight", weight, "None with membranes as targets, not labels")
        return jnp.mean((membranes - _wanted(jnp.asarray(found), membranes)) ** 2)
    batch, n_out = membranes.shape[1:-1], membranes.shape[-1]
    batch = membranes.shape[:-1] if found.ndim == membranes.ndim - 1 else batch
    labels = class_labels(found, batch, n_out, "targets")
    on, off = (
        checks.broadcast(name, value, (n_out,), "the outputs", membranes.dtype)
        for name, value in (("on_target", on_target), ("off_target", off_target))
    )
    wanted = on_off(labels, n_out, on, off, membranes.dtype)
    losses = jnp.mean((membranes - wanted) ** 2, axis=-1)
    return jnp.mean(weighted(losses, labels, weight, n_out))


def _wanted(targets, membranes):
    # Other shapes would broadcast, too, and compare samples with one another.
    if targets.shape not in (membranes.shape, membranes.shape[1:]):
        raise ValueError(
            f"targets must have the shape of membranes, {membranes.shape}, or that of one step, "
            f"{membranes.shape[1:]}, got shape {targets.shape}."
        )
    return targets.astype(membranes.dtype)
