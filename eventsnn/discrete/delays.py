"""Learnable delays, in steps."""

from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import checks
from .base import AbstractCell
from .layers import with_dtype
from .parameters import ArrayOrStruct, clipped, parameter_like, to_layer, to_parameter, zero_state

_WIDTH = checks.Range("must be a finite number >= 1", lambda x: (x >= 1) & (x < np.inf))


class DelayState(NamedTuple):
    """State of a `Delay` or `DelayedLinear` cell.

    - `buffer`: inputs of the last `max_delay` steps, of shape `(max_delay, *inputs)`, the newest
        first.
    """

    buffer: Float[Array, " max_delay *inputs"]


class AbstractDelay(AbstractCell):
    """Base class of delays: the buffer, and the weights of its entries."""

    neuron_parameters: ClassVar[tuple[str, ...]] = ("width",)

    delays: eqx.AbstractVar[Float[Array, "..."]]
    max_delay: eqx.AbstractVar[int]
    width: eqx.AbstractVar[Float[Array, ""]]

    def init_state(self, x: ArrayOrStruct) -> DelayState:
        zeros = zero_state(x)
        return DelayState(jnp.zeros((self.max_delay, *zeros.shape), zeros.dtype))

    def shares(self, delays: Float[Array, "*shape"]) -> Float[Array, " taps *shape"]:
        """Share of each of the inputs of 0, 1, ..., `max_delay` steps ago, for `delays`."""
        steps = jnp.arange(self.max_delay + 1, dtype=delays.dtype)
        apart = jnp.abs(steps.reshape(-1, *[1] * delays.ndim) - clipped(delays, 0, self.max_delay))
        width = jax.lax.stop_gradient(checks.unwrapped(self.width)).astype(delays.dtype)
        triangle = jnp.maximum(1 - apart / width, 0)
        return triangle / jnp.sum(triangle, axis=0)


def _delays(value):
    return to_parameter("delays", checks.NOT_NEGATIVE)(value)


def _width(value):
    width = to_parameter("width", _WIDTH)(value)
    if width.ndim:
        raise checks.value_error("width", value, "one number >= 1")
    return width


def _check_delays(delays, max_delay):
    if checks.is_concrete(delays):
        over = np.asarray(delays) > max_delay
        checks.raise_if("delays", delays, over, f"must be at most max_delay = {max_delay}")


class Delay(AbstractDelay):
    r"""Delay of each channel by its own number of steps $d$, which can be learnt:

    $$Y_t = \sum_{s=0}^{D} k(s - d)\, X_{t-s}, \qquad
      k(s - d) \propto \max\left(0, 1 - \frac{|s - d|}{w}\right), \qquad \sum_s k(s - d) = 1$$

    With the width $w = 1$ (the default), this is linear interpolation between the two nearest
    steps, and an integer delay is exact: $Y_t = X_{t-d}$. Its derivative with respect to a delay
    compares the inputs of these two steps only, and at an integer delay, those before and after it.
    For spike trains, learning with a larger width finds coincidences from further away. Decrease
    the width to 1 during training, and round the delays afterwards (dilated convolutions with
    learnable spacings: Khalfaoui-Hassani, Pellegrini & Masquelier, ICLR 2023, arXiv:2112.03740; for
    delays: Hammouamri, Khalfaoui-Hassani & Masquelier, ICLR 2024, arXiv:2306.17670, with a Gaussian
    in place of the triangle).

    Inputs before the first step are 0. A delay that training moves out of $[0, D]$ is clipped and
    receives no gradient. `esn.constrain(model, where, (0, D))` keeps a delay inside that starts
    strictly between 0 and $D$. Step by step, the backward pass stores the last $D$ inputs of every
    step; `discrete.run(..., parallel=True)` or `checkpoint_every` avoids that.

    **Arguments:**

    - `delays`: $d$ in $[0, D]$, in steps, a scalar or one value per channel. The shape `(C, 1, 1)`
        is per channel of a feature map.
    - `max_delay`: $D$ >= 1, an integer. The state has $D$ past inputs.
    - `width`: $w$ >= 1, in steps, a number. It receives no gradient. Default: 1.

    **Raises:** `ValueError` for values out of range. At the first step, `ValueError` for delays
    that do not match the input.
    """

    delays: Float[Array, "*neurons"] = eqx.field(converter=_delays)
    max_delay: int = eqx.field(
        converter=partial(checks.count, "max_delay"), static=True, kw_only=True
    )
    width: Float[Array, ""] = eqx.field(default=1.0, converter=_width, kw_only=True)

    def __check_init__(self):
        _check_delays(self.delays, self.max_delay)

    def __call__(
        self, x: Array, state: DelayState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, DelayState]:
        inputs = jnp.concatenate([x[None], state.buffer])
        return jnp.sum(self._own_shares(x) * inputs, axis=0), DelayState(inputs[:-1])

    def in_parallel(
        self, xs: Array, state: DelayState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, DelayState]:
        inputs, states = _over_time(xs, state)
        shares = jnp.broadcast_to(self._own_shares(xs[0]), (self.max_delay + 1, *xs.shape[1:]))
        flat = (x.reshape(len(x), -1) for x in (inputs, shares))
        out = jax.vmap(partial(jnp.convolve, mode="valid"), in_axes=1, out_axes=1)(*flat)
        return out.reshape(xs.shape), states

    def _own_shares(self, x):
        """Share of each past input, with as many axes for the channels as `x`."""
        delays = parameter_like(self.delays, x, "delays")
        return self.shares(delays.reshape(delays.shape or (1,) * x.ndim))


