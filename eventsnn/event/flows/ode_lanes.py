"""Flow of any neuron model by steps of constant size, with the spikes of each neuron separately."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import AbstractLaneFlow, Segment, Window
from .crossings import may_fall
from .ode import ODEFlow
from .short import gauss_integral, searched_peak
from .threshold import passes


class ODELaneFlow(AbstractLaneFlow[AbstractNeuron]):
    """Flow of neurons that move separately, by steps of [`eventsnn.ODEFlow`][] of constant size.

    A neuron's segment is one step, of the length `dt0` or shorter.
    """

    flow: ODEFlow  # with steps of constant size

    def init_state(self, neuron: AbstractNeuron, state: State, horizon: Array) -> Any:
        return self.flow.init_state(neuron, state, horizon)

    def next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Array,
        flow_state: Any,
        window: Window | None = None,
    ) -> Segment:
        return self.flow.next_spike(neuron, state, horizon, flow_state, window)

    def advance(self, neuron: AbstractNeuron, state: State, dt: Array) -> State:
        neuron, state, dt, shape = _flattened(neuron, state, dt)
        end = self.flow.step(neuron, state, dt).end
        return jax.tree.map(lambda x: x.reshape(shape), end)

    def passes(self, neuron: AbstractNeuron, state: State) -> Array:
        return passes(neuron, state)

    def velocity(self, neuron: AbstractNeuron, state: State, dt: Array, end: State) -> State:
        return jax.jvp(lambda dt: self.advance(neuron, state, dt), (dt,), (jnp.ones_like(dt),))[1]

    def integral(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return gauss_integral(self, neuron, state, dt)

    def maximum(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return searched_peak(self, neuron, state, dt)

    def max_extra_segments(self, neuron: AbstractNeuron, t_max: float, max_events: int) -> int:
        return self.flow.max_extra_segments(neuron, t_max, max_events)

    def may_cross(
        self, neuron: AbstractNeuron, state: State, dt: Array, end: State
    ) -> Bool[Array, "..."]:
        neuron, state, dt, shape = _flattened(neuron, state, dt)
        step, gap = self.flow.step(neuron, state, dt), neuron.threshold_gap

        def sample(s: Array) -> tuple[Array, Array]:
            return jax.jvp(lambda s: gap(step.path(s)), (s,), (jnp.ones_like(s),))

        may = may_fall(sample, gap(step.end), self.flow.nodes)
        return (may & (dt > 0)).reshape(shape)

    def crossing(self, neuron: AbstractNeuron, state: State, dt: Array) -> tuple[Array, Array]:
        neuron, state, dt, shape = _flattened(neuron, state, dt)
        # One neuron per sample.
        neuron, state = jax.tree.map(
            lambda x: x[None] if eqx.is_array(x) and x.ndim else x, (neuron, state)
        )
        control = self.flow.init_state(neuron, state, dt)._replace(dt=dt)
        found = self.flow.next_spike(neuron, state, dt, control)
        time = jnp.where(found.spiked, found.dt, jnp.inf).reshape(shape)
        return time, jnp.zeros_like(time)

    @property
    def starts_at_threshold(self) -> bool:
        return False

    def longest(
        self,
        neuron: AbstractNeuron,
        state: State,
        below: Array | float = 0.0,
        above: Array | float = 0.0,
    ) -> Array:
        assert self.flow.dt0 is not None
        return jnp.full_like(neuron.threshold_gap(state), self.flow.dt0)


def _flattened(
    neuron: AbstractNeuron, state: State, dt: Array
) -> tuple[AbstractNeuron, State, Array, tuple[int, ...]]:
    """Parameters, states and times in one axis of lanes, and the shape of the lanes."""
    arrays = [x for x in jax.tree.leaves((neuron, state, dt)) if eqx.is_array(x)]
    shape = np.broadcast_shapes(*(x.shape for x in arrays))

    def flat(x):
        return jnp.broadcast_to(x, shape).reshape(-1)

    neuron = jax.tree.map(lambda x: flat(x) if eqx.is_array(x) and x.ndim else x, neuron)
    return neuron, jax.tree.map(flat, state), flat(dt), shape
