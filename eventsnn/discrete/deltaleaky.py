"""Leaky neurons that fire when their membrane potential changes."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .base import AbstractSpikingCell
from .leaky import LeakyState
from .parameters import UNIT_INTERVAL, ArrayOrStruct, decay, to_parameter, zero_state
from .recurrence import linear_recurrence


class DeltaLeaky(AbstractSpikingCell):
    r"""Leaky neuron that fires if its membrane potential changes by more than the threshold in one
    step:

    $$U_t = \beta U_{t-1} + X_t, \qquad S_t = H(|U_t - U_{t-1}| - \theta)$$

    There is no reset.

    Equivalent to `snntorch.DeltaLeaky`, whose argument `delta_threshold` is `threshold` here.

    **Arguments:**

    - `beta`: $\beta$ in [0, 1], decay per step, as in [`eventsnn.discrete.Leaky`][].
    - `threshold`: $\theta$ > 0, the change that a spike requires. Default: 1.
    - `surrogate`, `inhibition`: as in [`eventsnn.discrete.Leaky`][].

    **Raises:** `ValueError` as [`eventsnn.discrete.Leaky`][].
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))

    def init_state(self, x: ArrayOrStruct) -> LeakyState:
        return LeakyState(zero_state(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        mem = decay(self.beta, x, "beta") * state.mem + x
        return self.fire(jnp.abs(mem - state.mem), key), LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        mem = linear_recurrence(decay(self.beta, xs[0], "beta"), xs, state.mem)
        change = jnp.abs(jnp.diff(mem, axis=0, prepend=state.mem[None]))
        return self.fire(change, key, over_time=True), LeakyState(mem)
