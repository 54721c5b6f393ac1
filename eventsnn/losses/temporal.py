"""Losses of when the outputs fire, in steps."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .. import checks
from .classes import class_labels, cross_entropy, on_off, record, weighted


def first_spike_steps(spikes: Float[Array, "time *batch n_out"]) -> Float[Array, "*batch n_out"]:
    r"""The step of each output's first spike, counted from 0; the last step if it is silent.

    The derivative with respect to the spike at that step is -1, and 0 for all others: more drive
    means an earlier spike. A silent output has its derivative at the last step, too, so that it
    can learn to fire. The same as snnTorch's `SpikeTime`.

    **Arguments:**

    - `spikes`: time first; whatever is not 0 is a spike. With a NaN among an output's spikes
        its step is NaN.

    **Raises:** `ValueError` if `spikes` has not at least one step and one output.
    """
    return spike_steps(spikes, 1)[0]


def spike_steps(
    spikes: Float[Array, "time *batch n_out"], count: int
) -> Float[Array, "count *batch n_out"]:
    """The steps of each output's first `count` spikes, and the last step for those it lacks.

    The derivative is that of [`first_spike_steps`][] for each. snnTorch's `multi_spike` differs:
    there every spike found erases the spikes of *all* outputs and samples at its step.

    **Arguments:**

    - `spikes`: time first.
    - `count`: how many, at least 1.

    **Raises:** `ValueError` if `count` is not from 1 to the number of steps.
    """
    spikes = record("spikes", spikes)
    if not checks.is_whole(count) or count not in range(1, spikes.shape[0] + 1):
        raise checks.wrong("count", count, f"an integer in 1 ... {spikes.shape[0]}")
    return _steps(spikes, int(count))


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
) -> Float[Array, ""]:
    r"""The mean squared error of spike times in units of the whole time,

    $$\operatorname{mean}\left(\frac{k - \hat k}{T}\right)^2$$

    with $k$ from [`first_spike_steps`][], or from [`spike_steps`][] for several targets an output.

    snnTorch turns an `off_target` below 0, its default -1 included, into 0 if `on_target` is
    larger: there the wrong outputs are asked to fire at once as well. Here -1 is the last step.

    **Arguments:**

    - `spikes`: time first.
    - `targets`: labels of shape `(*batch)`; or steps of shape `(*batch, n_out)` for the first
        spikes, or `(count, *batch, n_out)` for the first `count`. A step below 0 counts from the
        end: -1 is the last.
    - `on_target`, `off_target`: with labels, the step wanted of the output of the right class and
        of the others; for several spikes a sequence each, of the same length.
    - `tolerance`: a spike less than this many steps off costs nothing.
    - `weight`: with labels, a factor for the samples of each class. Default: 1.

    **Raises:** `ValueError` if shapes or lengths do not fit, a label is not a class, `tolerance`
    is negative, or there is a `weight` without labels.
    """
    spikes = record("spikes", spikes)
    checks.not_negative("tolerance", tolerance)
    found = checks.numbers("targets", targets)
    labels = None
    if found.ndim == spikes.ndim - 2:
        labels = class_labels(found, spikes.shape[1:-1], spikes.shape[-1], "targets")
        wanted = _wanted_of_labels(labels, spikes, on_target, off_target)
    else:
        wanted = _wanted(found, spikes)
    wanted = jnp.where(wanted < 0, wanted + spikes.shape[0], wanted)
    off_by = spike_steps(spikes, wanted.shape[0]) - wanted
    off_by = jnp.where(jnp.abs(off_by) < jnp.asarray(tolerance, off_by.dtype), 0, off_by)
    losses = jnp.mean((off_by / spikes.shape[0]) ** 2, axis=(0, -1))
    if labels is not None:
        losses = weighted(losses, labels, weight, spikes.shape[-1])
    elif weight is not None:
        raise checks.wrong("weight", weight, "None with steps as targets, not labels")
    return jnp.mean(losses)


def ce_temporal(
    spikes: Float[Array, "time *batch num_classes"],
    labels: Int[Array, "*batch"],
    *,
    inverse: Literal["negate", "reciprocal"] = "negate",
    weight: Float[ArrayLike, " num_classes"] | None = None,
) -> Float[Array, ""]:
    r"""The cross entropy of the first spikes: the earlier, the more likely.

    $$-\log \operatorname{softmax}(-k)_y \qquad \text{or} \qquad
      -\log \operatorname{softmax}\left(\frac{1}{k + 1}\right)_y$$

    with the steps $k$ of [`first_spike_steps`][].

    **Arguments:**

    - `spikes`: time first.
    - `labels`: the right class of each sample.
    - `inverse`: the first form (`"negate"`) or the second (`"reciprocal"`).
    - `weight`: a factor for the loss of the samples of each class. Default: 1. As in the other
        losses, their mean is taken; snnTorch divides this one by the sum of the weights.

    **Returns:** the mean over the batch.

    **Raises:** `ValueError` if shapes do not fit, a label is not a class, or `inverse` is unknown.
    """
    checks.choice("inverse", inverse, ("negate", "reciprocal"))
    steps = first_spike_steps(spikes)
    labels = class_labels(labels, steps.shape[:-1], steps.shape[-1])
    losses = cross_entropy(-steps if inverse == "negate" else 1 / (steps + 1), labels)
    return jnp.mean(weighted(losses, labels, weight, steps.shape[-1]))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _steps(spikes, count):
    return _or_nan(spikes, _indices(spikes, count))


@_steps.defjvp
def _steps_jvp(count, primals, tangents):
    (spikes,), (change,) = primals, tangents
    found = _indices(spikes, count)
    clock = jnp.arange(spikes.shape[0], dtype=found.dtype)
    here = found[:, None] == clock.reshape(-1, *[1] * (spikes.ndim - 1))
    return _or_nan(spikes, found), -jnp.sum(jnp.where(here, change, 0), axis=1)


def _or_nan(spikes, found):
    """The steps of an output, NaN if one of its spikes is: that is neither a spike nor none."""
    broken = jnp.any(jnp.isnan(spikes), axis=0)
    return jnp.where(broken, jnp.nan, found.astype(spikes.dtype))


def _indices(spikes, count):
    """As many steps as there are before the k-th spike, but at most all but one."""
    fired = jnp.cumsum(spikes != 0, axis=0, dtype=jnp.int32)
    k = jnp.arange(count, dtype=jnp.int32).reshape(-1, *[1] * spikes.ndim)
    before = jnp.sum(fired <= k, axis=1, dtype=jnp.int32)
    return jnp.minimum(before, spikes.shape[0] - 1)


def _wanted_of_labels(labels, spikes, on_target, off_target):
    on, off = _on_or_off("on_target", on_target), _on_or_off("off_target", off_target)
    if on.ndim != 1 or on.shape != off.shape or on.size == 0:
        raise ValueError(
            "on_target and off_target must be a step each, or as many steps each, "
            f"got {on_target!r} and {off_target!r}."
        )
    each = (
        on_off(labels, spikes.shape[-1], a, b, spikes.dtype)
        for a, b in zip(on.tolist(), off.tolist(), strict=True)
    )
    return jnp.stack(list(each))


def _on_or_off(name, value):
    steps = checks.numbers(name, value, "a step or a sequence of steps")
    checks.refuse_values(name, steps, np.isfinite, "finite")
    return np.atleast_1d(np.asarray(steps))


def _wanted(targets, spikes):
    wanted = targets[None] if targets.ndim == spikes.ndim - 1 else targets
    if wanted.shape[1:] != spikes.shape[1:]:
        raise ValueError(
            f"targets must be labels of shape {spikes.shape[1:-1]}, or steps of shape "
            f"{spikes.shape[1:]}, or that with an axis of several spikes in front, "
            f"got shape {targets.shape}."
        )
    return jnp.asarray(wanted, spikes.dtype)
