"""Event-based gated recurrent unit in continuous time."""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import parameter
from .base import AbstractClampable, AbstractDrivable


class EGRUState(NamedTuple):
    """Cell state, and the activations of update gate, reset gate and candidate."""

    c: Float[Array, "neurons ..."]
    a_u: Float[Array, "neurons ..."]
    a_r: Float[Array, "neurons ..."]
    a_z: Float[Array, "neurons ..."]


class EGRU(AbstractClampable, AbstractDrivable):
    r"""Event-based gated recurrent unit (EGRU): a GRU in continuous time that sends events.

    $$\tau_m \dot c = u\,(z - c), \qquad \tau_s \dot a_x = -a_x + b_x \quad (x = u, r, z),
    \qquad u = \sigma(a_u),\; r = \sigma(a_r),\; z = \tanh(a_z)$$

    At $c = \theta$ the unit sends an event, and $c \to 0$. It has three *receptors*: update gate,
    reset gate and candidate. The columns of the weights are $[W_u, W_r, W_z]$, with $n$ columns
    each. An event of source $j$ changes the activations of unit $i$ by

    $$a_u \mathrel{+}= W_{u,ji}, \qquad a_r \mathrel{+}= W_{r,ji}, \qquad
    a_z \mathrel{+}= r_i\, W_{z,ji},$$

    with the value of $r_i$ just before the event. All activations are 0 at time 0.

    Differences from the paper:

    - The paper transmits $c$, which equals the threshold at a crossing. Here this constant of the
        sender is part of its row of the weights: with the weights of the paper, multiply the row
        of unit $j$ by $\theta_j$.
    - The reset gate is that of the receiver, $r \odot (W_z y)$, as in the authors' discrete-time
        implementation and in most current GRUs. In the paper's equation it is that of the sender,
        $W_z (r \odot y)$, as in the first GRU.
    - The reset gate also acts on the external input. In the paper and in the discrete-time
        implementation it does not.
    - The paper writes the bias with the opposite sign.

    There is no closed-form solution. The model is integrated with any diffrax solver.

    Reference: Subramoney, Nazeer, Schöne, Mayr & Kappel, *Efficient recurrent architectures
    through activity sparsity and sparse back-propagation through time*, ICLR 2023
    (arXiv:2206.06178). Its first version, *EGRU: Event-based GRU for activity-sparse inference and
    learning*, is in continuous time.
    """

    receptors: ClassVar[int] = 3

    tau_mem: Float[Array, "*neurons"]
    tau_syn: Float[Array, "*neurons"]
    threshold: Float[Array, "*neurons"]
    bias_u: Float[Array, "*neurons"]
    bias_r: Float[Array, "*neurons"]
    bias_z: Float[Array, "*neurons"]
    c_init: Float[Array, "*neurons"]

    def __init__(
        self,
        tau_mem: ArrayLike,
        tau_syn: ArrayLike,
        threshold: ArrayLike = 0.5,
        bias_u: ArrayLike = 0.0,
        bias_r: ArrayLike = 0.0,
        bias_z: ArrayLike = 0.0,
        c_init: ArrayLike = 0.0,
    ):
        r"""**Arguments:**

        Each parameter is a scalar or has shape `(n,)`.

        - `tau_mem`, `tau_syn`: time constants of the cell and of the activations, > 0, in units of
            time.
        - `threshold`: threshold $\theta$ > 0. The candidate is always below 1, and a cell state
            that starts below 1 stays below 1. A unit with a threshold >= 1 therefore never fires.
        - `bias_u`, `bias_r`, `bias_z`: values to which the activations decay. With
            $\tanh b_z > \theta$ the unit fires without input.
        - `c_init`: cell state at time 0.

        **Raises:** `ValueError` for a time constant or a threshold <= 0.
        """
        self.tau_mem = parameter("tau_mem", tau_mem, positive=True)
        self.tau_syn = parameter("tau_syn", tau_syn, positive=True)
        self.threshold = parameter("threshold", threshold, positive=True)
        self.bias_u = parameter("bias_u", bias_u)
        self.bias_r = parameter("bias_r", bias_r)
        self.bias_z = parameter("bias_z", bias_z)
        self.c_init = parameter("c_init", c_init)

    def init_state(self, n: int) -> EGRUState:
        c = jnp.broadcast_to(self.c_init, (n,))
        return EGRUState(c, jnp.zeros_like(c), jnp.zeros_like(c), jnp.zeros_like(c))

    def vector_field(self, state: EGRUState) -> EGRUState:
        c, a_u, a_r, a_z = state
        return EGRUState(
            jax.nn.sigmoid(a_u) * (jnp.tanh(a_z) - c) / self.tau_mem,
            (self.bias_u - a_u) / self.tau_syn,
            (self.bias_r - a_r) / self.tau_syn,
            (self.bias_z - a_z) / self.tau_syn,
        )

    def threshold_gap(self, state: EGRUState) -> Array:
        return self.threshold - state.c

    def receive(self, state: EGRUState, weights: Float[Array, "3 neurons ..."]) -> EGRUState:
        update, reset, candidate = weights
        return state._replace(
            a_u=state.a_u + update,
            a_r=state.a_r + reset,
            a_z=state.a_z + jax.nn.sigmoid(state.a_r) * candidate,
        )

    def reset(self, state: EGRUState, spiked: Array) -> EGRUState:
        return state._replace(c=jnp.where(spiked, 0.0, state.c))

    def advance_clamped(self, state: EGRUState, dt: Array) -> EGRUState:
        done = -jnp.expm1(-dt / self.tau_syn)
        return state._replace(
            a_u=state.a_u + (self.bias_u - state.a_u) * done,
            a_r=state.a_r + (self.bias_r - state.a_r) * done,
            a_z=state.a_z + (self.bias_z - state.a_z) * done,
        )

    def with_current(self, current: ArrayLike) -> "EGRU":
        return eqx.tree_at(lambda unit: unit.bias_z, self, self.bias_z + current)

    def rheobase(self) -> Array:
        needed = jnp.where(self.threshold < 1, jnp.arctanh(self.threshold), jnp.inf)
        return needed - self.bias_z

    def observe(self, state: EGRUState) -> Array:
        return state.c

    def parameters_valid(self) -> Array:
        positive = (self.tau_mem, self.tau_syn, self.threshold)
        return jnp.all(jnp.stack([jnp.all(x > 0) for x in positive]))
