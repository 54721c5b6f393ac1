"""The leaky integrator: a membrane that never fires, to be read."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import parameter
from .base import AbstractNeuron


class IntegratorState(NamedTuple):
    """Membrane potential and synaptic current."""

    v: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class LeakyIntegrator(AbstractNeuron):
    r"""A leaky membrane with an exponential synapse and without a threshold: a readout.

    $$\tau_m \dot V = -V + I + b, \qquad \tau_s \dot I = -I$$

    A presynaptic spike adds its weight to $I$. Nothing else happens: $V$ is what
    `EventNetwork.states_at` reports, in closed form at any time. (For readouts among neurons that
    fire, in one network of [`eventsnn.LIF`][], give them a threshold out of reach.)
    """

    tau_mem: Float[Array, "*neurons"]
    tau_syn: Float[Array, "*neurons"]
    bias: Float[Array, "*neurons"]
    v_init: Float[Array, "*neurons"]

    def __init__(
        self,
        tau_mem: ArrayLike,
        tau_syn: ArrayLike,
        bias: ArrayLike = 0.0,
        v_init: ArrayLike = 0.0,
    ):
        """**Arguments:** (each a scalar or of shape `(n,)`)

        - `tau_mem`, `tau_syn`: time constants of membrane and synapse, > 0, in units of time.
            Any ratio, equality included.
        - `bias`: a constant current $b$, to which the potential decays.
        - `v_init`: the potential at time 0.

        **Raises:** `ValueError` for a time constant <= 0.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.bias = parameter("bias", bias)
        self.v_init = parameter("v_init", v_init)

    def init_state(self, n: int) -> IntegratorState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return IntegratorState(v, jnp.zeros_like(v))

    def drift(self, state: IntegratorState) -> IntegratorState:
        v = (state.current - state.v + self.bias) / self.tau_mem
        return IntegratorState(v, -state.current / self.tau_syn)

    def threshold_gap(self, state: IntegratorState) -> Array:
        return jnp.ones_like(state.v)

    def receive(self, state: IntegratorState, current: Array) -> IntegratorState:
        return state._replace(current=state.current + current)

    def reset(self, state: IntegratorState, spiked: Array) -> IntegratorState:
        return state

    def observe(self, state: IntegratorState) -> Array:
        return state.v

    def valid(self) -> Array:
        return jnp.all(self.tau_mem > 0) & jnp.all(self.tau_syn > 0)
