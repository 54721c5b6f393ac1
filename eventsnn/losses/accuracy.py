"""The share of samples whose class the outputs tell."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .classes import class_labels, record, sum_populations
from .temporal import first_spike_steps


def accuracy_rate(
    spikes: Float[Array, "time *batch n_out"],
    labels: Int[Array, "*batch"],
    *,
    num_classes: int | None = None,
) -> Float[Array, ""]:
    """The share of samples in which the right output fired most.

    Of equal counts the first output's wins: a network that is silent answers class 0. A sample
    with a NaN is wrong.

    **Arguments:**

    - `spikes`: time first.
    - `labels`: the right class of each sample.
    - `num_classes`: for a population code, see [`eventsnn.losses.ce_count`][].

    **Returns:** a number in [0, 1].

    **Raises:** `ValueError` if shapes do not fit, or a label is not a class.
    """
    counts = sum_populations(jnp.sum(record("spikes", spikes), axis=0), num_classes)
    return _share(jnp.argmax(counts, axis=-1), labels, counts)


def accuracy_temporal(
    spikes: Float[Array, "time *batch num_classes"], labels: Int[Array, "*batch"]
) -> Float[Array, ""]:
    """The share of samples in which the right output fired first.

    Of equal steps the first output's wins. A silent output counts as one that fires at the last
    step. A sample with a NaN is wrong.

    **Arguments:** as for [`accuracy_rate`][].
    """
    steps = first_spike_steps(spikes)
    return _share(jnp.argmin(steps, axis=-1), labels, steps)


def _share(answers, labels, scores):
    labels = class_labels(labels, answers.shape, scores.shape[-1])
    right = answers.astype(labels.dtype) == labels
    return jnp.mean(right & ~jnp.any(jnp.isnan(scores), axis=-1))
