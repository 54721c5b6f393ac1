"""Delays backwards: from what was received to who had sent it."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.queue import channel_of
from ..engine.system import Plan


class Messages(NamedTuple):
    """Cotangents of the arrivals of each message (its number in `queue`), to be picked up where it
    was sent: of their times and, where each receiver has its own, of their charges."""

    times: Float[Array, "messages receivers batch"]
    charges: Float[Array, "messages columns batch"] | None

    @classmethod
    def none(cls, count: int, receivers: int, columns: int, like: Array) -> "Messages":
        """No cotangents; with one receiver for all, charges are settled where they arrive."""
        shape = like.shape[-1:]
        times = jnp.zeros((count, receivers, *shape), like.dtype)
        if receivers == 1:
            return cls(times, None)
        return cls(times, jnp.zeros((count, columns, *shape), like.dtype))

    def received(self, message: Int[Array, "receivers batch"], d_time: Array, d_charge: Array):
        """With what a row received (-1: nothing)."""
        charges = self.charges
        if charges is not None:
            ports = charges.shape[1] // message.shape[0]
            charges = _put(charges, jnp.tile(message, (ports, 1)), d_charge)
        return Messages(_put(self.times, message, d_time), charges)

    def sent(self, message: Int[Array, ""]) -> tuple[Array, Array | None]:
        """What belongs to one message."""
        charge = self.charges
        if charge is not None:
            charge = lax.dynamic_index_in_dim(charge, message, 0, False)
        return lax.dynamic_index_in_dim(self.times, message, 0, False), charge


def sources_of(
    plan: Plan, message: Int[Array, "receivers batch"], rows: Int[Array, "rows batch"], inputs: int
) -> Int[Array, "receivers batch"]:
    """Who sent these messages; `nothing` where there is none. `rows`: the sources of all rows."""
    spike = jnp.take_along_axis(rows, jnp.maximum(message - inputs, 0), axis=0, mode="clip")
    channel = channel_of(message, plan.n, plan.n_sources, inputs)
    source = jnp.where(message < inputs, channel, spike)
    return jnp.where(message < 0, plan.n_sources, source).astype(rows.dtype)


def by_channel(plan: Plan, x: Float[Array, "inputs rows batch"]) -> Float[Array, "channels rows"]:
    """Summed over the spikes of each input channel, and over the batch."""
    n_in = plan.n_sources - plan.n
    return jnp.sum(x.reshape(n_in, x.shape[0] // max(n_in, 1), *x.shape[1:]), axis=(1, 3))


def first_lifted(lifted: Bool[Array, "n batch"], receivers: int) -> Bool[Array, "receivers batch"]:
    """The receiver whose arrival ended the segment, because it lifted a neuron."""
    if receivers == 1:
        return jnp.any(lifted, axis=0, keepdims=True)
    return lifted & (jnp.cumsum(lifted.astype(jnp.int32), axis=0) == 1)


def _put(table: Array, message: Array, value: Array) -> Array:
    """Each receiver's value in the row of its message; no message arrives twice."""
    rows = jnp.where(message < 0, table.shape[0], message)
    receiver = lax.broadcasted_iota(message.dtype, message.shape, 0)
    sample = lax.broadcasted_iota(message.dtype, message.shape, 1)
    return table.at[rows, receiver, sample].set(value, mode="drop", unique_indices=True)
