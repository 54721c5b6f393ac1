"""Spike-time losses of the discrete mode, in steps."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks
from .classes import class_labels, on_off
from .cross_entropy import weighted, weighted_cross_entropy
from .sequences import sequences


def first_spike_steps(
    spikes: Float[Array, "time *batch n_out"],
    *,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, "*batch n_out"]:
    r"""Step of each output's first spike, counted from 0. A silent output gets the last step.

    The derivative with respect to the spike at that step is -1, and 0 at all other steps: a
    stronger drive means an earlier spike. A silent output has the derivative -1 at the last step,
    so it can learn to fire. Equivalent to snnTorch's `SpikeTime`.

    **Arguments:**

    - `spikes`: spikes, time axis first. Every non-zero value is a spike. An output with a NaN among
        its spikes gets NaN.
    - `lengths`: number of steps of each sample, as in [`eventsnn.discrete.run_batch`][]. What
        follows has no effect, and the last step is that of the sample. Default: None, all steps.

    **Raises:** `ValueError` if `spikes` has not at least one step and one output.
    """
    return spike_steps(spikes, 1, lengths=lengths)[0]


def spike_steps(
    spikes: Float[Array, "time *batch n_out"],
    count: int,
    *,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, "count *batch n_out"]:
    """Steps of each output's first `count` spikes. Missing spikes get the last step.

    Each spike has the derivative of [`first_spike_steps`][]. snnTorch's `multi_spike` differs:
    there each spike that is found erases the spikes of *all* outputs and samples at its step.

    **Arguments:**

    - `spikes`: spikes, time axis first.
    - `count`: number of spikes per output, >= 1.
    - `lengths`: as for [`first_spike_steps`][].

    **Raises:** `ValueError` if `count` is not from 1 to the number of steps.
    """
    found = sequences("spikes", spikes, lengths)
    spikes = found.values
    if not checks.is_integer_scalar(count) or count not in range(1, spikes.shape[0] + 1):
        raise checks.value_error("count", count, f"an integer in 1 ... {spikes.shape[0]}")
    return _steps(spikes, int(count), jnp.expand_dims(found.last, -1))


def mse_temporal(
    spikes: Float[Array, "time *batch n_out"],
    targets: Int[Array, "*batch"]
    | Float[Array, "*batch n_out"]
    | Float[Array, "count *batch n_out"],
    *,
    on_target: float | Sequence[float] = 0,
    off_target: float | Sequence[float] = -1,
    tolerance: float = 0,
    weight: Float[ArrayLike, " n_out"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Mean squared error of the spike times, in units of the duration of the run,

    $$\operatorname{mean}\left[\left(\frac{k - \hat k}{T}\right)^2\right]$$

    with $k$ from [`first_spike_steps`][], or from [`spike_steps`][] for several targets per output.

    snnTorch replaces an `off_target` below 0, including its default -1, by 0 if `on_target` is
    larger. There the incorrect outputs are therefore trained to fire at step 0, too. Here -1 is the
    last step.

    **Arguments:**

    - `spikes`: spikes, time axis first.
    - `targets`: labels of shape `(*batch)`, or target steps. Steps of shape `(*batch, n_out)` are
        targets of the first spikes, steps of shape `(count, *batch, n_out)` of the first `count`
        spikes. A negative step counts from the end: -1 is the last step.
    - `on_target`, `off_target`: with labels, target steps of the output of the correct class and of
        all other outputs. For several spikes, two sequences of the same length. Defaults: 0 and
        -1.
    - `tolerance`: an error of fewer steps than this counts as 0. Default: 0.
    - `weight`: with labels, one loss weight per class. Default: None, a weight of 1 for every
        class.
    - `lengths`: as for [`first_spike_steps`][]. $T$ is the number of steps of the sample.

    **Raises:** `ValueError` if shapes or lengths do not match, a label is out of range,
    `tolerance` is negative, or `weight` is given without labels.
    """
    sequence = sequences("spikes", spikes, lengths)
    spikes, num_steps = sequence.values, jnp.expand_dims(sequence.steps, -1)
    checks.not_negative("tolerance", tolerance)
    found = checks.numbers("targets", targets)
    labels = None
    if found.ndim == spikes.ndim - 2:
        labels = class_labels(found, spikes.shape[1:-1], spikes.shape[-1], "targets")
        target_steps = _steps_of_labels(labels, spikes, on_target, off_target)
    else:
        target_steps = _target_steps(found, spikes)
    target_steps = jnp.where(target_steps < 0, target_steps + num_steps, target_steps)
    error = spike_steps(spikes, target_steps.shape[0], lengths=lengths) - target_steps
    error = jnp.where(jnp.abs(error) < jnp.asarray(tolerance, error.dtype), 0, error)
    losses = jnp.mean((error / num_steps) ** 2, axis=(0, -1))
    if labels is not None:
        losses = weighted(losses, labels, weight, spikes.shape[-1])
    elif weight is not None:
        raise checks.value_error("weight", weight, "None unless targets are labels")
    return jnp.mean(losses)


