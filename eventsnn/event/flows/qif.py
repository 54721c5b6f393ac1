"""Flow of the QIF neuron: Taylor series in projective form."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ... import checks
from ..neurons import QIF, QIFState, Theta, ThetaState
from .base import (
    AbstractLaneFlow,
    Clock,
    Segment,
    Window,
    exact_flow,
    first,
    pick,
    with_time_derivative,
)
from .fused import together, transposed_together
from .short import searched_peak
from .threshold import ROUNDING_ULPS

#: Order of the series that selects the neuron that may fire first. A wrong choice costs iterations
#: of the event loop, which checks the end of a segment, but does not change its result.
_GUESS_ORDER = 8


class TaylorQIF(AbstractLaneFlow[QIF]):
    r"""Linear flow of [`eventsnn.QIF`][] as a power series in time, for any time constants.

    With $s = t/h$, $a = h/\tau_m$, $\rho_m = (-h/\tau_s)^m / m!$ and $q = \tfrac14 - b - I$,
    $$y_{k+2} = \frac{a^2}{(k+1)(k+2)} \Bigl(q\, y_k - I \sum_{m=1}^{k} \rho_m y_{k-m}\Bigr),
    \qquad y_0 = y, \; y_1 = a v.$$

    The length of a segment is limited: $(y, v)$ turns by at most `max_turn` radians, and the
    current decays by at most the factor $e^{-\mathtt{max\_decay}}$. Within a segment $y$ then has
    at most one zero, the sign of $y$ at its end is decisive, and the series has converged to
    rounding error.
    """

    affine: ClassVar[bool] = False

    order: int | None = eqx.field(static=True)
    max_turn: float | None = eqx.field(static=True)
    max_decay: float | None = eqx.field(static=True)

    def __init__(
        self,
        order: int | None = None,
        max_turn: float | None = None,
        max_decay: float | None = None,
    ):
        """**Arguments:**

        - `order`: order of the series, 4 ... 64. The length of segments is limited such that a
            series of this order is accurate: a low order requires many short segments.
        - `max_turn`: maximum rotation of $(y, v)$ in a segment, in radians, in (0, 1.5]. The bound
            ensures that a zero changes the sign of $y$ at the end of the segment.
        - `max_decay`: maximum length of a segment in synaptic time constants, > 0.

        None (the default of all three): a value chosen for the precision of the simulation.

        **Raises:** `ValueError` for a value out of these ranges.
        """
        expected = "a number in (0, 1.5]"
        self.order = None if order is None else checks.integer("order", order, 4, 64)
        self.max_turn = (
            max_turn
            if max_turn is None
            else checks.number("max_turn", max_turn, expected, lambda v: 0 < v <= 1.5)
        )
        self.max_decay = max_decay if max_decay is None else checks.positive("max_decay", max_decay)

    def _limits(self, dtype) -> tuple[int, float, float]:
        """Order, maximum turn and maximum decay.

        By default, the first omitted term turn^(order+1)/(order+1)! is at the precision of the
        dtype, for float32 and float64. A shorter segment is cheaper than a longer series.
        """
        order, turn, decay = (8, 0.7, 0.35) if dtype == jnp.float32 else (18, 1.0, 0.5)
        turn, decay = self.max_turn or turn, self.max_decay or decay
        if self.order is None:
            return order, turn, decay
        # x^order / order!, the first omitted term of v, is at the precision for x = turn + decay.
        digits = float(jnp.finfo(dtype).eps) * math.factorial(self.order)
        longest = digits ** (1 / self.order)
        return self.order, min(turn, longest * 2 / 3), min(decay, longest / 3)

    def next_spike(
        self,
        neuron: QIF,
        state: QIFState,
        horizon: Array,
        flow_state: tuple,
        window: Window | None = None,
    ) -> Segment:
        n, clock = state.y.shape[0], Clock(window)
        h = jnp.minimum(horizon, self._shared_longest(neuron, state, clock))
        end = clock.own(h)
        y, v = self._series(neuron, state, end, _GUESS_ORDER)
        # Minus the time since the zero, so that the earliest is the smallest.
        age, index = first(clock.shared(end) - h - _since_zero(neuron, state, end, y, v))
        spiked = age < jnp.inf
        time = jnp.clip(jnp.where(spiked, h + age, h), 0.0, h)
        own = clock.of(index, n)
        time, crosses = self._polish(
            pick(neuron, index, n), pick(state, index, n), own.own(time), own.own(h)
        )
        spiked = spiked & crosses
        dt = jnp.where(spiked, own.shared(time), h)
        return Segment(dt, index, spiked, self.advance(neuron, state, clock.own(dt)), flow_state)

    def advance(self, neuron: QIF, state: QIFState, dt: Array) -> QIFState:
        return _advance(self, neuron, state, dt)

    def integral(self, neuron: QIF, state: QIFState, dt: Array) -> Array:
        return projective_integral(neuron, state, self.advance(neuron, state, dt), dt)

    def maximum(self, neuron: QIF, state: QIFState, dt: Array) -> Array:
        return searched_peak(self, neuron, state, dt)

    def max_extra_segments(self, neuron: QIF, t_max: float, max_events: int) -> int:
        if not checks.is_concrete(neuron.tau_syn) or not checks.is_concrete(neuron.tau_mem):
            return max_events + 256
        _, turn, decay = self._limits(neuron.tau_syn.dtype)
        shortest = decay * np.min(np.asarray(neuron.tau_syn))
        # At the resting potential, for b = 0, the rotation speed is 1/2 per membrane time constant.
        shortest = min(shortest, 2.0 * turn * np.min(np.asarray(neuron.tau_mem)))
        quiet = 2 ** math.ceil(math.log2(max(t_max / shortest, 256.0))) if shortest > 0 else 256
        return max_events + quiet

    def may_cross(self, neuron: QIF, state: QIFState, dt: Array, end: QIFState) -> Array:
        error = ROUNDING_ULPS * jnp.finfo(end.y.dtype).eps * (jnp.abs(state.y) + jnp.abs(state.v))
        return end.y <= error

    def crossing(self, neuron: QIF, state: QIFState, dt: Array) -> tuple[Array, Array]:
        y, v = self._series(neuron, state, dt)
        crosses = (y < 0) & (dt > 0)
        since = jnp.where(crosses, _since_zero(neuron, state, dt, y, v), 0.0)
        time, _ = self._polish(neuron, state, jnp.clip(dt - since, 0.0, dt), dt)
        return jnp.where(crosses, time, jnp.inf), jnp.zeros_like(time)

    def longest(
        self,
        neuron: QIF,
        state: QIFState,
        below: Array | float = 0.0,
        above: Array | float = 0.0,
    ) -> Array:
        """Maximum length of the segments on which the series is accurate."""
        q = 0.25 - neuron.bias
        # |q - I| is largest at one of the two ends of the range of the current.
        least = jnp.minimum(state.current, 0.0) + below
        most = jnp.maximum(state.current, 0.0) + above
        fastest = jnp.maximum(jnp.abs(q - least), jnp.abs(q - most))
        _, turn, decay = self._limits(fastest.dtype)
        return jnp.minimum(turn * neuron.tau_mem / jnp.sqrt(fastest), decay * neuron.tau_syn)

    def _shared_longest(self, neuron: QIF, state: QIFState, clock: Clock) -> Float[Array, " batch"]:
        """Maximum length of a segment on which the series is accurate for every neuron."""
        longest = self.longest(neuron, state)
        if clock.window is not None:
            moves = clock.window.stop > clock.window.start
            longest = jnp.where(moves, clock.shared(longest), jnp.inf)
        return jnp.min(longest, axis=0)

    def _polish(
        self, neuron: QIF, state: QIFState, time: Array, h: Array
    ) -> tuple[Array, Bool[Array, " batch"]]:
        """Refine the time of a zero by Newton's method: one neuron per sample, in its own time.

        y'' vanishes where y does, so each step triples the number of correct digits. The guess has
        two correct digits, and a fixed number of steps suffices. Also returns whether the zero is
        within h, to rounding error.
        """
        zero = time
        for _ in range(2 if time.dtype == jnp.float32 else 3):
            y, v = self._series(neuron, state, time)
            zero = time - y * neuron.tau_mem / v
            time = jnp.clip(zero, 0.0, h)
        return time, zero <= h * (1 + ROUNDING_ULPS * jnp.finfo(h.dtype).eps)

    def _series(
        self, neuron: QIF, state: QIFState, h: Array, most: int | None = None
    ) -> tuple[Array, Array]:
        """State (y, v) after h, by the recursion in the documentation of the class.

        `most` is the largest order of the series.
        """
        order, _, _ = self._limits(state.y.dtype)
        order = order if most is None else min(order, most)
        a, r = h / neuron.tau_mem, -h / neuron.tau_syn
        q = 0.25 - neuron.bias - state.current
        y, v = transposed_together(state.y, state.v)
        current, q = transposed_together(jnp.broadcast_to(state.current, q.shape), q)
        rho = [jnp.ones_like(r)]
        for m in range(1, order - 1):
            rho.append(rho[-1] * (r * (1.0 / m)))
        ys = [y, a * v]
        gain = v  # y_1 / a
        for k in range(order - 1):
            force = q * ys[k]
            if k > 0:
                lag = sum(rho[m] * ys[k - m] for m in range(1, k + 1))
                force = force - current * lag
            x = force * (a * (1.0 / ((k + 1) * (k + 2))))  # y_{k+2} / a
            gain = gain + x
            v = v + x * (k + 2.0)
            ys.append(a * x)
        return y + a * gain, v


def _state_after(flow: TaylorQIF, neuron: QIF, state: QIFState, dt: Array) -> QIFState:
    y, v = together(*flow._series(neuron, state, dt))
    return QIFState(y, v, state.current * jnp.exp(-dt / neuron.tau_syn))


_advance = with_time_derivative(
    _state_after, lambda end, flow, neuron, state, dt: neuron.vector_field(end)
)


def projective_integral(
    neuron: QIF | Theta, state: QIFState | ThetaState, end: QIFState | ThetaState, dt: Array
) -> Array:
    r"""Integral of the potential in projective form. Also used for the theta neuron.

    $\int (\tfrac12 - \tfrac{v}{y})\,dt = \tfrac{t}{2} - \tau_m [\log y]$, since
    $\tau_m \dot y = v$. It is NaN if there is a spike at the start or at the end.
    """
    exists = (state.y > 0) & (end.y > 0)
    growth = jnp.where(exists, end.y, 1.0) / jnp.where(exists, state.y, 1.0)
    integral = 0.5 * dt - neuron.tau_mem * jnp.log(growth)
    return jnp.where(exists, integral, jnp.where(dt > 0, jnp.nan, 0.0))


def _since_zero(neuron: QIF, state: QIFState, h: Array, y: Array, v: Array) -> Array:
    """Time since the zero of y, for a neuron with y < 0 at h; -inf for all others.

    For constant q it is (tau_m / w) arctan(w y / v) with w^2 = -q. A Padé form is valid for both
    signs of q and costs one division. The division comes last, and its result is the only output.
    XLA does not repeat a division for each use of its result, and therefore does not repeat the
    series either.
    """
    q = 0.25 - neuron.bias - state.current * jnp.exp(-h / neuron.tau_syn)
    qyy, vv = q * y * y, v * v
    past = (y < 0) & (h > 0)
    above = jnp.where(past, neuron.tau_mem * y * (15.0 * vv - 4.0 * qyy), -1.0)
    return above / jnp.where(past, v * (15.0 * vv - 9.0 * qyy), 0.0)


@exact_flow.register
def _(neuron: QIF) -> TaylorQIF:
    return TaylorQIF()