class DelayedLinear(AbstractDelay):
    r"""Linear layer with a delay in each synapse, which can be learnt with the weights:

    $$Y_{i,t} = \sum_j W_{ij} \sum_{s=0}^{D} k(s - d_{ij})\, X_{j,t-s} + b_i$$

    Interpolation and width are those of [`eventsnn.discrete.Delay`][].

    **Arguments:**

    - `linear`: an `equinox.nn.Linear(n_in, n_out, key=key)` with the weights and biases.
    - `delays`: $d$ in $[0, D]$, in steps, of a shape that broadcasts to `(n_out, n_in)`: a scalar,
        `(n_in,)` for one delay per input, or `(n_out, n_in)` for one per synapse.
    - `max_delay`, `width`: as in [`eventsnn.discrete.Delay`][].

    **Raises:** `ValueError` for values out of range, or delays of another shape. At the first step,
    `ValueError` for inputs of another shape.
    """

    linear: eqx.nn.Linear = eqx.field(converter=to_layer("linear", eqx.nn.Linear))
    delays: Float[Array, "..."] = eqx.field(converter=_delays)
    max_delay: int = eqx.field(
        converter=partial(checks.count, "max_delay"), static=True, kw_only=True
    )
    width: Float[Array, ""] = eqx.field(default=1.0, converter=_width, kw_only=True)

    def __check_init__(self):
        _check_delays(self.delays, self.max_delay)
        checks.broadcast("delays", self.delays, self.linear.weight.shape, "linear.weight", float)

    def init_state(self, x: ArrayOrStruct) -> DelayState:
        if zero_state(x).shape != (self.linear.in_features,):
            raise ValueError(
                f"inputs must have shape ({self.linear.in_features},) for the weights of linear, "
                f"got shape {x.shape}."
            )
        return super().init_state(x)

    def __call__(
        self, x: Array, state: DelayState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, DelayState]:
        kernel, bias = self._kernel(x.dtype)
        inputs = jnp.concatenate([x[None], state.buffer])
        return jnp.einsum("soi,si->o", kernel, inputs) + bias, DelayState(inputs[:-1])

    def in_parallel(
        self, xs: Array, state: DelayState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, DelayState]:
        inputs, states = _over_time(xs, state)
        kernel, bias = self._kernel(xs.dtype)
        # A convolution over time, with the axes (sample, features, time), without a flip.
        out = jax.lax.conv(inputs.T[None], kernel[::-1].transpose(1, 2, 0), (1,), "VALID")
        return out[0].T + bias, states

    def _kernel(self, dtype):
        """Weights for each delay, of shape `(D + 1, n_out, n_in)`, and the bias."""
        linear = with_dtype(self.linear, dtype)
        delays = jnp.asarray(checks.unwrapped(self.delays)).astype(dtype)
        shares = self.shares(jnp.broadcast_to(delays, linear.weight.shape))
        return shares * linear.weight, jnp.zeros((), dtype) if linear.bias is None else linear.bias


def _over_time(xs, state):
    """Past and present inputs in the order of time, and the states after each step."""
    past = len(state.buffer)
    inputs = jnp.concatenate([state.buffer[::-1], xs])
    newest = np.arange(past, past + len(xs))[:, None]
    return inputs, DelayState(inputs[newest - np.arange(past)])
