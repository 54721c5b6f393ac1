"""Inputs as spike trains or spike times."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, Real, Shaped

from .. import checks


def rate(
    key: PRNGKeyArray,
    x: Real[ArrayLike, "*shape"],
    num_steps: int | None = None,
    *,
    gain: float = 1.0,
    offset: float = 0.0,
    first_spike_time: int = 0,
) -> Float[Array, " time *channels"]:
    r"""Independent spikes with the values as probabilities:

    $$S_t \sim \mathrm{Bernoulli}\left(\operatorname{clip}(g x_t + o, 0, 1)\right)$$

    **Arguments:**

    - `key`: the draws are made in float32 whatever the dtype of `x`, so that one key gives one
        train, and a probability below the resolution of bfloat16 stays what it is.
    - `x`: with `num_steps` one value a channel, the same at every step; without it the values of
        each step, time first.
    - `gain`, `offset`: finite numbers, or arrays that broadcast to the shape of `x`.
    - `first_spike_time`: with `num_steps` the steps before it are silent; without, as many silent
        steps are put in front, so that the train is longer than `x`.

    **Returns:** zeros and ones in the dtype of `x`, of shape `(num_steps, *x.shape)`, or
    `(first_spike_time + len(x), *x.shape[1:])`.

    **Raises:** `ValueError` for NaN, for what is no key, for gains and offsets that are not finite
    or do not broadcast, and for steps that are not whole numbers in their range.

    The counterpart of snnTorch's `rate`, which drops gain and offset where the input varies in
    time. Static probabilities for each class, such as `0.1 + 0.7 * one_hot(labels, 10)`, give its
    random target patterns.
    """
    checks.key("key", key)
    given = checks.numbers("x", x, boolean=True)
    checks.refuse_values("x", given, lambda v: v == v, "a number, not NaN")
    x = checks.as_floating(given)
    if num_steps is None:
        if x.ndim == 0:
            raise ValueError("x must have the time as its first axis, or pass num_steps, got ().")
        first, steps = checks.whole("first_spike_time", first_spike_time, 0), x.shape[0]
        silent = jnp.zeros((first, *x.shape[1:]), x.dtype)
    else:
        steps = checks.count("num_steps", num_steps)
        first = checks.whole("first_spike_time", first_spike_time, 0, steps - 1)
        steps, silent = steps - first, jnp.zeros((first, *x.shape), x.dtype)
    shape = (steps, *silent.shape[1:])
    factor = checks.broadcast("gain", gain, x.shape, "x", x.dtype)
    probability = x * factor + checks.broadcast("offset", offset, x.shape, "x", x.dtype)
    spikes = jax.random.uniform(key, shape, jnp.float32) < probability.astype(jnp.float32)
    return jnp.concatenate([silent, spikes.astype(x.dtype)])


def latency_times(
    x: Real[ArrayLike, "*shape"],
    *,
    tau: float = 1.0,
    threshold: float = 0.01,
    mode: Literal["log", "linear"] = "log",
    clip: bool = False,
    first_spike_time: float = 0.0,
    last_spike_time: float | None = None,
) -> Float[Array, "*shape"]:
    r"""One spike a channel, the sooner the larger its value. With $t_0$ the `first_spike_time`,
    $\vartheta$ the `threshold` and $\bar x = \max(x, \vartheta)$:

    $$t_{\log} = t_0 + \tau \ln\frac{\bar x}{\bar x - \vartheta} \qquad
      t_{\text{linear}} = t_0 + \tau (1 - \bar x)$$

    The first is when a leaky membrane under the constant drive x reaches the threshold. It is
    infinite at the threshold, so there x is taken to be at least $\vartheta + 10^{-7}$.

    **Arguments:**

    - `x`: values in [0, 1].
    - `tau`: time constant, in steps or in ms; the times have its unit.
    - `threshold`: smaller values count as this one, between 0 and 1.
    - `clip`: smaller values do not spike at all (`inf`).
    - `last_spike_time`: stretch the times. Linear: `tau` becomes such that x = 0 would spike then.
        Log: the latest spike of the whole array is then (before `clip`). Use `jax.vmap` to
        stretch each sample on its own.

    **Returns:** times, `inf` where there is no spike; differentiable. For an `EventNetwork`, a
    channel's single spike is `in_times = times[:, None]`.

    **Raises:** `ValueError` for values outside [0, 1] and options out of range.

    The counterpart of snnTorch's `latency_code`.
    """
    x = _intensities(x)
    options = (tau, threshold, mode, clip, first_spike_time, last_spike_time)
    return _latency_times(x, *options).astype(x.dtype)


def latency(
    x: Real[ArrayLike, "*shape"],
    num_steps: int,
    *,
    tau: float = 1.0,
    threshold: float = 0.01,
    mode: Literal["log", "linear"] = "log",
    normalize: bool = False,
    clip: bool = False,
    first_spike_time: float = 0.0,
) -> Float[Array, " {num_steps} *shape"]:
    """One spike a channel, at its [`latency_times`][] rounded to whole steps (a half to even).

    A spike after the last step is left out, as by snnTorch's `latency` with `bypass=True`.

    **Arguments:** as for [`latency_times`][], in steps, and

    - `num_steps`: length of the train.
    - `normalize`: stretch the times so that the last is in step `num_steps - 1`; `tau` then has
        no effect. snnTorch's log code stretches a batch as a whole, and so does this function for
        a batch; under `jax.vmap` no sample's code depends on the others.

    **Returns:** zeros and ones in the dtype of `x`. Other values, and targets that rise up to the
    spike, are made by [`levels`][] and [`ramps`][].
    """
    x = _intensities(x)
    steps = checks.count("num_steps", num_steps)
    last = steps - 1.0 if checks.flag("normalize", normalize) else None
    expected = f"a number >= 0 and <= {steps - 1}"
    checks.number("first_spike_time", first_spike_time, expected, lambda v: 0 <= v <= steps - 1)
    times = jnp.round(_latency_times(x, tau, threshold, mode, clip, first_spike_time, last))
    now = jnp.arange(steps, dtype=times.dtype).reshape(-1, *(1,) * x.ndim)
    return (now == times).astype(x.dtype)


def delta(
    xs: Shaped[ArrayLike, " time *channels"],
    *,
    threshold: float = 0.1,
    off_spike: bool = False,
    padding: bool = False,
) -> Float[Array, " time *channels"]:
    r"""A spike where the value has grown by the threshold since the step before:

    $$S_t = [x_t - x_{t-1} \ge \vartheta] - [x_t - x_{t-1} \le -\vartheta]$$

    **Arguments:**

    - `xs`: values of each step, time first. Whole numbers are compared in floating point.
    - `threshold`: a number > 0.
    - `off_spike`: the second term, -1 where the value has fallen; otherwise there is none.
    - `padding`: the step before the first is a copy of it, so that nothing spikes at first;
        otherwise it is 0.

    **Returns:** 0, 1 and -1 in the dtype of `xs`.

    **Raises:** `ValueError` for values that are not finite, no time axis, and a threshold <= 0.

    The counterpart of snnTorch's `delta`, which lets differences of unsigned integers wrap around.
    """
    given = checks.numbers("xs", xs, boolean=True)
    if given.ndim == 0 or given.shape[0] == 0:
        raise ValueError(f"xs must have the time as its first axis, got shape {given.shape}.")
    checks.refuse_values("xs", given, np.isfinite, "finite")
    xs, threshold = checks.as_floating(given), checks.positive("threshold", threshold)
    checks.flag("off_spike", off_spike)
    before = xs[:1] if checks.flag("padding", padding) else jnp.zeros_like(xs[:1])
    growth = xs - jnp.concatenate([before, xs[:-1]])
    on = (growth >= threshold).astype(xs.dtype)
    return on - (growth <= -threshold).astype(xs.dtype) if off_spike else on


# Keeps the logarithm finite at the threshold. It says when the weakest values spike, and so has to
# be snnTorch's.
_ABOVE_THRESHOLD = 1e-7


def _intensities(x) -> Array:
    """Values in [0, 1], in floating point: whole numbers of 8 bits would wrap around."""
    given = checks.numbers("x", x, boolean=True)
    checks.refuse_values("x", given, lambda v: (v >= 0) & (v <= 1), "in [0, 1]")
    return checks.as_floating(given)


def _latency_times(x, tau, threshold, mode, clip, first, last):
    """The times in float32 at least: in bfloat16 nothing lies just above the threshold."""
    tau, first = checks.positive("tau", tau), checks.not_negative("first_spike_time", first)
    between = "a number between 0 and 1"
    threshold = checks.number("threshold", threshold, between, lambda v: 0 < v < 1)
    checks.choice("mode", mode, ("log", "linear"))
    checks.flag("clip", clip)
    if last is not None:
        expected = f"a finite number >= first_spike_time = {first}"
        last = checks.number("last_spike_time", last, expected, lambda v: v >= first)
    wide = x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
    if mode == "log":
        # Not the difference of a maximum: threshold + 1e-7 has one digit left of it in float32.
        distance = jnp.maximum(wide - threshold, _ABOVE_THRESHOLD)
        times = tau * jnp.log((distance + threshold) / distance)
        if last is not None:
            latest = jnp.max(times, initial=0.0)
            times = times * (last - first) / jnp.where(latest > 0, latest, 1)
    else:
        scale = tau if last is None else last - first
        times = scale * (1 - jnp.maximum(wide, threshold))
    times = times + first
    return jnp.where(wide < threshold, jnp.inf, times) if clip else times
