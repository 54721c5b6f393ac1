"""First-order leaky integrate-and-fire neurons."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .base import AbstractCell, AbstractResettingCell
from .parameters import (
    UNIT_INTERVAL,
    ArrayOrStruct,
    decay,
    parameter_like,
    reset_delay,
    to_parameter,
    zero_state,
)
from .recurrence import linear_recurrence


class LeakyState(NamedTuple):
    """State of a first-order cell.

    - `mem`: membrane potential, of the shape of the input.
    """

    mem: Float[Array, "*neurons"]


class Leaky(AbstractResettingCell):
    r"""Leaky integrate-and-fire neuron:

    $$U_t = \beta U_{t-1} + X_t - R_t\,\theta, \qquad S_t = g\,H(U_t - \theta), \qquad
      R_t = H(U_{t-1} - \theta)$$

    This is the form for `reset="subtract"`. With `"zero"`,
    $U_t = \beta (1 - R_t) U_{t-1} + X_t$: the reset does not affect the input of the same step.
    With `"set"`, $v$ replaces 0: $U_t = \beta ((1 - R_t) U_{t-1} + R_t v) + X_t$. With `"none"`,
    $R_t = 0$. The reset acts one step after the spike. With `reset_delay=False` it acts in the step
    of the spike.

    Equivalent to `snntorch.Leaky` (Eshraghian et al., Proc. IEEE 111:1016, 2023,
    arXiv:2109.12894), with one exception: in snnTorch, `graded` has no effect with `inhibition`.

    **Arguments:**

    Each parameter is a scalar or has one value per neuron. An axis of length 1 shares a value along
    that axis: the shape `(C, 1, 1)` means one value per channel of a feature map.

    - `beta`: $\beta$ in [0, 1], decay per step. If training moves it out of [0, 1], it is clipped
        and receives no gradient. Use [`eventsnn.Bounded`][] to keep it inside.
    - `graded`: $g$, amplitude of a spike. Default: 1.
    - `threshold`: $\theta$ > 0. Default: 1. A neuron exactly at its threshold does not fire.
    - `surrogate`: the surrogate gradient of the spike, see [`eventsnn.surrogates`][]. Default:
        `ATan()`.
    - `reset`: `"subtract"` (the default), `"zero"`, `"set"` or `"none"`.
    - `v_reset`: $v$ < $\theta$, the value to which `reset="set"` sets the membrane potential.
        Default: 0, which other resets require.
    - `reset_delay`: whether the reset acts one step after the spike. Default: True.
    - `state_quant`: a function that rounds the states of each step, before the comparison with the
        threshold, such as [`eventsnn.discrete.StateQuant`][]. Default: None, no rounding.
    - `inhibition`: whether only the neuron furthest above its threshold fires. Inputs must then
        have shape `(n,)`. Default: False.

    **Raises:** `ValueError` for parameters out of range or an unknown `reset`. At the first step,
    `ValueError` for parameters that do not match the input, or for `inhibition` with inputs of
    several axes.
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    graded: Float[Array, "*neurons"] = eqx.field(
        default=1.0, converter=to_parameter("graded"), kw_only=True
    )
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: ArrayOrStruct) -> LeakyState:
        return LeakyState(zero_state(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        over = self.exceeds(state.mem)
        before = self.reset_by(state.mem, over) if self.sets else state.mem
        mem = decay(self.beta, x, "beta") * before + x
        if self.reset == "subtract":
            mem = self.reset_by(mem, over)
        (mem,) = self.quantised(mem)
        spk = self.fire(mem, key)
        if not self.reset_delay:
            mem = self.reset_by(mem, spk - over)
        return spk * parameter_like(self.graded, x, "graded"), LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState] | None:
        if not self.linear:
            return None
        mem = linear_recurrence(decay(self.beta, xs[0], "beta"), xs, state.mem)
        spk = self.fire(mem, key, over_time=True)
        return spk * parameter_like(self.graded, xs[0], "graded"), LeakyState(mem)


class LeakyIntegrator(AbstractCell):
    r"""Leaky integrator without spikes, whose output is the membrane potential:

    $$U_t = \beta U_{t-1} + X_t$$

    **Arguments:**

    - `beta`: $\beta$ in [0, 1], decay per step, as in [`eventsnn.discrete.Leaky`][].
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))

    def init_state(self, x: ArrayOrStruct) -> LeakyState:
        return LeakyState(zero_state(x))

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
