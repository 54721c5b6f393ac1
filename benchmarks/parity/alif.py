"""The peer's adaptive neuron, implemented as a custom neuron."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import eventsnn as esn


class ALIFState(NamedTuple):
    """Membrane potential and threshold."""

    v: jax.Array
    threshold: jax.Array


class PeerALIF(esn.AbstractNeuron):
    r"""Adaptive neuron of the peer, which differs from `eventsnn.ALIF`.

    $\tau_m \dot V = -V + b, \tau_a \dot\theta = \theta_0 - \theta$; an arrival increments $V$ by
    its weight; a spike subtracts $\theta$ from $V$, then adds $\beta/\tau_a$ to $\theta$.
    """

    tau_mem: jax.Array
    tau_adapt: jax.Array
    beta: jax.Array
    threshold: jax.Array
    bias: jax.Array

    def init_state(self, n):
        return ALIFState(jnp.zeros(n), jnp.broadcast_to(self.threshold, (n,)))

    def vector_field(self, state):
        v = (self.bias - state.v) / self.tau_mem
        return ALIFState(v, (self.threshold - state.threshold) / self.tau_adapt)

    def threshold_gap(self, state):
        return state.threshold - state.v

    def receive(self, state, weights):
        return state._replace(v=state.v + weights)

    def reset(self, state, spiked):
        v = jnp.where(spiked, state.v - state.threshold, state.v)
        raised = state.threshold + self.beta / self.tau_adapt
        return ALIFState(v, jnp.where(spiked, raised, state.threshold))

    def observe(self, state):
        return state.v
