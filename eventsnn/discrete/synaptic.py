"""Leaky integrate-and-fire with a synaptic current of its own decay, without and with feedback."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .base import (
    RATE,
    AbstractSpikingCell,
    Like,
    callable_instance,
    decay,
    leaf,
    reset_delay,
    zeros,
)
from .recurrence import linear_recurrence
from .rleaky import feed_back


class SynapticState(NamedTuple):
    """Synaptic current and membrane."""

    syn: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class RSynapticState(NamedTuple):
    """Last step's spikes, synaptic current and membrane."""

    spk: Float[Array, "*neurons"]
    syn: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class Synaptic(AbstractSpikingCell):
    r"""Leaky integrate-and-fire driven through a synapse:

    $$I_t = \alpha I_{t-1} + X_t, \qquad U_t = \beta U_{t-1} + I_t - R_t\,\theta$$

    with spikes and $R_t$ as in [`eventsnn.discrete.Leaky`][]. With `reset="zero"` a neuron due a
    reset has $U_t = 0$ after that step; the current goes on.

    The same as `snntorch.Synaptic`.

    **Arguments:** besides those of [`eventsnn.discrete.Leaky`][] (but `graded`)

    - `alpha`: $\alpha$ in [0, 1], the decay of the current in a step, limited like `beta`.
    """

    alpha: Float[Array, "*neurons"] = eqx.field(converter=leaf("alpha", RATE))
    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta", RATE))
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: Like) -> SynapticState:
        return SynapticState(zeros(x), zeros(x))

    def __call__(
        self, x: Array, state: SynapticState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, SynapticState]:
        spk, syn, mem = _step(self, x, state.syn, state.mem, key)
        return spk, SynapticState(syn, mem)

    def in_parallel(
        self, xs: Array, state: SynapticState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, SynapticState] | None:
        if self.reset != "none":
            return None
        syn = linear_recurrence(decay(self.alpha, xs[0], "alpha"), xs, state.syn)
        mem = linear_recurrence(decay(self.beta, xs[0], "beta"), syn, state.mem)
        return self.fire(mem, key, over_time=True), SynapticState(syn, mem)


class RSynaptic(AbstractSpikingCell):
    r"""[`eventsnn.discrete.Synaptic`][] whose spikes come back to its synapse one step later:

    $$I_t = \alpha I_{t-1} + X_t + V(S_{t-1})$$

    The same as `snntorch.RSynaptic`, except that `reset_delay=False` does there what it says
    nowhere (the reset is computed and thrown away), and here what it does in `Synaptic`.

    **Arguments:** those of [`eventsnn.discrete.Synaptic`][], and `feedback` as in
    [`eventsnn.discrete.RLeaky`][].
    """

    alpha: Float[Array, "*neurons"] = eqx.field(converter=leaf("alpha", RATE))
    beta: Float[Array, "*neurons"] = eqx.field(converter=leaf("beta", RATE))
    feedback: Callable[..., Array] = eqx.field(converter=partial(callable_instance, "feedback"))
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: Like) -> RSynapticState:
        return RSynapticState(zeros(x), zeros(x), zeros(x))

    def __call__(
        self, x: Array, state: RSynapticState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, RSynapticState]:
        current = x + feed_back(self.feedback, state.spk, key)
        spk, syn, mem = _step(self, current, state.syn, state.mem, key)
        return spk, RSynapticState(spk, syn, mem)


def _step(cell: Synaptic | RSynaptic, current, syn, mem, key):
    over = cell.exceeds(mem)
    syn = decay(cell.alpha, current, "alpha") * syn + current
    mem = cell.reset_by(decay(cell.beta, current, "beta") * mem + syn, over)
    spk = cell.fire(mem, key)
    if not cell.reset_delay:
        mem = cell.reset_by(mem, spk - over)
    return spk, syn, mem
