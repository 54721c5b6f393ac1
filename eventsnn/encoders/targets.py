"""Targets of the outputs at each step, for spikes and for membrane potentials."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int, Real, Shaped

from ..checks import (
    as_floating,
    broadcast,
    check_elements,
    flag,
    integer,
    is_integer,
    number,
    numbers,
    real_dtype,
    value_error,
)
from .trains import latency


def one_hot(
    labels: Int[ArrayLike, "*batch"], num_classes: int, *, dtype: DTypeLike = float
) -> Shaped[Array, "*batch {num_classes}"]:
    """One-hot code: 1 at the label, 0 at all other classes.

    **Arguments:**

    - `labels`: integers in 0 ... `num_classes` - 1.
    - `num_classes`: the number of classes, >= 1.
    - `dtype`: dtype of the result. Default: the default floating-point type.

    **Raises:** `ValueError` for labels that are not integers in 0 ... `num_classes` - 1. Under
    `jax.jit` a label out of range gives zeros.

    The counterpart of snnTorch's `to_one_hot`. The inverse is `jnp.argmax(..., -1)`.
    """
    classes, dtype = integer("num_classes", num_classes), real_dtype("dtype", dtype)
    found = numbers("labels", labels, "integers")
    if not is_integer(found):
        raise value_error("labels", found, "integers")
    expected = f"in 0 ... {classes - 1}"
    check_elements("labels", found, lambda v: (v >= 0) & (v < classes), expected)
    return jax.nn.one_hot(jnp.asarray(found), classes, dtype=dtype)


def spike_targets(
    spikes: Real[ArrayLike, "*shape"], *, on_target: float = 1.0, off_target: float = 0.0
) -> Float[Array, "*shape"]:
    """Membrane-potential target: `on_target` at a spike, `off_target` elsewhere.

    snnTorch instead raises every value to at least `off_target`, so a negative `off_target` has no
    effect there.

    **Arguments:**

    - `spikes`: a spike train of any shape. Every value > 0 is a spike.
    - `on_target`, `off_target`: scalars, or arrays that broadcast to the shape of `spikes`.
        Defaults: 1 and 0.

    **Raises:** `ValueError` for spikes that are not real numbers or are NaN, and for targets that
    are not finite or do not broadcast to the shape of the spikes.
    """
    spikes = _as_spikes(spikes)
    on, off = _target_values(on_target, off_target, spikes)
    return jnp.where(spikes > 0, on, off)


def ramp_targets(
    spikes: Real[ArrayLike, " time *channels"],
    *,
    on_target: float = 1.0,
    off_target: float = 0.0,
) -> Float[Array, " time *channels"]:
    r"""Membrane-potential target that rises linearly up to each spike:

    $$y_t = \text{off} + (\text{on} - \text{off}) \frac{t - p - 1}{q - p - 1}$$

    Here $q$ is the step of the next spike at or after $t$, and $p$ is the step of the last spike
    before $t$, or -1 without one. The target is `on_target` at a spike and `off_target` after the
    last spike.

    **Arguments:**

    - `spikes`: a spike train, time axis first. Each channel has its own ramps.
    - `on_target`, `off_target`: as for [`spike_targets`][].

    The counterpart of snnTorch's `rate_interpolate`. For a train with one spike per channel it is
    also the counterpart of `latency_interpolate`.

    **Raises:** as [`spike_targets`][], and `ValueError` for spikes without a time axis.
    """
    spikes = _as_spikes(spikes)
    if spikes.ndim == 0:
        raise ValueError("spikes must have shape (time, ...), got shape ().")
    on, off = _target_values(on_target, off_target, spikes)
    steps, fired = spikes.shape[0], spikes > 0
    now = jnp.arange(steps).reshape(-1, *(1,) * (spikes.ndim - 1))
    upcoming = jax.lax.cummin(jnp.where(fired, now, steps), reverse=True)
    latest = jax.lax.cummax(jnp.where(fired, now, -1))
    start = 1 + jnp.concatenate([jnp.full_like(latest[:1], -1), latest[:-1]])
    fraction = ((now - start) / jnp.maximum(upcoming - start, 1)).astype(spikes.dtype)
    rising = off + (on - off) * fraction
    flat = spike_targets(spikes, on_target=on_target, off_target=off_target)
    return jnp.where(fired | (upcoming == steps), flat, rising)


def targets_rate(
    labels: Int[ArrayLike, "*batch"],
    num_classes: int,
    num_steps: int,
    *,
    correct_rate: float = 1.0,
    incorrect_rate: float = 0.0,
    on_target: float = 1.0,
    off_target: float = 0.0,
    first_spike_time: int = 0,
    interpolate: bool = False,
    dtype: DTypeLike = float,
) -> Float[Array, "{num_steps} *batch {num_classes}"]:
    r"""Rate-code targets from regular spike trains: a neuron of rate $r$ spikes at the steps
    $\lfloor t_0 + k / r \rfloor,\ k = 0, 1, \dots$

    **Arguments:**

    - `labels`: the correct class, an integer in 0 ... `num_classes` - 1.
    - `num_classes`: the number of classes.
    - `num_steps`: the number of steps.
    - `correct_rate`, `incorrect_rate`: rates of the correct neuron and of all others, in spikes per
        step, in [0, 1]. `correct_rate` must not be below `incorrect_rate`. Defaults: 1 and 0.
    - `on_target`, `off_target`: target values, as for [`spike_targets`][].
    - `first_spike_time`: $t_0$, the step of the first spike of every neuron. Default: 0.
    - `interpolate`: whether to return [`ramp_targets`][] instead of [`spike_targets`][]. Default:
        False.
    - `dtype`: dtype of the targets. Default: the default floating-point type.

    **Returns:** the targets, always with the time axis first.

    **Raises:** `ValueError` for options or labels out of range.

    The counterpart of snnTorch's `targets_rate` with the regular pattern, as intended there. For
    the rates 1 and 0, snnTorch omits the time axis if `first_spike_time` is 0, and ignores
    `interpolate`. For all other rates it fails unless `num_steps` equals `num_classes` (or there is
    one class), and then the shape is wrong unless `interpolate=True`. Its Poisson pattern is
    [`rate`][] of the two probabilities. Its uniform pattern loses coinciding spikes and has no
    counterpart.
    """
    steps = integer("num_steps", num_steps)
    first = integer("first_spike_time", first_spike_time, 0, steps - 1)
    flag("interpolate", interpolate)
    real_dtype("dtype", dtype)
    correct = number("correct_rate", correct_rate, "a number in [0, 1]", lambda v: 0 <= v <= 1)
    expected = f"a number in [0, correct_rate = {correct}]"
    incorrect = number("incorrect_rate", incorrect_rate, expected, lambda v: 0 <= v <= correct)
    is_correct = one_hot(labels, num_classes, dtype=bool)
    times = (-1, *(1,) * is_correct.ndim)
    trains = (
        jnp.asarray(_regular(r, steps, first), dtype).reshape(times) for r in (correct, incorrect)
    )
    encode = ramp_targets if interpolate else spike_targets
    correct, incorrect = (encode(s, on_target=on_target, off_target=off_target) for s in trains)
    return jnp.where(is_correct, correct, incorrect)


def targets_latency(
    labels: Int[ArrayLike, "*batch"],
    num_classes: int,
    num_steps: int,
    *,
    tau: float = 1.0,
    threshold: float = 0.01,
    mode: Literal["log", "linear"] = "log",
    normalize: bool = False,
    clip: bool = False,
    on_target: float = 1.0,
    off_target: float = 0.0,
    first_spike_time: float = 0.0,
    interpolate: bool = False,
    dtype: DTypeLike = float,
) -> Float[Array, "{num_steps} *batch {num_classes}"]:
    """Latency-code targets: the [`latency`][] code of [`one_hot`][] labels.

    The correct neuron spikes first and all others late.

    **Arguments:**

    - `labels`: the correct class, an integer in 0 ... `num_classes` - 1.
    - `num_classes`: the number of classes.
    - `num_steps`: the number of steps.
    - `tau`, `threshold`, `mode`, `normalize`, `first_spike_time`: as for [`latency`][].
    - `clip`: as for [`latency`][]. If True, the incorrect neurons do not spike, with or without
        `interpolate`. With `interpolate`, snnTorch gives them ramps nevertheless.
    - `on_target`, `off_target`: target values, as for [`spike_targets`][].
    - `interpolate`: whether to return [`ramp_targets`][] instead of [`spike_targets`][]. Default:
        False.
    - `dtype`: dtype of the targets. Default: the default floating-point type.

    The counterpart of snnTorch's `targets_latency`, with one difference. Here a neuron whose spike
    would come after the last step stays at `off_target`. snnTorch raises an error. With
    `bypass=True` it does not, and a neuron that would spike at step `num_steps` then has a ramp if
    `interpolate=True`.
    """
    flag("interpolate", interpolate)
    spikes = latency(
        one_hot(labels, num_classes, dtype=dtype),
        num_steps,
        tau=tau,
        threshold=threshold,
        mode=mode,
        normalize=normalize,
        clip=clip,
        first_spike_time=first_spike_time,
    )
    encode = ramp_targets if interpolate else spike_targets
    return encode(spikes, on_target=on_target, off_target=off_target)


def _as_spikes(spikes) -> Array:
    """Convert spikes to floating point. Raise if one of them is NaN."""
    spikes = numbers("spikes", spikes, boolean=True)
    check_elements("spikes", spikes, lambda v: v == v, "numbers, not NaN")
    return as_floating(spikes)


def _target_values(on_target, off_target, spikes) -> tuple[Array, Array]:
    """Target values at the spikes and elsewhere, checked and converted to arrays."""
    on = broadcast("on_target", on_target, spikes.shape, "spikes", spikes.dtype)
    off = broadcast("off_target", off_target, spikes.shape, "spikes", spikes.dtype)
    return on, off


def _regular(rate: float, steps: int, first: int) -> np.ndarray:
    """Spike train of `steps` booleans with a spike every 1 / `rate` steps."""
    train = np.zeros(steps, bool)
    if rate > 0:
        # Rounded, since a rate such as 0.7 is not exact in binary, and 7 / 0.7 must be 10.
        times = np.round(first + np.arange(steps) / rate, 6)
        train[times[times < steps].astype(int)] = True
    return train
