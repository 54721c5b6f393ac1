"""Absolute times in twice the working precision.

A simulation of many events adds segment lengths to an absolute time. As a single float of
precision `eps`, the sum would lose about `eps * time` per event. Where segments are equal, the
errors have the same sign and add up: to more than 10 ms after 10^5 ms in float32. The event loop
therefore stores each absolute time as the unevaluated sum of two floats. Differences of absolute
times are taken in this module only.
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
        """Return the instant of a time that a single float represents exactly."""
        return cls(time, jnp.zeros_like(time))

    @classmethod
    def sum(cls, a: Array, b: Array) -> "Instant":
        """Return the exact sum of a time and a duration."""
        return cls(*two_sum(a, b))

    def after(self, dt: Array, low: Array | None = None) -> "Instant":
        """Return the instant `dt` later.

        `low` is the rounding error of `dt`, if it is known; the instant is then `dt + low` later.
        """
        high, rest = two_sum(self.high, dt)
        rest = rest + self.low
        return Instant.sum(high, rest if low is None else rest + low)

    def until(self, moment: "Instant | ArrayLike") -> Array:
        """Return the time left until `moment`, an exact float or an instant; 0 if it has passed."""
        if not isinstance(moment, Instant):
            left = (moment - self.high) - self.low
        else:
            left = (moment.high - self.high) + (moment.low - self.low)
        return jnp.maximum(left, 0.0)

    def reached(self, moment: ArrayLike) -> Bool[Array, "..."]:
        """Return whether this time is equal to or later than `moment`."""
        return (self.high > moment) | ((self.high == moment) & (self.low >= 0))

    def before(self, moment: "Instant") -> Bool[Array, "..."]:
        """Return whether this time is earlier than `moment`."""
        earlier = (self.high == moment.high) & (self.low < moment.low)
        return (self.high < moment.high) | earlier

    def where(self, condition: Array, other: "Instant") -> "Instant":
        """Return this time where `condition` holds, and `other` elsewhere."""
        return Instant(
            jnp.where(condition, self.high, other.high), jnp.where(condition, self.low, other.low)
        )
