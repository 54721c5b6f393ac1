"""Leaky integrate-and-fire neurons with synaptic current, without and with recurrent feedback."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .base import AbstractResettingCell
from .layers import callable_instance
from .parameters import UNIT_INTERVAL, ArrayOrStruct, decay, reset_delay, to_parameter, zero_state
from .recurrence import linear_recurrence
from .rleaky import feed_back


class SynapticState(NamedTuple):
    """State of a `Synaptic` cell. Each array has the shape of the input.

    - `syn`: synaptic current.
    - `mem`: membrane potential.
    """

    syn: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class RSynapticState(NamedTuple):
    """State of an `RSynaptic` cell. Each array has the shape of the input.

    - `spk`: spikes of the last step.
    - `syn`: synaptic current.
    - `mem`: membrane potential.
    """

    spk: Float[Array, "*neurons"]
    syn: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class Synaptic(AbstractResettingCell):
    r"""Leaky integrate-and-fire neuron with an exponentially decaying synaptic current:

    $$I_t = \alpha I_{t-1} + X_t, \qquad U_t = \beta U_{t-1} + I_t - R_t\,\theta$$

    Spikes and $R_t$ are defined as in [`eventsnn.discrete.Leaky`][]. With `reset="zero"`, $U_t = 0$
    at the steps with $R_t = 1$, and with `"set"`, $U_t = v$. The reset does not affect the synaptic
    current.

    Equivalent to `snntorch.Synaptic`.

    **Arguments:** as for [`eventsnn.discrete.Leaky`][], without `graded`, and

    - `alpha`: $\alpha$ in [0, 1], decay of the synaptic current per step, clipped like `beta`.
    """

    alpha: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("alpha", UNIT_INTERVAL))
    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: ArrayOrStruct) -> SynapticState:
        return SynapticState(zero_state(x), zero_state(x))

    def __call__(
        self, x: Array, state: SynapticState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, SynapticState]:
        spk, syn, mem = _step(self, x, state.syn, state.mem, key)
        return spk, SynapticState(syn, mem)

    def in_parallel(
        self, xs: Array, state: SynapticState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, SynapticState] | None:
        if not self.linear:
            return None
        syn = linear_recurrence(decay(self.alpha, xs[0], "alpha"), xs, state.syn)
        mem = linear_recurrence(decay(self.beta, xs[0], "beta"), syn, state.mem)
        return self.fire(mem, key, over_time=True), SynapticState(syn, mem)


class RSynaptic(AbstractResettingCell):
    r"""[`eventsnn.discrete.Synaptic`][] layer with feedback of its spikes, delayed by one step:

    $$I_t = \alpha I_{t-1} + X_t + V(S_{t-1})$$

    Equivalent to `snntorch.RSynaptic`, with one exception: snnTorch's `reset_delay=False` has no
    effect (the reset is computed and discarded). Here it behaves as in `Synaptic`.

    **Arguments:** as for [`eventsnn.discrete.Synaptic`][], and `feedback` as for
    [`eventsnn.discrete.RLeaky`][].
    """

    alpha: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("alpha", UNIT_INTERVAL))
    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    feedback: Callable[..., Array] = eqx.field(converter=partial(callable_instance, "feedback"))
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: ArrayOrStruct) -> RSynapticState:
        return RSynapticState(zero_state(x), zero_state(x), zero_state(x))

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
    syn, mem = cell.quantised(syn, mem)
    spk = cell.fire(mem, key)
    if not cell.reset_delay:
        mem = cell.reset_by(mem, spk - over)
    return spk, syn, mem
