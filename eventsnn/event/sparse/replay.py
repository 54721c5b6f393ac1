"""Second forward pass over a round: the states before each event, from the recorded spikes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..neurons.base import State
from .context import Context, bounds
from .lanes import Lanes, lanes_of, receive, reset
from .synaptic.arrivals import Arrivals, arrivals_of, listed_places, no_arrivals, visit_at
from .synaptic.sent import Oldest, joined
from .synaptic.transit import Lists, passed_before, sent_spikes
from .system import chunk_lanes, chunks_of, padded_rows, rows_of, with_rows


class Replay(NamedTuple):
    """State of the second forward pass over a round."""

    rows: Float[Array, "rows columns"]
    n_spikes: Int[Array, " n"]  # of each neuron so far
    starts: Float[Array, "chunks width columns"]  # rows of the lanes of each chunk before it
    n_chunks: Int[Array, ""]


def replayed(
    context: Context, number: Array, steps: tuple[Array, Array], left: Int[Array, " n"]
) -> Replay:
    """Compute the states of a round again.

    `steps` are its first step and the first one of the next round, and `left` is the number of
    spikes of each neuron until the end of the round.
    """
    setting, table = context.setting, context.trace.tables[number]
    shape = (setting.max_chunks + setting.n_blocks, setting.width, context.packing.size + 1)
    start = Replay(
        rows=padded_rows(table, setting),
        n_spikes=left - _fired_in(context, number),
        starts=jnp.zeros(shape, table.dtype),
        n_chunks=jnp.zeros((), jnp.int32),
    )
    return lax.fori_loop(*steps, lambda k, replay: _again(context, replay, k), start)


def _fired_in(context: Context, number: Array) -> Int[Array, " n"]:
    """Number of spikes of each neuron in a round."""
    n, size = context.setting.n, context.setting.capacity
    first, following = bounds(context, context.trace.first_spike, context.n_spikes, number)
    sources = lax.dynamic_slice(context.sources, (first,), (size,))
    sources = jnp.where(jnp.arange(size, dtype=jnp.int32) < following - first, sources, n)
    return jnp.zeros(n, jnp.int32).at[sources].add(1, mode="drop")


def _again(context: Context, replay: Replay, step: Array) -> Replay:
    """Compute the states after an event again, and keep those before it."""
    setting, network, packing = context.setting, context.network, context.packing
    assert context.trace.steps is not None
    source, time = context.trace.steps.source[step], context.trace.steps.time[step]

    def one(chunk, replay: Replay) -> Replay:
        index, _, weights = chunk_lanes(network, setting, chunk)
        old = rows_of(replay.rows, index)
        lanes = lanes_of(network, packing, old, index, time)
        visit = context.first_visit + replay.n_chunks
        count, after = _visited_again(context, replay.n_spikes, lanes, weights, visit)
        return Replay(
            rows=with_rows(replay.rows, index, packing.rows(after, time)),
            n_spikes=count,
            starts=lax.dynamic_update_index_in_dim(replay.starts, old, replay.n_chunks, 0),
            n_chunks=replay.n_chunks + 1,
        )

    return lax.fori_loop(*chunks_of(network, setting, source), one, replay)


def _visited_again(
    context: Context, count: Int[Array, " n"], lanes: Lanes, weights: Array, visit: Array
) -> tuple[Int[Array, " n"], State]:
    """Number of spikes of each neuron after a visit, and the states of its lanes."""
    count, last = _skip(context, count, lanes.row, visit)
    lanes = restarted(context, lanes, last)
    end = context.network.flow.advance(lanes.neuron, lanes.start, lanes.dt)
    return count, receive(lanes.neuron, end, weights)


class Together(NamedTuple):
    """Second forward pass over a round with synaptic delays.

    `starts` has the rows of all lanes before their visits, in the order of [`Visit`][], and
    `places` the first place of each visit.
    """

    arrivals: Arrivals
    starts: Float[Array, "places columns"]
    places: Int[Array, " visits"]
    n_visits: Int[Array, ""]


def no_round(context: Context) -> Together:
    """Empty tables of a round with synaptic delays."""
    setting, dtype = context.setting, context.trace.tables.dtype
    arrivals = no_arrivals(setting, dtype)
    size = arrivals.target.size + setting.n
    return Together(
        arrivals,
        jnp.zeros((size, context.packing.size + 1), dtype),
        jnp.zeros(setting.max_visits, jnp.int32),
        jnp.zeros((), jnp.int32),
    )


def _listed_again(context: Context, lists: Lists, number: Array, old: Arrivals) -> Arrivals:
    """Arrivals of a round, as in the forward pass."""
    setting, trace = context.setting, context.trace
    assert trace.spans is not None
    span = jax.tree.map(lambda x: x[number], trace.spans)
    recent = trace.first_spike[jnp.maximum(number - 1, 0)], trace.first_spike[number]
    oldest, until = Oldest(span.spike, span.input, recent[0]), span.start.after(span.length)
    sent = sent_spikes(setting, lists, context.run, recent[1], oldest, until)
    sent = joined(setting, *sent)
    passed = passed_before(setting, lists, sent, span.start, number == 0, recent)
    parts = setting, context.network, lists.axons, sent, passed
    return arrivals_of(*parts, (span.start, span.length), old)


def replayed_together(
    context: Context, lists: Lists, number: Array, left: Int[Array, " n"], old: Together
) -> Together:
    """Compute the states of a round with synaptic delays again. `left` is as in `replayed`.

    The result replaces the entries of `old`.
    """
    setting, network, packing = context.setting, context.network, context.packing
    table, spans = context.trace.tables[number], context.trace.spans
    assert spans is not None
    arrivals = _listed_again(context, lists, number, old.arrivals)
    length, (arrivals, places) = spans.length[number], listed_places(setting, arrivals)

    def one(carry):
        place, rows, count, found = carry
        visit = visit_at(setting, network, arrivals, place, length)
        before = rows_of(rows, visit.row)
        lanes = lanes_of(network, packing, before, visit.row, visit.time)
        k = context.first_visit + found.n_visits
        count, after = _visited_again(context, count, lanes, visit.weights, k)
        rows = with_rows(rows, visit.row, packing.rows(after, visit.time))
        found = found._replace(
            # The next visit overwrites the rows of unused lanes.
            starts=lax.dynamic_update_slice_in_dim(found.starts, before, place, 0),
            places=found.places.at[found.n_visits].set(place),
            n_visits=found.n_visits + 1,
        )
        return place + visit.n_places, rows, count, found

    zero = jnp.zeros((), jnp.int32)
    again = old._replace(arrivals=arrivals, n_visits=zero)
    start = (zero, padded_rows(table, setting), left - _fired_in(context, number), again)
    return lax.while_loop(lambda carry: carry[0] < places, one, start)[-1]


class Last(NamedTuple):
    """Last spike of each lane in a visit."""

    fired: Bool[Array, " lanes"]
    spike: Int[Array, " lanes"]


def _skip(
    context: Context, count: Int[Array, " n"], index: Int[Array, " lanes"], visit: Array
) -> tuple[Int[Array, " n"], Last]:
    """Count the spikes of the lanes in a visit, and return the last one of each lane.

    `count` is the number of spikes of each neuron before the visit, and the result after it.
    """
    n, trace, order = context.setting.n, context.trace, context.order
    inside = jnp.minimum(index, n - 1)
    none = Last(index < 0, jnp.zeros_like(index))

    def counted(count):
        first, end = order.first[inside], order.first[inside + 1]

        def following(own):
            spike = order.spikes[jnp.minimum(first + own, order.spikes.size - 1)]
            return (index < n) & (first + own < end) & (trace.visit[spike] == visit), spike

        def body(carry):
            own, last = carry
            here, spike = following(own)
            last = Last(last.fired | here, jnp.where(here, spike, last.spike))
            return own + here.astype(jnp.int32), last

        start = (count[inside], none)
        own, last = lax.while_loop(lambda c: jnp.any(following(c[0])[0]), body, start)
        return count.at[index].set(own, mode="drop"), last

    fires = context.fires[visit - context.first_visit]
    return lax.cond(fires, counted, lambda count: (count, none), count)


def last_start(
    context: Context, lanes: Lanes, left: Int[Array, " n"], visit: Array
) -> tuple[Lanes, Last]:
    """Lanes that start after their last spikes in a visit, the last ones that are left."""
    index, n, order = lanes.row, context.setting.n, context.order
    inside = jnp.minimum(index, n - 1)

    def found():
        own = left[inside]
        spike = order.spikes[jnp.maximum(order.first[inside] + own - 1, 0)]
        return Last((index < n) & (own > 0) & (context.trace.visit[spike] == visit), spike)

    none = Last(index < 0, jnp.zeros_like(index))
    last = lax.cond(context.fires[visit - context.first_visit], found, lambda: none)
    return restarted(context, lanes, last), last


def restarted(context: Context, lanes: Lanes, last: Last) -> Lanes:
    """Lanes that start after their last spikes, if they have fired."""
    trace, end = context.trace, lanes.since + lanes.dt

    def later(lanes: Lanes) -> Lanes:
        after = reset(lanes.neuron, context.packing.state(trace.before[last.spike]))
        start = jax.tree.map(lambda x, y: jnp.where(last.fired, x, y), after, lanes.start)
        since = jnp.where(last.fired, trace.offset[last.spike], lanes.since)
        return lanes._replace(start=start, since=since, dt=end - since)

    return lax.cond(jnp.any(last.fired), later, lambda lanes: lanes, lanes)
