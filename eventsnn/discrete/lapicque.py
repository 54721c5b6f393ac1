"""Lapicque's neuron: leaky integrate-and-fire in the units of an RC circuit."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..checks import refuse
from ..surrogates import ATan
from .base import POSITIVE, AbstractSpikingCell, Like, ResetName, leaf, like, zeros
from .leaky import LeakyState
from .recurrence import linear_recurrence


class Lapicque(AbstractSpikingCell):
    r"""Leaky integrate-and-fire as an RC circuit, by one Euler step of length $T$:

    $$B_t = \left(1 - \tfrac{T}{RC}\right) U_{t-1} + \tfrac{T}{C} X_t$$

    and $U_t = B_t - R_t\,\theta$ with `reset="subtract"` (the default), $(1 - R_t) B_t$ with
    `"zero"`, $B_t$ with `"none"`; spikes and $R_t$ as in [`eventsnn.discrete.Leaky`][].

    The same as `snntorch.Lapicque` (Lapicque, J. Physiol. Pathol. Gén. 9:620, 1907).

    **Arguments:** one of `beta`; `resistance` and `capacitance`; `beta` and one of the two.

    - `beta`: the decay of a step in (0, 1), from which follows $RC = -T/\log\beta$.
    - `resistance`: $R$ > 0. Default: 1, if only `beta` is given.
    - `capacitance`: $C$ > 0.
    - `time_step`: $T$ > 0. Default: 1.
    - `threshold`, `surrogate`, `reset`, `inhibition`: as in [`eventsnn.discrete.Leaky`][].

    **Raises:** `ValueError` for another choice of arguments, or values out of range.
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
        inhibition: bool = False,
    ):
        self.threshold = leaf("threshold", POSITIVE)(threshold)
        self.surrogate = ATan() if surrogate is None else surrogate
        self.reset = reset
        self.inhibition = inhibition
        self.time_step = leaf("time_step", POSITIVE)(time_step)
        self.resistance, self.capacitance = _circuit(beta, resistance, capacitance, self.time_step)

    def init_state(self, x: Like) -> LeakyState:
        return LeakyState(zeros(x))

    def __call__(
        self, x: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState]:
        gain, keep = self._rates(x)
        mem = self.reset_by(gain * x + keep * state.mem, self.exceeds(state.mem))
        return self.fire(mem, key), LeakyState(mem)

    def in_parallel(
        self, xs: Array, state: LeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, LeakyState] | None:
        if self.reset != "none":
            return None
        gain, keep = self._rates(xs[0])
        mem = linear_recurrence(keep, gain * xs, state.mem)
        return self.fire(mem, key, over_time=True), LeakyState(mem)

    def _rates(self, x):
        names = ("resistance", "capacitance", "time_step")
        r, c, step = (like(getattr(self, name), x, name) for name in names)
        return step / c, 1 - step / (r * c)


def _circuit(beta, resistance, capacitance, time_step):
    """R and C from what was given."""
    given = {"beta": beta, "resistance": resistance, "capacitance": capacitance}
    names = [name for name, value in given.items() if value is not None]
    if (beta is None and len(names) < 2) or len(names) == 3:
        raise ValueError(
            "Lapicque takes beta, or resistance and capacitance, or beta and one of these, got "
            f"{' and '.join(names) or 'none of them'}."
        )
    r = leaf("resistance", POSITIVE)(1.0 if resistance is None else resistance)
    if beta is None:
        return r, leaf("capacitance", POSITIVE)(capacitance)
    beta = leaf("beta")(beta)
    refuse("beta", beta, ~((beta > 0) & (beta < 1)), "must lie in (0, 1)")
    r, step = r.astype(beta.dtype), time_step.astype(beta.dtype)
    rc = step / -jnp.log(beta)
    if capacitance is None:
        return r, rc / r
    c = leaf("capacitance", POSITIVE)(capacitance).astype(beta.dtype)
    return rc / c, c
