"""Encoders of inputs as spike trains or spike times."""

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
    r"""Rate code: independent spikes with probabilities given by the values,

    $$S_t \sim \mathrm{Bernoulli}\left(\operatorname{clip}(g x_t + o, 0, 1)\right)$$

    **Arguments:**

    - `key`: a JAX random key. The random numbers are float32 for every dtype of `x`. The train of
        a key is thus the same for every dtype, and probabilities below the resolution of bfloat16
        are kept.
    - `x`: with `num_steps`, one value per channel, used at every step. Without it, the values of
        each step, time axis first.
    - `num_steps`: the number of steps. Default: None, the length of the time axis of `x`.
    - `gain`, `offset`: $g$ and $o$, finite numbers, or arrays that broadcast to the shape of `x`.
        Defaults: 1 and 0.
    - `first_spike_time`: number of silent steps at the start. With `num_steps`, they are part of
        the `num_steps` steps. Without it, they are prepended, and the train is longer than `x`.
        Default: 0.

    **Returns:** zeros and ones in the dtype of `x`, of shape `(num_steps, *x.shape)` with
    `num_steps`, otherwise `(first_spike_time + len(x), *x.shape[1:])`.

    **Raises:** `ValueError` for values that are NaN, an invalid key, a gain or offset that is not
    finite or does not broadcast, and numbers of steps that are not integers in their range.

    The counterpart of snnTorch's `rate`, which ignores gain and offset if the input varies in time.
    One constant probability per class, such as `0.1 + 0.7 * one_hot(labels, 10)`, gives snnTorch's
    random target patterns.
    """
    checks.key("key", key)
    given = checks.numbers("x", x, boolean=True)
    checks.check_elements("x", given, lambda v: v == v, "a number, not NaN")
    x = checks.as_floating(given)
    if num_steps is None:
        if x.ndim == 0:
            raise ValueError("x must have shape (time, ...) without num_steps, got shape ().")
        first, steps = checks.integer("first_spike_time", first_spike_time, 0), x.shape[0]
        silent = jnp.zeros((first, *x.shape[1:]), x.dtype)
    else:
        steps = checks.count("num_steps", num_steps)
        first = checks.integer("first_spike_time", first_spike_time, 0, steps - 1)
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
    r"""Spike times of a latency code: one spike per channel, earlier for larger values,

    $$t_{\log} = t_0 + \tau \ln\frac{\bar x}{\bar x - \vartheta} \qquad
      t_{\text{linear}} = t_0 + \tau (1 - \bar x)$$

    with $t_0$ the `first_spike_time`, $\vartheta$ the `threshold` and
    $\bar x = \max(x, \vartheta)$. $t_{\log}$ is the time at which a leaky membrane with constant
    input $x$ reaches the threshold. It diverges at $x = \vartheta$. The log mode therefore uses at
    least $\vartheta + 10^{-7}$ for $x$.

    **Arguments:**

    - `x`: values in [0, 1].
    - `tau`: time constant, > 0, in steps or in ms. The times have the same unit. Default: 1.
    - `threshold`: a number between 0 and 1. Smaller values of `x` are raised to it. Default: 0.01.
    - `mode`: `"log"` (the default) or `"linear"`.
    - `clip`: whether values below the threshold have no spike (`inf`). Default: False.
    - `first_spike_time`: $t_0$ >= 0, in the unit of `tau`. Default: 0.
    - `last_spike_time`: time up to which the spike times are stretched, in the unit of `tau`. In
        linear mode, `tau` is replaced by the value with which x = 0 would spike at this time. In
        log mode, the latest spike of the whole array, before `clip`, is moved to this time. Use
        `jax.vmap` to stretch each sample separately. Default: None, no stretching.

    **Returns:** spike times, `inf` for no spike. They are differentiable with respect to `x`. The
    input of an `EventNetwork` with one spike per channel is `in_times = times[:, None]`.

    **Raises:** `ValueError` for values outside [0, 1] or options out of range.

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
    """Latency code: spike trains with one spike per channel, at the time from [`latency_times`][].

    The times are rounded to the nearest step, and halves to even steps. Spikes after the last step
    are dropped, as in snnTorch's `latency` with `bypass=True`.

    **Arguments:** as for [`latency_times`][], in steps and without `last_spike_time`, and

    - `num_steps`: the number of steps.
    - `normalize`: whether to stretch the times so that the last spike is at step `num_steps - 1`.
        `tau` then has no effect. In log mode a batch is stretched as a whole, as in snnTorch. Under
        `jax.vmap` the code of a sample does not depend on the other samples. Default: False.

    **Returns:** zeros and ones in the dtype of `x`, time axis first. Use [`spike_targets`][] for
    other values, and [`ramp_targets`][] for targets that rise up to the spike.
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
    r"""Delta modulation: a spike if the value has increased by the threshold since the last step,

    $$S_t = [x_t - x_{t-1} \ge \vartheta] - [x_t - x_{t-1} \le -\vartheta]$$

    **Arguments:**

    - `xs`: values of each step, time axis first. Integers are converted to floating point.
    - `threshold`: $\vartheta$ > 0. Default: 0.1.
    - `off_spike`: whether to include the second term, a spike of -1 if the value has decreased.
        Default: False.
    - `padding`: the value before the first step. If True, it equals the first value, and no channel
        spikes at the first step. If False (the default), it is 0.

    **Returns:** 0, 1 and -1 in the dtype of `xs`, or in floating point for integers.

    **Raises:** `ValueError` for values that are not finite, a missing time axis, or a threshold
    <= 0.

    The counterpart of snnTorch's `delta`, in which differences of unsigned integers wrap around.
    """
    given = checks.numbers("xs", xs, boolean=True)
    if given.ndim == 0 or given.shape[0] == 0:
        raise ValueError(f"xs must have shape (time, ...), time >= 1, got shape {given.shape}.")
    checks.check_elements("xs", given, np.isfinite, "finite")
    xs, threshold = checks.as_floating(given), checks.positive("threshold", threshold)
    checks.flag("off_spike", off_spike)
    before = xs[:1] if checks.flag("padding", padding) else jnp.zeros_like(xs[:1])
    growth = xs - jnp.concatenate([before, xs[:-1]])
    on = (growth >= threshold).astype(xs.dtype)
    return on - (growth <= -threshold).astype(xs.dtype) if off_spike else on


