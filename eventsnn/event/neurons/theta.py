"""Theta neuron: an oscillating quadratic neuron with delta-pulse synapses."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import parameter, raise_if, unwrapped
from .base import AbstractBiased, AbstractClampable


class ThetaState(NamedTuple):
    """Point (y, v) of the projective line; the membrane potential is V = 1/2 - v/y.

    Only the ratio matters; y >= 0 by convention.
    """

    y: Float[Array, "neurons ..."]
    v: Float[Array, "neurons ..."]


class Theta(AbstractClampable, AbstractBiased):
    r"""Theta neuron: quadratic integrate-and-fire, oscillatory, coupled by delta pulses.

    $$\tau_m \dot V = V (V - 1) + b, \qquad b > \tfrac14$$

    A presynaptic spike adds its weight to $V$. The neuron fires when $V$ reaches $+\infty$ and
    continues from $-\infty$. Without input it fires with the period $\tau_m \pi / \omega$, where
    $\omega^2 = b - \tfrac14$. The phase $\varphi \in [0, 1)$ between two spikes is defined by
    $V = \tfrac12 - \omega \cot \pi\varphi$. It advances at the rate
    $\dot\varphi = \omega / (\pi \tau_m)$, and a pulse of weight $w$ changes it by
    $\cot \pi\varphi \to \cot \pi\varphi - w/\omega$. No pulse can push the neuron over threshold.

    With $V = \tfrac12 - v/y$ the flow is a rotation,
    $\tau_m \dot y = v, \; \tau_m \dot v = -\omega^2 y$. A pulse is $v \to v - w y$, and a spike is
    a simple zero of $y$. All of these have a closed form, no crossing is tangential, and spike
    times are smooth in the state and in every parameter. This also holds at the spike itself, where
    a pulse has no effect.

    References: Ermentrout & Kopell, *Parabolic bursting in an excitable system coupled with a slow
    oscillation*, SIAM J. Appl. Math. 46:233, 1986; Ermentrout, *Type I membranes, phase resetting
    curves, and synchrony*, Neural Computation 8:979, 1996; Klos & Memmesheimer, *Smooth exact
    gradient descent learning in spiking neural networks*, arXiv:2309.14523.
    """

    tau_mem: Float[Array, "*neurons"]
    bias: Float[Array, "*neurons"]
    v_init: Float[Array, "*neurons"]

    def __init__(self, tau_mem: ArrayLike, bias: ArrayLike = 1.25, v_init: ArrayLike = 0.0):
        """**Arguments:**

        Each parameter is a scalar or has shape `(n,)`.

        - `tau_mem`: membrane time constant, > 0, in units of time.
        - `bias`: constant current $b$ > 1/4. For a smaller bias, or exponential synapses, use
            [`eventsnn.QIF`][].
        - `v_init`: membrane potential at time 0.

        **Raises:** `ValueError` for a time constant <= 0, or a bias <= 1/4.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.bias = parameter("bias", bias)
        self.v_init = parameter("v_init", v_init)
        raise_if(
            "bias",
            bias,
            ~(unwrapped(self.bias) > 0.25),
            "must be > 1/4, where the neuron oscillates",
        )

    def init_state(self, n: int) -> ThetaState:
        v = jnp.broadcast_to(0.5 - self.v_init, (n,))
        return ThetaState(jnp.ones_like(v), v)

    def vector_field(self, state: ThetaState) -> ThetaState:
        return ThetaState(state.v / self.tau_mem, (0.25 - self.bias) * state.y / self.tau_mem)

    def threshold_gap(self, state: ThetaState) -> Array:
        return state.y

    def receive(self, state: ThetaState, weights: Array) -> ThetaState:
        return state._replace(v=state.v - weights * state.y)

    def reset(self, state: ThetaState, spiked: Array) -> ThetaState:
        y = jnp.where(spiked, 0.0, state.y)
        return ThetaState(y, jnp.where(spiked, -state.v, state.v))

    def normalise(self, state: ThetaState) -> ThetaState:
        # No observable depends on the scale, so its derivative is dropped.
        scale = jax.lax.stop_gradient(1 / (jnp.abs(state.y) + jnp.abs(state.v)))
        return ThetaState(state.y * scale, state.v * scale)

    def advance_clamped(self, state: ThetaState, dt: Array) -> ThetaState:
        return state

    def observe(self, state: ThetaState) -> Array:
        fired = state.y == 0  # V is infinite there, and its derivative unusable
        return jnp.where(fired, -jnp.inf, 0.5 - state.v / jnp.where(fired, 1.0, state.y))

    def rheobase(self) -> Array:
        return 0.25 - self.bias

    def parameters_valid(self) -> Array:
        return jnp.all(self.tau_mem > 0) & jnp.all(self.bias > 0.25)
