"""What is under way: spikes that reach each neuron after a delay of their own.

Input spikes are known beforehand and lie in a [`Schedule`][], sorted for each neuron; the spikes
of neurons wait in a [`Queue`][] of a fixed number of slots, one a spike. With axonal delays all
neurons are reached at once, and the axis of receivers has length 1.

Every spike is a *message* with a number: the k-th input spike is k, and the spike at a row of the
record has that row's number, after those of the inputs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .instants import Instant


class Schedule(NamedTuple):
    """When the input spikes reach each receiver, in order; inf after the last."""

    times: Instant  # of arrays of the shape (receivers, inputs + 2, batch)
    messages: Int[Array, "receivers inputs+2 batch"]


class Queue(NamedTuple):
    """Arrivals to come, counted from the present time; in a free slot all of them are inf."""

    cursor: Int[Array, "receivers batch"]  # the next in the schedule
    waits: Float[Array, "receivers slots batch"]
    messages: Int[Array, "slots batch"]
    sources: Int[Array, "slots batch"]


class Next(NamedTuple):
    """What reaches each receiver next, after which wait, and when something else does."""

    wait: Float[Array, "receivers batch"]
    later: Float[Array, "receivers batch"]
    message: Int[Array, "receivers batch"]
    source: Int[Array, "receivers batch"]
    slot: Int[Array, "receivers batch"]  # as many as there are slots: from the schedule


def channel_of(message: Int[Array, "..."], n: int, n_sources: int, count: int):
    """The source of an input spike, of which there are `count` in all."""
    return n + message // max(count // max(n_sources - n, 1), 1)


def schedule(
    inputs: Float[Array, "inputs batch"],
    delays: Float[Array, "sources+2 receivers"],
    n: int,
    until: float,
) -> Schedule:
    """The input spikes with their delays; those after `until` never come."""
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
    """Nothing under way."""
    none = jnp.zeros((slots, batch), jnp.int32)
    waits = jnp.full((receivers, slots, batch), jnp.inf, dtype)
    return Queue(jnp.zeros((receivers, batch), jnp.int32), waits, none, none)


def peek(queue: Queue, planned: Schedule, time: Instant, n: int, n_sources: int) -> Next:
    """The next arrival at each receiver after `time`, from which the queue counts its waits."""
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
    """The queue `dt` later, without what was taken."""
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
    """The queue with one spike more, which this source sends now and which reaches the receivers
    after these waits (inf: never); and whether there was no room for it."""
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
    """Each receiver's entry of one or several tables."""

    def entry(table):
        return jnp.take_along_axis(table, index[:, None], axis=1, mode="clip")[:, 0]

    return jax.tree.map(entry, tables)


def _of_slot(table: Array, slot: Int[Array, "receivers batch"]) -> Array:
    return jnp.take_along_axis(table, slot, axis=0, mode="clip")