def ce_temporal(
    spikes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    inverse: Literal["negate", "reciprocal"] = "negate",
    weight: Float[ArrayLike, " num_classes"] | None = None,
    lengths: Int[ArrayLike, "*batch"] | None = None,
) -> Float[Array, ""]:
    r"""Cross entropy of the first spike times, in which an earlier spike means a larger logit:

    $$-\log \operatorname{softmax}(-k)_y \qquad \text{or} \qquad
      -\log \operatorname{softmax}\left(\frac{1}{k + 1}\right)_y$$

    with the steps $k$ of [`first_spike_steps`][]. It is the loss of the discrete-time mode;
    [`ce_ttfs`][] is that of the exact spike times of the event mode.

    **Arguments:**

    - `spikes`: spikes, time axis first.
    - `labels`: the correct class of each sample.
    - `inverse`: `"negate"` (the default) for the first form, `"reciprocal"` for the second.
    - `weight`: one loss weight per class. Default: None, a weight of 1 for every class. As in the
        other losses the plain mean over the batch is taken. snnTorch divides this loss by the sum
        of the weights.
    - `lengths`: as for [`first_spike_steps`][].

    **Returns:** the mean over the batch.

    **Raises:** `ValueError` if the shapes do not match, a label is out of range, or `inverse` is
    unknown.
    """
    checks.choice("inverse", inverse, ("negate", "reciprocal"))
    steps = first_spike_steps(spikes, lengths=lengths)
    scores = -steps if inverse == "negate" else 1 / (steps + 1)
    return weighted_cross_entropy(scores, labels, weight)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _steps(spikes, count, last):
    return _keep_nan(spikes, _indices(spikes, count, last))


@_steps.defjvp
def _steps_jvp(count, primals, tangents):
    (spikes, last), (change, _) = primals, tangents
    found = _indices(spikes, count, last)
    clock = jnp.arange(spikes.shape[0], dtype=found.dtype)
    here = found[:, None] == clock.reshape(-1, *[1] * (spikes.ndim - 1))
    return _keep_nan(spikes, found), -jnp.sum(jnp.where(here, change, 0), axis=1)


def _keep_nan(spikes, found):
    """Spike steps as floating-point numbers, NaN for an output with a NaN among its spikes."""
    broken = jnp.any(jnp.isnan(spikes), axis=0)
    return jnp.where(broken, jnp.nan, found.astype(spikes.dtype))


def _indices(spikes, count, last):
    """Indices of the first `count` spikes, at most the index of the last step."""
    fired = jnp.cumsum(spikes != 0, axis=0, dtype=jnp.int32)
    k = jnp.arange(count, dtype=jnp.int32).reshape(-1, *[1] * spikes.ndim)
    before = jnp.sum(fired <= k, axis=1, dtype=jnp.int32)
    return jnp.minimum(before, last)


def _steps_of_labels(labels, spikes, on_target, off_target):
    on, off = _on_or_off("on_target", on_target), _on_or_off("off_target", off_target)
    if on.ndim != 1 or on.shape != off.shape or on.size == 0:
        raise ValueError(
            "on_target and off_target must be two steps, or two sequences of the same length, "
            f"got {on_target!r} and {off_target!r}."
        )
    each = (
        on_off(labels, spikes.shape[-1], a, b, spikes.dtype)
        for a, b in zip(on.tolist(), off.tolist(), strict=True)
    )
    return jnp.stack(list(each))


def _on_or_off(name, value):
    steps = checks.numbers(name, value, "one step or a sequence of steps")
    checks.check_elements(name, steps, np.isfinite, "finite")
    return np.atleast_1d(np.asarray(steps))


def _target_steps(targets, spikes):
    target_steps = targets[None] if targets.ndim == spikes.ndim - 1 else targets
    if target_steps.shape[1:] != spikes.shape[1:]:
        sizes = ", ".join(map(str, spikes.shape[1:]))
        raise ValueError(
            f"targets must be labels of shape {spikes.shape[1:-1]}, or steps of shape "
            f"{spikes.shape[1:]} or (count, {sizes}), got shape {targets.shape}."
        )
    return jnp.asarray(target_steps, spikes.dtype)
