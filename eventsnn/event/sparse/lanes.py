"""Lanes: neurons that move from their last update to the same time, and their spikes on the way."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.instants import Instant
from ..lanes.compact import marked, pack
from ..lanes.firing import next_spike
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .records import Found
from .system import Network, Packing, parameters

#: Number of lanes whose spikes are computed together.
FIRING = 16


class Lanes(NamedTuple):
    """Lanes that move from their last update to the same time."""

    neuron: AbstractNeuron
    row: Int[Array, " lanes"]  # of the neurons; unused lanes have larger numbers
    start: State  # at the last update
    since: Float[Array, " lanes"]  # time of the last update
    dt: Float[Array, " lanes"]

    def of(self, packing: Packing, lane: Int[Array, " chosen"]) -> "Lanes":
        """Gather some of the lanes."""
        rows = packing.rows(self.start, self.since, self.dt)[lane]
        since, dt = rows[:, -2], rows[:, -1]
        neuron = parameters(self.neuron, lane)
        return Lanes(neuron, self.row[lane], packing.state(rows), since, dt)


def lanes_of(
    network: Network, packing: Packing, rows: Array, index: Int[Array, " lanes"], time: Array
) -> Lanes:
    """Lanes with these rows of the table, which move to `time`."""
    since = rows[:, packing.size]
    neuron = parameters(network.neuron, index)
    return Lanes(neuron, index, packing.state(rows), since, time - since)


def receive(neuron: AbstractNeuron, state: State, weights: Float[Array, " lanes"]) -> State:
    """State after an arrival."""
    return neuron.normalise(neuron.receive(state, weights))


def reset(neuron: AbstractNeuron, state: State) -> State:
    """State after a spike of every lane."""
    spiked = jnp.ones(jax.tree.leaves(state)[0].shape, bool)
    return neuron.normalise(neuron.reset(state, spiked))


def moved(network: Network, lanes: Lanes) -> tuple[State, Bool[Array, " lanes"]]:
    """State at the end of lanes that do not fire, and a mask of those that may."""
    flow = network.flow
    end = flow.advance(lanes.neuron, lanes.start, lanes.dt)
    return end, flow.may_cross(lanes.neuron, lanes.start, lanes.dt, end)


class _Firing(NamedTuple):
    """State of a group of lanes that fire."""

    lanes: Lanes
    time: Instant
    due: Bool[Array, " lanes"]
    active: Bool[Array, " lanes"]
    found: Found


def fire(
    network: Network,
    packing: Packing,
    lanes: Lanes,
    may: Bool[Array, " lanes"],
    ends: Float[Array, "lanes components"],
    found: Found,
    visit: Array,
    due: Bool[Array, " lanes"] | None = None,
) -> tuple[Float[Array, "lanes components"], Found]:
    """Find the spikes of the lanes in `may`, and correct the states `ends` of these lanes."""
    words = pack(may)
    many = jnp.sum(lax.population_count(words), dtype=jnp.int32)

    def body(carry):
        first, ends, found = carry
        lane, exists = marked(words, first, FIRING)
        lane = jnp.minimum(lane, may.size - 1)
        chosen = lanes.of(packing, lane)
        at_once = jnp.zeros_like(exists) if due is None else due[lane]
        firing = _Firing(chosen, Instant.at(chosen.since), at_once, exists, found)
        firing = lax.while_loop(
            lambda f: jnp.any(f.active), lambda f: _next_spikes(network, packing, f, visit), firing
        )
        values, at = packing.rows(firing.lanes.start), jnp.where(exists, lane, may.size)
        return first + FIRING, ends.at[at].set(values, mode="drop"), firing.found

    start = (jnp.zeros((), jnp.int32), ends, found)
    return lax.while_loop(lambda carry: carry[0] < many, body, start)[1:]


def _next_spikes(network: Network, packing: Packing, firing: _Firing, visit: Array) -> _Firing:
    """Compute the next spike of each active lane, or its state at the end."""
    lanes, active = firing.lanes, firing.active
    flow, scales = network.flow, network.gap_scale
    scale = scales[jnp.minimum(lanes.row, scales.size - 1)]
    new = next_spike(flow, lanes.neuron, scale, lanes.start, lanes.dt, firing.due)
    fires, again = active & new.fires, active & new.may
    when = firing.time.after(new.wait, new.remainder)

    def choose(now, then, old):
        return jnp.where(active, jnp.where(again, now, then), old)

    found = with_spikes(firing.found, fires, when, lanes.row, visit, packing.rows(new.before))
    start = jax.tree.map(choose, new.after, new.end, lanes.start)
    lanes = lanes._replace(start=start, dt=new.left)
    return _Firing(lanes, when, again & new.due, again, found)


def with_spikes(
    found: Found,
    fires: Bool[Array, " lanes"],
    time: Instant,
    source: Int[Array, " lanes"],
    visit: Array,
    before: Float[Array, "lanes components"],
) -> Found:
    """Append the spikes of the lanes that fire to those found."""
    place = found.n_spikes + jnp.cumsum(fires.astype(jnp.int32)) - 1
    place = jnp.where(fires, place, found.source.size)

    def put(table, values):
        values = jnp.broadcast_to(values, place.shape + table.shape[1:])
        return table.at[place].set(values, mode="drop", unique_indices=True)

    return Found(
        Instant(put(found.time.high, time.high), put(found.time.low, time.low)),
        put(found.source, source),
        put(found.visit, visit),
        None if found.before is None else put(found.before, before),
        found.n_spikes + jnp.sum(fires, dtype=jnp.int32),
    )
