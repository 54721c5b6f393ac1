"""Backward pass through delays: cotangents of arrivals, returned to the senders of the spikes."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.queue import channel_of
from ..engine.system import Plan


class Messages(NamedTuple):
    """Cotangents of the arrivals of each message, numbered as in `queue`.

    They are stored at the row of the arrival and read at the row that sent the message.
    """

    times: Float[Array, "messages receivers batch"]  # of the arrival times
    charges: Float[Array, "messages columns batch"] | None  # of the weights; None: axonal delays

    @classmethod
    def none(cls, count: int, receivers: int, columns: int, like: Array) -> "Messages":
        """Return zero cotangents.

        With axonal delays (`receivers == 1`) the cotangents of the weights are not stored. They
        are added to the weights at the row of the arrival.
        """
        shape = like.shape[-1:]
        times = jnp.zeros((count, receivers, *shape), like.dtype)
        if receivers == 1:
            return cls(times, None)
        return cls(times, jnp.zeros((count, columns, *shape), like.dtype))

    def received(self, message: Int[Array, "receivers batch"], d_time: Array, d_charge: Array):
        """Store the cotangents of a row's arrivals; a `message` of -1 means no arrival."""
        charges = self.charges
        if charges is not None:
            ports = charges.shape[1] // message.shape[0]
            charges = _put(charges, jnp.tile(message, (ports, 1)), d_charge)
        return Messages(_put(self.times, message, d_time), charges)

    def sent(self, message: Int[Array, ""]) -> tuple[Array, Array | None]:
        """Return the cotangents of one message."""
        charge = self.charges
        if charge is not None:
            charge = lax.dynamic_index_in_dim(charge, message, 0, False)
        return lax.dynamic_index_in_dim(self.times, message, 0, False), charge


def sources_of(
    plan: Plan, message: Int[Array, "receivers batch"], rows: Int[Array, "rows batch"], inputs: int
) -> Int[Array, "receivers batch"]:
    """Source indices of these messages; `nothing` where the message is -1.

    `rows` are the sources of all rows of the record, `inputs` is the number of input spikes.
    """
    spike = jnp.take_along_axis(rows, jnp.maximum(message - inputs, 0), axis=0, mode="clip")
    channel = channel_of(message, plan.n, plan.n_sources, inputs)
    source = jnp.where(message < inputs, channel, spike)
    return jnp.where(message < 0, plan.n_sources, source).astype(rows.dtype)


def by_channel(plan: Plan, x: Float[Array, "inputs rows batch"]) -> Float[Array, "channels rows"]:
    """Sum over the spikes of each input channel, and over the batch."""
    n_in = plan.n_sources - plan.n
    return jnp.sum(x.reshape(n_in, x.shape[0] // max(n_in, 1), *x.shape[1:]), axis=(1, 3))


def first_of(fires: Bool[Array, "n batch"], receivers: int) -> Bool[Array, "receivers batch"]:
    """Mask of the receiver whose arrival made a neuron fire and ended the segment.

    If there are several, only the first of them is marked.
    """
    if receivers == 1:
        return jnp.any(fires, axis=0, keepdims=True)
    return fires & (jnp.cumsum(fires.astype(jnp.int32), axis=0) == 1)


def _put(table: Array, message: Array, value: Array) -> Array:
    """Write each receiver's value to the row of its message.

    No message arrives twice at the same receiver.
    """
    rows = jnp.where(message < 0, table.shape[0], message)
    receiver = lax.broadcasted_iota(message.dtype, message.shape, 0)
    sample = lax.broadcasted_iota(message.dtype, message.shape, 1)
    return table.at[rows, receiver, sample].set(value, mode="drop", unique_indices=True)
