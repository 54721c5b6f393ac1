"""Leaky integrate-and-fire neuron with an adaptive threshold and an exponential synapse."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import above, choice, parameter, raise_if, unwrapped
from .base import AbstractBiased, AbstractClampable


class ALIFState(NamedTuple):
    """Membrane potential, adaptation and synaptic current."""

    v: Float[Array, "neurons ..."]
    adaptation: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class ALIF(AbstractClampable, AbstractBiased):
    r"""Leaky integrate-and-fire neuron with an adaptive threshold and an exponential synapse.

    $$\tau_m \dot V = -V + I + b, \qquad \tau_a \dot a = -a, \qquad \tau_s \dot I = -I$$

    A presynaptic spike adds its weight to $I$. The neuron fires at $V = \theta + \beta a$. Then
    $a \to a + 1$, and $V \to V_\text{reset}$ (`reset_mode="set"`) or $V \to V - \theta$
    (`reset_mode="subtract"`). With $\beta > 0$ every spike raises the threshold for the next ones.
    With $\beta = 0$ the model is [`eventsnn.LIF`][].

    There is no closed-form solution. The model is integrated with any diffrax solver.

    References: Bellec, Salaj, Subramoney, Legenstein & Maass, *Long short-term memory and
    learning-to-learn in networks of spiking neurons*, NeurIPS 2018 (arXiv:1803.09574); Bellec et
    al., *A solution to the learning dilemma for recurrent networks of spiking neurons*, Nature
    Communications 11:3625, 2020.
    """

    tau_mem: Float[Array, "*neurons"]
    tau_syn: Float[Array, "*neurons"]
    tau_adapt: Float[Array, "*neurons"]
    beta: Float[Array, "*neurons"]
    threshold: Float[Array, "*neurons"]
    v_reset: Float[Array, "*neurons"]
    bias: Float[Array, "*neurons"]
    v_init: Float[Array, "*neurons"]
    reset_mode: Literal["set", "subtract"] = eqx.field(static=True)

    def __init__(
        self,
        tau_mem: ArrayLike,
        tau_syn: ArrayLike,
        tau_adapt: ArrayLike,
        beta: ArrayLike,
        threshold: ArrayLike = 1.0,
        v_reset: ArrayLike = 0.0,
        bias: ArrayLike = 0.0,
        reset_mode: Literal["set", "subtract"] = "set",
        v_init: ArrayLike | None = None,
    ):
        r"""**Arguments:**

        Each parameter except `reset_mode` is a scalar or has shape `(n,)`.

        - `tau_mem`, `tau_syn`, `tau_adapt`: time constants of membrane, synapse and adaptation,
            > 0, in units of time, in any ratio.
        - `beta`: increase $\beta$ of the threshold per spike, >= 0, in units of V.
        - `threshold`: threshold $\theta$ without adaptation, in units of V. With `reset_mode="set"`
            it must be above `v_reset`, with `reset_mode="subtract"` above 0.
        - `v_reset`: membrane potential after a spike with `reset_mode="set"`, in units of V.
        - `bias`: constant current $b$, in units of V.
        - `reset_mode`: `"set"` (the default) or `"subtract"`, see above.
        - `v_init`: membrane potential at time 0. None (the default): `v_reset`.

        **Raises:** `ValueError` for a time constant <= 0, `beta` < 0, a threshold not above the
        reset (with `"subtract"`: not above 0), or an unknown `reset_mode`.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.tau_adapt = parameter("tau_adapt", tau_adapt, positive=True)
        self.beta = parameter("beta", beta, not_negative=True)
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

    def init_state(self, n: int) -> ALIFState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return ALIFState(v, jnp.zeros_like(v), jnp.zeros_like(v))

    def vector_field(self, state: ALIFState) -> ALIFState:
        v = (state.current - state.v + self.bias) / self.tau_mem
        return ALIFState(v, -state.adaptation / self.tau_adapt, -state.current / self.tau_syn)

    def threshold_gap(self, state: ALIFState) -> Array:
        return self.threshold + self.beta * state.adaptation - state.v

    def receive(self, state: ALIFState, weights: Array) -> ALIFState:
        return state._replace(current=state.current + weights)

    def reset(self, state: ALIFState, spiked: Array) -> ALIFState:
        after = self.v_reset if self.reset_mode == "set" else state.v - self.threshold
        adaptation = jnp.where(spiked, state.adaptation + 1.0, state.adaptation)
        return state._replace(v=jnp.where(spiked, after, state.v), adaptation=adaptation)

    def advance_clamped(self, state: ALIFState, dt: Array) -> ALIFState:
        return state._replace(
            adaptation=state.adaptation * jnp.exp(-dt / self.tau_adapt),
            current=state.current * jnp.exp(-dt / self.tau_syn),
        )

    def observe(self, state: ALIFState) -> Array:
        return state.v

    def rheobase(self) -> Array:
        return self.threshold - self.bias

    def parameters_valid(self) -> Array:
        bottom = self.v_reset if self.reset_mode == "set" else jnp.zeros_like(self.threshold)
        positive = (self.tau_mem, self.tau_syn, self.tau_adapt, self.threshold - bottom)
        return jnp.all(jnp.stack([jnp.all(x > 0) for x in positive])) & jnp.all(self.beta >= 0)
