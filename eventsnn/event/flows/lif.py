"""Flow of the LIF neuron: closed form, with certified detection of every spike."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..doubles import Double, expm1, product, quotient, two_sum
from ..neurons import LIF, LIFState
from .base import AbstractReadoutFlow, Clock, Segment, Window, exact_flow, first, newton, pick
from .short import risen
from .threshold import ROUNDING_ULPS, passes


class ExactLIF(AbstractReadoutFlow):
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
    equals the threshold, $V$ approaches it and never reaches it. The sign of the gap is correct
    however close $V$ comes.
    """

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
        low, turn, peaks = _extremum(neuron, state)
        longest = clock.own(horizon)
        inside = peaks & (turn < longest)
        high = jnp.where(inside, turn, longest)
        gap, slope = _gap(neuron, state, high)
        # V may touch the threshold at its maximum. Elsewhere V must rise where it reaches it.
        since = _ready_since(neuron, state, low)
        certain = ((gap < 0) | ((gap == 0) & (inside | (slope < 0)))) & (longest > 0)
        certain = certain & (high > since)
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
        time = newton(lambda t: _gap(one, x, own.own(t)), jnp.clip(time, bracket, h), bracket, h)
        dt, low = jnp.where(spiked, time, h), None
        if dt.dtype == jnp.float32:
            low = jnp.where(spiked, _remainder(one, x, own, dt), 0.0)
        return Segment(
            dt, index, spiked, self.advance(neuron, state, clock.own(dt)), flow_state, low
        )

    def advance(self, neuron: LIF, state: LIFState, dt: Array) -> LIFState:
        return LIFState(
            _potential(neuron, state, dt), state.current * jnp.exp(-dt / neuron.tau_syn)
        )

    def passes(self, neuron: LIF, state: LIFState) -> Array:
        return passes(neuron, state)

    def integral(self, neuron: LIF, state: LIFState, dt: Array) -> Array:
        return potential_integral(neuron, state, self.advance(neuron, state, dt), dt)

    def maximum(self, neuron: LIF, state: LIFState, dt: Array) -> Array:
        return potential_peak(neuron, state, dt)

    def _guess(self, neuron: LIF, state: LIFState, low: Array, h: Array) -> Array:
        """Estimate the crossing time of a neuron above threshold at h.

        The estimate is the secant's, improved by two steps of Newton's method.
        """
        below, _ = _gap(neuron, state, low)
        above, _ = _gap(neuron, state, h)
        t = low + (h - low) * below / jnp.where(below > above, below - above, 1.0)
        for _ in range(2):
            value, slope = _gap(neuron, state, t)
            t = jnp.clip(t - value / jnp.where(slope < 0, slope, -jnp.inf), low, h)
        return t


def potential_integral(neuron: Any, state: Any, end: Any, dt: Array) -> Array:
    r"""Integral of the potential, $\int V\,dt = \int (I + b)\,dt - \tau_m [V]$.

    It follows from the differential equation. Also used for the leaky integrator.
    """
    charge = neuron.tau_syn * (state.current - end.current)
    return charge + neuron.bias * dt - neuron.tau_mem * (end.v - state.v)


def potential_peak(neuron: Any, state: Any, dt: Array) -> Array:
    """Maximum of V within `dt`: at the start, at the end, or at the interior maximum.

    Also used for the leaky integrator.
    """
    _, turn, peaks = _extremum(neuron, state)
    inside = peaks & (turn < dt)
    turn = lax.stop_gradient(jnp.where(inside, turn, 0.0))  # V is stationary at its maximum
    slope = _fall(neuron, state, turn)
    curve = state.current * jnp.exp(-turn / neuron.tau_syn) / (neuron.tau_syn * neuron.tau_mem)
    top = _potential(neuron, state, turn) + risen(slope, -curve)
    ends = jnp.maximum(state.v, _potential(neuron, state, dt))
    return jnp.where(inside, top, ends)


