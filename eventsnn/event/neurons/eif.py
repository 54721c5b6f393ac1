"""The exponential integrate-and-fire neuron with an exponential synapse."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import above, parameter, plain
from .base import AbstractNeuron


class EIFState(NamedTuple):
    """Membrane potential and synaptic current."""

    v: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class EIF(AbstractNeuron):
    r"""Exponential integrate-and-fire, current-based, with an exponential synapse.

    $$\tau_m \dot V = -(V - E_L) + \Delta\, e^{(V - V_T)/\Delta} + I + b, \qquad
    \tau_s \dot I = -I$$

    A presynaptic spike adds its weight to $I$. Above $V_T$ the potential runs away; the neuron
    fires as it passes the peak $\theta$, and then $V \to V_\text{reset}$. It fires by itself if
    the bias is above the rheobase $V_T - E_L - \Delta$.

    There is no closed form: it runs on any diffrax solver. Near the peak the potential doubles
    within about $\tau_m e^{-(\theta - V_T)/\Delta}$, which an adaptive step size follows. Above
    the peak, where only a solver's trial steps go, the exponential goes on as its tangent, so
    that nothing overflows; up to the peak the flow is that of the equation.

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
        r"""**Arguments:** (each a scalar or of shape `(n,)`)

        - `tau_mem`, `tau_syn`: time constants of membrane and synapse, > 0, in units of time.
            Any ratio.
        - `sharpness`: $\Delta$ > 0, the slope factor of the spike's onset, in units of V.
        - `v_rheobase`: $V_T$, where the exponential equals the leak's slope: from there on the
            potential runs away.
        - `v_rest`: $E_L$, the reversal potential of the leak.
        - `threshold`: $\theta$, the peak at which a spike counts, must be above `v_reset`; a few
            $\Delta$ above $V_T$, since beyond that it hardly moves the spike.
        - `v_reset`: the potential after a spike.
        - `bias`: a constant current $b$.
        - `v_init`: the potential at time 0; by default `v_rest`.

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
        self.v_init = parameter("v_init", plain(self.v_rest) if v_init is None else v_init)
        above("threshold", self.threshold, "v_reset", self.v_reset)

    def init_state(self, n: int) -> EIFState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return EIFState(v, jnp.zeros_like(v))

    def drift(self, state: EIFState) -> EIFState:
        below = jnp.minimum(state.v, self.threshold)
        beyond = jnp.maximum(state.v - self.threshold, 0.0)
        onset = (self.sharpness + beyond) * jnp.exp((below - self.v_rheobase) / self.sharpness)
        v = (self.v_rest - state.v + onset + state.current + self.bias) / self.tau_mem
        return EIFState(v, -state.current / self.tau_syn)

    def threshold_gap(self, state: EIFState) -> Array:
        return self.threshold - state.v

    def receive(self, state: EIFState, current: Array) -> EIFState:
        return state._replace(current=state.current + current)

    def reset(self, state: EIFState, spiked: Array) -> EIFState:
        return state._replace(v=jnp.where(spiked, self.v_reset, state.v))

    def hold(self, state: EIFState, dt: Array) -> EIFState:
        return state._replace(current=state.current * jnp.exp(-dt / self.tau_syn))

    def observe(self, state: EIFState) -> Array:
        return state.v

    def valid(self) -> Array:
        positive = [jnp.all(x > 0) for x in (self.tau_mem, self.tau_syn, self.sharpness)]
        return jnp.all(jnp.stack([*positive, jnp.all(self.threshold > self.v_reset)]))
