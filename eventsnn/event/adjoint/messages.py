"""Backward pass through the transport of spikes: cotangents go from the receivers to the senders.

Without delays, a spike is received in the row of the record in which it is sent. With delays it is
a message, which is received in later rows. The cotangents of its arrivals are then stored until the
backward pass reaches the row that sent it.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.delays import delayed_weights
from ..engine.queue import channel_of
from ..engine.record import Arrivals
from ..engine.segments import Inbound, NoInbound, Triggered
from ..engine.system import Network, Plan
from .base import Row

#: Number of entries up to which a matrix product with one-hot sources is faster than a scatter.
_ONE_HOT_ENTRIES = 1 << 14


class Reception(NamedTuple):
    """Cotangents in a row that belong to the spikes that the neurons receive."""

    weights: Float[Array, "columns batch"] | None  # received at the event; None with delays
    inbound: Any  # received within the segment: a NoInbound or an Inbound
    pending: Float[Array, "n batch"]  # of the spike times
    event: Float[Array, " batch"]  # of the time of the event


class ImmediateTranspose(NamedTuple):
    """Transpose of the transport without delays. It accumulates cotangents of the weights."""

    weights: Float[Array, "rows columns"]
    learns_weights: bool

    def init(self, rows: int, like: Array) -> Array | None:
        """Return the accumulator, of zeros; None if the weights are not differentiated."""
        return jnp.zeros_like(self.weights) if self.learns_weights else None

    def inbound(self, row: Row) -> NoInbound:
        """Return the delayed spikes that arrive within a row: none."""
        return NoInbound()

    def sent(self, weights: Array | None, row: Row, number: Array) -> tuple[Array | None, Array]:
        """Transpose the sending of a spike. Also returns the cotangent of its time: 0."""
        return weights, jnp.zeros_like(row.dt)

    def received(
        self, weights: Array | None, row: Row, found: Triggered, d: Reception
    ) -> tuple[Array | None, Array]:
        """Transpose the reception of spikes. Also returns the cotangent of absolute time: 0."""
        return _add_rows(weights, row.source, d.weights), jnp.zeros_like(row.dt)

    def total(self, weights: Array | None, zero: Network) -> tuple[Network, None]:
        """Return the cotangents of the network, given zeros, and of the input times: None."""
        return (zero if weights is None else zero._replace(weights=weights)), None


class Messages(NamedTuple):
    """Cotangents of weights and delays, and of the arrivals of each message (see `queue`).

    With axonal delays the cotangents of received weights are added to `weights` directly.
    """

    weights: Float[Array, "rows columns"] | None  # None: not differentiated
    delays: Float[Array, "rows receivers"]
    times: Float[Array, "messages receivers batch"]  # of the arrival times
    charges: Float[Array, "messages columns batch"] | None  # of received weights; None if axonal


class DelayedTranspose(NamedTuple):
    """Transpose of the transport with delays."""

    plan: Plan
    weights: Float[Array, "rows columns"]
    delays: Float[Array, "rows receivers"]
    learns_weights: bool
    sources: Int[Array, "spikes batch"]  # of all rows of the record, and see `sources_after`
    inputs: int  # number of input spikes

    def init(self, rows: int, like: Array) -> Messages:
        """Return zero cotangents of all messages."""
        count, receivers = self.inputs + len(self.sources), self.delays.shape[1]
        columns = self.weights.shape[1]
        charges = jnp.zeros((count, columns, like.size), like.dtype)
        return Messages(
            weights=jnp.zeros_like(self.weights) if self.learns_weights else None,
            delays=jnp.zeros_like(self.delays),
            times=jnp.zeros((count, receivers, like.size), like.dtype),
            charges=None if receivers == 1 else charges,
        )

    def inbound(self, row: Row) -> Inbound:
        """Return the delayed spikes that arrive within a row."""
        source = sources_of(self.plan, row.message, self.sources, self.inputs)
        wait = jnp.where(row.message >= 0, row.wait, jnp.inf)
        return Inbound(wait, delayed_weights(self.weights, source))

    def sent(
        self, messages: Messages, row: Row, number: Int[Array, ""]
    ) -> tuple[Messages, Float[Array, " batch"]]:
        """Transpose the sending of the spike at row `number`.

        Adds the cotangents of its arrivals to those of delays and weights. Also returns the
        cotangent of the time of the row's event.
        """
        times = lax.dynamic_index_in_dim(messages.times, self.inputs + number, 0, False)
        weights = messages.weights
        if messages.charges is not None:
            charge = lax.dynamic_index_in_dim(messages.charges, self.inputs + number, 0, False)
            weights = _add_rows(weights, row.source, charge)
        delays = _add_rows(messages.delays, row.source, times)
        return messages._replace(weights=weights, delays=delays), jnp.sum(times, axis=0)

    def received(
        self, messages: Messages, row: Row, found: Triggered, d: Reception
    ) -> tuple[Messages, Float[Array, " batch"]]:
        """Transpose the delayed arrivals within a row: store their cotangents for the senders.

        An arrival that pushed its neuron over the threshold, and so ended the segment, gets the
        cotangent of that neuron's spike time. The first arrival that ended the segment also gets
        the rest of the cotangent of the time of the event. Also returns the cotangent of absolute
        time.
        """
        receivers = row.message.shape[0]
        own = jnp.where(found.at_once, d.pending, 0.0)
        total = jnp.sum(own, axis=0, keepdims=True)
        rest = jnp.where(first_of(found.fires(), receivers), d.event - total, 0.0)
        times = d.inbound.wait + rest + (total if receivers == 1 else own)
        weights, charges = messages.weights, messages.charges
        if charges is None:
            source = sources_of(self.plan, row.message, self.sources, self.inputs)
            weights = _add_rows(weights, source[0], d.inbound.weights)
        else:
            receptors = charges.shape[1] // receivers
            charges = _put(charges, jnp.tile(row.message, (receptors, 1)), d.inbound.weights)
        messages = messages._replace(
            weights=weights, times=_put(messages.times, row.message, times), charges=charges
        )
        return messages, -jnp.sum(d.inbound.wait, axis=0)

    def total(self, messages: Messages, zero: Network) -> tuple[Network, Array]:
        """Return the cotangents of the network, given zeros, and of the input times."""
        channels = slice(self.plan.n, self.plan.n_sources)
        times, charges = messages.times[: self.inputs], messages.charges
        delays = messages.delays.at[channels].add(self._by_channel(times))
        zero = zero._replace(delays=delays)
        if messages.weights is not None:
            weights = messages.weights
            if charges is not None:
                weights = weights.at[channels].add(self._by_channel(charges[: self.inputs]))
                # Spikes in transit at time 0 are sent at no row.
                given = charges[self.inputs + self.plan.max_steps :]
                sources = self.sources[self.plan.max_steps :]
                weights = weights.at[sources].add(jnp.moveaxis(given, 1, -1))
            zero = zero._replace(weights=weights)
        return zero, jnp.sum(times, axis=1).T

    def _by_channel(self, x: Float[Array, "inputs rows batch"]) -> Float[Array, "channels rows"]:
        """Sum over the spikes of each input channel, and over the batch."""
        n_in = self.plan.n_sources - self.plan.n
        return jnp.sum(x.reshape(n_in, x.shape[0] // max(n_in, 1), *x.shape[1:]), axis=(1, 3))


def transpose_of(
    plan: Plan, network: Network, learns_weights: bool, rows: Row, arrivals: Arrivals
) -> ImmediateTranspose | DelayedTranspose:
    """Return the transpose of the network's transport."""
    if network.delays is None or arrivals.inputs is None:
        return ImmediateTranspose(network.weights, learns_weights)
    sources, count = sources_after(rows, arrivals), arrivals.inputs.shape[1]
    return DelayedTranspose(plan, network.weights, network.delays, learns_weights, sources, count)


