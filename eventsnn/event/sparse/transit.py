"""Spikes in transit: the arrivals of input spikes and of the spikes of neurons, sorted by time."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from ..engine.instants import Instant
from ..state import NetworkState, in_transit
from .ordering import sort_first
from .records import Pending
from .system import UNKNOWN, Inputs, Network, Setting


def input_arrivals(setting: Setting, network: Network, inputs: Inputs) -> Pending:
    """Arrivals of the input spikes, sorted by time."""
    arrival = Instant.sum(inputs.times, network.delays[inputs.sources])
    number = jnp.arange(inputs.times.size, dtype=jnp.int32)
    high, low, number = lax.sort((*arrival, number), num_keys=3)
    count = jnp.sum(high < jnp.inf, dtype=jnp.int32)
    return Pending(Instant(high, low), inputs.sources[number], number + setting.max_events, count)


def entry(pending: Pending, index: Array, since: Instant) -> tuple[Array, Array, Array]:
    """Time from `since`, source and number of an arrival; time inf if there is none."""
    if pending.source.size == 0:
        none = jnp.zeros((), jnp.int32)
        return jnp.full((), jnp.inf, since.high.dtype), none, none
    at = jnp.minimum(index, pending.source.size - 1)
    time = since.until(Instant(pending.time.high[at], pending.time.low[at]))
    time = jnp.where(index < pending.n_arrivals, time, jnp.inf)
    return time, pending.source[at], pending.number[at]


def given_arrivals(setting: Setting, start: NetworkState | None, dtype: jnp.dtype) -> Pending:
    """Arrivals of the spikes that are in transit at time 0, sorted by time."""
    waits, sources = jnp.full((0, 1), jnp.inf, dtype), jnp.zeros(0, jnp.int32)
    if start is not None:
        waits, sources = start.waits, start.sources
    room = (0, setting.capacity - sources.size)
    wait = jnp.pad(waits[:, 0], room, constant_values=jnp.inf)
    source = jnp.pad(sources, room, constant_values=setting.n_sources)
    wait, source = lax.sort((wait, source), num_keys=1)
    count = jnp.sum(wait < jnp.inf, dtype=jnp.int32)
    return Pending(Instant.at(wait), source, jnp.full_like(source, UNKNOWN), count)


def left_in_transit(
    setting: Setting,
    inputs: Inputs,
    capacity: int,
    pending: Pending,
    arrivals: Pending,
    delivered: Int[Array, ""],
) -> tuple[Array, Array, Bool[Array, ""]]:
    """Spikes in transit at the end: waits, sources, and whether there are more than `capacity`.

    `pending` has the arrivals of the spikes of neurons, `arrivals` those of the input spikes. The
    first `delivered` input spikes have been delivered.
    """
    sent = inputs.times[arrivals.number - setting.max_events]
    place = jnp.arange(sent.size, dtype=jnp.int32)
    left = (place >= delivered) & (sent <= setting.t_max)
    high = jnp.concatenate([jnp.where(left, arrivals.time.high, jnp.inf), pending.time.high])
    low = jnp.concatenate([arrivals.time.low, pending.time.low])
    wait = Instant.at(jnp.asarray(setting.t_max, low.dtype)).until(Instant(high, low))
    source = jnp.concatenate([arrivals.source, pending.source])
    waits, sources, many = in_transit(wait[None, :, None], source[:, None], capacity)
    return waits[0], sources[:, 0], many[0]


class Fired(NamedTuple):
    """Spikes of a round; the first `n_delivered` of them without a delay have arrived in it."""

    time: Instant
    source: Int[Array, " capacity"]
    number: Int[Array, " capacity"]
    n_spikes: Int[Array, ""]
    n_delivered: Int[Array, ""]


def send(
    network: Network, pending: Pending, delivered: Array, spikes: Fired
) -> tuple[Pending, Bool[Array, ""]]:
    """Remove the delivered arrivals, and add those of new spikes, sorted by time."""
    size = spikes.source.size
    delay = network.delays[jnp.minimum(spikes.source, network.delays.size - 1)]
    arrival = spikes.time.after(delay)
    left = pending.n_arrivals - delivered
    place = jnp.arange(size, dtype=jnp.int32)
    leaves = (delay > 0) | (place >= spikes.n_delivered)

    def joined(old, new, padding):
        """Entries that are left, followed by the new ones."""
        wide = jnp.concatenate([old, jnp.full_like(old, padding)])
        kept = lax.dynamic_slice(wide, (delivered,), (size,))
        wide = jnp.concatenate([kept, jnp.full_like(new, padding)])
        return lax.dynamic_update_slice(wide, new, (left,))

    high = jnp.where(leaves & (arrival.high < jnp.inf), arrival.high, jnp.inf)
    columns = (
        joined(pending.time.high, high, jnp.inf),
        joined(pending.time.low, arrival.low, 0.0),
        joined(pending.number, spikes.number, 0),
        joined(pending.source, spikes.source, 0),
    )
    count = left + spikes.n_spikes
    high, low, number, source = (x[:size] for x in sort_first(count, columns, keys=3))
    staying = jnp.sum(leaves & (place < spikes.n_spikes), dtype=jnp.int32)
    overflows = (left + staying > size) | (spikes.n_spikes > size)
    return Pending(Instant(high, low), source, number, jnp.minimum(left + staying, size)), overflows
