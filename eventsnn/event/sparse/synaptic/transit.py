"""Spikes in transit of a network with synaptic delays, during a simulation."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ...engine.instants import Instant
from ...state import in_transit
from ..records import Run
from ..system import Inputs, Network, Setting
from .arrivals import Arrivals, Axons, axons_of, degrees, reached, search
from .sent import (
    Emitted,
    Oldest,
    Sent,
    emitted_inputs,
    restored,
)


class Underway(NamedTuple):
    """Spikes in transit, with the arrivals of the last round."""

    oldest: Oldest
    arrivals: Arrivals


class Lists(NamedTuple):
    """Constants of a simulation with synaptic delays.

    `given` are the spikes in transit at time 0. `is_kept` is whether those at the end are kept.
    """

    axons: Axons
    inputs: Emitted
    given: Sent
    is_kept: bool


def lists_of(setting: Setting, network: Network, inputs: Inputs) -> Lists:
    """Sort the synapses and the input spikes."""
    axons, start = axons_of(network), inputs.start
    dtype = network.weights.dtype
    emitted, is_kept = emitted_inputs(setting, inputs), start is not None
    if start is None:
        given = restored(setting, None, jnp.zeros(0, jnp.int32), dtype)
        return Lists(axons, emitted, given, is_kept)
    given = restored(setting, start, jnp.zeros_like(start.sources), dtype)
    given = restored(setting, start, _reach(setting, axons, given, start.waits[:, 1]), dtype)
    return Lists(axons, emitted, given, is_kept)


def _reach(setting: Setting, axons: Axons, given: Sent, last: Array) -> Int[Array, " spikes"]:
    """Number of synapses that spikes reached before time 0.

    `last` is the delay of the last one at that time. If the delays have changed since then, the
    arrival itself decides, unless it is so close to 0 that it may differ by rounding only.
    """
    zero = jnp.zeros_like(given.time.high)
    by_delay = search(setting, axons, given._replace(time=Instant.at(zero)), Instant.at(last))
    close = 8 * jnp.finfo(zero.dtype).eps * given.time.high  # negative
    return jnp.maximum(by_delay, search(setting, axons, given, Instant.at(close)))


def sent_spikes(
    setting: Setting, lists: Lists, run: Run, n_events: Array, oldest: Oldest, until: Instant
) -> tuple[Sent, Sent, Sent]:
    """Spikes that may be in transit: those given at time 0, those of neurons, and input spikes.

    `n_events` is the number of spikes of neurons so far. Those sent after `until` are left out.
    """
    assert run.low is not None
    number = jnp.arange(run.sources.size, dtype=jnp.int32)
    neurons = Emitted(Instant(run.times, run.low), run.sources, number, n_events)
    n_inputs = lists.inputs.source.size // 2
    return (
        lists.given,
        neurons.part(setting, oldest.spike, setting.capacity, until),
        lists.inputs.part(setting, oldest.input, n_inputs, until),
    )


def passed_before(
    setting: Setting,
    lists: Lists,
    sent: Sent,
    since: Instant,
    first: Bool[Array, ""],
    recent: tuple[Array, Array],
) -> Int[Array, " spikes"]:
    """Number of synapses that each spike reached before a round; `first` is true of round 0.

    `recent` are the number of the first spike of the last round and that of the next one. They have
    not been delivered, also if the sum of time and delay is the start of this round.
    """
    new = (sent.number >= recent[0]) & (sent.number < recent[1])
    return jnp.where(first | new, sent.reached, reached(setting, lists.axons, sent, since))


def advanced(
    setting: Setting,
    lists: Lists,
    run: Run,
    counts: tuple[Array, Array],
    oldest: Oldest,
    time: Instant,
) -> tuple[Oldest, Bool[Array, ""]]:
    """Oldest spikes in transit at a later time, and whether there are too many in transit.

    `counts` are the numbers of spikes of neurons before the last round and after it.
    """
    recent, n_events = counts
    end = Instant.at(jnp.asarray(setting.t_max, time.high.dtype))
    _, *parts = sent_spikes(setting, lists, run, n_events, oldest, time)
    first = []
    for sent, begin in zip(parts, oldest[:2], strict=True):
        every = degrees(lists.axons, sent)
        if not lists.is_kept:  # later arrivals have no effect
            every = reached(setting, lists.axons, sent, end)
        done = reached(setting, lists.axons, sent, time) >= every
        leading = jnp.sum(jnp.cumprod(done.astype(jnp.int32)), dtype=jnp.int32)
        first.append(begin + jnp.minimum(leading, sent.n_spikes))
    # The spikes of the last round are delivered in the next one.
    spike, of_inputs = jnp.minimum(first[0], recent), first[1]
    return Oldest(spike, of_inputs, recent), n_events - spike > setting.capacity


def left_of_synapses(
    setting: Setting, lists: Lists, sent: Sent, capacity: int, time: Instant
) -> tuple[Array, Array, Bool[Array, ""]]:
    """Spikes in transit at the end, as in [`eventsnn.NetworkState`][].

    Also returns whether there are more than `capacity`.
    """
    count = reached(setting, lists.axons, sent, time)
    moment = jnp.asarray(setting.t_max, time.high.dtype)
    left = (count < degrees(lists.axons, sent)) & ~Instant.at(moment).before(sent.time)
    age = -sent.time.until(moment)
    last = lists.axons.first[sent.source] + count - 1
    delay = jnp.where(count > 0, lists.axons.delays[jnp.maximum(last, 0)], -1.0)
    waits = jnp.where(left, jnp.stack([age, delay]), jnp.inf)
    waits, sources, many = in_transit(waits[..., None], sent.source[:, None], capacity)
    return waits[..., 0].T, sources[:, 0], many[0]
