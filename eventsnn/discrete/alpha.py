"""A membrane that answers a spike with a difference of exponentials."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import known, refuse
from .base import AbstractSpikingCell, Like, ResetName, decay, leaf, like, zeros
from .recurrence import linear_recurrence


class AlphaState(NamedTuple):
    """Excitatory and inhibitory current, and the membrane."""

    syn_exc: Float[Array, "*neurons"]
    syn_inh: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class Alpha(AbstractSpikingCell):
    r"""A neuron whose membrane is the difference of two exponentials:

    $$E_t = \alpha E_{t-1} + X_t, \qquad I_t = \beta I_{t-1} - X_t, \qquad
      U_t = \tau\,(E_t + I_t), \qquad \tau = \frac{\log\alpha}{\log\beta - \log\alpha} + 1$$

    Where a neuron is due a reset ($R_t$ as in [`eventsnn.discrete.Leaky`][]): with `reset="zero"`
    (the default) $E_t = I_t = U_t = 0$; with `"subtract"` $E_t$ loses $\theta$, $I_t = 0$ and
    $U_t$ gains $I_{t-1}$.

    The same as `snntorch.Alpha`.

    **Arguments:** `threshold`, `surrogate` and `inhibition` as in [`eventsnn.discrete.Leaky`][],
    and

    - `alpha`: $\alpha$, the decay of the excitatory current; limited to [0, 1].
    - `beta`: $\beta$ < $\alpha$, the decay of the inhibitory current; limited to [0, 1].

    **Raises:** `ValueError` if `beta` is not below `alpha`.
    """

    alpha: Float[Array, "*neurons"] = eqx.field(converter=leaf("alpha"))
    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta"))
    reset: ResetName = eqx.field(default="zero", static=True, kw_only=True)

    def __check_init__(self):
        if known(self.alpha) and known(self.beta):
            refuse("beta", self.beta, ~(self.beta < self.alpha), "must be below alpha")

    def init_state(self, x: Like) -> AlphaState:
        return AlphaState(zeros(x), zeros(x), zeros(x))

    def __call__(
        self, x: Array, state: AlphaState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, AlphaState]:
        over = self.exceeds(state.mem)
        alpha, beta, tau = self._rates(x)
        exc, inh = alpha * state.syn_exc + x, beta * state.syn_inh - x
        mem = tau * (exc + inh)
        if self.reset == "zero":
            exc, inh, mem = (self.reset_by(value, over) for value in (exc, inh, mem))
        elif self.reset == "subtract":
            exc = exc - over * like(self.threshold, x, "threshold")
            inh = inh - over * inh
            mem = mem + over * state.syn_inh
        return self.fire(mem, key), AlphaState(exc, inh, mem)

    def in_parallel(
        self, xs: Array, state: AlphaState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, AlphaState] | None:
        if self.reset != "none":
            return None
        alpha, beta, tau = self._rates(xs[0])
        exc = linear_recurrence(alpha, xs, state.syn_exc)
        inh = linear_recurrence(beta, -xs, state.syn_inh)
        mem = tau * (exc + inh)
        return self.fire(mem, key), AlphaState(exc, inh, mem)

    def _rates(self, x):
        alpha, beta = decay(self.alpha, x, "alpha"), decay(self.beta, x, "beta")
        log_alpha, log_beta = jnp.log(alpha), jnp.log(beta)
        return alpha, beta, log_alpha / (log_beta - log_alpha) + 1
