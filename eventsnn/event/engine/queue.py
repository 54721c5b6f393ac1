"""Queue of spikes in transit (delays).

Input spikes are known beforehand. Their arrivals are stored in a [`Schedule`][], sorted by time
for each receiver. The spikes of neurons are stored in a [`Queue`][] with a fixed number of slots,
one per spike. With axonal delays a spike reaches all neurons at the same time, and the receiver
axis has length 1.

Every spike is a *message* with a number. Input spike k has the number k. The spike at row r of the
record has the number r plus the number of input spikes. Spikes that are in transit at time 0 follow
after all rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .instants import Instant


class Schedule(NamedTuple):
    """Arrivals of the input spikes at each receiver, sorted by time, padded with inf."""

    times: Instant  # arrays of shape (receivers, inputs + 2, batch)
    messages: Int[Array, "receivers entries batch"]


class Queue(NamedTuple):
    """Pending arrivals of the spikes of neurons, and each receiver's position in the schedule."""

    cursor: Int[Array, "receivers batch"]  # index of the next arrival in the schedule
    waits: Float[Array, "receivers slots batch"]  # from the present time; all inf in a free slot
    messages: Int[Array, "slots batch"]
    sources: Int[Array, "slots batch"]


class Next(NamedTuple):
    """Next arrival at each receiver."""

    wait: Float[Array, "receivers batch"]  # time until this arrival
    later: Float[Array, "receivers batch"]  # time until the arrival after it
    message: Int[Array, "receivers batch"]
    source: Int[Array, "receivers batch"]
    slot: Int[Array, "receivers batch"]  # slot in the queue; for the schedule, the number of slots


def channel_of(message: Int[Array, "..."], n: int, n_sources: int, count: int):
    """Source index of an input spike; `count` is the total number of input spikes."""
    return n + message // max(count // max(n_sources - n, 1), 1)


def schedule(
    inputs: Float[Array, "inputs batch"],
    delays: Float[Array, "rows receivers"],
    n: int,
    until: float,
) -> Schedule:
    """Build the schedule of the delayed input spikes; arrivals after `until` are dropped."""
    count, batch = inputs.shape
    n_sources, receivers = delays.shape[0] - 2, delays.shape[1]
    messages = lax.broadcasted_iota(jnp.int32, (receivers, count, batch), 1)
    channels = channel_of(jnp.arange(count), n, n_sources, count)
    high, low = Instant.sum(inputs[None], delays[channels].T[:, :, None])
    high = jnp.where((high < until) | ((high == until) & (low <= 0)), high, jnp.inf)
    high, low, messages = lax.sort((high, low, messages), dimension=1, num_keys=2, is_stable=True)
    end = ((0, 0), (0, 2), (0, 0))
    times = Instant(jnp.pad(high, end, constant_values=jnp.inf), jnp.pad(low, end))
    return Schedule(times, jnp.pad(messages, end))


def empty(receivers: int, slots: int, batch: int, dtype) -> Queue:
    """Return a queue without spikes."""
    none = jnp.zeros((slots, batch), jnp.int32)
    waits = jnp.full((receivers, slots, batch), jnp.inf, dtype)
    return Queue(jnp.zeros((receivers, batch), jnp.int32), waits, none, none)


def peek(queue: Queue, planned: Schedule, time: Instant, n: int, n_sources: int) -> Next:
    """Return the next arrival at each receiver.

    `time` is the present time, from which the waits in the queue are counted.
    """
    slots, count = queue.waits.shape[1], planned.messages.shape[1] - 2
    sent = time.until(_entry(planned.times, queue.cursor))
    after = time.until(_entry(planned.times, queue.cursor + 1))
    message = _entry(planned.messages, queue.cursor)

    first = jnp.min(queue.waits, axis=1)
    places = lax.broadcasted_iota(jnp.int32, queue.waits.shape, 1)
    slot = jnp.min(jnp.where(queue.waits == first[:, None], places, slots - 1), axis=1)
    second = jnp.min(jnp.where(places == slot[:, None], jnp.inf, queue.waits), axis=1)
    queued = first < sent
    return Next(
        wait=jnp.where(queued, first, sent),
        later=jnp.where(queued, jnp.minimum(second, sent), jnp.minimum(first, after)),
        message=jnp.where(queued, _of_slot(queue.messages, slot), message),
        source=jnp.where(
            queued, _of_slot(queue.sources, slot), channel_of(message, n, n_sources, count)
        ),
        slot=jnp.where(queued, slot, slots),
    )


def take(
    queue: Queue,
    following: Next,
    taken: Bool[Array, "receivers batch"],
    dt: Float[Array, " batch"],
) -> Queue:
    """Return the queue `dt` later, without the arrivals that were taken."""
    slots = queue.waits.shape[1]
    planned = taken & (following.slot == slots)
    places = lax.broadcasted_iota(jnp.int32, queue.waits.shape, 1)
    gone = (places == following.slot[:, None]) & taken[:, None]
    return queue._replace(
        cursor=queue.cursor + planned.astype(jnp.int32),
        waits=jnp.where(gone, jnp.inf, jnp.maximum(queue.waits - dt, 0.0)),
    )


def push(
    queue: Queue,
    waits: Float[Array, "receivers batch"],
    message: Int[Array, ""],
    source: Int[Array, " batch"],
) -> tuple[Queue, Bool[Array, " batch"]]:
    """Add a spike that `source` sends now and that reaches the receivers after `waits`.

    A wait of inf means no arrival. Returns the queue and a mask of the samples in which all slots
    were occupied.
    """
    slots = queue.waits.shape[1]
    busy = jnp.any(queue.waits < jnp.inf, axis=0)
    places = lax.broadcasted_iota(jnp.int32, busy.shape, 0)
    slot = jnp.min(jnp.where(busy, slots, places), axis=0)
    comes = jnp.any(waits < jnp.inf, axis=0)
    here = (places == slot) & comes
    queue = queue._replace(
        waits=jnp.where(here, waits[:, None], queue.waits),
        messages=jnp.where(here, message, queue.messages),
        sources=jnp.where(here, source, queue.sources),
    )
    return queue, comes & (slot == slots)


def _entry(tables: Any, index: Int[Array, "receivers batch"]) -> Any:
    """Look up each receiver's entry in one or several tables."""

    def entry(table):
        return jnp.take_along_axis(table, index[:, None], axis=1, mode="clip")[:, 0]

    return jax.tree.map(entry, tables)


def _of_slot(table: Array, slot: Int[Array, "receivers batch"]) -> Array:
    return jnp.take_along_axis(table, slot, axis=0, mode="clip")
