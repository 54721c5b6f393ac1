"""Membrane-potential losses of the discrete mode."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks
from .classes import class_labels, on_off, time_series
from .cross_entropy import step_cross_entropy, weighted, weighted_cross_entropy


def ce_max_membrane(
    membranes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the maximal membrane potentials,
    $-\log\operatorname{softmax}(\max_t U_t)_y$
    (Cramer et al., 2022, IEEE Trans. Neural Netw. Learn. Syst. 33, 2744-2757).

    **Arguments:**

    - `membranes`: membrane potentials, time axis first.
    - `labels`: the correct class of each sample.
    - `weight`: one loss weight per class. Default: None, a weight of 1 for every class.

    **Returns:** the mean over the batch.

    **Raises:** `ValueError` if the shapes do not match, or a label is out of range.
    """
    membranes = time_series("membranes", membranes)
    return weighted_cross_entropy(jnp.max(membranes, axis=0), labels, weight)


def ce_membrane(
    membranes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the membrane potentials at each step, summed over the steps:

    $$-\sum_t \log \operatorname{softmax}(U_t)_y$$

    This is the loss of snnTorch's tutorial 5. The loss and its gradients grow with the number of
    steps.

    **Arguments:** as for [`ce_max_membrane`][].
    """
    return step_cross_entropy("membranes", membranes, labels, weight, over_time=jnp.sum)


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
    r"""Mean squared error of the membrane potentials over steps, samples and outputs:

    $$\operatorname{mean}(U_t - \hat U_t)^2$$

    Two differences from snnTorch: there a negative `off_target` below a larger `on_target` becomes
    0, and labels that vary over time have shape `(time,)`, the same for all samples.

    **Arguments:**

    - `membranes`: membrane potentials, time axis first.
    - `targets`: labels or target potentials. Integers are labels: one per sample, or one per step
        and sample. Floating-point numbers are target potentials: one per sample and output, the
        same at all steps, or one per step, sample and output.
    - `on_target`, `off_target`: with labels, target potentials of the output of the correct class
        and of all other outputs. Scalars, or arrays that broadcast against the outputs. Defaults:
        1 and 0.
    - `weight`: with labels, one loss weight per class. With labels that vary over time it applies
        to each step. Default: None, a weight of 1 for every class.

    **Raises:** `ValueError` if the shapes do not match, a label is out of range, or `weight` is
    given without labels.
    """
    membranes = time_series("membranes", membranes)
    found = checks.numbers("targets", targets)
    if checks.is_floating(found):
        if weight is not None:
            raise checks.value_error("weight", weight, "None unless targets are labels")
        return jnp.mean((membranes - _target_potentials(jnp.asarray(found), membranes)) ** 2)
    batch, n_out = membranes.shape[1:-1], membranes.shape[-1]
    batch = membranes.shape[:-1] if found.ndim == membranes.ndim - 1 else batch
    labels = class_labels(found, batch, n_out, "targets")
    on, off = (
        checks.broadcast(name, value, (n_out,), "the outputs", membranes.dtype)
        for name, value in (("on_target", on_target), ("off_target", off_target))
    )
    desired = on_off(labels, n_out, on, off, membranes.dtype)
    losses = jnp.mean((membranes - desired) ** 2, axis=-1)
    return jnp.mean(weighted(losses, labels, weight, n_out))


def _target_potentials(targets, membranes):
    # Other shapes could broadcast as well, and would compare one sample with another.
    if targets.shape not in (membranes.shape, membranes.shape[1:]):
        raise ValueError(
            f"targets must have shape {membranes.shape} of membranes, or shape "
            f"{membranes.shape[1:]} of one step, got shape {targets.shape}."
        )
    return targets.astype(membranes.dtype)