def sources_after(rows: Row, arrivals: Arrivals) -> Int[Array, "spikes batch"]:
    """Sources of all rows, followed by those of the spikes in transit at time 0."""
    if arrivals.start is None:
        return rows.source
    return jnp.concatenate([rows.source, arrivals.start.sources.T])


def sources_of(
    plan: Plan,
    message: Int[Array, "receivers batch"],
    sources: Int[Array, "spikes batch"],
    inputs: int,
) -> Int[Array, "receivers batch"]:
    """Source index of each message; `no_event_source` where the message is -1.

    `sources` are those of `sources_after`, `inputs` is the number of input spikes.
    """
    spike = jnp.take_along_axis(sources, jnp.maximum(message - inputs, 0), axis=0, mode="clip")
    channel = channel_of(message, plan.n, plan.n_sources, inputs)
    source = jnp.where(message < inputs, channel, spike)
    return jnp.where(message < 0, plan.n_sources, source).astype(sources.dtype)


def first_of(fires: Bool[Array, "n batch"], receivers: int) -> Bool[Array, "receivers batch"]:
    """Mask of the first receiver whose arrival made a neuron fire and ended the segment."""
    if receivers == 1:
        return jnp.any(fires, axis=0, keepdims=True)
    return fires & (jnp.cumsum(fires.astype(jnp.int32), axis=0) == 1)


def _add_rows(table: Array | None, source: Array, rows: Array | None) -> Array | None:
    """Add column b of `rows` to row `source[b]` of the table, unless one of them is None."""
    if table is None or rows is None:
        return table
    if table.size > _ONE_HOT_ENTRIES:
        return table.at[source].add(rows.T)
    hot = source[None] == jnp.arange(table.shape[0], dtype=source.dtype)[:, None]
    dims = (((1,), (1,)), ((), ()))
    return table + lax.dot_general(
        hot.astype(rows.dtype), rows, dims, precision=lax.Precision.HIGHEST
    )


def _put(table: Array, message: Array, value: Array) -> Array:
    """Write each receiver's value to the row of its message; none reaches a receiver twice."""
    rows = jnp.where(message < 0, table.shape[0], message)
    receiver = lax.broadcasted_iota(message.dtype, message.shape, 0)
    sample = lax.broadcasted_iota(message.dtype, message.shape, 1)
    return table.at[rows, receiver, sample].set(value, mode="drop", unique_indices=True)
