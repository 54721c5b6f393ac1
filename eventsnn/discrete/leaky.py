"""First-order leaky integrate-and-fire."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .base import (
    RATE,
    AbstractCell,
    AbstractSpikingCell,
    Like,
    decay,
    leaf,
    like,
    reset_delay,
    zeros,
)
from .recurrence import linear_recurrence


class LeakyState(NamedTuple):
    """The membrane."""

    mem: Float[Array, "*neurons"]


class Leaky(AbstractSpikingCell):
    r"""Leaky integrate-and-fire:

    $$U_t = \beta U_{t-1} + X_t - R_t\,\theta, \qquad S_t = g\,H(U_t - \theta), \qquad
      R_t = H(U_{t-1} - \theta)$$

    with `reset="subtract"`; with `"zero"` $U_t = \beta (1 - R_t) U_{t-1} + X_t$: the input of the
    step survives; with `"none"` $R_t = 0$. A spike thus resets at the next step. With
    `reset_delay=False` the membrane is reset in the step of the spike.

    The same as `snntorch.Leaky` (Eshraghian et al., Proc. IEEE 111:1016, 2023,
    arXiv:2109.12894), except that there `graded` does nothing under `inhibition`.

    **Arguments:** (a parameter is a scalar or has one value per neuron; an axis of length 1 shares
    a value along it, so that `(C, 1, 1)` is one value per channel of a feature map)

    - `beta`: $\beta$ in [0, 1], the decay of a step. If learning takes it out of [0, 1], it acts as
        the nearer limit and gets no gradient; [`eventsnn.Bounded`][] keeps it inside.
    - `graded`: $g$, the size of a spike. Default: 1.
    - `threshold`: $\theta$ > 0. Default: 1. A membrane at its threshold does not fire.
    - `surrogate`: the derivative of the spike, see [`eventsnn.surrogates`][]. Default: `ATan()`.
    - `reset`: `"subtract"` (the default), `"zero"` or `"none"`.
    - `reset_delay`: whether the reset comes one step after the spike. Default: True.
    - `inhibition`: only the neuron furthest over threshold fires, for inputs of shape `(n,)`.
        Default: False.

    **Raises:** `ValueError` for parameters out of range, an unknown `reset`, and at the first step
    for parameters that do not fit the input, or `inhibition` of inputs with several axes.
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta", RATE))
    graded: Float[Array, "*neurons"] = eqx.field(
        default=1.0, converter=leaf("graded"), kw_only=True
    )
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: Like) -> LeakyState:
        return LeakyState(zeros(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        over = self.exceeds(state.mem)
        before = self.reset_by(state.mem, over) if self.reset == "zero" else state.mem
        mem = decay(self.beta, x, "beta") * before + x
        if self.reset == "subtract":
            mem = self.reset_by(mem, over)
        spk = self.fire(mem, key)
        if not self.reset_delay:
            mem = self.reset_by(mem, spk - over)
        return spk * like(self.graded, x, "graded"), LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState] | None:
        if self.reset != "none":
            return None
        mem = linear_recurrence(decay(self.beta, xs[0], "beta"), xs, state.mem)
        spk = self.fire(mem, key, over_time=True)
        return spk * like(self.graded, xs[0], "graded"), LeakyState(mem)


class LeakyIntegrator(AbstractCell):
    r"""A membrane that never fires, and is its own output:

    $$U_t = \beta U_{t-1} + X_t$$

    **Arguments:**

    - `beta`: $\beta$ in [0, 1], the decay of a step, as in [`eventsnn.discrete.Leaky`][].
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta", RATE))

    def init_state(self, x: Like) -> LeakyState:
        return LeakyState(zeros(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        mem = decay(self.beta, x, "beta") * state.mem + x
        return mem, LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        mem = linear_recurrence(decay(self.beta, xs[0], "beta"), xs, state.mem)
        return mem, LeakyState(mem)
