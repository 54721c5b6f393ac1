"""Flow of the theta neuron: a rotation."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..doubles import Double, product, quotient, two_product, two_sum
from ..neurons import Theta, ThetaState
from .base import AbstractLaneFlow, Clock, Segment, Window, exact_flow, first, pick
from .qif import projective_integral


class ExactTheta(AbstractLaneFlow[Theta]):
    r"""Closed-form flow of [`eventsnn.Theta`][].

    With $\omega^2 = b - \tfrac14$ and $\alpha = \omega t / \tau_m$,
    $$y(t) = y \cos\alpha + v\, \frac{\sin\alpha}{\omega}, \qquad
    v(t) = v \cos\alpha - \omega y \sin\alpha,$$
    $y(t)$ first vanishes at $\alpha = \operatorname{atan2}(\omega y, -v)$, at most half a turn
    after the last spike. No root finding is needed.
    """

    def next_spike(
        self,
        neuron: Theta,
        state: ThetaState,
        horizon: Array,
        flow_state: tuple,
        window: Window | None = None,
    ) -> Segment:
        clock, wait = Clock(window), _wait(neuron, state)
        time = clock.shared(wait)
        within = (wait <= clock.own(horizon)) & (time <= horizon)
        time, index = first(jnp.where(within, time, jnp.inf))
        spiked = time < jnp.inf
        dt, low = jnp.minimum(time, horizon), None
        if dt.dtype == jnp.float32:
            one, x = pick(neuron, index, state.y.shape[0]), pick(state, index, state.y.shape[0])
            start = _own_start(clock.of(index, state.y.shape[0]), dt)
            low = jnp.where(spiked & (x.y <= 0), _remainder(one, start, dt), 0.0)
        return Segment(
            dt, index, spiked, self.advance(neuron, state, clock.own(dt)), flow_state, low
        )

    def advance(self, neuron: Theta, state: ThetaState, dt: Array) -> ThetaState:
        omega = _omega(neuron)
        angle = omega * (dt / neuron.tau_mem)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return ThetaState(
            state.y * cos + state.v * (sin / omega), state.v * cos - state.y * (sin * omega)
        )

    def may_cross(self, neuron: Theta, state: ThetaState, dt: Array, end: ThetaState) -> Array:
        # With 10 rounding errors of the time.
        return _wait(neuron, state) <= dt * (1 + 10 * jnp.finfo(dt.dtype).eps)

    def crossing(self, neuron: Theta, state: ThetaState, dt: Array) -> tuple[Array, Array]:
        wait = _wait(neuron, state)
        within, rest = wait <= dt, jnp.zeros_like(wait)
        if wait.dtype == jnp.float32:
            regular = within & (state.y <= 0)
            rest = jnp.where(regular, _remainder(neuron, jnp.zeros_like(wait), wait), 0.0)
        return jnp.where(within, wait, jnp.inf), rest

    def integral(self, neuron: Theta, state: ThetaState, dt: Array) -> Array:
        return projective_integral(neuron, state, self.advance(neuron, state, dt), dt)

    def maximum(self, neuron: Theta, state: ThetaState, dt: Array) -> Array:
        return neuron.observe(self.advance(neuron, state, dt))  # the potential always rises


def _wait(neuron: Theta, state: ThetaState) -> Array:
    """Time until the next spike."""
    omega = _omega(neuron)
    # After a spike y is 0 up to a rounding error of either sign: the next zero is half a turn away.
    above = jnp.where(state.y > 0, omega * state.y, 0.0)
    return jnp.arctan2(above, -state.v) * (neuron.tau_mem / omega)


def _own_start(clock: Clock, dt: Array) -> Array:
    return jnp.zeros_like(dt) if clock.window is None else clock.window.start


def _remainder(neuron: Theta, start: Array, dt: Array) -> Array:
    r"""Rounding error of `dt` in float32, for a whole period $\pi \tau_m/\omega$ after `start`.

    It is the exact end of the period minus `dt`.
    """
    square = two_sum(neuron.bias, jnp.full_like(neuron.bias, -0.25))
    omega = jnp.sqrt(square.high)
    back = two_product(omega, omega)
    rest = (((square.high - back.high) - back.low) + square.low) / (2.0 * omega)
    turn = product(_PI, Double(neuron.tau_mem, jnp.zeros_like(neuron.tau_mem)))
    high, low = quotient(turn, omega)
    end = two_sum(start, high)
    return (end.high - dt) + (end.low + low - high * rest / omega)


#: The number pi as the sum of two float32 numbers.
_PI = Double(np.float32(np.pi), np.float32(-8.742278e-08))  # pyright: ignore[reportArgumentType]


def _omega(neuron: Theta) -> Array:
    """Speed of the rotation, in radians per membrane time constant."""
    return jnp.sqrt(neuron.bias - 0.25)


@exact_flow.register
def _(neuron: Theta) -> ExactTheta:
    return ExactTheta()
