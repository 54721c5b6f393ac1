"""Neuron without synaptic current: an arriving spike increments the membrane potential."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import eventsnn as esn
from eventsnn.event.flows import AbstractFlow, Segment


class State(NamedTuple):
    v: jax.Array


class DeltaLIF(esn.AbstractBiased):
    """Delta-synapse LIF neuron: tau V' = -V + bias; an arriving spike adds its weight to V."""

    tau: jax.Array
    bias: jax.Array
    threshold: jax.Array

    def init_state(self, n):
        return State(jnp.zeros(n))

    def vector_field(self, s):
        return State((self.bias - s.v) / self.tau)

    def threshold_gap(self, s):
        return self.threshold - s.v

    def receive(self, s, current):
        return State(s.v + current)

    def reset(self, s, spiked):
        return State(jnp.where(spiked, 0.0, s.v))

    def observe(self, s):
        return s.v


class ClosedDelta(AbstractFlow):
    """Closed form of DeltaLIF, which crosses its threshold only with a bias above it."""

    def next_spike(self, neuron, state, horizon, flow_state, window=None):
        zero = jnp.zeros_like(state.v)
        start, stop = (zero, zero + jnp.inf) if window is None else window
        excess = jnp.where(neuron.bias > neuron.threshold, neuron.bias - neuron.threshold, jnp.inf)
        wait = neuron.tau * jnp.log((neuron.bias - state.v) / excess)
        crosses = (neuron.bias > neuron.threshold) & (wait <= stop - start)
        time = jnp.where(crosses, start + wait, jnp.inf)
        first, who = jnp.min(time, axis=0), jnp.argmin(time, axis=0).astype(jnp.int32)
        dt = jnp.minimum(first, horizon)
        moved = jnp.maximum(jnp.minimum(dt, stop) - start, 0.0)
        end = self.advance(neuron, state, moved)
        return Segment(dt, who, first <= horizon, end, flow_state)

    def advance(self, neuron, state, dt):
        return type(state)(neuron.bias + (state.v - neuron.bias) * jnp.exp(-dt / neuron.tau))
