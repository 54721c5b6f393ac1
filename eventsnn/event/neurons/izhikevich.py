"""Izhikevich's simple model of a spiking neuron, with an exponential synapse."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import above, parameter, same_length, unwrapped
from .base import AbstractBiased, AbstractClampable


class IzhikevichState(NamedTuple):
    """Membrane potential, recovery variable and synaptic current."""

    v: Float[Array, "neurons ..."]
    u: Float[Array, "neurons ..."]
    current: Float[Array, "neurons ..."]


class Izhikevich(AbstractClampable, AbstractBiased):
    r"""Izhikevich's neuron model, current-based, with an exponential synapse.

    $$\dot v = 0.04\, v^2 + 5 v + 140 - u + I + i_0, \qquad \dot u = a\,(b v - u), \qquad
    \tau_s \dot I = -I$$

    in mV and ms. A presynaptic spike adds its weight to $I$. The neuron fires at the peak
    $v = \theta$. Then $v \to c$ and $u \to u + d$. Some parameter sets $(a, b, c, d)$ from the
    paper: regular spiking (0.02, 0.2, -65, 8), intrinsically bursting (0.02, 0.2, -55, 4),
    chattering (0.02, 0.2, -50, 2), fast spiking (0.1, 0.2, -65, 2).

    There is no closed-form solution. The model is integrated with any diffrax solver. Up to the
    peak the vector field is that of the equation. Above the peak the parabola is continued by its
    tangent, to avoid overflow. Only trial steps of a solver reach this region.

    Reference: Izhikevich, *Simple model of spiking neurons*, IEEE Transactions on Neural Networks
    14:1569, 2003.
    """

    tau_syn: Float[Array, "*neurons"]
    a: Float[Array, "*neurons"]
    b: Float[Array, "*neurons"]
    c: Float[Array, "*neurons"]
    d: Float[Array, "*neurons"]
    bias: Float[Array, "*neurons"]
    threshold: Float[Array, "*neurons"]
    v_init: Float[Array, "*neurons"]
    u_init: Float[Array, "*neurons"]

    def __init__(
        self,
        tau_syn: ArrayLike,
        a: ArrayLike = 0.02,
        b: ArrayLike = 0.2,
        c: ArrayLike = -65.0,
        d: ArrayLike = 8.0,
        bias: ArrayLike = 0.0,
        threshold: ArrayLike = 30.0,
        v_init: ArrayLike | None = None,
        u_init: ArrayLike | None = None,
    ):
        r"""**Arguments:**

        Each parameter is a scalar or has shape `(n,)`.

        - `tau_syn`: time constant of the synapse, > 0, in ms.
        - `a`: rate of the recovery variable $u$, in 1/ms.
        - `b`: sensitivity of the recovery variable to the membrane potential, in 1/ms.
        - `c`: membrane potential after a spike, in mV.
        - `d`: increase of the recovery variable per spike, in mV/ms.
        - `bias`: constant current $i_0$, in mV/ms.
        - `threshold`: peak $\theta$ at which the neuron fires, in mV; must be above `c`.
        - `v_init`: membrane potential at time 0, in mV. None (the default): `c`.
        - `u_init`: recovery variable at time 0. None (the default): `b` times `v_init`.

        **Raises:** `ValueError` for a time constant <= 0, or a threshold not above `c`.
        """
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.a = parameter("a", a)
        self.b = parameter("b", b)
        self.c = parameter("c", c)
        self.d = parameter("d", d)
        self.bias = parameter("bias", bias)
        self.threshold = parameter("threshold", threshold)
        self.v_init = parameter("v_init", unwrapped(self.c) if v_init is None else v_init)
        if u_init is None:
            same_length("v_init", self.v_init, "b", self.b)
            u_init = unwrapped(self.b) * unwrapped(self.v_init).astype(self.b.dtype)
        self.u_init = parameter("u_init", u_init)
        above("threshold", self.threshold, "c", self.c)

    def init_state(self, n: int) -> IzhikevichState:
        v = jnp.broadcast_to(self.v_init, (n,))
        return IzhikevichState(v, jnp.broadcast_to(self.u_init, (n,)), jnp.zeros_like(v))

    def vector_field(self, state: IzhikevichState) -> IzhikevichState:
        below = jnp.minimum(state.v, self.threshold)
        parabola = 0.04 * below * (2.0 * state.v - below)  # above the peak: its tangent
        v = parabola + 5.0 * state.v + 140.0 - state.u + state.current + self.bias
        u = self.a * (self.b * state.v - state.u)
        return IzhikevichState(v, u, -state.current / self.tau_syn)

    def threshold_gap(self, state: IzhikevichState) -> Array:
        return self.threshold - state.v

    def receive(self, state: IzhikevichState, weights: Array) -> IzhikevichState:
        return state._replace(current=state.current + weights)

    def reset(self, state: IzhikevichState, spiked: Array) -> IzhikevichState:
        v = jnp.where(spiked, self.c, state.v)
        return state._replace(v=v, u=jnp.where(spiked, state.u + self.d, state.u))

    def advance_clamped(self, state: IzhikevichState, dt: Array) -> IzhikevichState:
        u = state.u + (state.u - self.b * state.v) * jnp.expm1(-self.a * dt)
        return state._replace(u=u, current=state.current * jnp.exp(-dt / self.tau_syn))

    def observe(self, state: IzhikevichState) -> Array:
        return state.v

    def rheobase(self) -> Array:
        # Resting points have u = b v. The stable one ends at the v where it vanishes, or where the
        # trace of the Jacobian changes its sign.
        v = (jnp.minimum(self.a, self.b) - 5) / 0.08
        return -(0.04 * v**2 + (5 - self.b) * v + 140) - self.bias

    def parameters_valid(self) -> Array:
        return jnp.all(self.tau_syn > 0) & jnp.all(self.threshold > self.c)
