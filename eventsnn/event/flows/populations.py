"""Flow of a population with several neuron models."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ..neurons import Populations
from ..neurons.base import State
from .base import AbstractFlow, AbstractReadoutFlow, Clock, Segment, Window, with_readouts


class PopulationsFlow(AbstractReadoutFlow[Populations]):
    """Flow of [`eventsnn.Populations`][], with one flow per model.

    A segment ends at the first crossing of any neuron, or earlier where one of the flows stops.
    """

    flows: tuple[AbstractFlow, ...]

    def init_state(self, neuron: Populations, state: State, horizon: Array) -> Any:
        return tuple(
            flow.init_state(part, x, horizon)
            for flow, part, x in zip(self.flows, neuron.parts, state, strict=True)
        )

    def next_spike(
        self,
        neuron: Populations,
        state: State,
        horizon: Array,
        flow_state: Any,
        window: Window | None = None,
    ) -> Segment:
        windows = _each(neuron, window)
        dt, low, spiked = horizon, jnp.zeros_like(horizon), jnp.zeros(horizon.shape, bool)
        index, offset = jnp.full(horizon.shape, sum(neuron.sizes), jnp.int32), 0
        flow_states = []
        for flow, part, size, x, old, own in zip(
            self.flows, neuron.parts, neuron.sizes, state, flow_state, windows, strict=True
        ):
            # The horizon of each flow is the end of the segment found so far.
            segment = flow.next_spike(part, x, dt, old, own)
            index = jnp.where(segment.spiked, offset + segment.source, index)
            low = jnp.where(segment.spiked, segment.remainder(), low)
            spiked = segment.spiked | (spiked & (segment.dt >= dt))
            dt, offset = segment.dt, offset + size
            flow_states.append(segment.flow_state)
        end = self.advance(neuron, state, Clock(window).own(dt))
        return Segment(dt, index, spiked, end, tuple(flow_states), jnp.where(spiked, low, 0.0))

    def advance(self, neuron: Populations, state: State, dt: Array) -> State:
        return tuple(
            flow.advance(part, x, own)
            for flow, part, x, own in zip(
                self.flows, neuron.parts, state, neuron.of_time(dt), strict=True
            )
        )

    def passes(self, neuron: Populations, state: State) -> Array:
        parts = zip(self.flows, neuron.parts, state, strict=True)
        return jnp.concatenate([flow.passes(part, x) for flow, part, x in parts])

    def velocity(self, neuron: Populations, state: State, dt: Array, end: State) -> State:
        return tuple(
            flow.velocity(part, x, own, last)
            for flow, part, x, own, last in zip(
                self.flows, neuron.parts, state, neuron.of_time(dt), end, strict=True
            )
        )

    def integral(self, neuron: Populations, state: State, dt: Array) -> Array:
        parts = zip(self.flows, neuron.parts, state, neuron.of_time(dt), strict=True)
        return jnp.concatenate(
            [with_readouts(flow).integral(part, x, own) for flow, part, x, own in parts]
        )

    def maximum(self, neuron: Populations, state: State, dt: Array) -> Array:
        parts = zip(self.flows, neuron.parts, state, neuron.of_time(dt), strict=True)
        return jnp.concatenate(
            [with_readouts(flow).maximum(part, x, own) for flow, part, x, own in parts]
        )

    def max_extra_segments(self, neuron: Populations, t_max: float, max_events: int) -> int:
        parts = zip(self.flows, neuron.parts, strict=True)
        return sum(flow.max_extra_segments(part, t_max, max_events) for flow, part in parts)


def _each(neuron: Populations, window: Window | None) -> Sequence[Window | None]:
    if window is None:
        return [None] * len(neuron.parts)
    rows = zip(neuron.rows(window.start), neuron.rows(window.stop), strict=True)
    return [Window(start, stop) for start, stop in rows]
