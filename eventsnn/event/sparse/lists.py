"""Spikes in transit of a network with synaptic delays, during a simulation."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ..engine.instants import Instant
from ..state import in_transit
from .arrivals import Arrivals, Axons, axons_of, degrees, reached, search
from .records import Run
from .sent import (
    Emitted,
    Oldest,
    Sent,
    emitted_inputs,
    inputs_in_transit,
    restored,
)
from .system import Inputs, Network, Setting


class Underway(NamedTuple):
    """Spikes in transit, with the arrivals of the last round."""

    oldest: Oldest
    arrivals: Arrivals


class Lists(NamedTuple):
    """Constants of a simulation with synaptic delays.

    `given` are the spikes in transit at time 0, and `n_inputs` is the number of input spikes that
    may be in transit.
    """

    axons: Axons
    inputs: Emitted
    given: Sent
    n_inputs: int


def lists_of(setting: Setting, network: Network, inputs: Inputs) -> Lists:
    """Sort the synapses and the input spikes."""
    axons, start = axons_of(network), inputs.start
    dtype = network.weights.dtype
    none = restored(setting, None, jnp.zeros(0, jnp.int32), dtype)
    emitted = emitted_inputs(setting, inputs)
    lists = Lists(axons, emitted, none, inputs_in_transit(setting, inputs))
    if start is None:
        return lists
    # The second column has the delay of the last synapse that was reached.
    at_zero = restored(setting, start, jnp.zeros_like(start.sources), dtype)
    at_zero = at_zero._replace(time=Instant.at(jnp.zeros_like(start.waits[:, 0])))
    reach = search(setting, axons, at_zero, Instant.at(start.waits[:, 1]))
    return lists._replace(given=restored(setting, start, reach, dtype))


def sent_spikes(
    setting: Setting, lists: Lists, run: Run, n_events: Array, oldest: Oldest
) -> tuple[Sent, Sent, Sent]:
    """Spikes that may be in transit: those given at time 0, those of neurons, and input spikes.

    `n_events` is the number of spikes of neurons so far.
    """
    assert run.low is not None
    number = jnp.arange(run.sources.size, dtype=jnp.int32)
    neurons = Emitted(Instant(run.times, run.low), run.sources, number, n_events)
    return (
        lists.given,
        neurons.part(setting, oldest.spike, setting.capacity),
        lists.inputs.part(setting, oldest.input, lists.n_inputs),
    )


def passed_before(
    setting: Setting, lists: Lists, sent: Sent, since: Instant, first: Bool[Array, ""]
) -> Int[Array, " spikes"]:
    """Number of synapses that each spike reached before a round; `first` is true of round 0."""
    return jnp.where(first, sent.reached, reached(setting, lists.axons, sent, since))


def advanced(
    setting: Setting,
    lists: Lists,
    run: Run,
    n_events: Array,
    oldest: Oldest,
    time: Instant,
) -> tuple[Oldest, Bool[Array, ""]]:
    """Oldest spikes in transit at a later time, and whether there are too many in transit."""
    first = []
    for sent, begin, count in zip(
        sent_spikes(setting, lists, run, n_events, oldest)[1:],
        oldest,
        (n_events, lists.inputs.n_spikes),
        strict=True,
    ):
        done = reached(setting, lists.axons, sent, time) >= degrees(lists.axons, sent)
        leading = jnp.sum(jnp.cumprod(done.astype(jnp.int32)), dtype=jnp.int32)
        first.append(jnp.minimum(begin + leading, count))
    oldest = Oldest(*first)
    overflows = n_events - oldest.spike > setting.capacity
    if lists.inputs.source.size == lists.n_inputs:  # without input spikes
        return oldest, overflows
    following = oldest.input + lists.n_inputs
    many = (following < lists.inputs.n_spikes) & _sent_before(
        lists.inputs, following, time, setting
    )
    return oldest, overflows | many


def _sent_before(inputs: Emitted, index: Array, time: Instant, setting: Setting) -> Array:
    """Whether an input spike is sent before the end of the next round."""
    at = jnp.minimum(index, inputs.source.size - 1)
    return ~time.after(jnp.asarray(setting.window, time.high.dtype)).before(
        Instant(inputs.time.high[at], inputs.time.low[at])
    )


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
