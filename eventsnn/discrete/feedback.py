"""Feedback connections from the spikes of a layer to its own input.

Any callable can be a feedback, including `equinox.nn.Linear` and `equinox.nn.Conv2d`. This module
adds connections that Equinox does not have.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from ..checks import mask_like, value_error
from ..constraints import unwrap
from .layers import call_layer, callable_instance
from .parameters import parameter_like, to_parameter


class OneToOne(eqx.Module):
    r"""Feedback of each neuron to itself only, $v \odot S$.

    **Arguments:**

    - `v`: the weight, a scalar or one value per neuron. Default: 1.
    """

    v: Float[Array, "*neurons"] = eqx.field(default=1.0, converter=to_parameter("v"))

    def __call__(self, x: Float[Array, "*neurons"], *, key: object = None) -> Array:
        """Feedback current of the spikes `x`.

        `key` is accepted for compatibility with `equinox.nn` layers and ignored.
        """
        return parameter_like(self.v, x, "v") * x


class MaskedLinear(eqx.Module):
    r"""Linear layer with masked weights, $(M \odot W)\,x + b$.

    Masked synapses have no effect and receive no gradient.

    **Arguments:**

    - `weight`: $W$, of shape `(out, in)` as in `equinox.nn.Linear`.
    - `mask`: $M$, booleans of the same shape. True keeps a synapse.
    - `bias`: $b$, of shape `(out,)`. Default: None, no bias.

    **Raises:** `ValueError` if the shapes do not match.
    """

    weight: Float[Array, "out in"]
    mask: Bool[Array, "out in"]
    bias: Float[Array, " out"] | None

    def __init__(
        self,
        weight: Float[ArrayLike, "out in"],
        mask: Bool[ArrayLike, "out in"],
        bias: Float[ArrayLike, " out"] | None = None,
    ):
        self.weight = to_parameter("weight")(weight)
        if self.weight.ndim != 2:
            raise ValueError(f"weight must have shape (out, in), got shape {self.weight.shape}.")
        checked = mask_like(mask, self.weight.shape)
        if checked is None:
            raise value_error("mask", mask, "booleans (without mask, use equinox.nn.Linear)")
        self.mask = checked
        self.bias = None if bias is None else to_parameter("bias")(bias)
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"bias must have shape {self.weight.shape[:1]}, got shape {self.bias.shape}."
            )

    def __call__(self, x: Float[Array, " in"], *, key: object = None) -> Float[Array, " out"]:
        """Output of the layer for an input `x` of shape `(in,)`. `key` is ignored."""
        weight, bias = unwrap((self.weight, self.bias))
        out = jnp.where(self.mask, weight, 0) @ x
        return out if bias is None else out + bias


class Frozen(eqx.Module):
    """Wrapper of a layer whose parameters do not train: they receive no gradient.

    **Arguments:**

    - `layer`: any callable module, such as `equinox.nn.Linear`.
    """

    layer: Callable[..., Array]

    def __check_init__(self):
        callable_instance("layer", self.layer)

    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """Output of the wrapped layer for the input `x`.

        `key` is passed on if the layer takes a key. Default: None.
        """
        arrays, rest = eqx.partition(unwrap(self.layer), eqx.is_array)
        return call_layer(eqx.combine(jax.lax.stop_gradient(arrays), rest), x, key)
