"""Level crossings of signals as spike times, for the event mode."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Real, Shaped

from .. import checks


def level_crossing_times(
    xs: Shaped[ArrayLike, " time *channels"],
    times: Real[ArrayLike, " time"],
    *,
    threshold: float = 0.1,
    max_spikes: int | None = None,
) -> Float[Array, "2 *channels k"]:
    r"""Level crossings of sampled signals (send-on-delta): spike times of up and down channels.

    A signal is interpolated linearly between its samples. Each signal has a reference, at first its
    first value. When the signal has risen to the reference plus the threshold $\vartheta$, the up
    channel fires, and the reference rises by $\vartheta$. When it has fallen to the reference minus
    $\vartheta$, the down channel fires, and the reference falls by $\vartheta$. The spikes are at
    the exact times of the crossings, several of them between two samples if the signal is steep.
    They give the signal up to an error of $\vartheta$ (Miskowicz, Sensors 6:49, 2006). [`delta`][]
    is the counterpart in time steps.

    **Arguments:**

    - `xs`: signals, time axis first. Integers are converted to floating point.
    - `times`: times of the samples, >= 0, in ascending order.
    - `threshold`: $\vartheta$ > 0, in the unit of the signals. Default: 0.1.
    - `max_spikes`: number of spikes per channel, $k$. Default: None, the largest number that
        occurs, at least 1. Under `jax.jit` and `jax.vmap` it must be given.

    **Returns:** spike times in ascending order, padded with `inf`, of shape `(2, *channels, k)`:
    up, then down. For a network, `out.reshape(-1, k)` has all up channels first. They are
    differentiable with respect to `xs` and `times`.

    **Raises:** `ValueError` for values that are not finite, times that do not ascend or that are
    not one per sample, a threshold <= 0, or a channel with more than `max_spikes` spikes. Under
    `jax.jit` the times of such a channel are NaN.
    """
    xs = _signals(xs)
    t = _sample_times(times, xs)
    threshold = checks.positive("threshold", threshold)
    most = checks.count_or_none("max_spikes", max_spikes)
    y = (xs - xs[0]) / threshold
    level = _references(y)
    steps = jnp.diff(level, axis=0)
    counts = jnp.stack([_positive_sum(steps), _positive_sum(-steps)])
    longest = _longest(counts, most)
    found = [_crossings(sign * y, sign * level, t, longest) for sign in (1, -1)]
    return jnp.where(counts[..., None] > longest, jnp.nan, jnp.stack(found))


def _references(y: Float[Array, " time *channels"]) -> Float[Array, " time *channels"]:
    """Reference of each signal after each sample, for signals in units of the threshold."""

    def step(level, value):
        up = jnp.maximum(jnp.floor(value), level)
        down = jnp.minimum(jnp.ceil(value), level)
        level = jnp.where(value > level, up, down)
        return level, level

    y = lax.stop_gradient(y)
    return lax.scan(step, jnp.zeros_like(y[0]), y)[1]


def _crossings(
    y: Float[Array, " time *channels"],
    level: Float[Array, " time *channels"],
    t: Float[Array, " time"],
    k: int,
) -> Float[Array, "*channels k"]:
    """Times of the first `k` crossings upwards."""
    if y.ndim > 1:
        one = jax.vmap(lambda y, level: _crossings(y, level, t, k), in_axes=-1, out_axes=-2)
        return one(y, level)
    number = jnp.cumsum(jnp.maximum(jnp.diff(level), 0.0))
    index = jnp.arange(k, dtype=y.dtype)
    segment = jnp.searchsorted(number, index, side="right")
    exists = segment < len(number)
    start = jnp.minimum(segment, len(number) - 1)
    before = jnp.where(start > 0, number[start - 1], 0.0)
    reached = level[start] + 1 + index - before
    rise = jnp.where(exists, y[start + 1] - y[start], 1.0)
    share = (reached - y[start]) / rise
    return jnp.where(exists, t[start] + share * (t[start + 1] - t[start]), jnp.inf)


def _positive_sum(steps: Float[Array, " time *channels"]) -> Float[Array, "*channels"]:
    return jnp.sum(jnp.maximum(steps, 0.0), axis=0)


def _longest(counts: Float[Array, " signs *channels"], most: int | None) -> int:
    """Length of the trains."""
    if not checks.is_concrete(counts):
        if most is None:
            raise checks.value_error("max_spikes", most, "an integer under jax.jit and jax.vmap")
        return most
    longest = int(np.max(np.asarray(counts), initial=0))
    if most is not None and longest > most:
        expected = f"at least {longest}, the largest number of spikes of a channel"
        raise checks.value_error("max_spikes", most, expected)
    return most or max(longest, 1)


def _signals(xs: ArrayLike) -> Float[Array, " time *channels"]:
    given = checks.numbers("xs", xs, boolean=True)
    if given.ndim == 0 or given.shape[0] < 2:
        raise ValueError(f"xs must have shape (time, ...), time >= 2, got shape {given.shape}.")
    checks.check_elements("xs", given, np.isfinite, "finite")
    return checks.at_least_float32(checks.as_floating(given))


def _sample_times(times: ArrayLike, xs: Float[Array, " time ..."]) -> Float[Array, " time"]:
    t = checks.numbers("times", times)
    if t.shape != xs.shape[:1]:
        raise ValueError(f"times must have shape {xs.shape[:1]}, as xs, got shape {t.shape}.")
    checks.check_elements("times", t, lambda t: (t >= 0) & (t < np.inf), "finite and >= 0")
    if checks.is_concrete(t):
        falls = np.diff(np.asarray(t)) <= 0
        checks.raise_if("times", np.asarray(t)[1:], falls, "must ascend")
    return jnp.asarray(t, xs.dtype)
