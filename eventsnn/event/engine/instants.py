"""Absolute times of twice the working precision.

A simulation of many events adds segment lengths to an absolute time. As one float of precision
`eps` that sum would lose `eps * time` at each event, always in the same direction where segments
are equal: milliseconds after 10^5 ms in float32. The event loop therefore carries each absolute
time as the unevaluated sum of two floats, and takes differences of times only here.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from ..doubles import two_sum


class Instant(NamedTuple):
    """An absolute time, `high + low`, where `high` is the sum rounded to working precision."""

    high: Float[Array, "..."]
    low: Float[Array, "..."]

    @classmethod
    def at(cls, time: Array) -> "Instant":
        """The time that a single float states exactly."""
        return cls(time, jnp.zeros_like(time))

    @classmethod
    def sum(cls, a: Array, b: Array) -> "Instant":
        """The exact sum of a time and a duration."""
        return cls(*two_sum(a, b))

    def after(self, dt: Array, low: Array | None = None) -> "Instant":
        """The time `dt` later, or `dt + low` if `dt` is known to more than one float."""
        high, rest = two_sum(self.high, dt)
        rest = rest + self.low
        return Instant.sum(high, rest if low is None else rest + low)

    def until(self, moment: "Instant | ArrayLike") -> Array:
        """The time left until `moment` (an exact float or an instant); 0 if it has passed."""
        if not isinstance(moment, Instant):
            left = (moment - self.high) - self.low
        else:
            left = (moment.high - self.high) + (moment.low - self.low)
        return jnp.maximum(left, 0.0)

    def reached(self, moment: ArrayLike) -> Bool[Array, "..."]:
        """Whether this time is not before `moment`."""
        return (self.high > moment) | ((self.high == moment) & (self.low >= 0))

    def where(self, condition: Array, other: "Instant") -> "Instant":
        """Choose this time where `condition` holds, elsewhere the other."""
        return Instant(
            jnp.where(condition, self.high, other.high), jnp.where(condition, self.low, other.low)
        )
