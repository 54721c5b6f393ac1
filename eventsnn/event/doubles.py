"""Numbers in twice the working precision, as unevaluated sums of two floats.

Error-free transformations: Dekker, *A floating-point technique for extending the available
precision*, Numerische Mathematik 18:224, 1971; Knuth, *The Art of Computer Programming*, vol. 2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Double(NamedTuple):
    """Number `high + low`, where `high` is the sum rounded to working precision."""

    high: Float[Array, "..."]
    low: Float[Array, "..."]


def two_sum(a: Array, b: Array) -> Double:
    """Exact sum of two floats; `inf` if either is infinite."""
    high = a + b
    of_b = high - a
    low = (a - (high - of_b)) + (b - of_b)
    return Double(high, jnp.where(jnp.isfinite(high), low, 0.0))


def two_product(a: Array, b: Array) -> Double:
    """Exact product of two float32 numbers."""
    high, (a1, a0), (b1, b0) = a * b, _halves(a), _halves(b)
    return Double(high, ((a1 * b1 - high) + a1 * b0 + a0 * b1) + a0 * b0)


def product(a: Double, b: Double) -> Double:
    """Product of two numbers, accurate to about 44 bits in float32."""
    high, low = two_product(a.high, b.high)
    return Double(high, low + (a.high * b.low + a.low * b.high))


def quotient(a: Double, b: Array) -> Double:
    """Quotient of a number and a float, accurate to about 44 bits in float32."""
    high = a.high / b
    back = two_product(high, b)
    return Double(high, ((a.high - back.high) - back.low + a.low) / b)


def expm1(x: Double) -> Double:
    r"""Exponential minus one, $e^x - 1$.

    In float32 the error is about $2^{-31}$ of the larger of $e^x$ and $|x|^3$. The argument is
    split into $x = k \log 2 + r$ with $|r| \le \tfrac12 \log 2$. The first two terms of the series
    of $e^r - 1$ are computed in twice the precision, and the sum is scaled by $2^k$.
    """
    k = jnp.round(x.high / _LOG_2)
    r, low = two_sum(x.high - k * _LOG_2_HIGH, -k * _LOG_2_LOW)
    low = low + x.low
    square = two_product(r, r)
    tail = jnp.full_like(r, 1.0 / 40320)
    for factor in (5040, 720, 120, 24, 6):
        tail = 1.0 / factor + r * tail
    high, rest = two_sum(r, 0.5 * square.high)
    small = Double(high, rest + (0.5 * square.low + low * (1.0 + r) + r * r * r * tail))
    # 2^k (e^r - 1) + (2^k - 1). XLA would merge two constants that are added to one variable.
    scale = jnp.ldexp(jnp.ones_like(r), k.astype(jnp.int32))
    whole = two_sum(scale, jnp.where(k == 0, -scale, -1.0))
    high, rest = two_sum(whole.high, scale * small.high)
    return Double(high, rest + whole.low + scale * small.low)


_LOG_2 = 0.6931471805599453
_LOG_2_HIGH = 0.693359375  # few digits, so that its product with k is exact
_LOG_2_LOW = _LOG_2 - _LOG_2_HIGH


def _halves(x: Array) -> tuple[Array, Array]:
    """Split a float32 number into its leading 12 bits and the rest.

    A bit mask is used, since a compiler could rearrange arithmetic.
    """
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    top = lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFF000), x.dtype)
    return top, x - top
