"""From a layer's spikes back to its own input. Any callable will do, `equinox.nn.Linear` and
`equinox.nn.Conv2d` among them; these are the others."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from ..checks import mask_like
from ..constraints import unwrap
from .base import call, callable_instance, leaf, like


class OneToOne(eqx.Module):
    r"""Each neuron to itself, $v \odot S$.

    **Arguments:**

    - `v`: the weight, a scalar or one value a neuron. Default: 1.
    """

    v: Float[Array, "*neurons"] = eqx.field(default=1.0, converter=leaf("v"))

    def __call__(self, x: Float[Array, "*neurons"], *, key: object = None) -> Array:
        """The feedback current of spikes `x`; `key` is there for the company of other layers."""
        return like(self.v, x, "v") * x


class MaskedLinear(eqx.Module):
    r"""$(M \odot W)\,x + b$: synapses that the mask leaves out neither act nor get a gradient.

    **Arguments:**

    - `weight`: $W$, of shape `(out, in)` as in `equinox.nn.Linear`.
    - `mask`: booleans of the same shape.
    - `bias`: $b$, of shape `(out,)`. Default: none.

    **Raises:** `ValueError` for shapes that do not fit.
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
        self.weight = leaf("weight")(weight)
        if self.weight.ndim != 2:
            raise ValueError(f"weight must have shape (out, in), got shape {self.weight.shape}.")
        known = mask_like(mask, self.weight.shape)
        if known is None:
            raise ValueError(
                "mask must be an array of booleans (equinox.nn.Linear is the layer without one), "
                "got None."
            )
        self.mask = known
        self.bias = None if bias is None else leaf("bias")(bias)
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"bias must have shape {self.weight.shape[:1]}, got shape {self.bias.shape}."
            )

    def __call__(self, x: Float[Array, " in"], *, key: object = None) -> Float[Array, " out"]:
        """The weighted input."""
        weight, bias = unwrap((self.weight, self.bias))
        out = jnp.where(self.mask, weight, 0) @ x
        return out if bias is None else out + bias


class Frozen(eqx.Module):
    """A layer whose parameters stay as they are: no gradient enters them.

    **Arguments:**

    - `layer`: any callable module, such as `equinox.nn.Linear`.
    """

    layer: Callable[..., Array]

    def __check_init__(self):
        callable_instance("layer", self.layer)

    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """What the layer gives."""
        arrays, rest = eqx.partition(unwrap(self.layer), eqx.is_array)
        return call(eqx.combine(jax.lax.stop_gradient(arrays), rest), x, key)
