"""Leaky integrator: a membrane without a threshold, used as a readout."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import parameter
from .base import AbstractBiased


class IntegratorState(NamedTuple):
    """Membrane potential and synaptic current."""

    v: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class LeakyIntegrator(AbstractBiased):
    r"""Leaky integrator with an exponential synapse and without a threshold: a readout.

    $$\tau_m \dot V = -V + I + b, \qquad \tau_s \dot I = -I$$

    A presynaptic spike adds its weight to $I$. The neuron never fires. `EventNetwork.potentials_at`
    returns $V$ at any time, in closed form. To combine it with neurons that fire, use
    [`eventsnn.Populations`][], or use [`eventsnn.LIF`][] neurons with a threshold that they cannot
    reach.
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
        """**Arguments:**

        Each parameter is a scalar or has shape `(n,)`.

        - `tau_mem`, `tau_syn`: time constants of membrane and synapse, > 0, in units of time, in
            any ratio, including equal ones.
        - `bias`: constant current $b$, in units of V, to which the membrane potential decays.
        - `v_init`: membrane potential at time 0.

        **Raises:** `ValueError` for a time constant <= 0.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.bias = parameter("bias", bias)
        self.v_init = parameter("v_init", v_init)

    def init_state(self, n: int) -> IntegratorState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return IntegratorState(v, jnp.zeros_like(v))

    def vector_field(self, state: IntegratorState) -> IntegratorState:
        v = (state.current - state.v + self.bias) / self.tau_mem
        return IntegratorState(v, -state.current / self.tau_syn)

    def threshold_gap(self, state: IntegratorState) -> Array:
        return jnp.ones_like(state.v)

    def receive(self, state: IntegratorState, weights: Array) -> IntegratorState:
        return state._replace(current=state.current + weights)

    def reset(self, state: IntegratorState, spiked: Array) -> IntegratorState:
        return state

    def observe(self, state: IntegratorState) -> Array:
        return state.v

    def rheobase(self) -> Array:
        return jnp.full_like(self.bias, jnp.inf)

    def parameters_valid(self) -> Array:
        return jnp.all(self.tau_mem > 0) & jnp.all(self.tau_syn > 0)
