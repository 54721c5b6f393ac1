"""Flow of the LIF neuron: closed form, with certified detection of every spike."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from ..doubles import Double, expm1, product, quotient, two_sum
from ..neurons import LIF, LIFState
from . import membrane
from .base import AbstractLaneFlow, Clock, Segment, Window, exact_flow, first, newton, pick
from .membrane import NEAR, extremum, fall, kernel, potential
from .threshold import ROUNDING_ULPS, passes


class ExactLIF(AbstractLaneFlow[LIF]):
    r"""Closed-form flow of [`eventsnn.LIF`][], for any ratio of time constants.

    $$V(t) = b + (V_0 - b)\, e^{-t/\tau_m} + I_0\, k(t), \qquad
    k(t) = \frac{\tau_s (e^{-t/\tau_s} - e^{-t/\tau_m})}{\tau_s - \tau_m}
    \to \frac{t}{\tau_m} e^{-t/\tau_m}$$

    $V$ has at most one interior extremum, and its time has a closed form. A neuron therefore
    crosses within the horizon if and only if it is above threshold at the horizon or at its
    interior maximum, and $V$ is monotone on the bracket that remains. No spike can be missed, for
    any horizon. Compare NEST's `iaf_psc_exp_ps_lossless`: Krishnan et al., Front. Neuroinform.
    11:75, 2018.

    The gap $\theta - V(t)$ is evaluated without cancellation between $b$ and $\theta$. If the bias
    equals the threshold, $V$ approaches it and never reaches it. The sign of the gap is correct at
    any distance.
    """

    affine: ClassVar[bool] = True

    def next_spike(
        self,
        neuron: LIF,
        state: LIFState,
        horizon: Array,
        flow_state: tuple,
        window: Window | None = None,
    ) -> Segment:
        n, clock = state.v.shape[0], Clock(window)
        # Up to the earliest time at which a crossing is certain, the sign of the gap is decisive.
        low, high, certain, since = _bracket(neuron, state, clock.own(horizon))
        h = jnp.min(jnp.where(certain, clock.shared(high), horizon), axis=0)

        end = clock.own(h)
        low = jnp.minimum(low, end)
        gap, slope = _gap(neuron, state, end)
        crosses = (gap < 0) | ((gap == 0) & (slope < 0)) | (certain & (end >= high))
        crosses = crosses & (end > since)
        guess = clock.shared(self._guess(neuron, state, low, end))
        time, index = first(jnp.where(crosses, guess, jnp.inf))
        spiked = time < jnp.inf

        one, x, own = pick(neuron, index, n), pick(state, index, n), clock.of(index, n)
        bracket = jnp.where(spiked, own.shared(pick(low, index, n)), h)
        time = newton(
            lambda t: _gap_and_error(one, x, own.own(t)), jnp.clip(time, bracket, h), bracket, h
        )
        dt, low = jnp.where(spiked, time, h), None
        if dt.dtype == jnp.float32:
            low = jnp.where(spiked, _remainder(one, x, own, dt), 0.0)
        return Segment(
            dt, index, spiked, self.advance(neuron, state, clock.own(dt)), flow_state, low
        )

    def advance(self, neuron: LIF, state: LIFState, dt: Array) -> LIFState:
        return LIFState(potential(neuron, state, dt), state.current * jnp.exp(-dt / neuron.tau_syn))

    def may_cross(self, neuron: LIF, state: LIFState, dt: Array, end: LIFState) -> Array:
        error = ROUNDING_ULPS * jnp.finfo(state.v.dtype).eps
        error = error * (jnp.abs(neuron.threshold) + jnp.abs(state.v) + jnp.abs(neuron.bias))
        missing = neuron.threshold - error - state.v
        above = end.v - state.v >= missing
        return above | membrane.may_exceed(neuron, state, end, dt, missing)

    def crossing(self, neuron: LIF, state: LIFState, dt: Array) -> tuple[Array, Array]:
        low, high, certain, _ = _bracket(neuron, state, dt)
        low = jnp.minimum(low, high)
        guess = jnp.clip(self._guess(neuron, state, low, high), low, high)
        low = jnp.where(certain, low, high)

        def gap(t: Array) -> tuple[Array, Array, Array]:
            # With half of this bound, some of many lanes would never be finished.
            value, slope, error = _gap_and_error(neuron, state, t)
            return value, slope, 2 * error

        time = newton(gap, guess, low, high)
        rest = jnp.zeros_like(time)
        if time.dtype == jnp.float32:
            rest = jnp.where(certain, _remainder(neuron, state, Clock(None), time), 0.0)
        return jnp.where(certain, time, jnp.inf), rest

    def passes(self, neuron: LIF, state: LIFState) -> Array:
        return passes(neuron, state)

    def integral(self, neuron: LIF, state: LIFState, dt: Array) -> Array:
        return membrane.integral(neuron, state, self.advance(neuron, state, dt), dt)

    def maximum(self, neuron: LIF, state: LIFState, dt: Array) -> Array:
        return membrane.maximum(neuron, state, dt)

    def _guess(self, neuron: LIF, state: LIFState, low: Array, h: Array) -> Array:
        """Estimate the crossing time of a neuron above threshold at h.

        The estimate is the secant's, improved by one step of Newton's method. It only has to select
        the first neuron: a wrong choice costs another iteration of the event loop.
        """
        below, _ = _gap(neuron, state, low)
        above, _ = _gap(neuron, state, h)
        t = low + (h - low) * below / jnp.where(below > above, below - above, 1.0)
        value, slope = _gap(neuron, state, t)
        return jnp.clip(t - value / jnp.where(slope < 0, slope, -jnp.inf), low, h)


def _bracket(neuron: LIF, state: LIFState, longest: Array) -> tuple[Array, Array, Array, Array]:
    """Bracket [low, high] in which V is monotone, and whether V crosses its threshold there.

    `longest` is the length of the segment. Also returns the time after which V may cross.
    """
    low, turn, peaks = extremum(neuron, state)
    inside = peaks & (turn < longest)
    high = jnp.where(inside, turn, longest)
    gap, slope = _gap(neuron, state, high)
    # V may touch the threshold at its maximum. Elsewhere V must rise where it reaches it.
    since = _ready_since(neuron, state, low)
    certain = ((gap < 0) | ((gap == 0) & (inside | (slope < 0)))) & (longest > 0)
    return low, high, certain & (high > since), since


def _ready_since(neuron: LIF, state: LIFState, dip: Array) -> Array:
    """Time after which a gap that is not positive is a crossing; inf if there is no crossing.

    It is 0 for a potential that starts below threshold. A potential that starts at the threshold,
    up to rounding, crosses it if it rises from there, or after its minimum at `dip`. It does not
    cross if neither the bias nor the synaptic current can carry it above the threshold. It may then
    approach a bias equal to the threshold, and rounding may have put it at or above the threshold.
    """
    eps = ROUNDING_ULPS * jnp.finfo(state.v.dtype).eps
    rounding = eps * (jnp.abs(neuron.threshold) + jnp.abs(state.v))
    below = neuron.threshold_gap(state) > rounding
    above = neuron.bias > neuron.threshold
    waits = ~above & (state.current <= rounding)
    rises = (state.current - state.v + neuron.bias >= 0) | (above & (state.current >= 0))
    at_once = below | passes(neuron, state) | (~waits & rises)
    return jnp.where(at_once, 0.0, jnp.where(~waits & (dip > 0), dip, jnp.inf))


def _gap(neuron: LIF, state: LIFState, t: Array) -> tuple[Array, Array]:
    """Threshold minus potential at time t, and its derivative."""
    gap, slope, _ = _gap_and_error(neuron, state, t)
    return gap, slope


def _gap_and_error(neuron: LIF, state: LIFState, t: Array) -> tuple[Array, Array, Array]:
    """Threshold minus potential at time t, its derivative, and a bound of its rounding error."""
    x, synaptic = t / neuron.tau_mem, state.current * kernel(neuron, t)
    distance, near = neuron.bias - state.v, x < NEAR
    # Without cancellation between the threshold and the start, or the bias, of the potential.
    fixed = neuron.threshold - jnp.where(near, state.v, neuron.bias)
    moved = distance * jnp.where(near, jnp.expm1(-x), jnp.exp(-x))
    gap = (fixed + moved) - synaptic
    error = jnp.finfo(gap.dtype).eps * (jnp.abs(fixed) + jnp.abs(moved) + jnp.abs(synaptic))
    return gap, fall(neuron, state, t), error


def _remainder(neuron: LIF, state: LIFState, clock: Clock, t: Array) -> Array:
    """Rounding error of a crossing time: the exact time minus t, where t is in float32.

    It is one step of Newton's method on the gap, computed in twice the precision. The synaptic
    current decays, and its contribution is computed in single precision.
    """
    own = Double(t, jnp.zeros_like(t))
    if clock.window is not None:
        own = two_sum(t, -clock.window.start)
    rise = expm1(quotient(Double(-own.high, -own.low), neuron.tau_mem))
    lift = product(two_sum(neuron.bias, -state.v), rise)
    start = two_sum(neuron.threshold, -state.v)
    gap = two_sum(start.high, lift.high)
    synaptic = state.current * kernel(neuron, own.high)
    rest = (gap.high - synaptic) + (gap.low + start.low + lift.low)
    _, slope = _gap(neuron, state, own.high)
    low = rest / jnp.where(slope < 0, -slope, jnp.inf)
    most = 4 * jnp.finfo(t.dtype).eps * t  # a larger value is not a rounding error
    return jnp.clip(low, -most, most)


@exact_flow.register
def _(neuron: LIF) -> ExactLIF:
    return ExactLIF()