# Keeps the logarithm finite at the threshold. It determines the latest spike time, so the value
# must be that of snnTorch.
_ABOVE_THRESHOLD = 1e-7


def _intensities(x) -> Array:
    """Convert values to floating point, since 8-bit integers would wrap around.

    Raise unless they are in [0, 1].
    """
    given = checks.numbers("x", x, boolean=True)
    checks.check_elements("x", given, lambda v: (v >= 0) & (v <= 1), "in [0, 1]")
    return checks.as_floating(given)


def _latency_times(x, tau, threshold, mode, clip, first, last):
    """Spike times in float32 or higher precision.

    bfloat16 cannot represent values just above the threshold.
    """
    tau, first = checks.positive("tau", tau), checks.not_negative("first_spike_time", first)
    between = "a number between 0 and 1"
    threshold = checks.number("threshold", threshold, between, lambda v: 0 < v < 1)
    checks.choice("mode", mode, ("log", "linear"))
    checks.flag("clip", clip)
    if last is not None:
        expected = f"a finite number >= first_spike_time = {first}"
        last = checks.number("last_spike_time", last, expected, lambda v: v >= first)
    x32 = checks.at_least_float32(x)
    if mode == "log":
        # Not max(x, threshold + 1e-7) - threshold: in float32 only one digit of 1e-7 would remain.
        distance = jnp.maximum(x32 - threshold, _ABOVE_THRESHOLD)
        times = tau * jnp.log((distance + threshold) / distance)
        if last is not None:
            latest = jnp.max(times, initial=0.0)
            times = times * (last - first) / jnp.where(latest > 0, latest, 1)
    else:
        scale = tau if last is None else last - first
        times = scale * (1 - jnp.maximum(x32, threshold))
    times = times + first
    return jnp.where(x32 < threshold, jnp.inf, times) if clip else times
