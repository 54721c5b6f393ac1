"""The flow of a neuron that rests after each spike."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..neurons import Refractory, RefractoryState
from ..neurons.base import State
from .base import AbstractFlow, Clock, Segment, Window


class RefractoryFlow(AbstractFlow):
    """The flow of [`eventsnn.Refractory`][]: that of the neuron, which starts for each neuron when
    its rest is over. The end of a rest splits a segment exactly, for that neuron alone.
    """

    flow: AbstractFlow

    def init(self, neuron: Refractory, state: RefractoryState, horizon: Array) -> Any:
        return self.flow.init(neuron.neuron, state.neuron, horizon)

    def next_spike(
        self,
        neuron: Refractory,
        state: RefractoryState,
        horizon: Array,
        memory: Any,
        window: Window | None = None,
    ) -> Segment:
        clock = Clock(window)
        start = clock.shared(state.left)
        stop = jnp.full_like(start, jnp.inf) if window is None else window.stop
        rested = neuron.neuron.hold(state.neuron, state.left)
        awake = Window(start, jnp.maximum(start, stop))
        segment = self.flow.next_spike(neuron.neuron, rested, horizon, memory, awake)
        return segment._replace(end=self.advance(neuron, state, clock.own(segment.dt)))

    def advance(self, neuron: Refractory, state: RefractoryState, dt: Array) -> RefractoryState:
        rested, rest = _rest(neuron, state, dt)
        return RefractoryState(
            self.flow.advance(neuron.neuron, rested, dt - rest), state.left - rest
        )

    def velocity(
        self, neuron: Refractory, state: RefractoryState, dt: Array, end: RefractoryState
    ) -> RefractoryState:
        rested, rest = _rest(neuron, state, dt)
        moves = self.flow.velocity(neuron.neuron, rested, dt - rest, end.neuron)
        held = neuron.drift(end)
        rests = end.left > 0
        inner = jax.tree.map(lambda a, b: jnp.where(rests, a, b), held.neuron, moves)
        return RefractoryState(inner, held.left)

    def integral(self, neuron: Refractory, state: RefractoryState, dt: Array) -> Array:
        rested, rest = _rest(neuron, state, dt)
        held = jnp.where(rest > 0, neuron.observe(state), 0.0)
        return rest * held + self.flow.integral(neuron.neuron, rested, dt - rest)

    def peak(self, neuron: Refractory, state: RefractoryState, dt: Array) -> Array:
        rested, rest = _rest(neuron, state, dt)  # while it rests, it shows what it shows after
        return self.flow.peak(neuron.neuron, rested, dt - rest)

    def cuts(self, t_max: float, max_events: int) -> int:
        return self.flow.cuts(t_max, max_events)


def _rest(neuron: Refractory, state: RefractoryState, dt: Array) -> tuple[State, Array]:
    """The state at the end of the rest, as far as it lies within `dt`, and how long that is."""
    # Not `minimum`: as the rest ends, its derivative is wholly one or wholly the other, and a
    # neuron that does not rest does not begin to for dt = 0.
    rest = jnp.where(state.left <= dt, state.left, dt)
    return neuron.neuron.hold(state.neuron, rest), rest
