"""Classification accuracy."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .classes import class_labels, sum_populations
from .sequences import sequences
from .temporal import first_spike_steps


def accuracy_rate(
    spikes: Float[Array, "time *batch n_out"],
    labels: Int[Array, "*batch"],
    *,
    num_classes: int | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    """Fraction of samples in which the correct output has the largest spike count.

    Ties go to the output with the lowest index, so a silent network predicts class 0. A sample
    with a NaN counts as misclassified.

    **Arguments:**

    - `spikes`: spikes, time axis first.
    - `labels`: the correct class of each sample.
    - `num_classes`: number of classes of a population code, see [`eventsnn.losses.ce_count`][].
        Default: None, one output per class.
    - `lengths`: number of steps of each sample, as in [`eventsnn.discrete.run_batch`][]. What
        follows has no effect. Default: None, all steps.

    **Returns:** a number in [0, 1].

    **Raises:** `ValueError` if the shapes do not match, or a label is out of range.
    """
    spikes = sequences("spikes", spikes, lengths).values
    counts = sum_populations(jnp.sum(spikes, axis=0), num_classes)
    return _fraction_correct(jnp.argmax(counts, axis=-1), labels, counts)


def accuracy_temporal(
    spikes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    """Fraction of samples in which the correct output fires first.

    Ties go to the output with the lowest index. A silent output counts as firing at the last step
    of the sample. A sample with a NaN counts as misclassified.

    **Arguments:** as for [`accuracy_rate`][], without `num_classes`.
    """
    steps = first_spike_steps(spikes, lengths=lengths)
    return _fraction_correct(jnp.argmin(steps, axis=-1), labels, steps)


def _fraction_correct(answers, labels, scores):
    labels = class_labels(labels, answers.shape, scores.shape[-1])
    correct = answers.astype(labels.dtype) == labels
    return jnp.mean(correct & ~jnp.any(jnp.isnan(scores), axis=-1))
