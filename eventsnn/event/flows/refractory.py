"""Flow of a neuron with a refractory period."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..neurons import Refractory, RefractoryState
from ..neurons.base import State
from .base import AbstractFlow, AbstractReadoutFlow, Clock, Segment, Window, first, with_readouts


class RefractoryFlow(AbstractReadoutFlow):
    """Flow of [`eventsnn.Refractory`][]: the flow of the model, after the refractory period.

    The end of a neuron's refractory period splits a segment exactly, for this neuron only.
    """

    flow: AbstractFlow

    def init_state(self, neuron: Refractory, state: RefractoryState, horizon: Array) -> Any:
        return self.flow.init_state(neuron.neuron, state.neuron, horizon)

    def next_spike(
        self,
        neuron: Refractory,
        state: RefractoryState,
        horizon: Array,
        flow_state: Any,
        window: Window | None = None,
    ) -> Segment:
        clock, left = Clock(window), jnp.maximum(state.left, 0.0)
        start = clock.shared(left)
        stop = jnp.full_like(start, jnp.inf) if window is None else window.stop
        rested = neuron.neuron.advance_clamped(state.neuron, left)
        # A neuron pushed over its threshold while it is refractory fires at the end of the period.
        over = (state.left >= 0) & (neuron.neuron.threshold_gap(rested) < 0)
        wakes = over & (start <= jnp.minimum(horizon, stop))
        wake, sleeper = first(jnp.where(wakes, start, jnp.inf))
        until = jnp.minimum(wake, horizon)

        awake = Window(start, jnp.maximum(start, stop))
        segment = self.flow.next_spike(neuron.neuron, rested, until, flow_state, awake)
        fires = ~segment.spiked & (wake <= segment.dt)
        return segment._replace(
            index=jnp.where(fires, sleeper, segment.index),
            spiked=segment.spiked | fires,
            low=None if segment.low is None else jnp.where(fires, 0.0, segment.low),
            end=self.advance(neuron, state, clock.own(segment.dt)),
        )

    def advance(self, neuron: Refractory, state: RefractoryState, dt: Array) -> RefractoryState:
        rested, rest = _rest(neuron, state, dt)
        return RefractoryState(self.flow.advance(neuron.neuron, rested, dt - rest), state.left - dt)

    def passes(self, neuron: Refractory, state: RefractoryState) -> Array:
        # A neuron above its threshold at the end of the period fires, whatever its vector field.
        gap = neuron.threshold_gap(state)
        wakes = neuron.neuron.threshold_gap(state.neuron) < gap
        return wakes | self.flow.passes(neuron.neuron, state.neuron)

    def velocity(
        self, neuron: Refractory, state: RefractoryState, dt: Array, end: RefractoryState
    ) -> RefractoryState:
        rested, rest = _rest(neuron, state, dt)
        moves = self.flow.velocity(neuron.neuron, rested, dt - rest, end.neuron)
        held = neuron.vector_field(end._replace(left=jnp.ones_like(end.left)))
        rests = (state.left > 0) & (state.left >= dt)
        inner = jax.tree.map(lambda a, b: jnp.where(rests, a, b), held.neuron, moves)
        return RefractoryState(inner, held.left)

    def integral(self, neuron: Refractory, state: RefractoryState, dt: Array) -> Array:
        rested, rest = _rest(neuron, state, dt)
        held = jnp.where(rest > 0, neuron.observe(state), 0.0)
        return rest * held + with_readouts(self.flow).integral(neuron.neuron, rested, dt - rest)

    def maximum(self, neuron: Refractory, state: RefractoryState, dt: Array) -> Array:
        rested, rest = _rest(neuron, state, dt)  # constant while refractory
        return with_readouts(self.flow).maximum(neuron.neuron, rested, dt - rest)

    def max_extra_segments(self, neuron: Refractory, t_max: float, max_events: int) -> int:
        return self.flow.max_extra_segments(neuron.neuron, t_max, max_events)


def _rest(neuron: Refractory, state: RefractoryState, dt: Array) -> tuple[State, Array]:
    """State at the end of the refractory period or of `dt`, and the refractory time within `dt`."""
    # Not `minimum`, which averages the derivatives of equal arguments. At the end of the period the
    # derivative is that of `dt`. For a neuron that is not refractory it is 0, also at dt = 0.
    left = jnp.where(state.left > 0, state.left, 0.0)
    rest = jnp.where((left < dt) | (left == 0), left, dt)
    return neuron.neuron.advance_clamped(state.neuron, rest), rest
