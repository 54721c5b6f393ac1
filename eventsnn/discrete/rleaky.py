"""Leaky integrate-and-fire neurons with recurrent feedback."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..constraints import unwrap
from .base import AbstractResettingCell
from .layers import call_layer, callable_instance, first_line
from .parameters import UNIT_INTERVAL, ArrayOrStruct, decay, reset_delay, to_parameter, zero_state


class RLeakyState(NamedTuple):
    """State of an `RLeaky` cell. Each array has the shape of the input.

    - `spk`: spikes of the last step.
    - `mem`: membrane potential.
    """

    spk: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class RLeaky(AbstractResettingCell):
    r"""Leaky integrate-and-fire layer with feedback of its spikes, delayed by one step:

    $$B_t = \beta U_{t-1} + X_t + V(S_{t-1}), \qquad S_t = H(U_t - \theta), \qquad
      R_t = H(U_{t-1} - \theta)$$

    The membrane potential is $U_t = B_t - R_t\,\theta$ with `reset="subtract"`,
    $U_t = (1 - R_t) B_t$ with `"zero"`, $U_t = (1 - R_t) B_t + R_t v$ with `"set"`, and $U_t = B_t$
    with `"none"`. Unlike in [`eventsnn.discrete.Leaky`][], `"zero"` and `"set"` also discard the
    input and the feedback of that step. With `reset_delay=False` the reset acts in the step of the
    spike.

    Equivalent to `snntorch.RLeaky`.

    **Arguments:** as for [`eventsnn.discrete.Leaky`][], without `graded`, and

    - `feedback`: $V$, a callable from spikes to currents of the same shape. Examples:
        `equinox.nn.Linear(n, n, key=key)` for all-to-all feedback,
        `equinox.nn.Conv2d(c, c, k, padding=k // 2, key=key)`,
        [`eventsnn.discrete.OneToOne`][], [`eventsnn.discrete.MaskedLinear`][]. Its parameters train
        unless it is wrapped in [`eventsnn.discrete.Frozen`][]. A module that takes a `key`, such as
        dropout, gets a new key at each step.
    """

    beta: Float[Array, "*neurons"] = eqx.field(converter=to_parameter("beta", UNIT_INTERVAL))
    feedback: Callable[..., Array] = eqx.field(converter=partial(callable_instance, "feedback"))
    reset_delay: bool = eqx.field(default=True, converter=reset_delay, static=True, kw_only=True)

    def init_state(self, x: ArrayOrStruct) -> RLeakyState:
        return RLeakyState(zero_state(x), zero_state(x))

    def __call__(
        self, x: Array, state: RLeakyState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, RLeakyState]:
        over = self.exceeds(state.mem)
        base = decay(self.beta, x, "beta") * state.mem + x
        mem = self.reset_by(base + feed_back(self.feedback, state.spk, key), over)
        (mem,) = self.quantised(mem)
        spk = self.fire(mem, key)
        if not self.reset_delay:
            mem = self.reset_by(mem, spk - over)
        return spk, RLeakyState(spk, mem)


def feed_back(feedback: Callable[..., Array], spk: Array, key: PRNGKeyArray | None = None) -> Array:
    """Feedback current of the spikes of the last step. Raise unless it has the same shape."""
    expected = f"feedback must map spikes of shape {spk.shape} to currents of the same shape"
    key = None if key is None else jax.random.fold_in(key, 1)  # the surrogate uses `key` itself
    try:
        current = call_layer(unwrap(feedback), spk, key)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}, got the error: {first_line(error)}.") from error
    if current.shape != spk.shape:
        raise ValueError(f"{expected}, got shape {current.shape}.")
    return current.astype(spk.dtype)
