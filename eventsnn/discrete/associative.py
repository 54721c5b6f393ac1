"""Spiking associative memory, a matrix of neurons with decays that depend on the input."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .base import AbstractSpikingCell
from .layers import with_dtype
from .parameters import ArrayOrStruct, to_layer, zero_state
from .recurrence import varying_recurrence


class AssociativeState(NamedTuple):
    """State of an `AssociativeLeaky` cell.

    - `mem`: membrane potentials, of shape `(d_value, d_key)`.
    """

    mem: Float[Array, "d_value d_key"]


def _projection(name):
    return to_layer(name, eqx.nn.Linear)


def _to_q(value):
    return None if value is None else _projection("to_q")(value)


class AssociativeLeaky(AbstractSpikingCell):
    r"""Associative memory of spiking neurons. The membrane potentials are a matrix, to which each
    step adds the product of a value $v_t$ and a key $k_t$, both computed from the input:

    $$M_t = M_{t-1} \operatorname{diag}(\alpha_t) + v_t k_t^\top, \qquad
      \alpha_t = \sigma(W_\alpha X_t + b_\alpha), \qquad S_t = H(M_t - \theta), \qquad
      Y_t = S_t Q_t$$

    with $v_t = W_v X_t + b_v$, and $k_t$ and $Q_t$ likewise. There is no reset. The output is
    $Y_t$, row by row as a vector of length `d_value * d_value`, or the spikes $S_t$ without `to_q`,
    of length `d_value * d_key`. With `discrete.run(..., parallel=True)`, all steps are computed by
    an associative scan.

    Equivalent to `snntorch.AssociativeLeaky`, with one exception: snnTorch divides by the product
    of all earlier $\alpha$ plus 1e-8, so that its potentials vanish once that product is smaller.

    **Arguments:**

    - `to_v`, `to_k`, `to_alpha`: an `equinox.nn.Linear(n_in, d_value, key=key)` for the values, and
        two `equinox.nn.Linear(n_in, d_key, key=key)` for the keys and the decays.
    - `to_q`: an `equinox.nn.Linear(n_in, d_key * d_value, key=key)` for the readout $Q_t$. Default:
        None, the output is the spikes.
    - `threshold`, `surrogate`: as in [`eventsnn.discrete.Leaky`][]. One threshold per neuron has
        the shape `(d_value * d_key,)`.
    - `inhibition`: whether only the neuron of the matrix furthest above its threshold fires.
        Default: False.

    **Raises:** `ValueError` if the sizes of the layers do not match, and as
    [`eventsnn.discrete.Leaky`][].
    """

    to_v: eqx.nn.Linear = eqx.field(converter=_projection("to_v"))
    to_k: eqx.nn.Linear = eqx.field(converter=_projection("to_k"))
    to_alpha: eqx.nn.Linear = eqx.field(converter=_projection("to_alpha"))
    to_q: eqx.nn.Linear | None = eqx.field(default=None, converter=_to_q)

    def __check_init__(self):
        n_in, d_value, d_key = self.to_v.in_features, *self._shape
        sizes = {"to_k": d_key, "to_alpha": d_key, "to_q": d_key * d_value}
        for name, n_out in sizes.items():
            layer = getattr(self, name)
            if layer is not None and (layer.in_features, layer.out_features) != (n_in, n_out):
                raise ValueError(
                    f"{name} must be an equinox.nn.Linear({n_in}, {n_out}) to match to_v and "
                    f"to_k, got an equinox.nn.Linear({layer.in_features}, {layer.out_features})."
                )

    def init_state(self, x: ArrayOrStruct) -> AssociativeState:
        if zero_state(x).shape != (self.to_v.in_features,):
            raise ValueError(
                f"inputs must have shape ({self.to_v.in_features},) for the weights of to_v, got "
                f"shape {x.shape}."
            )
        return AssociativeState(jnp.zeros(self._shape, x.dtype))

    def __call__(
        self, x: Array, state: AssociativeState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, AssociativeState]:
        alpha, write = self._write(x)
        mem = alpha * state.mem + write
        return self._read(x, self.fire(mem.ravel(), key)), AssociativeState(mem)

    def in_parallel(
        self, xs: Array, state: AssociativeState, *, key: PRNGKeyArray | None = None
    ) -> tuple[Array, AssociativeState]:
        mem = varying_recurrence(*jax.vmap(self._write)(xs), state.mem)
        spk = self.fire(mem.reshape(len(xs), -1), key, over_time=True)
        return jax.vmap(self._read)(xs, spk), AssociativeState(mem)

    @property
    def _shape(self):
        return self.to_v.weight.shape[0], self.to_k.weight.shape[0]

    def _write(self, x):
        """Decays of the columns, of shape `(1, d_key)`, and the matrix that is added."""
        v, k, alpha = (with_dtype(to, x.dtype)(x) for to in (self.to_v, self.to_k, self.to_alpha))
        return jax.nn.sigmoid(alpha)[None], jnp.outer(v, k)

    def _read(self, x, spk):
        if self.to_q is None:
            return spk
        d_value, d_key = self._shape
        q = with_dtype(self.to_q, x.dtype)(x).reshape(d_key, d_value)
        return (spk.reshape(d_value, d_key) @ q).ravel()
