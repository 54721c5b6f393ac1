"""Spike-count losses of the discrete mode."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..checks import number
from .classes import class_labels, on_off, sum_populations
from .cross_entropy import step_cross_entropy, weighted, weighted_cross_entropy
from .sequences import Sequences, sequences


def ce_rate(
    spikes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    weight: Float[ArrayLike, " num_classes"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the spikes at each step, averaged over the steps:

    $$-\frac1T \sum_t \log \operatorname{softmax}(S_t)_y$$

    The loss is smallest if the correct output fires at every step and all others stay silent.

    There is no argument `num_classes`: with a population code, snnTorch's version of this loss
    still compares single outputs, the first `num_classes` of them. Pool the spikes of each step
    with [`sum_populations`][] instead.

    **Arguments:**

    - `spikes`: spikes, time axis first.
    - `labels`: the correct class of each sample.
    - `weight`: one loss weight per class. Default: None, a weight of 1 for every class.
    - `lengths`: number of steps of each sample, as in [`eventsnn.discrete.run_batch`][]. What
        follows has no effect. Default: None, all steps.

    **Returns:** the mean over the batch.

    **Raises:** `ValueError` if the shapes do not match, or a label is out of range.
    """
    found = sequences("spikes", spikes, lengths)
    return step_cross_entropy(found, labels, weight, over_time=Sequences.mean)


def ce_count(
    spikes: Float[Array, "time *batch n_out"],
    labels: Int[Array, "*batch"],
    *,
    num_classes: int | None = None,
    weight: Float[ArrayLike, " num_classes"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the spike counts, $-\log \operatorname{softmax}(\sum_t S_t)_y$.

    **Arguments:** as for [`ce_rate`][], and

    - `num_classes`: number of classes of a population code. Each class has `n_out / num_classes`
        consecutive outputs, and their counts are added. Default: None, one output per class.
    """
    spikes = sequences("spikes", spikes, lengths).values
    counts = sum_populations(jnp.sum(spikes, axis=0), num_classes)
    return weighted_cross_entropy(counts, labels, weight)


def mse_count(
    spikes: Float[Array, "time *batch n_out"],
    labels: Int[Array, "*batch"],
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    num_classes: int | None = None,
    weight: Float[ArrayLike, " num_classes"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Mean squared error of the spike counts, divided by the number of steps:

    $$\frac1T \operatorname{mean}\left[\left(\sum_t S_t - \hat n\right)^2\right], \qquad
      \hat n = \lfloor T r \rfloor$$

    where $T$ is the number of steps of the sample, and $r$ is `correct_rate` for the output of the
    correct class and `incorrect_rate` for the others (Shrestha & Orchard, 2018, NeurIPS,
    arXiv:1810.08646). In a population code with $m$ outputs per class,
    $\hat n = \lfloor T r m \rfloor$.

    **Arguments:** as for [`ce_count`][], and

    - `correct_rate`, `incorrect_rate`: target rates in spikes per step, in [0, 1]. Defaults: 1
        and 0.

    **Raises:** `ValueError` as for [`ce_count`][], or if a rate is not in [0, 1].
    """
    found = sequences("spikes", spikes, lengths)
    counts = sum_populations(jnp.sum(found.values, axis=0), num_classes)
    labels = class_labels(labels, counts.shape[:-1], counts.shape[-1])
    neurons = found.values.shape[-1] // counts.shape[-1]
    on = _target_counts("correct_rate", correct_rate, found, neurons)
    off = _target_counts("incorrect_rate", incorrect_rate, found, neurons)
    targets = on_off(labels, counts.shape[-1], on, off, counts.dtype)
    losses = jnp.mean((counts - targets) ** 2, axis=-1) / found.steps
    return jnp.mean(weighted(losses, labels, weight, counts.shape[-1]))


def _target_counts(name, rate, found, neurons):
    """Target count of each sample, rounded down in double precision for any number of steps."""
    rate = number(name, rate, "a number in [0, 1]", lambda v: 0 <= v <= 1)
    of_steps = np.floor(np.arange(found.values.shape[0] + 1) * rate * neurons)
    return jnp.asarray(of_steps, found.values.dtype)[found.last + 1, None]
