"""A round: arrivals, delivered in order, and the spikes that are found on the way."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.instants import Instant
from .lanes import Lanes, all_lanes, fire, lanes_of, moved, receive
from .predictions import Predictions, fire_as_predicted, predicted
from .records import Found, Pending, Steps, write
from .system import (
    Network,
    Packing,
    Setting,
    chunk_lanes,
    chunks_of,
    padded_rows,
    rows_of,
    with_rows,
)
from .transit import entry

#: Kinds of events.
PENDING, INPUT, FOUND, PREDICTED = range(4)
#: Number of a predicted spike, which is not known before it is found.
UNKNOWN = 2**30
#: Neurons whose predicted spikes are within this fraction of a round may tie with an event.
_NEAR = 2.0**-10


class Context(NamedTuple):
    """Constants of the simulation."""

    setting: Setting
    network: Network
    packing: Packing
    arrivals: Pending  # of the input spikes
    window: Float[Array, ""]  # longest round


class Transit(NamedTuple):
    """State at the start of a round: its time, spikes in transit and number of earlier spikes."""

    time: Instant
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
    due: Bool[Array, " n"]  # neurons that are above their thresholds after their last spikes
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


def no_deliveries(
    context: Context,
    rows: Array,
    due: Array,
    length: Array,
    n_inputs: Array,
    counts: tuple[Array, Array],
    steps: Steps | None,
) -> Deliveries:
    """State at the start of a round of this length; `counts` are those of steps and visits."""
    setting, zero = context.setting, jnp.zeros((), jnp.int32)
    size, dtype = setting.capacity, rows.dtype
    found = Found(
        Instant.at(jnp.full(size, jnp.inf, dtype)),
        jnp.full(size, setting.n_sources, jnp.int32),
        jnp.zeros(size, jnp.int32),
        jnp.zeros((size, context.packing.size), dtype) if setting.keep else None,
        zero,
    )
    step, visit = counts
    return Deliveries(
        n_pending=zero,
        n_inputs=n_inputs,
        n_found=zero,
        n_chunks=zero,
        length=length,
        clock=jnp.zeros((), dtype),
        rows=rows,
        found=found,
        due=due,
        predictions=None,
        step=step,
        visit=visit,
        steps=steps,
    )


def delivered(context: Context, transit: Transit, d: Deliveries) -> tuple[Deliveries, Array]:
    """Deliver the arrivals of a round, and advance all neurons to its end.

    Also returns the length of the round. A round with too many arrivals ends at the first one that
    is left.
    """
    setting = context.setting

    def more(carry):
        d, event = carry
        go = (event.time <= d.length) & (d.n_chunks + _cost(context, event) <= setting.max_chunks)
        if setting.predicts:
            go = go & (2 * d.found.n_spikes <= setting.capacity)
            go = go & (transit.n_events + d.found.n_spikes <= setting.max_events)
        return go

    def body(carry):
        d = _processed(context, *carry)
        return d, _following(context, transit, d)

    if setting.predicts:
        d = d._replace(predictions=_predictions_of_all(context, d))
    d, event = lax.while_loop(more, body, (d, _following(context, transit, d)))
    length = jnp.minimum(d.length, event.time)
    lanes = all_lanes(context.network, setting, context.packing, d.rows, length)
    ends, found, due = _moved(context, d, lanes, length, d.visit)
    return d._replace(rows=padded_rows(ends, setting), found=found, due=due), length


def _following(context: Context, transit: Transit, d: Deliveries) -> Event:
    """Next event. A crossing comes before an arrival at the same time."""

    def kind(number: int) -> Array:
        return jnp.asarray(number, jnp.int32)

    event = Event(kind(PENDING), *entry(transit.pending, d.n_pending, transit.time))
    external = Event(kind(INPUT), *entry(context.arrivals, d.n_inputs, transit.time))
    event = _choose(external.time < event.time, external, event)
    if d.predictions is None:
        return event
    time, neuron = d.predictions.earliest()
    fires = Event(kind(PREDICTED), time, context.setting.n_sources + 1 + neuron, kind(UNKNOWN))
    event = _choose(time <= event.time, fires, event)
    place = jnp.minimum(d.n_found, context.setting.capacity - 1)
    time = jnp.maximum(d.found.time.high[place], d.clock)
    own = Event(kind(FOUND), time, d.found.source[place], transit.n_events + d.n_found)
    return _choose(d.n_found < d.found.n_spikes, own, event)


def _choose(condition: Array, a: Event, b: Event) -> Event:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _cost(context: Context, event: Event) -> Int[Array, ""]:
    """Number of chunks of an event."""
    first, end = chunks_of(context.network, context.setting, event.source)
    return end - first


def _processed(context: Context, d: Deliveries, event: Event) -> Deliveries:
    """Visit the lanes of an event: the targets of a spike, or a neuron that fires as predicted."""
    kind, steps = event.kind, Steps(event.source, event.time, event.number)
    first, end = chunks_of(context.network, context.setting, event.source)
    visits = (kind != FOUND) | (context.network.delays[event.source] <= 0)  # others come later
    end = jnp.where(visits, end, first)

    def one(chunk, d: Deliveries) -> Deliveries:
        return _visit(context, d, chunk, event.time, d.visit + chunk - first)

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


def _visit(context: Context, d: Deliveries, chunk: Array, time: Array, visit: Array) -> Deliveries:
    """Advance the neurons of a chunk to the time of an event, and add the weights."""
    setting, network, packing = context.setting, context.network, context.packing
    index, valid, weights = chunk_lanes(network, setting, chunk)
    lanes = lanes_of(network, packing, rows_of(d.rows, index), index, time)
    ends, found, due = _moved(context, d, lanes, time, visit)
    after = receive(lanes.neuron, packing.state(ends), weights)
    longest = jnp.asarray(network.flow.longest(lanes.neuron, after), time.dtype)
    longest = jnp.where(valid, longest, jnp.inf)
    predictions = d.predictions
    if predictions is not None:
        since, left = jnp.full_like(lanes.since, time), jnp.minimum(d.length - time, longest)
        following = lanes._replace(start=after, since=since, dt=left)
        predictions = predicted(network, packing, predictions, following, due)
    return d._replace(
        rows=with_rows(d.rows, index, packing.rows(after, time)),
        found=found,
        predictions=predictions,
        length=jnp.minimum(d.length, time + jnp.min(longest)),
    )


def _moved(
    context: Context, d: Deliveries, lanes: Lanes, time: Array, visit: Array
) -> tuple[Float[Array, "lanes components"], Found, Bool[Array, " lanes"]]:
    """Advance lanes to a time, with the spikes that they fire.

    Also returns a mask of those that fire again at once.
    """
    network, packing, found = context.network, context.packing, d.found
    if d.predictions is None:
        end, may = moved(network, lanes)
        may = may & (lanes.row < context.setting.n)
        none = jnp.zeros_like(may)
        return *fire(network, packing, lanes, may, packing.rows(end), found, visit), none
    ends = packing.rows(network.flow.advance(lanes.neuron, lanes.start, lanes.dt))
    near = _NEAR * d.length
    return fire_as_predicted(network, packing, d.predictions, lanes, time, near, ends, found, visit)


def _predictions_of_all(context: Context, d: Deliveries) -> Predictions:
    """Predict the spikes of all neurons until the end of the round."""
    network, setting, packing = context.network, context.setting, context.packing
    lanes = all_lanes(network, setting, packing, d.rows, d.length)
    return predicted(network, packing, Predictions.none(setting, d.rows.dtype), lanes, d.due)
