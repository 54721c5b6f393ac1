"""A neuron without a synapse: a spike that arrives moves the membrane itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import eventsnn as esn


class State(NamedTuple):
    v: jax.Array


class DeltaLIF(esn.AbstractNeuron):
    """tau V' = -V + bias; a spike that arrives moves V by its weight."""

    tau: jax.Array
    bias: jax.Array
    threshold: jax.Array

    def init_state(self, n):
        return State(jnp.zeros(n))

    def drift(self, s):
        return State((self.bias - s.v) / self.tau)

    def threshold_gap(self, s):
        return self.threshold - s.v

    def receive(self, s, current):
        return State(s.v + current)

    def reset(self, s, spiked):
        return State(jnp.where(spiked, 0.0, s.v))

    def observe(self, s):
        return s.v
