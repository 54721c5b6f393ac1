"""A round: its events in order, and the spikes that are found on the way.

An event visits neurons: the arrival of a spike visits its targets, a predicted spike the neuron
that fires, and the end of the round all neurons. A visit advances them to the time of the event.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.instants import Instant
from ..engine.segments import triggered
from ..neurons.base import State
from .lanes import Lanes, fire, lanes_of, moved, receive
from .predictions import Predictions, fire_as_predicted, predicted
from .records import Found, Pending, Steps, write
from .synaptic.transit import Lists
from .system import (
    UNKNOWN,
    Network,
    Packing,
    Setting,
    chunk_lanes,
    chunks_of,
    rows_of,
    with_rows,
)
from .transit import entry

#: Kinds of events.
PENDING, INPUT, FOUND, PREDICTED, END = range(5)
#: Neurons whose predicted spikes are within this fraction of a round may tie with an event.
_NEAR = 2.0**-10


class Context(NamedTuple):
    """Constants of the simulation."""

    setting: Setting
    network: Network
    packing: Packing
    inputs: Pending | Lists  # arrivals of the input spikes; lists with synaptic delays
    window: Float[Array, ""]  # longest round
    due: Bool[Array, " n"]  # neurons that fire at time 0


class Transit(NamedTuple):
    """State at the start of a round: times, spikes in transit, and number of earlier spikes."""

    time: Instant
    left: Float[Array, ""]  # until the end of the simulation
    pending: Pending
    n_events: Int[Array, ""]


class Deliveries(NamedTuple):
    """State within a round."""

    n_pending: Int[Array, ""]  # number of pending arrivals that were delivered
    n_inputs: Int[Array, ""]
    n_found: Int[Array, ""]  # number of found spikes that were delivered or have a delay
    n_chunks: Int[Array, ""]
    length: Float[Array, ""]  # of the round; arrivals may shorten it
    clock: Float[Array, ""]  # time of the last event
    rows: Float[Array, "rows columns"]
    found: Found
    due: Bool[Array, " rows"]  # neurons that fire at once: at time 0, or carried by an arrival
    predictions: Predictions | None
    step: Int[Array, ""]
    visit: Int[Array, ""]
    steps: Steps | None


class Event(NamedTuple):
    """Next event of a round; the source of a predicted spike is that of [`chunks_of`][]."""

    kind: Int[Array, ""]
    time: Float[Array, ""]
    source: Int[Array, ""]
    number: Int[Array, ""]


def started(
    context: Context,
    rows: Array,
    predictions: Predictions | None,
    length: Array,
    counts: tuple[Array, Array, Array],
    steps: Steps | None,
) -> Deliveries:
    """State at the start of a round. `counts` are those of input spikes, steps and visits."""
    setting, zero = context.setting, jnp.zeros((), jnp.int32)
    size, dtype = setting.capacity, rows.dtype
    found = Found(
        Instant.at(jnp.full(size, jnp.inf, dtype)),
        jnp.full(size, setting.n_sources, jnp.int32),
        jnp.zeros(size, jnp.int32),
        jnp.zeros((size, context.packing.size), dtype) if setting.keep else None,
        zero,
    )
    n_inputs, step, visit = counts
    return Deliveries(
        n_pending=zero,
        n_inputs=n_inputs,
        n_found=zero,
        n_chunks=zero,
        length=length,
        clock=jnp.zeros((), dtype),
        rows=rows,
        found=found,
        due=jnp.zeros(len(rows), bool),
        predictions=predictions,
        step=step,
        visit=visit,
        steps=steps,
    )


def delivered(context: Context, transit: Transit, d: Deliveries) -> Deliveries:
    """Process the events of a round; `clock` is its length.

    A round with too many arrivals ends at the first one that is left.
    """

    def body(carry):
        d, event, _ = carry
        d = _processed(context, transit, d, event)
        return d, _following(context, transit, d), event.kind == END

    start = (d, _following(context, transit, d), jnp.zeros((), bool))
    return lax.while_loop(lambda carry: ~carry[2], body, start)[0]


def _following(context: Context, transit: Transit, d: Deliveries) -> Event:
    """Next event, which may be the end of the round."""
    setting, event = context.setting, _next_spike(context, transit, d)
    first, end = chunks_of(context.network, setting, event.source)
    go = (event.time <= d.length) & (d.n_chunks + end - first <= setting.max_chunks)
    if setting.predicts:
        go = go & (2 * d.found.n_spikes <= setting.capacity)
        go = go & (transit.n_events + d.found.n_spikes <= setting.max_events)
    time = jnp.minimum(d.length, event.time)
    return _choose(go, event, _event(END, time, setting.n_sources))


def _next_spike(context: Context, transit: Transit, d: Deliveries) -> Event:
    """Next arrival or predicted spike. Crossings come before arrivals at the same time."""
    event = _event(PENDING, *entry(transit.pending, d.n_pending, transit.time))
    assert isinstance(context.inputs, Pending)
    external = _event(INPUT, *entry(context.inputs, d.n_inputs, transit.time))
    event = _choose(external.time < event.time, external, event)
    if d.predictions is None:
        return event
    crossing, neuron = d.predictions.earliest()
    fires = _event(PREDICTED, crossing, context.setting.n_sources + 1 + neuron)
    event = _choose(crossing <= event.time, fires, event)
    place = jnp.minimum(d.n_found, context.setting.capacity - 1)
    time = jnp.maximum(d.found.time.high[place], d.clock)
    own = _event(FOUND, time, d.found.source[place], transit.n_events + d.n_found)
    return _choose((d.n_found < d.found.n_spikes) & (time < crossing), own, event)


def _event(kind: int, time: Array, source: Array | int, number: Array | int = UNKNOWN) -> Event:
    integers = (jnp.asarray(x, jnp.int32) for x in (kind, source, number))
    kinds, sources, numbers = integers
    return Event(kinds, time, sources, numbers)


def _choose(condition: Array, a: Event, b: Event) -> Event:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _processed(context: Context, transit: Transit, d: Deliveries, event: Event) -> Deliveries:
    """Visit the neurons of an event."""
    kind, steps = event.kind, Steps(event.source, event.time, event.number)
    first, end = chunks_of(context.network, context.setting, event.source)
    visits = (kind != FOUND) | (context.network.delays[event.source] <= 0)  # others come later
    end = jnp.where(visits, end, first)

    def one(chunk, d: Deliveries) -> Deliveries:
        return _visit(context, transit, d, chunk, event, d.visit + chunk - first)

    steps = write(d.steps, steps, d.step)
    d = lax.fori_loop(first, end, one, d)
    return d._replace(
        n_pending=d.n_pending + (kind == PENDING).astype(jnp.int32),
        n_inputs=d.n_inputs + (kind == INPUT).astype(jnp.int32),
        n_found=d.n_found + (kind == FOUND).astype(jnp.int32),
        n_chunks=d.n_chunks + end - first,
        clock=event.time,
        step=d.step + visits.astype(jnp.int32),
        visit=d.visit + end - first,
        steps=steps,
    )


def _visit(
    context: Context, transit: Transit, d: Deliveries, chunk: Array, event: Event, visit: Array
) -> Deliveries:
    """Advance the neurons of a chunk to the time of an event, and add the weights.

    At the end of the round, times are from the start of the next one.
    """
    network, packing, time = context.network, context.packing, event.time
    index, valid, weights = chunk_lanes(network, context.setting, chunk)
    lanes = lanes_of(network, packing, rows_of(d.rows, index), index, time)
    ends, found, due = moved_and_fired(context, d, lanes, time, visit)
    before = packing.state(ends)
    after = receive(lanes.neuron, before, weights)
    due = due | carried(network, lanes, before, after)
    longest = jnp.asarray(network.flow.longest(lanes.neuron, after), time.dtype)
    longest = jnp.where(valid, longest, jnp.inf)
    since, left = time, d.length - time
    ends_here = event.kind == END
    since = jnp.where(ends_here, 0.0, since)
    predictions = d.predictions
    if predictions is not None:
        # The next round is at most as long; a rounding error of the time left may be missing.
        rest = (1 + 4 * jnp.finfo(time.dtype).eps) * (transit.left - time)
        left = jnp.where(ends_here, jnp.minimum(context.window, rest), left)
        left = jnp.minimum(jnp.maximum(left, 0.0), longest)
        following = lanes._replace(start=after, since=jnp.full_like(left, since), dt=left)
        predictions = predicted(network, packing, predictions, following, due)
    return d._replace(
        rows=with_rows(d.rows, index, packing.rows(after, since)),
        found=found,
        due=with_due(network, d.due, index, due),
        predictions=predictions,
        length=jnp.minimum(d.length, time + jnp.min(longest)),
    )


def carried(network: Network, lanes: Lanes, before: State, after: State) -> Bool[Array, " lanes"]:
    """Mask of the lanes at their thresholds that an arrival makes cross, with a finite speed.

    Models whose gap an arrival changes are simulated by the event loop.
    """
    if network.flow.starts_at_threshold:
        return jnp.zeros(lanes.row.shape, bool)
    return triggered(network.flow, lanes.neuron, before, after).fires()


def with_due(
    network: Network, table: Bool[Array, " rows"], index: Array, due: Bool[Array, " lanes"]
) -> Bool[Array, " rows"]:
    """Return the table of neurons that fire at once after a visit of these lanes."""
    if network.flow.starts_at_threshold:
        return table
    return table.at[index].set(due, mode="promise_in_bounds", unique_indices=True)


def moved_and_fired(
    context: Context, d: Deliveries, lanes: Lanes, time: Array, visit: Array
) -> tuple[Float[Array, "lanes components"], Found, Bool[Array, " lanes"]]:
    """Advance lanes to a time, with the spikes that they fire.

    Also returns a mask of those that fire again at once.
    """
    network, packing = context.network, context.packing
    # A neuron that has fired is below its threshold.
    due = d.due[lanes.row] & (lanes.neuron.threshold_gap(lanes.start) <= 0)
    if d.predictions is None:
        end, may = moved(network, lanes)
        may = (may | due) & (lanes.row < context.setting.n)
        ends = packing.rows(end)
        return *fire(network, packing, lanes, may, ends, d.found, visit, due), jnp.zeros_like(due)
    ends = packing.rows(network.flow.advance(lanes.neuron, lanes.start, lanes.dt))
    near = _NEAR * d.length
    parts = d.predictions, lanes, time, near, ends, d.found, visit, due
    return fire_as_predicted(network, packing, *parts)
