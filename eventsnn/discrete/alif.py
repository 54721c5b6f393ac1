"""Leaky integrate-and-fire neurons with an adaptive threshold."""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import NOT_NEGATIVE
from .base import AbstractResettingCell
from .parameters import (
    UNIT_INTERVAL,
    ArrayOrStruct,
    decay,
    parameter_like,
    to_parameter,
    zero_state,
)


class ALIFState(NamedTuple):
    """State of an `ALIF` cell. Each array has the shape of the input.

    - `spk`: spikes of the last step.
    - `mem`: membrane potential.
    - `adaptation`: adaptation variable $a_t$, of the same step as `mem`.
    """

    spk: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]
    adaptation: Float[Array, "*neurons"]


class ALIF(AbstractResettingCell):
    r"""Leaky integrate-and-fire neuron whose threshold rises with each of its spikes:

    $$a_t = \rho\, a_{t-1} + S_{t-1}, \qquad U_t = \beta U_{t-1} + X_t - S_{t-1}\,\theta, \qquad
      S_t = H(U_t - \theta - b\, a_t)$$

    This is the form for `reset="subtract"`: the reset subtracts the baseline of the threshold. With
    `"zero"`, $U_t = \beta (1 - S_{t-1}) U_{t-1} + X_t$, and with `"set"`, $v$ replaces 0. With
    `"none"`, there is no reset. The surrogate gradient of the spikes passes through the adaptation,
    and not through the reset.

    The neuron of Bellec et al., Nat. Commun. 11:3625, 2020 (first used in Bellec et al., NeurIPS
    2018, arXiv:1803.09574, where $1 - \rho$ multiplies the spike and the reset subtracts the whole
    threshold). snnTorch has no such cell.

    **Arguments:** `threshold`, `surrogate`, `reset`, `v_reset`, `state_quant` (of the membrane
    potential only) and `inhibition` as in [`eventsnn.discrete.Leaky`][], and

    - `beta`: $\beta$ in [0, 1], decay of the membrane potential per step. Outside it is clipped and
        receives no gradient.
    - `rho`: $\rho$ in [0, 1], decay of the adaptation per step, clipped like `beta`. Usually it is
        closer to 1 than `beta`.
    - `strength`: $b$ >= 0, rise of the threshold per spike.

    `discrete.trainable(model, "rho", "strength")` selects the parameters of the adaptation.

    **Raises:** `ValueError` as [`eventsnn.discrete.Leaky`][].
    """

    neuron_parameters: ClassVar[tuple[str, ...]] = ("rho", "strength")

    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    rho: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("rho", UNIT_INTERVAL))
    strength: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("strength", NOT_NEGATIVE))

    def init_state(self, x: ArrayOrStruct) -> ALIFState:
        return ALIFState(zero_state(x), zero_state(x), zero_state(x))

    def __call__(
        self, x: Array, state: ALIFState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, ALIFState]:
        adaptation = decay(self.rho, x, "rho") * state.adaptation + state.spk
        spiked = jax.lax.stop_gradient(state.spk)
        before = self.reset_by(state.mem, spiked) if self.sets else state.mem
        mem = decay(self.beta, x, "beta") * before + x
        if self.reset == "subtract":
            mem = self.reset_by(mem, spiked)
        (mem,) = self.quantised(mem)
        raised = parameter_like(self.strength, x, "strength") * adaptation
        spk = self.fire(mem - raised, key)
        return spk, ALIFState(spk, mem, adaptation)
