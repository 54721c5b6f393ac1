"""Alpha neurons, whose response to an input is a difference of two exponentials."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import is_concrete, raise_if
from .base import AbstractResettingCell
from .parameters import (
    UNIT_INTERVAL,
    ArrayOrStruct,
    ResetName,
    check_broadcast,
    decay,
    parameter_like,
    reset_name,
    to_parameter,
    zero_state,
)
from .recurrence import linear_recurrence


class AlphaState(NamedTuple):
    """State of an `Alpha` cell. Each array has the shape of the input.

    - `syn_exc`: excitatory current.
    - `syn_inh`: inhibitory current.
    - `mem`: membrane potential.
    """

    syn_exc: Float[Array, "*neurons"]
    syn_inh: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class Alpha(AbstractResettingCell):
    r"""Neuron whose membrane potential is a difference of two exponentials:

    $$E_t = \alpha E_{t-1} + X_t, \qquad I_t = \beta I_{t-1} - X_t, \qquad
      U_t = \tau\,(E_t + I_t), \qquad \tau = \frac{\log\alpha}{\log\beta - \log\alpha} + 1$$

    The reset acts at the steps with $R_t = 1$, where $R_t$ is defined as in
    [`eventsnn.discrete.Leaky`][]. With `reset="zero"` (the default), $E_t = I_t = U_t = 0$. With
    `"set"`, $U_t = v$, $E_t = v / \tau$ and $I_t = 0$. With `"subtract"`, $E_t$ is reduced by
    $\theta$, $I_t = 0$, and $I_{t-1}$ is added to $U_t$.

    The response to an input of 1 after $k$ steps is
    $-\log\beta\,(\alpha^k - \beta^k) / (\log\alpha - \log\beta)$, with the limit
    $-\log\alpha\, k\, \alpha^k$ for $\beta \to \alpha$. It is computed as

    $$U_t = \beta U_{t-1} + g E_{t-1}, \qquad
      g = -\log\beta\, \frac{\alpha - \beta}{\log\alpha - \log\beta}$$

    This form and its derivatives are finite even if training makes the two decay rates equal, or
    $\beta$ larger than $\alpha$. After a reset by subtraction, however, $U = \tau E$, which grows
    without bound as the two rates approach each other. The default reset avoids this.

    Equivalent to `snntorch.Alpha` up to rounding errors, which grow with $\tau$ in snnTorch.

    **Arguments:** `threshold`, `surrogate`, `v_reset`, `state_quant` and `inhibition` as in
    [`eventsnn.discrete.Leaky`][], and

    - `alpha`: $\alpha$ in [0, 1], decay of the excitatory current per step.
    - `beta`: $\beta$ in [0, 1], decay of the inhibitory current per step. The initial value must be
        below $\alpha$.
    - `reset`: `"zero"` (the default), `"set"`, `"subtract"` or `"none"`.

    **Raises:** `ValueError` if `beta` is not below `alpha`, and as [`eventsnn.discrete.Leaky`][].
    """

    alpha: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("alpha", UNIT_INTERVAL))
    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    reset: ResetName = eqx.field(default="zero", converter=reset_name, static=True, kw_only=True)

    def __check_init__(self):
        check_broadcast("beta", self.beta, "alpha", self.alpha)
        if is_concrete(self.alpha) and is_concrete(self.beta):
            raise_if("beta", self.beta, ~(self.beta < self.alpha), "must be below alpha")

    def init_state(self, x: ArrayOrStruct) -> AlphaState:
        return AlphaState(zero_state(x), zero_state(x), zero_state(x))

    def __call__(
        self, x: Array, state: AlphaState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, AlphaState]:
        over = self.exceeds(state.mem)
        alpha, beta, gain, tau = self._rates(x)
        mem = beta * self._response(state, tau) + gain * state.syn_exc
        exc, inh = alpha * state.syn_exc + x, beta * state.syn_inh - x
        if self.sets:
            inh, mem = inh - over * inh, self.reset_by(mem, over)
            exc = exc - over * (exc - self._excitation(exc, tau))
        elif self.reset == "subtract":
            exc = exc - over * parameter_like(self.threshold, x, "threshold")
            inh = inh - over * inh
            mem = mem + over * state.syn_inh
        exc, inh, mem = self.quantised(exc, inh, mem)
        return self.fire(mem, key), AlphaState(exc, inh, mem)

    def in_parallel(
        self, xs: Array, state: AlphaState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, AlphaState] | None:
        if not self.linear:
            return None
        alpha, beta, gain, tau = self._rates(xs[0])
        exc = linear_recurrence(alpha, xs, state.syn_exc)
        inh = linear_recurrence(beta, -xs, state.syn_inh)
        before = jnp.concatenate([state.syn_exc[None], exc[:-1]])
        mem = linear_recurrence(beta, gain * before, self._response(state, tau))
        return self.fire(mem, key, over_time=True), AlphaState(exc, inh, mem)

    def _response(self, state, tau):
        """Membrane potential from which the next step continues.

        A reset leaves the inhibitory current at 0, and quantisation changes each state by itself.
        The potential is then recomputed from the currents.
        """
        restarted = tau * (state.syn_exc + state.syn_inh)
        if self.state_quant is not None:
            return restarted
        return jnp.where(state.syn_inh == 0, restarted, state.mem)

    def _excitation(self, exc, tau):
        """Excitatory current after a reset to a value."""
        v_reset = parameter_like(self.v_reset, exc, "v_reset") if self.reset == "set" else 0
        return v_reset / jnp.where(tau == 0, 1, tau)

    def _rates(self, x):
        alpha, beta = decay(self.alpha, x, "alpha"), decay(self.beta, x, "beta")
        alpha, beta = jnp.broadcast_arrays(alpha, beta)
        inside = (alpha > 0) & (beta > 0)
        a, b = jnp.where(inside, alpha, 0.5), jnp.where(inside, beta, 0.5)
        rate, apart = -jnp.log(b), jnp.log(a) - jnp.log(b)
        least = float(jnp.finfo(apart.dtype).eps)
        tau = rate / jnp.where(jnp.abs(apart) < least, least, apart)
        gain = jnp.where(inside, rate * b * _mean_of_exp(apart), alpha)
        return alpha, beta, gain, jnp.where(inside, tau, (beta == 0).astype(tau.dtype))


def _mean_of_exp(x):
    """Mean of e^s for s in [0, x], (e^x - 1) / x, with the correct derivative at 0."""
    near = jnp.abs(x) < 0.5
    small, large = jnp.where(near, x, 0), jnp.where(near, 1, x)
    series = jnp.ones_like(x)  # 1 + x/2 (1 + x/3 (1 + ...)), accurate to 1e-16
    for k in range(14, 1, -1):
        series = 1 + small / k * series
    return jnp.where(near, series, jnp.expm1(large) / large)
