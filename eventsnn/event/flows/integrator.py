"""Flow of the leaky integrator: the closed form of the LIF neuron's membrane, without spikes."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from ..neurons import IntegratorState, LeakyIntegrator
from . import membrane
from .base import AbstractLaneFlow, Clock, Segment, Window, exact_flow


class ExactIntegrator(AbstractLaneFlow[LeakyIntegrator]):
    """Closed-form flow of [`eventsnn.LeakyIntegrator`][], for any ratio of time constants.

    The membrane potential is that of [`eventsnn.ExactLIF`][]. Every segment reaches its horizon.
    """

    affine: ClassVar[bool] = True

    def next_spike(
        self,
        neuron: LeakyIntegrator,
        state: IntegratorState,
        horizon: Array,
        flow_state: tuple,
        window: Window | None = None,
    ) -> Segment:
        no_neuron = jnp.full(horizon.shape, state.v.shape[0], jnp.int32)
        end = self.advance(neuron, state, Clock(window).own(horizon))
        return Segment(horizon, no_neuron, jnp.zeros_like(no_neuron, bool), end, flow_state)

    def advance(self, neuron: LeakyIntegrator, state: IntegratorState, dt: Array):
        current = state.current * jnp.exp(-dt / neuron.tau_syn)
        return IntegratorState(membrane.potential(neuron, state, dt), current)

    def integral(self, neuron: LeakyIntegrator, state: IntegratorState, dt: Array) -> Array:
        return membrane.integral(neuron, state, self.advance(neuron, state, dt), dt)

    def maximum(self, neuron: LeakyIntegrator, state: IntegratorState, dt: Array) -> Array:
        return membrane.maximum(neuron, state, dt)

    def may_cross(
        self, neuron: LeakyIntegrator, state: IntegratorState, dt: Array, end: IntegratorState
    ) -> Array:
        return jnp.zeros(end.v.shape, bool)

    def crossing(
        self, neuron: LeakyIntegrator, state: IntegratorState, dt: Array
    ) -> tuple[Array, Array]:
        never = jnp.full(jnp.broadcast_shapes(state.v.shape, dt.shape), jnp.inf, state.v.dtype)
        return never, jnp.zeros_like(never)


@exact_flow.register
def _(neuron: LeakyIntegrator) -> ExactIntegrator:
    return ExactIntegrator()
