"""Arrivals of a round at single synapses, for delays that differ between the synapses of a source.

The synapses of each source are sorted by delay, so that a spike reaches a range of them in a round.
All arrivals of the round form one list, sorted by target and time. Neurons do not influence each
other within a round: the first arrivals of all neurons are therefore delivered together, then the
second ones, and so on.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...engine.instants import Instant
from ..ordering import order_by_time, order_of, replaced, sized
from ..system import Network, Setting
from .sent import Sent

#: Number of spikes whose synapses are searched together.
_BLOCK = 128
#: Ratio of the sizes between which the sorts of a round choose, and a small size.
_RATIO, _LEAST = 4, 512


class Axons(NamedTuple):
    """Synapses of every source, sorted by delay.

    Source `j` has the entries `first[j] ... first[j + 1] - 1`. The source `n_sources` has none.
    `synapses` has the index of each entry in `Network.weights`.
    """

    first: Int[Array, " sources+2"]
    delays: Float[Array, " synapses"]
    synapses: Int[Array, " synapses"]


def axons_of(network: Network) -> Axons:
    """Sort the synapses of each source by delay, unless they are in order."""
    offsets, delays = network.fan.offsets, network.delays
    place = jnp.arange(delays.size, dtype=jnp.int32)
    new = jnp.zeros(delays.size, jnp.int32).at[offsets[:-1]].set(1, mode="drop")
    in_order = jnp.all((new[1:] == 1) | (delays[1:] >= delays[:-1]))

    def ordered():
        source = jnp.cumsum(new, dtype=jnp.int32)
        return lax.sort((source, delays, place), num_keys=2)[2]

    synapses = lax.cond(in_order, lambda: place, ordered)
    return Axons(jnp.append(offsets, offsets[-1]), delays[synapses], synapses)


def degrees(axons: Axons, sent: Sent) -> Int[Array, " spikes"]:
    """Number of synapses of the source of each spike."""
    return axons.first[sent.source + 1] - axons.first[sent.source]


def reached(setting: Setting, axons: Axons, sent: Sent, moment: Instant) -> Int[Array, " spikes"]:
    """Number of synapses that each spike has reached at a moment."""
    size = min(_BLOCK, sent.source.size)
    if size == 0:
        return sent.reached
    columns = sent._replace(n_spikes=None)

    def one(k, found):
        first = jnp.minimum(k * size, sent.source.size - size)
        block = jax.tree.map(lambda x: lax.dynamic_slice(x, (first,), (size,)), columns)
        return lax.dynamic_update_slice(found, search(setting, axons, block, moment), (first,))

    return lax.fori_loop(0, -(-sent.n_spikes // size), one, sent.reached)


def search(setting: Setting, axons: Axons, sent: Sent, moment: Instant) -> Int[Array, " spikes"]:
    """Number of synapses that each spike has reached at a moment, by bisection."""
    first = axons.first[sent.source]

    def halved(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        arrival = sent.time.after(axons.delays[jnp.minimum(middle, axons.delays.size - 1)])
        later = (low >= high) | moment.before(arrival)
        return jnp.where(later, low, middle + 1), jnp.where(later & (low < high), middle, high)

    steps = math.ceil(math.log2(setting.most + 1)) + 1
    low, _ = lax.fori_loop(0, steps, halved, (first, first + degrees(axons, sent)))
    return jnp.maximum(low - first, sent.reached)


class Arrivals(NamedTuple):
    """Arrivals of a round, in the order of their delivery; entries after them are unused.

    - `rank`: number of earlier arrivals of the same neuron in the round.
    - `time`: from the start of the round.
    - `synapse`: index of the synapse in `Network.weights`.
    - `number`: number of the spike that arrives.
    - `n_arrivals`: their number, which may be larger than that of the entries.
    """

    rank: Int[Array, " arrivals+width"]
    target: Int[Array, " arrivals+width"]
    time: Float[Array, " arrivals+width"]
    synapse: Int[Array, " arrivals+width"]
    number: Int[Array, " arrivals+width"]
    n_arrivals: Int[Array, ""]


def arrivals_of(
    setting: Setting,
    network: Network,
    axons: Axons,
    sent: Sent,
    passed: Int[Array, " spikes"],
    round: tuple[Instant, Array],
    old: Arrivals,
) -> Arrivals:
    """List the arrivals of a round. `round` has its start and its length.

    `passed` is the number of synapses that each spike reached before the round. The list replaces
    the first entries of `old`.
    """
    assert setting.max_arrivals is not None
    since, length = round
    counts = reached(setting, axons, sent, since.after(length)) - passed
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    begins, total = ends - counts, ends[-1]
    firsts = axons.first[sent.source] + passed - begins
    constants = total, begins, firsts, sent

    def listed(size: int, old: tuple[Array, ...], constants: Any) -> tuple[Array, ...]:
        total, begins, firsts, sent = constants
        place = jnp.arange(size, dtype=jnp.int32)
        exists = place < total
        # Of the spikes that begin at the same place, the last one has arrivals.
        spike = jnp.cumsum(jnp.zeros(size, jnp.int32).at[begins].add(1, mode="drop")) - 1
        entry = jnp.where(exists, place + firsts[spike], 0)
        synapse = axons.synapses[entry]
        arrival = Instant(sent.time.high[spike], sent.time.low[spike]).after(axons.delays[entry])
        time = jnp.where(exists, jnp.minimum(since.until(arrival), length), jnp.inf)
        target = jnp.where(exists, network.fan.targets[synapse], setting.n)
        order = order_by_time(target, setting.n, time, length)
        target, time = target[order], time[order]
        new, here = jnp.diff(target, prepend=-1) != 0, jnp.arange(size, dtype=jnp.int32)
        rank = jnp.where(target < setting.n, here - lax.cummax(jnp.where(new, here, 0)), size)
        here = order_of(rank, size)
        rank, place = rank[here], order[here]
        columns = rank, target[here], time[here], synapse[place], sent.number[spike[place]]
        return replaced(old, columns)

    sizes = setting.max_arrivals, _RATIO, _LEAST
    columns = sized(total, sizes, listed, old[:-1], constants)
    rank, target, time, synapse, number = columns
    return Arrivals(rank, target, time, synapse, number, total)


def no_arrivals(setting: Setting, dtype: jnp.dtype) -> Arrivals:
    """Empty list of arrivals."""
    assert setting.max_arrivals is not None
    index = jnp.zeros(setting.max_arrivals + setting.width, jnp.int32)
    return Arrivals(index, index, index.astype(dtype), index, index, jnp.zeros((), jnp.int32))


def listed_places(setting: Setting, arrivals: Arrivals) -> tuple[Arrivals, Int[Array, ""]]:
    """Arrivals without those that have no entry, and number of places with those of all neurons."""
    assert setting.max_arrivals is not None
    many = jnp.minimum(arrivals.n_arrivals, setting.max_arrivals)
    return arrivals._replace(n_arrivals=many), many + setting.n


def sums_of_weights(
    setting: Setting, network: Network, arrivals: Arrivals
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Sums of the negative and of the positive weights that arrive at each neuron in a round."""
    here = jnp.arange(arrivals.target.size, dtype=jnp.int32) < arrivals.n_arrivals
    target = jnp.where(here, arrivals.target, setting.n)
    weights = network.weights[arrivals.synapse]
    zero = jnp.zeros(setting.n, weights.dtype)
    below = zero.at[target].add(jnp.minimum(weights, 0.0), mode="drop")
    return below, zero.at[target].add(jnp.maximum(weights, 0.0), mode="drop")


