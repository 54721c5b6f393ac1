"""Lapicque's neuron: leaky integrate-and-fire with the parameters of an RC circuit."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..checks import POSITIVE, Range, flag
from .base import AbstractResettingCell, state_quantiser
from .layers import callable_instance
from .leaky import LeakyState
from .parameters import (
    ArrayOrStruct,
    ResetName,
    check_broadcast,
    parameter_like,
    reset_name,
    to_parameter,
    zero_state,
)
from .recurrence import linear_recurrence
from .surrogates import ATan

OPEN_UNIT_INTERVAL = Range("must lie in (0, 1)", lambda x: (x > 0) & (x < 1))


class Lapicque(AbstractResettingCell):
    r"""Leaky integrate-and-fire neuron as an RC circuit, with one Euler step of length $T$:

    $$B_t = \left(1 - \tfrac{T}{RC}\right) U_{t-1} + \tfrac{T}{C} X_t$$

    The membrane potential is $U_t = B_t - R_t\,\theta$ with `reset="subtract"` (the default),
    $U_t = (1 - R_t) B_t$ with `"zero"`, $U_t = (1 - R_t) B_t + R_t v$ with `"set"`, and $U_t = B_t$
    with `"none"`. Spikes and $R_t$ are those of [`eventsnn.discrete.Leaky`][].

    Equivalent to `snntorch.Lapicque` (Lapicque, J. Physiol. Pathol. Gén. 9:620, 1907).

    **Arguments:** `beta` alone, `resistance` and `capacitance`, or `beta` and one of the two.

    - `beta`: decay per step, in (0, 1). It sets $RC = -T/\log\beta$. Default: None, computed from
        `resistance` and `capacitance`.
    - `resistance`: $R$ > 0. Default: None, computed from the other two, or 1 if only `beta` is
        given.
    - `capacitance`: $C$ > 0. Default: None, computed from the other two.
    - `time_step`: $T$ > 0. Default: 1.
    - `threshold`, `surrogate`, `reset`, `v_reset`, `state_quant`, `inhibition`: as in
        [`eventsnn.discrete.Leaky`][].

    **Raises:** `ValueError` for any other combination of `beta`, `resistance` and `capacitance`, or
    values out of range.
    """

    resistance: Float[Array, "*neurons"]
    capacitance: Float[Array, "*neurons"]
    time_step: Float[Array, "*neurons"]

    def __init__(
        self,
        beta: ArrayLike | None = None,
        *,
        resistance: ArrayLike | None = None,
        capacitance: ArrayLike | None = None,
        time_step: ArrayLike = 1.0,
        threshold: ArrayLike = 1.0,
        surrogate=None,
        reset: ResetName = "subtract",
        v_reset: ArrayLike = 0.0,
        state_quant: Callable[[Array], Array] | None = None,
        inhibition: bool = False,
    ):
        self.threshold = to_parameter("threshold", POSITIVE)(threshold)
        self.surrogate = ATan() if surrogate is None else callable_instance("surrogate", surrogate)
        self.reset = reset_name(reset)
        self.state_quant = state_quantiser(state_quant)
        self.v_reset = to_parameter("v_reset")(v_reset)
        self.inhibition = flag("inhibition", inhibition)
        self.time_step = to_parameter("time_step", POSITIVE)(time_step)
        self.resistance, self.capacitance = _circuit(beta, resistance, capacitance, self.time_step)

    def init_state(self, x: ArrayOrStruct) -> LeakyState:
        return LeakyState(zero_state(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        gain, keep = self._rates(x)
        mem = self.reset_by(gain * x + keep * state.mem, self.exceeds(state.mem))
        (mem,) = self.quantised(mem)
        return self.fire(mem, key), LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState] | None:
        if not self.linear:
            return None
        gain, keep = self._rates(xs[0])
        mem = linear_recurrence(keep, gain * xs, state.mem)
        return self.fire(mem, key, over_time=True), LeakyState(mem)

    def _rates(self, x):
        names = ("resistance", "capacitance", "time_step")
        r, c, step = (parameter_like(getattr(self, name), x, name) for name in names)
        return step / c, 1 - step / (r * c)


def _circuit(beta, resistance, capacitance, time_step):
    """Compute the resistance and the capacitance from the given arguments."""
    ranges = {"beta": OPEN_UNIT_INTERVAL, "resistance": POSITIVE, "capacitance": POSITIVE}
    values = {"beta": beta, "resistance": resistance, "capacitance": capacitance}
    given = {
        name: to_parameter(name, ranges[name])(value)
        for name, value in values.items()
        if value is not None
    }
    if ("beta" not in given and len(given) < 2) or len(given) == 3:
        raise ValueError(
            "beta, resistance and capacitance must be given as beta alone, resistance with "
            "capacitance, or beta with one of the two, "
            f"got {' and '.join(given) or 'none of them'}."
        )
    if "beta" not in given:
        return given["resistance"], given["capacitance"]
    decay = given["beta"]
    check_broadcast("time_step", time_step, "beta", decay)
    rc = time_step.astype(decay.dtype) / -jnp.log(decay)
    for name in given.keys() - {"beta"}:
        check_broadcast(name, given[name], "beta and time_step", rc)
    if "capacitance" in given:
        c = given["capacitance"].astype(decay.dtype)
        return rc / c, c
    r = given.get("resistance", jnp.ones(())).astype(decay.dtype)
    return r, rc / r
