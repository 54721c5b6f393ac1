"""Spiking long short-term memory, fully connected and convolutional."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import checks
from .base import AbstractResettingCell
from .layers import callable_instance, with_dtype
from .parameters import ArrayOrStruct, ResetName, reset_name, to_layer, zero_state


class SLSTMState(NamedTuple):
    """State of an `SLSTM` or `SConv2dLSTM` cell. Each array has the shape of the neurons.

    - `syn`: synaptic current, the cell state of the LSTM.
    - `mem`: membrane potential, the hidden state of the LSTM.
    """

    syn: Float[Array, "*neurons"]
    mem: Float[Array, "*neurons"]


class SLSTM(AbstractResettingCell):
    r"""Spiking long short-term memory: an LSTM whose hidden state is a membrane potential,

    $$z_t^k = W_k X_t + V_k U_{t-1} + b_k, \qquad i_t, f_t, o_t = \sigma(z_t^i), \sigma(z_t^f),
    \sigma(z_t^o), \qquad g_t = \tanh(z_t^g)$$

    $$I_t = f_t I_{t-1} + i_t g_t, \qquad U_t = o_t \tanh(I_t) - R_t\,\theta, \qquad
      S_t = H(U_t - \theta), \qquad R_t = H(U_{t-1} - \theta)$$

    Each gate has its own rows of $W$, $V$ and $b$. This is the form for `reset="subtract"`. With
    `"zero"`, $U_t = (1 - R_t)\, o_t \tanh(I_t)$, and with `"set"`, $v$ replaces 0. With `"none"`
    (the default), $R_t = 0$. The reset does not affect $I_t$. Since $|o_t \tanh(I_t)| < 1$, no
    neuron fires at the default threshold of 1: choose a lower one.

    Equivalent to `snntorch.SLSTM` (Henkes, Eshraghian & Wessels, arXiv:2210.03515; LSTM: Hochreiter
    & Schmidhuber, Neural Comput. 9:1735, 1997), with two exceptions: snnTorch 1.0.0 sets the state
    to 0 at each step unless the input has as many features as the layer has neurons, and its
    `inhibition` has no effect.

    **Arguments:**

    - `lstm`: an `equinox.nn.LSTMCell(input_size, hidden_size, key=key)`, with the weights of all
        gates in the order $i, f, g, o$. The cell has `hidden_size` neurons and takes inputs of
        shape `(input_size,)`.
    - `reset`: `"none"` (the default), `"subtract"`, `"zero"` or `"set"`.
    - `threshold`, `surrogate`, `v_reset`, `state_quant`, `inhibition`: as in
        [`eventsnn.discrete.Leaky`][].

    **Raises:** `ValueError` for anything but an `LSTMCell`, and as [`eventsnn.discrete.Leaky`][].
    At the first step, `ValueError` for inputs of another shape.
    """

    lstm: eqx.nn.LSTMCell = eqx.field(converter=to_layer("lstm", eqx.nn.LSTMCell))
    reset: ResetName = eqx.field(default="none", converter=reset_name, static=True, kw_only=True)

    def init_state(self, x: ArrayOrStruct) -> SLSTMState:
        _check_shape(zero_state(x), (self.lstm.input_size,), "lstm")
        zeros = jnp.zeros(self.lstm.hidden_size, x.dtype)
        return SLSTMState(zeros, zeros)

    def __call__(
        self, x: Array, state: SLSTMState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, SLSTMState]:
        lstm = with_dtype(self.lstm, x.dtype)
        mem, syn = lstm(x, (state.mem, state.syn))
        mem = self.reset_by(mem, self.exceeds(state.mem))
        syn, mem = self.quantised(syn, mem)
        return self.fire(mem, key), SLSTMState(syn, mem)


def _convolution(value):
    expected = (
        "an equinox.nn.Conv2d from c_in + c to 4 c channels (c channels of neurons, four gates)"
    )
    checks.instance("conv", value, eqx.nn.Conv2d, expected)
    channels, rest = divmod(value.out_channels, 4)
    if rest or value.in_channels <= channels:
        raise ValueError(
            f"conv must be {expected}, got {value.in_channels} to {value.out_channels} channels."
        )
    return value


def _pool(value):
    return None if value is None else callable_instance("pool", value)


class SConv2dLSTM(AbstractResettingCell):
    r"""Spiking long short-term memory of feature maps: [`eventsnn.discrete.SLSTM`][] with a
    convolution for all gates,

    $$i_t, f_t, o_t = \sigma(K * [X_t, U_{t-1}] + b), \qquad
      g_t = \tanh(K * [X_t, U_{t-1}] + b)$$

    The convolution is over the channels of input and membrane potential together. Pooling applies
    to the membrane potential before the comparison with the threshold: $S_t = H(P(U_t) - \theta)$.
    The state and the reset have the full resolution.

    Equivalent to `snntorch.SConv2dLSTM` (convolutional LSTM: Shi et al., NeurIPS 2015,
    arXiv:1506.04214).

    **Arguments:**

    - `conv`: an `equinox.nn.Conv2d(c_in + c, 4 * c, k, padding=k // 2, key=key)` for inputs of
        shape `(c_in, height, width)` and `c` channels of neurons, with the channels of the gates in
        the order $i, f, o, g$. Its output must have the height and width of its input.
    - `pool`: $P$, a function of the membrane potential: `equinox.nn.MaxPool2d(2, stride=2)` is
        snnTorch's `max_pool=2`, and `equinox.nn.AvgPool2d(2, stride=2)` its `avg_pool=2`. Default:
        None, no pooling.
    - `reset`: `"none"` (the default), `"subtract"`, `"zero"` or `"set"`.
    - `threshold`, `surrogate`, `v_reset`, `state_quant`: as in [`eventsnn.discrete.Leaky`][]. A
        value per channel has the shape `(c, 1, 1)`.
    - `inhibition`: must be False, since the neurons have several axes.

    **Raises:** `ValueError` for anything but such a convolution, and as
    [`eventsnn.discrete.Leaky`][]. At the first step, `ValueError` for inputs of another shape.
    """

    conv: eqx.nn.Conv2d = eqx.field(converter=_convolution)
    pool: Callable[..., Array] | None = eqx.field(default=None, converter=_pool, kw_only=True)
    reset: ResetName = eqx.field(default="none", converter=reset_name, static=True, kw_only=True)

    def init_state(self, x: ArrayOrStruct) -> SLSTMState:
        channels = self.conv.out_channels // 4
        shape = (self.conv.in_channels - channels, "height", "width")
        _check_shape(zero_state(x), shape, "conv")
        zeros = jnp.zeros((channels, *x.shape[1:]), x.dtype)
        return SLSTMState(zeros, zeros)

    def __call__(
        self, x: Array, state: SLSTMState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, SLSTMState]:
        gates = with_dtype(self.conv, x.dtype)(jnp.concatenate([x, state.mem]))
        if gates.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"conv must keep height and width, such as padding=k // 2 with an odd kernel size "
                f"k, got {gates.shape[1:]} from {x.shape[1:]}."
            )
        i, f, o, g = jnp.split(gates, 4)
        syn = jax.nn.sigmoid(f) * state.syn + jax.nn.sigmoid(i) * jnp.tanh(g)
        mem = jax.nn.sigmoid(o) * jnp.tanh(syn)
        mem = self.reset_by(mem, self.exceeds(state.mem))
        syn, mem = self.quantised(syn, mem)
        pooled = mem if self.pool is None else self.pool(mem)
        return self.fire(pooled, key), SLSTMState(syn, mem)


def _check_shape(x, shape, layer):
    """Raise unless the axes have the lengths in `shape`, where a string allows any length."""
    same = (want in (n, "height", "width") for n, want in zip(x.shape, shape, strict=False))
    if len(x.shape) != len(shape) or not all(same):
        expected = str(shape).replace("'", "")
        raise ValueError(
            f"inputs must have shape {expected} for the weights of {layer}, got shape {x.shape}."
        )
