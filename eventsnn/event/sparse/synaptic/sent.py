"""Spikes that have not yet reached all their targets, with delays that differ between synapses.

Spikes of neurons and input spikes are sorted by the times at which they are sent. Those in transit
are parts of these lists: from the first spike that has not reached all its targets on.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ...engine.instants import Instant
from ...state import NetworkState
from ..system import UNKNOWN, Inputs, Setting


class Sent(NamedTuple):
    """Spikes that may be in transit: parts of the lists of all spikes ([`Emitted`][]).

    Entries after the first `n_spikes` are unused, with the source `n_sources`. `number` is the
    number of the spike; `reached` is the number of synapses of its source that it had reached at
    time 0.
    """

    time: Instant
    source: Int[Array, " spikes"]
    number: Int[Array, " spikes"]
    reached: Int[Array, " spikes"]
    n_spikes: Any  # an integer array


class Emitted(NamedTuple):
    """List of all spikes, sorted by time; entries after the first `n_spikes` are unused."""

    time: Instant
    source: Int[Array, " spikes"]
    number: Int[Array, " spikes"]
    n_spikes: Int[Array, ""]

    def part(self, setting: Setting, first: Array, size: int, until: Instant) -> Sent:
        """Return the spikes from number `first` on that are sent until a moment."""
        columns = (*self.time, self.source, self.number)
        high, low, source, number = (lax.dynamic_slice(x, (first,), (size,)) for x in columns)
        exists = first + jnp.arange(size, dtype=jnp.int32) < self.n_spikes
        exists = exists & ~until.before(Instant(high, low))
        time = Instant(jnp.where(exists, high, 0.0), jnp.where(exists, low, 0.0))
        source = jnp.where(exists, source, setting.n_sources)
        count = jnp.sum(exists, dtype=jnp.int32)
        return Sent(time, source, number, jnp.zeros_like(source), count)


class Oldest(NamedTuple):
    """First spike of a neuron and first input spike that have not reached all their targets.

    `recent` is the first spike of the last round.
    """

    spike: Int[Array, ""]
    input: Int[Array, ""]
    recent: Int[Array, ""]


def emitted_inputs(setting: Setting, inputs: Inputs) -> Emitted:
    """Input spikes sorted by time, padded so that a part of the same length may begin anywhere."""
    number = jnp.arange(inputs.times.size, dtype=jnp.int32)
    time, number = lax.sort((inputs.times, number), num_keys=2)
    room = (0, inputs.times.size)
    source = jnp.pad(inputs.sources[number], room)
    number = jnp.pad(number + setting.max_events, room)
    count = jnp.sum(time < jnp.inf, dtype=jnp.int32)
    return Emitted(Instant.at(jnp.pad(time, room)), source, number, count)


def restored(
    setting: Setting, start: NetworkState | None, reach: Int[Array, " spikes"], dtype: jnp.dtype
) -> Sent:
    """Spikes that are in transit at time 0.

    `reach` is the number of synapses that each has reached.
    """
    if start is None:
        none = jnp.zeros(0, jnp.int32)
        return Sent(Instant.at(jnp.zeros(0, dtype)), none, none, none, jnp.zeros((), jnp.int32))
    exists = start.sources >= 0
    return Sent(
        Instant.at(jnp.where(exists, start.waits[:, 0], 0.0)),
        jnp.where(exists, start.sources, setting.n_sources),
        jnp.full_like(start.sources, UNKNOWN),
        jnp.where(exists, reach, 0),
        jnp.sum(exists, dtype=jnp.int32),
    )


def joined(setting: Setting, *parts: Sent) -> Sent:
    """Join lists of spikes, without unused entries between them."""
    size, count = sum(part.source.size for part in parts), jnp.zeros((), jnp.int32)
    zero, none = jnp.zeros(size, parts[0].time.high.dtype), jnp.zeros(size, jnp.int32)
    whole = Sent(Instant(zero, zero), none + setting.n_sources, none, none, None)
    for part in parts:
        whole = jax.tree.map(
            lambda x, y, at=count: lax.dynamic_update_slice(x, y, (at,)),
            whole,
            part._replace(n_spikes=None),
        )
        count = count + part.n_spikes
    return whole._replace(n_spikes=count)
