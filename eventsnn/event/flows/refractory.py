"""Flow of a neuron with a refractory period."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..doubles import two_sum
from ..neurons import Refractory, RefractoryState
from ..neurons.base import State
from .base import (
    AbstractFlow,
    AbstractLaneFlow,
    AbstractReadoutFlow,
    Clock,
    Segment,
    Window,
    first,
    with_readouts,
)


class AbstractRefractoryFlow(AbstractReadoutFlow[Refractory]):
    """Flow of [`eventsnn.Refractory`][]: the flow of the model, after the refractory period.

    The end of a neuron's refractory period splits a segment exactly, for this neuron only.
    """

    flow: eqx.AbstractVar[AbstractFlow]

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
        released = neuron.neuron.advance_clamped(state.neuron, left)
        # A neuron pushed over its threshold while it is refractory fires at the end of the period.
        over = (state.left >= 0) & (neuron.neuron.threshold_gap(released) < 0)
        fires_at_end = over & (start <= jnp.minimum(horizon, stop))
        earliest, released_index = first(jnp.where(fires_at_end, start, jnp.inf))
        until = jnp.minimum(earliest, horizon)

        free = Window(start, jnp.maximum(start, stop))
        segment = self.flow.next_spike(neuron.neuron, released, until, flow_state, free)
        fires = ~segment.spiked & (earliest <= segment.dt)
        return segment._replace(
            source=jnp.where(fires, released_index, segment.source),
            spiked=segment.spiked | fires,
            low=None if segment.low is None else jnp.where(fires, 0.0, segment.low),
            end=self.advance(neuron, state, clock.own(segment.dt)),
        )

    def advance(self, neuron: Refractory, state: RefractoryState, dt: Array) -> RefractoryState:
        released, clamped = _release(neuron, state, dt)
        return RefractoryState(
            self.flow.advance(neuron.neuron, released, dt - clamped), state.left - dt
        )

    def passes(self, neuron: Refractory, state: RefractoryState) -> Array:
        # A neuron above its threshold at the end of the period fires, whatever its vector field.
        gap = neuron.threshold_gap(state)
        fires_at_end = neuron.neuron.threshold_gap(state.neuron) < gap
        return fires_at_end | self.flow.passes(neuron.neuron, state.neuron)

    def velocity(
        self, neuron: Refractory, state: RefractoryState, dt: Array, end: RefractoryState
    ) -> RefractoryState:
        released, clamped = _release(neuron, state, dt)
        moves = self.flow.velocity(neuron.neuron, released, dt - clamped, end.neuron)
        held = neuron.vector_field(end._replace(left=jnp.ones_like(end.left)))
        is_clamped = state.left >= dt
        inner = jax.tree.map(lambda a, b: jnp.where(is_clamped, a, b), held.neuron, moves)
        return RefractoryState(inner, held.left)

    def integral(self, neuron: Refractory, state: RefractoryState, dt: Array) -> Array:
        released, clamped = _release(neuron, state, dt)
        held = jnp.where(clamped > 0, neuron.observe(state), 0.0)
        return clamped * held + with_readouts(self.flow).integral(
            neuron.neuron, released, dt - clamped
        )

    def maximum(self, neuron: Refractory, state: RefractoryState, dt: Array) -> Array:
        released, clamped = _release(neuron, state, dt)  # constant while refractory
        return with_readouts(self.flow).maximum(neuron.neuron, released, dt - clamped)

    def max_extra_segments(self, neuron: Refractory, t_max: float, max_events: int) -> int:
        return self.flow.max_extra_segments(neuron.neuron, t_max, max_events)


class RefractoryFlow(AbstractRefractoryFlow):
    """Refractory flow of any neuron model."""

    flow: AbstractFlow


class RefractoryLaneFlow(AbstractRefractoryFlow, AbstractLaneFlow[Refractory]):
    """Refractory flow of a neuron model whose flow finds the spikes of each neuron separately."""

    flow: AbstractLaneFlow  # pyright: ignore[reportIncompatibleVariableOverride]

    def may_cross(
        self, neuron: Refractory, state: RefractoryState, dt: Array, end: RefractoryState
    ) -> Array:
        released, clamped = _release(neuron, state, dt)
        left = dt - clamped
        crosses = (left > 0) & self.flow.may_cross(neuron.neuron, released, left, end.neuron)
        return crosses | _fires_at_release(neuron, state, released, dt)

    def crossing(
        self, neuron: Refractory, state: RefractoryState, dt: Array
    ) -> tuple[Array, Array]:
        released, clamped = _release(neuron, state, dt)
        time, remainder = self.flow.crossing(neuron.neuron, released, dt - clamped)
        total, low = two_sum(clamped, time)
        low = jnp.where(total < jnp.inf, low + remainder, 0.0)
        at_release = _fires_at_release(neuron, state, released, dt)
        return jnp.where(at_release, clamped, total), jnp.where(at_release, 0.0, low)

    @property
    def starts_at_threshold(self) -> bool:
        return self.flow.starts_at_threshold

    def longest(
        self,
        neuron: Refractory,
        state: RefractoryState,
        below: Array | float = 0.0,
        above: Array | float = 0.0,
    ) -> Array | float:
        longest = self.flow.longest(neuron.neuron, state.neuron, below, above)
        if isinstance(longest, float):
            return longest
        return jnp.maximum(state.left, 0.0) + longest


def _fires_at_release(
    neuron: Refractory, state: RefractoryState, released: State, dt: Array
) -> Bool[Array, "..."]:
    """Mask of the neurons whose period ends within `dt`, above their thresholds.

    A period may end at the start, in particular one of length 0.
    """
    ends = (state.left >= 0) & (state.left <= dt)
    return ends & (neuron.neuron.threshold_gap(released) < 0)


def _release(neuron: Refractory, state: RefractoryState, dt: Array) -> tuple[State, Array]:
    """State at the end of the refractory period or of `dt`, and the refractory time within `dt`."""
    # Not `minimum`, which averages the derivatives of equal arguments. At the end of the period the
    # derivative is that of `dt`, and in the next segment, which begins with 0 left, it is that of
    # the time left. For a neuron that is not refractory it is 0, also at dt = 0.
    left = jnp.where(state.left >= 0, state.left, 0.0)
    clamped = jnp.where((left < dt) | (state.left < 0), left, dt)
    return neuron.neuron.advance_clamped(state.neuron, clamped), clamped