class Visit(NamedTuple):
    """Neurons that advance together, each to its own time, and the weights that arrive then.

    After the arrivals follow blocks of all neurons, which advance to the end of the round. Synapse
    and number of the spike are only those of lanes in `arrives`. `n_places` is the number of
    places in the list of arrivals and neurons.
    """

    row: Int[Array, " width"]
    valid: Bool[Array, " width"]
    arrives: Bool[Array, " width"]
    weights: Float[Array, " width"]
    time: Float[Array, " width"]
    synapse: Int[Array, " width"]
    number: Int[Array, " width"]
    n_places: Int[Array, ""]


def visit_at(
    setting: Setting, network: Network, arrivals: Arrivals, place: Array, length: Array
) -> Visit:
    """Visit that begins at a place of the list of arrivals and, after them, of all neurons."""
    width = setting.width
    columns = [lax.dynamic_slice(x, (place,), (width,)) for x in arrivals[:-1]]
    rank, target, time, synapse, number = columns
    lane = jnp.arange(width, dtype=jnp.int32)
    delivers = place < arrivals.n_arrivals
    arrives = delivers & (rank == rank[0]) & (place + lane < arrivals.n_arrivals)
    neuron = place - arrivals.n_arrivals + lane
    valid = jnp.where(delivers, arrives, neuron < setting.n)
    return Visit(
        row=jnp.where(valid, jnp.where(delivers, target, neuron), setting.n + lane),
        valid=valid,
        arrives=arrives,
        weights=jnp.where(arrives, network.weights[synapse], 0.0),
        time=jnp.where(arrives, time, length),
        synapse=synapse,
        number=number,
        n_places=jnp.where(delivers, jnp.sum(arrives, dtype=jnp.int32), width),
    )
