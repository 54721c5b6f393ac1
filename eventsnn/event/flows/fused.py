"""Two results of a long elementwise computation in one pass.

XLA compiles elementwise operations into one loop per result, and computes the common part of two
results twice. A loop ends at a division, because a division is expensive to repeat. Here the two
results are made the parts of a complex number, which is divided by 1. In single precision the
computations of this package are too short for this: the division would take longer than they do.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


@jax.custom_jvp
def together(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the finite arguments, of equal shapes; in double precision, from one pass."""
    return _divided(x, y, x)


@together.defjvp
def _(primals, tangents):
    return together(*primals), tangents


@jax.custom_jvp
def transposed_together(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the arguments, of equal shapes, whose cotangents are computed as by `together`."""
    return x, y


@transposed_together.defjvp
def _(primals, tangents):
    return primals, _divided(tangents[0], tangents[1], primals[0])


def _divided(x: Array, y: Array, like: Array) -> tuple[Array, Array]:
    if x.dtype != jnp.float64:
        return x, y
    # XLA does not know that the divisor is 1: the value might be NaN.
    one = jnp.where(jnp.isnan(like), 2.0, jnp.ones_like(like))
    z = lax.complex(x, y) / lax.complex(one, jnp.zeros_like(one))
    return z.real, z.imag
