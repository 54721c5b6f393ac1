"""Rectified leaky neurons without reset."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .base import AbstractSpikingCell
from .leaky import LeakyState
from .parameters import (
    UNIT_INTERVAL,
    ArrayOrStruct,
    decay,
    parameter_like,
    to_parameter,
    zero_state,
)
from .recurrence import rectified_recurrence


class LeakyParallel(AbstractSpikingCell):
    r"""Leaky neuron without reset, whose membrane potential is never negative:

    $$U_t = \max(0, \beta U_{t-1} + X_t), \qquad S_t = g\,H(U_t - \theta)$$

    With `discrete.run(..., parallel=True)`, all steps are computed by an associative scan, in spite
    of the rectification.

    Equivalent to `snntorch.LeakyParallel`, which contains the linear layer before it: use
    `equinox.nn.Linear(n_in, n)`, with the sum of the two biases there. In snnTorch, `beta` is only
    the initial value of the recurrent weights: a tensor with one value per neuron is ignored, and
    training may move the weights out of [0, 1].

    **Arguments:**

    - `beta`: $\beta$ in [0, 1], decay per step, as in [`eventsnn.discrete.Leaky`][].
    - `graded`: $g$, amplitude of a spike. Default: 1.
    - `threshold`, `surrogate`, `inhibition`: as in [`eventsnn.discrete.Leaky`][].

    **Raises:** `ValueError` as [`eventsnn.discrete.Leaky`][].
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    graded: Float[Array, "*neurons"] = eqx.field(
        default=1.0, converter=to_parameter("graded"), kw_only=True
    )

    def init_state(self, x: ArrayOrStruct) -> LeakyState:
        return LeakyState(zero_state(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        mem = jax.nn.relu(decay(self.beta, x, "beta") * state.mem + x)
        spk = self.fire(mem, key)
        return spk * parameter_like(self.graded, x, "graded"), LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        mem = rectified_recurrence(decay(self.beta, xs[0], "beta"), xs, state.mem)
        spk = self.fire(mem, key, over_time=True)
        return spk * parameter_like(self.graded, xs[0], "graded"), LeakyState(mem)
