"""The flow of the theta neuron: a rotation."""

import jax.numpy as jnp
from jaxtyping import Array

from ..neurons import Theta, ThetaState
from .base import AbstractFlow, Clock, Segment, Window, exact_flow, first
from .qif import projective_integral


class ExactTheta(AbstractFlow):
    r"""The closed-form flow of [`eventsnn.Theta`][].

    With $\omega^2 = b - \tfrac14$ and $\alpha = \omega t / \tau_m$,
    $$y(t) = y \cos\alpha + v\, \frac{\sin\alpha}{\omega}, \qquad
    v(t) = v \cos\alpha - \omega y \sin\alpha,$$
    which first vanishes at $\alpha = \operatorname{atan2}(\omega y, -v)$: half a turn after the
    last spike, at most. No root is sought.
    """

    def next_spike(
        self,
        neuron: Theta,
        state: ThetaState,
        horizon: Array,
        memory: tuple,
        window: Window | None = None,
    ) -> Segment:
        omega, clock = _omega(neuron), Clock(window)
        # After a spike y may be 0 or a rounding error to either side: half a turn is to come.
        above = jnp.where(state.y > 0, omega * state.y, 0.0)
        wait = jnp.arctan2(above, -state.v) * (neuron.tau_mem / omega)
        time = clock.shared(wait)
        within = (wait <= clock.own(horizon)) & (time <= horizon)
        time, who = first(jnp.where(within, time, jnp.inf))
        spiked = time < jnp.inf
        dt = jnp.minimum(time, horizon)
        return Segment(dt, who, spiked, self.advance(neuron, state, clock.own(dt)), memory)

    def advance(self, neuron: Theta, state: ThetaState, dt: Array) -> ThetaState:
        omega = _omega(neuron)
        angle = omega * (dt / neuron.tau_mem)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return ThetaState(
            state.y * cos + state.v * (sin / omega), state.v * cos - state.y * (sin * omega)
        )

    def integral(self, neuron: Theta, state: ThetaState, dt: Array) -> Array:
        return projective_integral(neuron, state, self.advance(neuron, state, dt), dt)

    def peak(self, neuron: Theta, state: ThetaState, dt: Array) -> Array:
        return neuron.observe(self.advance(neuron, state, dt))  # the potential rises all the time


def _omega(neuron: Theta) -> Array:
    """The speed of the rotation, in radians a membrane time constant."""
    return jnp.sqrt(neuron.bias - 0.25)


@exact_flow.register
def _(neuron: Theta) -> ExactTheta:
    return ExactTheta()
