"""Leaky integrate-and-fire neuron with an exponential synapse."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from ...checks import above, choice, parameter, raise_if, unwrapped
from .base import AbstractBiased, AbstractClampable


class LIFState(NamedTuple):
    """Membrane potential and synaptic current."""

    v: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class LIF(AbstractClampable, AbstractBiased):
    r"""Leaky integrate-and-fire neuron, current-based, with an exponential synapse.

    $$\tau_m \dot V = -V + I + b, \qquad \tau_s \dot I = -I$$

    A presynaptic spike adds its weight to $I$. The neuron fires at $V = \theta$. Then $V \to
    V_\text{reset}$ (`reset_mode="set"`) or $V \to V - \theta$ (`reset_mode="subtract"`), and $I$
    does not change.
    """

    tau_mem: Float[Array, "*neurons"]
    tau_syn: Float[Array, "*neurons"]
    threshold: Float[Array, "*neurons"]
    v_reset: Float[Array, "*neurons"]
    bias: Float[Array, "*neurons"]
    v_init: Float[Array, "*neurons"]
    reset_mode: Literal["set", "subtract"] = eqx.field(static=True)

    def __init__(
        self,
        tau_mem: ArrayLike,
        tau_syn: ArrayLike,
        threshold: ArrayLike = 1.0,
        v_reset: ArrayLike = 0.0,
        bias: ArrayLike = 0.0,
        reset_mode: Literal["set", "subtract"] = "set",
        v_init: ArrayLike | None = None,
    ):
        r"""**Arguments:**

        Each parameter except `reset_mode` is a scalar or has shape `(n,)`.

        - `tau_mem`, `tau_syn`: time constants of membrane and synapse, > 0, in units of time, in
            any ratio, including equal ones.
        - `threshold`: threshold $\theta$, in units of V. With `reset_mode="set"` it must be above
            `v_reset`, with `reset_mode="subtract"` above 0.
        - `v_reset`: membrane potential after a spike with `reset_mode="set"`, in units of V.
        - `bias`: constant current $b$, in units of V. A neuron whose bias is above its threshold
            fires without input.
        - `reset_mode`: `"set"` (the default) or `"subtract"`, see above.
        - `v_init`: membrane potential at time 0. None (the default): `v_reset`.

        **Raises:** `ValueError` for a time constant <= 0, a threshold not above the reset
        (with `"subtract"`: not above 0), or an unknown `reset_mode`.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.threshold = parameter("threshold", threshold)
        self.v_reset = parameter("v_reset", v_reset)
        self.bias = parameter("bias", bias)
        self.v_init = parameter("v_init", unwrapped(self.v_reset) if v_init is None else v_init)
        self.reset_mode = choice("reset_mode", reset_mode, ("set", "subtract"))
        if reset_mode == "set":
            above("threshold", self.threshold, "v_reset", self.v_reset)
        else:
            over = unwrapped(self.threshold) > 0
            raise_if("threshold", threshold, ~over, 'must be > 0 with reset_mode="subtract"')

    def init_state(self, n: int) -> LIFState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return LIFState(v, jnp.zeros_like(v))

    def vector_field(self, state: LIFState) -> LIFState:
        v = (state.current - state.v + self.bias) / self.tau_mem
        return LIFState(v, -state.current / self.tau_syn)

    def threshold_gap(self, state: LIFState) -> Array:
        return self.threshold - state.v

    def receive(self, state: LIFState, weights: Array) -> LIFState:
        return state._replace(current=state.current + weights)

    def reset(self, state: LIFState, spiked: Array) -> LIFState:
        after = self.v_reset if self.reset_mode == "set" else self._subtracted(state.v)
        return state._replace(v=jnp.where(spiked, after, state.v))

    def _subtracted(self, v: Array) -> Array:
        """Difference of V and the threshold, rounded to 0 where it is only a rounding error.

        Rounding errors would otherwise add up over many spikes. The derivative is that of the
        difference.
        """
        after = v - self.threshold
        grain = 4 * jnp.finfo(after.dtype).eps * jnp.abs(self.threshold)
        return after - lax.stop_gradient(jnp.where(jnp.abs(after) <= grain, after, 0.0))

    def advance_clamped(self, state: LIFState, dt: Array) -> LIFState:
        return state._replace(current=state.current * jnp.exp(-dt / self.tau_syn))

    def observe(self, state: LIFState) -> Array:
        return state.v

    def rheobase(self) -> Array:
        return self.threshold - self.bias

    def parameters_valid(self) -> Array:
        bottom = self.v_reset if self.reset_mode == "set" else jnp.zeros_like(self.threshold)
        ordered = jnp.all(self.threshold > bottom)
        return ordered & jnp.all(self.tau_mem > 0) & jnp.all(self.tau_syn > 0)
