"""Quadratic integrate-and-fire neuron with an exponential synapse."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import parameter
from .base import AbstractBiased, AbstractClampable


class QIFState(NamedTuple):
    """Point (y, v) of the projective line, and synaptic current.

    The membrane potential is V = 1/2 - v/y. Only the ratio matters; y >= 0 by convention.
    """

    y: Float[Array, "neurons ..."]
    v: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class QIF(AbstractClampable, AbstractBiased):
    r"""Quadratic integrate-and-fire neuron, current-based, with an exponential synapse.

    $$\tau_m \dot V = V (V - 1) + I + b, \qquad \tau_s \dot I = -I$$

    The neuron fires when $V$ reaches $+\infty$ and continues from $-\infty$. A presynaptic
    spike adds its weight to $I$.

    With $V = \tfrac12 - v/y$ the flow is linear,
    $\tau_m \dot y = v, \; \tau_m \dot v = (\tfrac14 - b - I)\, y$,
    and a spike is a simple zero of $y$. No variable diverges, and instead of a reset the spiking
    neuron only changes the sign of $(y, v)$. $y$ and $v$ never vanish together. Therefore no
    crossing is tangential, and spike times are smooth in all parameters.

    Reference: Klos & Memmesheimer, *Smooth exact gradient descent learning in spiking neural
    networks*, arXiv:2309.14523.
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
            any ratio.
        - `bias`: constant current $b$. Above 1/4 the neuron fires without input.
        - `v_init`: membrane potential at time 0. The default 0 is the resting potential for b = 0.

        **Raises:** `ValueError` for a time constant <= 0.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.bias = parameter("bias", bias)
        self.v_init = parameter("v_init", v_init)

    def init_state(self, n: int) -> QIFState:
        v = jnp.broadcast_to(0.5 - self.v_init, (n,))
        return QIFState(jnp.ones_like(v), v, jnp.zeros_like(v))

    def vector_field(self, state: QIFState) -> QIFState:
        y = state.v / self.tau_mem
        v = (0.25 - self.bias - state.current) * state.y / self.tau_mem
        return QIFState(y, v, -state.current / self.tau_syn)

    def threshold_gap(self, state: QIFState) -> Array:
        return state.y

    def receive(self, state: QIFState, weights: Array) -> QIFState:
        return state._replace(current=state.current + weights)

    def reset(self, state: QIFState, spiked: Array) -> QIFState:
        y = jnp.where(spiked, 0.0, state.y)
        return state._replace(y=y, v=jnp.where(spiked, -state.v, state.v))

    def normalise(self, state: QIFState) -> QIFState:
        # No observable depends on the scale, so its derivative is dropped.
        scale = jax.lax.stop_gradient(1 / (jnp.abs(state.y) + jnp.abs(state.v)))
        return state._replace(y=state.y * scale, v=state.v * scale)

    def advance_clamped(self, state: QIFState, dt: Array) -> QIFState:
        return state._replace(current=state.current * jnp.exp(-dt / self.tau_syn))

    def observe(self, state: QIFState) -> Array:
        fired = state.y == 0  # V is infinite there, and its derivative unusable
        return jnp.where(fired, -jnp.inf, 0.5 - state.v / jnp.where(fired, 1.0, state.y))

    def rheobase(self) -> Array:
        return 0.25 - self.bias

    def parameters_valid(self) -> Array:
        return jnp.all(self.tau_mem > 0) & jnp.all(self.tau_syn > 0)
