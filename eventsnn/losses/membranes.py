"""Membrane-potential losses of the discrete mode."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks
from .classes import class_labels, on_off
from .cross_entropy import step_cross_entropy, weighted, weighted_cross_entropy
from .sequences import Sequences, sequences


def ce_max_membrane(
    membranes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the maximal membrane potentials,
    $-\log\operatorname{softmax}(\max_t U_t)_y$
    (Cramer et al., 2022, IEEE Trans. Neural Netw. Learn. Syst. 33, 2744-2757).

    **Arguments:**

    - `membranes`: membrane potentials, time axis first.
    - `labels`: the correct class of each sample.
    - `weight`: one loss weight per class. Default: None, a weight of 1 for every class.
    - `lengths`: number of steps of each sample, as in [`eventsnn.discrete.run_batch`][]. What
        follows has no effect. Default: None, all steps.

    **Returns:** the mean over the batch.

    **Raises:** `ValueError` if the shapes do not match, or a label is out of range.
    """
    found = sequences("membranes", membranes, lengths)
    maxima = jnp.max(found.until_end(found.values, after=-jnp.inf), axis=0)
    return weighted_cross_entropy(maxima, labels, weight)


def ce_membrane(
    membranes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the membrane potentials at each step, summed over the steps:

    $$-\sum_t \log \operatorname{softmax}(U_t)_y$$

    This is the loss of snnTorch's tutorial 5. The loss and its gradients grow with the number of
    steps.

    **Arguments:** as for [`ce_max_membrane`][].
    """
    found = sequences("membranes", membranes, lengths)
    return step_cross_entropy(found, labels, weight, over_time=Sequences.sum)


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
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Mean squared error of the membrane potentials over steps, samples and outputs:

    $$\operatorname{mean}\left[(U_t - \hat U_t)^2\right]$$

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
    - `lengths`: number of steps of each sample, as in [`eventsnn.discrete.run_batch`][]. What
        follows has no effect, in the targets as well. The mean over the steps of each sample is
        taken first, then the mean over the samples. Default: None, all steps.

    **Raises:** `ValueError` if the shapes do not match, a label is out of range, or `weight` is
    given without labels.
    """
    found, given = sequences("membranes", membranes, lengths), checks.numbers("targets", targets)
    membranes = found.values
    if checks.is_floating(given):
        if weight is not None:
            raise checks.value_error("weight", weight, "None unless targets are labels")
        return _mean_square(found, _target_potentials(jnp.asarray(given), membranes))
    n_out, batch = membranes.shape[-1], membranes.shape[1:-1]
    if given.ndim == membranes.ndim - 1:
        batch = membranes.shape[:-1]
        given = found.until_end(jnp.asarray(given)) if given.shape == batch else given
    labels = class_labels(given, batch, n_out, "targets")
    on, off = (
        checks.broadcast(name, value, (n_out,), "the outputs", membranes.dtype)
        for name, value in (("on_target", on_target), ("off_target", off_target))
    )
    desired = on_off(labels, n_out, on, off, membranes.dtype)
    return _mean_square(found, desired, lambda losses: weighted(losses, labels, weight, n_out))


def _mean_square(found, desired, weigh=lambda losses: losses):
    """Mean squared error over the outputs and the steps of each sample, then over the samples."""
    error = found.until_end(found.values - desired)
    return jnp.mean(found.mean(weigh(jnp.mean(error**2, axis=-1))))


def _target_potentials(targets, membranes):
    # Other shapes could broadcast as well, and would compare one sample with another.
    if targets.shape not in (membranes.shape, membranes.shape[1:]):
        raise ValueError(
            f"targets must have shape {membranes.shape} of membranes, or shape "
            f"{membranes.shape[1:]} of one step, got shape {targets.shape}."
        )
    return targets.astype(membranes.dtype)
