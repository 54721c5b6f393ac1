"""Leaky integrate-and-fire with feedback of the layer's own spikes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..constraints import unwrap
from .base import (
    RATE,
    AbstractSpikingCell,
    Like,
    call,
    callable_instance,
    decay,
    leaf,
    reason,
    reset_delay,
    zeros,
)


class RLeakyState(NamedTuple):
    """Last step's spikes, and the membrane."""

    spk: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class RLeaky(AbstractSpikingCell):
    r"""Leaky integrate-and-fire whose spikes come back to it one step later:

    $$B_t = \beta U_{t-1} + X_t + V(S_{t-1}), \qquad S_t = H(U_t - \theta), \qquad
      R_t = H(U_{t-1} - \theta)$$

    and $U_t = B_t - R_t\,\theta$ with `reset="subtract"`, $U_t = (1 - R_t) B_t$ with `"zero"`
    (unlike in [`eventsnn.discrete.Leaky`][], input and feedback of that step are lost too),
    $U_t = B_t$ with `"none"`. With `reset_delay=False` the membrane is reset in the step of the
    spike.

    The same as `snntorch.RLeaky`.

    **Arguments:** besides those of [`eventsnn.discrete.Leaky`][] (but `graded`)

    - `feedback`: $V$, a callable from spikes to currents of the same shape:
        `equinox.nn.Linear(n, n, key=key)` (all to all),
        `equinox.nn.Conv2d(c, c, k, padding=k // 2, key=key)`,
        [`eventsnn.discrete.OneToOne`][], [`eventsnn.discrete.MaskedLinear`][]. It learns with the
        rest; [`eventsnn.discrete.Frozen`][] around it keeps it as it is. A module that takes a
        `key` (dropout) gets a new one at each step.
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta", RATE))
    feedback: Callable[..., Array] = eqx.field(converter=partial(callable_instance, "feedback"))
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: Like) -> RLeakyState:
        return RLeakyState(zeros(x), zeros(x))

    def __call__(
        self, x: Array, state: RLeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, RLeakyState]:
        over = self.exceeds(state.mem)
        base = decay(self.beta, x, "beta") * state.mem + x
        mem = self.reset_by(base + feed_back(self.feedback, state.spk, key), over)
        spk = self.fire(mem, key)
        if not self.reset_delay:
            mem = self.reset_by(mem, spk - over)
        return spk, RLeakyState(spk, mem)


def feed_back(feedback: Callable[..., Array], spk: Array, key: PRNGKeyArray | None = None) -> Array:
    """The feedback current of last step's spikes, refused unless it has their shape."""
    expected = f"feedback must map spikes of shape {spk.shape} to currents of that shape, got"
    key = None if key is None else jax.random.fold_in(key, 1)  # `key` itself is the surrogate's
    try:
        current = call(unwrap(feedback), spk, key)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}: {reason(error)}.") from error
    if current.shape != spk.shape:
        raise ValueError(f"{expected} shape {current.shape}.")
    return current.astype(spk.dtype)