def _ready_since(neuron: LIF, state: LIFState, dip: Array) -> Array:
    """Time after which a gap that is not positive is a crossing; inf if there is none.

    It is 0 for a potential that starts below threshold. One that starts at the threshold, to
    rounding, crosses it if it rises from there, or after its minimum at `dip`. It waits if neither
    the bias nor the synaptic current can carry it above the threshold: it may approach a bias equal
    to the threshold, and rounding may have put it there or above.
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
    x, driven = t / neuron.tau_mem, state.current * _kernel(neuron, t)
    distance, rise = neuron.bias - state.v, -jnp.expm1(-x)
    near = (neuron.threshold - state.v) - distance * rise
    far = (neuron.threshold - neuron.bias) + distance * jnp.exp(-x)
    gap = jnp.where(x < _NEAR, near, far) - driven
    return gap, _fall(neuron, state, t)


def _fall(neuron: Any, state: Any, t: Array) -> Array:
    """Negative time derivative of V at time t. Also used for the leaky integrator."""
    current = state.current * jnp.exp(-t / neuron.tau_syn)
    return -(current - _potential(neuron, state, t) + neuron.bias) / neuron.tau_mem


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
    driven = state.current * _kernel(neuron, own.high)
    rest = (gap.high - driven) + (gap.low + start.low + lift.low)
    _, slope = _gap(neuron, state, own.high)
    low = rest / jnp.where(slope < 0, -slope, jnp.inf)
    most = 4 * jnp.finfo(t.dtype).eps * t  # a larger value is not a rounding error
    return jnp.clip(low, -most, most)


#: Time in membrane time constants. Before it, the potential is computed as a difference from its
#: initial value, after it from the bias that it approaches. This avoids cancellation, and V does
#: not pass b by rounding.
_NEAR = 0.5


def _potential(neuron: LIF, state: LIFState, t: Array) -> Array:
    """Potential V(t), accurate at all times and for any ratio of time constants."""
    x, distance = t / neuron.tau_mem, neuron.bias - state.v
    near = state.v - distance * jnp.expm1(-x)
    far = neuron.bias - distance * jnp.exp(-x)
    return jnp.where(x < _NEAR, near, far) + state.current * _kernel(neuron, t)


def _kernel(neuron: LIF, t: Array) -> Array:
    r"""Synaptic kernel k(t), in a form that is accurate at and near $\tau_m = \tau_s$.

    $k(t) = (t/\tau_m)\, e^{-t/\tau}\, (1 - e^{-x})/x$ with $\tau$ the larger constant and
    $x = t\,|1/\tau_m - 1/\tau_s|$: no cancellation, no overflow.
    """
    x = t / neuron.tau_mem - t / neuron.tau_syn
    # Each branch is the complete function. `abs` and `maximum` would have wrong derivatives at
    # equal time constants.
    slower = x >= 0
    slow = jnp.exp(jnp.where(slower, -t / neuron.tau_syn, -t / neuron.tau_mem))
    return (t / neuron.tau_mem) * slow * _mean_decay(jnp.where(slower, x, -x))


def _mean_decay(x: Array) -> Array:
    r"""Mean decay $(1 - e^{-x})/x$ for x >= 0, accurate with all its derivatives down to x = 0."""
    small = x < 0.5
    far = jnp.where(small, 1.0, x)
    series = jnp.zeros_like(x)
    for k in range(15, 0, -1):  # 0.5^15 / 16! < 2^-53
        series = 1.0 - series * x * (1.0 / (k + 1))
    return jnp.where(small, series, -jnp.expm1(-far) / far)


def _extremum(
    neuron: LIF, state: LIFState
) -> tuple[Float[Array, "n batch"], Float[Array, "n batch"], Bool[Array, "n batch"]]:
    r"""Time from which V may rise, time of its interior extremum, and whether this is a maximum.

    $\dot V = 0$ at $t = \tau_s\, c\, \log(1 + z)/z$ with $c = \tau_m \dot V(0) / I_0$ and
    $1 + z = (V_0 - b)/I_0 + c\, \tau_s/\tau_m$, where $z = c\, (\tau_s - \tau_m)/\tau_m$.
    """
    rise = state.current - state.v + neuron.bias  # tau_m V'(0)
    quiet = state.current == 0
    c = rise / jnp.where(quiet, 1.0, state.current)
    z = (neuron.tau_syn - neuron.tau_mem) / neuron.tau_mem * c
    # z may round to -1. 1 + z is therefore computed separately, without cancellation.
    left = (state.v - neuron.bias) / jnp.where(quiet, 1.0, state.current)
    whole = left + c * (neuron.tau_syn / neuron.tau_mem)
    exists = ~quiet & (c > 0) & (whole > 0)
    time = neuron.tau_syn * c * _log_over(jnp.where(exists, whole, 1.0), z)
    # With c > 0 the slope has the sign of the current: a positive current gives a maximum.
    peaks = exists & (rise > 0)
    dips = exists & (rise < 0)
    return jnp.where(dips, time, 0.0), time, peaks


def _log_over(whole: Array, z: Array) -> Array:
    """Quotient log(1 + z)/z, which is 1 at z = 0; `whole` is 1 + z."""
    near = jnp.abs(z) < jnp.finfo(z.dtype).tiny
    small = jnp.abs(z) < 0.5
    safe = jnp.where(near, 1.0, z)
    log = jnp.where(small, jnp.log1p(jnp.where(small, z, 0.0)), jnp.log(whole))
    return jnp.where(near, 1.0, log / safe)


@exact_flow.register
def _(neuron: LIF) -> ExactLIF:
    return ExactLIF()
