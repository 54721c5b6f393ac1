"""Exponential integrate-and-fire neuron with an exponential synapse."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import above, parameter, unwrapped
from .base import AbstractBiased, AbstractClampable


class EIFState(NamedTuple):
    """Membrane potential and synaptic current."""

    v: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class EIF(AbstractClampable, AbstractBiased):
    r"""Exponential integrate-and-fire neuron, current-based, with an exponential synapse.

    $$\tau_m \dot V = -(V - E_L) + \Delta\, e^{(V - V_T)/\Delta} + I + b, \qquad
    \tau_s \dot I = -I$$

    A presynaptic spike adds its weight to $I$. Above its unstable equilibrium the potential
    diverges. The neuron fires when it reaches the peak $\theta$, and then
    $V \to V_\text{reset}$. It fires without input if the bias is above the rheobase
    $V_T - E_L - \Delta$. At the rheobase the equilibrium is $V_T$.

    There is no closed-form solution. The model is integrated with any diffrax solver. Near the
    peak the potential rises by $\Delta$ within $\tau_m e^{-(\theta - V_T)/\Delta}$, and an adaptive
    step size resolves this. Up to the peak the vector field is that of the equation. Above the peak
    the exponential is continued by its tangent, to avoid overflow. Only trial steps of a solver
    reach this region.

    Reference: Fourcaud-Trocmé, Hansel, van Vreeswijk & Brunel, *How spike generation mechanisms
    determine the neuronal response to fluctuating inputs*, J. Neurosci. 23:11628, 2003.
    """

    tau_mem: Float[Array, "*neurons"]
    tau_syn: Float[Array, "*neurons"]
    sharpness: Float[Array, "*neurons"]
    v_rheobase: Float[Array, "*neurons"]
    v_rest: Float[Array, "*neurons"]
    threshold: Float[Array, "*neurons"]
    v_reset: Float[Array, "*neurons"]
    bias: Float[Array, "*neurons"]
    v_init: Float[Array, "*neurons"]

    def __init__(
        self,
        tau_mem: ArrayLike,
        tau_syn: ArrayLike,
        sharpness: ArrayLike = 0.2,
        v_rheobase: ArrayLike = 1.0,
        v_rest: ArrayLike = 0.0,
        threshold: ArrayLike = 2.0,
        v_reset: ArrayLike = 0.0,
        bias: ArrayLike = 0.0,
        v_init: ArrayLike | None = None,
    ):
        r"""**Arguments:**

        Each parameter is a scalar or has shape `(n,)`.

        - `tau_mem`, `tau_syn`: time constants of membrane and synapse, > 0, in units of time, in
            any ratio.
        - `sharpness`: slope factor $\Delta$ of the spike onset, > 0, in units of V.
        - `v_rheobase`: potential $V_T$ at which the slope of the exponential equals that of the
            leak, in units of V.
        - `v_rest`: reversal potential $E_L$ of the leak, in units of V.
        - `threshold`: peak $\theta$ at which the neuron fires, in units of V; must be above
            `v_reset`. It should be a few $\Delta$ above $V_T$. A higher value hardly changes the
            spike time.
        - `v_reset`: membrane potential after a spike, in units of V.
        - `bias`: constant current $b$, in units of V.
        - `v_init`: membrane potential at time 0. None (the default): `v_rest`.

        **Raises:** `ValueError` for a time constant or a sharpness <= 0, or a threshold not above
        the reset.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.sharpness = parameter("sharpness", sharpness, positive=True)
        self.v_rheobase = parameter("v_rheobase", v_rheobase)
        self.v_rest = parameter("v_rest", v_rest)
        self.threshold = parameter("threshold", threshold)
        self.v_reset = parameter("v_reset", v_reset)
        self.bias = parameter("bias", bias)
        self.v_init = parameter("v_init", unwrapped(self.v_rest) if v_init is None else v_init)
        above("threshold", self.threshold, "v_reset", self.v_reset)

    def init_state(self, n: int) -> EIFState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return EIFState(v, jnp.zeros_like(v))

    def vector_field(self, state: EIFState) -> EIFState:
        below = jnp.minimum(state.v, self.threshold)
        beyond = jnp.maximum(state.v - self.threshold, 0.0)
        onset = (self.sharpness + beyond) * jnp.exp((below - self.v_rheobase) / self.sharpness)
        v = (self.v_rest - state.v + onset + state.current + self.bias) / self.tau_mem
        return EIFState(v, -state.current / self.tau_syn)

    def threshold_gap(self, state: EIFState) -> Array:
        return self.threshold - state.v

    def receive(self, state: EIFState, weights: Array) -> EIFState:
        return state._replace(current=state.current + weights)

    def reset(self, state: EIFState, spiked: Array) -> EIFState:
        return state._replace(v=jnp.where(spiked, self.v_reset, state.v))

    def advance_clamped(self, state: EIFState, dt: Array) -> EIFState:
        return state._replace(current=state.current * jnp.exp(-dt / self.tau_syn))

    def observe(self, state: EIFState) -> Array:
        return state.v

    def rheobase(self) -> Array:
        return self.v_rheobase - self.v_rest - self.sharpness - self.bias

    def parameters_valid(self) -> Array:
        positive = [jnp.all(x > 0) for x in (self.tau_mem, self.tau_syn, self.sharpness)]
        return jnp.all(jnp.stack([*positive, jnp.all(self.threshold > self.v_reset)]))
