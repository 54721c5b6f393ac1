"""Leaky integrate-and-fire with feedback of the layer's own spikes."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .base import AbstractSpikingCell, Like, decay, leaf, zeros


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
        rest; [`eventsnn.discrete.Frozen`][] around it keeps it as it is.
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta"))
    feedback: Callable[[Array], Array]
    reset_delay: bool = eqx.field(default=True, static=True, kw_only=True)

    def init_state(self, x: Like) -> RLeakyState:
        return RLeakyState(zeros(x), zeros(x))

    def __call__(
        self, x: Array, state: RLeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, RLeakyState]:
        over = self.exceeds(state.mem)
        base = decay(self.beta, x, "beta") * state.mem + x + feed_back(self.feedback, state.spk)
        mem = self.reset_by(base, over)
        spk = self.fire(mem, key)
        if not self.reset_delay:
            mem = self.reset_by(mem, spk - over)
        return spk, RLeakyState(spk, mem)


def feed_back(feedback: Callable[[Array], Array], spk: Array) -> Array:
    """The feedback current of last step's spikes, refused unless it has their shape."""
    current = feedback(spk)
    if current.shape != spk.shape:
        raise ValueError(
            f"feedback must map spikes of shape {spk.shape} to currents of that shape, got "
            f"shape {current.shape}."
        )
    return current.astype(spk.dtype)
