r"""The backward pass of a sparse network: exact gradients of its spike times, by EventProp.

The steps of the forward pass are visited in reverse order. Only the targets of a spike have to be
updated when it arrives: each neuron has its own cotangent $\lambda$ of the state after its last
update. Between two events it follows the flow for a time $h$, $x(h) = \phi(x, h)$. The cotangent
of $h$ is $H = \langle \lambda(h), \partial_h \phi \rangle$. For an exact flow with the vector
field $f$ it is $\langle \lambda, f \rangle$ anywhere between the two events. An event maps the
state $x^-$ of a neuron to $x^+ = J(x^-)$, with $\lambda^- = J^T \lambda^+$. The cotangent of its
time is $D = H^- - H^+$, where $H^-$ and $H^+$ belong to the flow before and after it.

The time of an arrival receives $D$, summed over the targets, and with it the delay and the time of
the spike that arrives. The time of a spike is the zero of the gap $\gamma$ to the threshold. With
$g$, the cotangent of the spike time from the loss and from the arrivals of the spike,
$\lambda^- \mathrel{+}= (g + D) / (-\nabla \gamma \cdot \partial_h \phi)\, \nabla \gamma$.

The states of a round are computed again from its start, by the recorded spikes.
"""

import functools as ft
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..engine.system import bounded_speed
from ..lanes.compact import marked, pack
from ..neurons.base import State
from .context import Context, Learnt, bounds, of_round, order_of
from .lanes import FIRING, Lanes, lanes_of, receive, reset
from .records import Run
from .replay import (
    Last,
    Together,
    last_start,
    no_round,
    replayed,
    replayed_together,
    restarted,
)
from .synaptic.arrivals import visit_at
from .synaptic.transit import Lists, lists_of
from .system import (
    UNKNOWN,
    Inputs,
    Network,
    Setting,
    chunk_lanes,
    chunks_of,
    first_synapse,
    initial_rows,
    rows_of,
    with_rows,
)


class Cotangents(NamedTuple):
    """Cotangents of all arrays of floats."""

    weights: Float[Array, " synapses+width"]
    delays: Float[Array, " delays"]
    learnt: PyTree[Float[Array, " n"]]
    inputs: Float[Array, " inputs"]


class _Sweep(NamedTuple):
    """Carry of the backward pass."""

    round: Int[Array, ""]
    # Cotangents of the state of each neuron, and of the time of its flow until its next event.
    rows: Float[Array, "rows columns"]
    left: Int[Array, " n"]  # number of spikes of each neuron that are not yet transposed
    times: Float[Array, " numbers"]  # cotangent of the time of each spike, input spikes last
    weights: Float[Array, " synapses+width"]
    delays: Float[Array, " delays"]
    learnt: Float[Array, "rows learnt"]
    together: Together | None  # of the round transposed last, with synaptic delays


def transpose(
    setting: Setting,
    network: Network,
    learnt: Learnt,
    min_speed: float,
    inputs: Inputs,
    run: Run,
    d_times: Float[Array, " events"],
) -> Cotangents:
    """Return the cotangents of one sample, given those of the spike times."""
    trace, n = run.trace, setting.n
    assert trace is not None
    packing, rows = initial_rows(network, setting, inputs.start)
    numbers = jnp.arange(trace.visit.size, dtype=jnp.int32)
    # A sample that failed with `max_events` may have found more spikes, which are not returned.
    exists = (trace.visit >= 0) & (numbers < setting.max_events)
    order = order_of(setting, jnp.where(exists, run.sources, setting.n_sources))
    context = Context(
        setting=setting,
        network=network,
        packing=packing,
        learnt=learnt,
        min_speed=min_speed,
        trace=trace,
        times=run.times,
        sources=run.sources,
        order=order,
        n_rounds=run.rounds,
        n_steps=run.steps,
        n_spikes=jnp.sum(exists, dtype=jnp.int32),
        first_visit=jnp.zeros((), jnp.int32),
        run=run,
        lists=None if setting.max_arrivals is None else lists_of(setting, network, inputs),
        fires=jnp.zeros(setting.max_visits, bool),
    )
    of_spikes = jnp.where(exists, d_times, 0.0)[: setting.max_events]
    kinds = len(jax.tree.leaves(learnt.values))
    sweep = _Sweep(
        round=run.rounds - 1,
        rows=jnp.zeros_like(rows),
        left=order.first[1:] - order.first[:-1],
        times=jnp.concatenate([of_spikes, jnp.zeros_like(inputs.times)]),
        weights=jnp.zeros_like(network.weights),
        delays=jnp.zeros_like(network.delays),
        learnt=jnp.zeros((len(rows), kinds), rows.dtype),
        together=None if setting.max_arrivals is None else no_round(context),
    )
    sweep = lax.while_loop(lambda s: s.round >= 0, lambda s: _round(context, s), sweep)

    def initial(values: PyTree) -> State:
        neuron = learnt.neuron(values)
        return neuron.normalise(neuron.init_state(n))

    _, start_t = jax.vjp(initial, learnt.values)
    (first,) = start_t(packing.state(sweep.rows[:n]))
    if inputs.start is not None:  # a constant
        first = jax.tree.map(jnp.zeros_like, first)
    values, tree = jax.tree.flatten(first)
    values = [x + sweep.learnt[:n, k] for k, x in enumerate(values)]
    d_inputs = sweep.times[setting.max_events :]
    return Cotangents(sweep.weights, sweep.delays, jax.tree.unflatten(tree, values), d_inputs)


def _round(context: Context, sweep: _Sweep) -> _Sweep:
    """Transpose a round."""
    number, trace = sweep.round, context.trace
    context = of_round(context, number)
    if context.lists is not None:
        return _round_of_synapses(context, context.lists, sweep)
    first, following = bounds(context, trace.first_step, context.n_steps, number)
    replay = replayed(context, number, (first, following), sweep.left)

    def step(carry):
        k, n_chunks, sweep = carry
        n_chunks, sweep = _transpose_event(context, sweep, replay.starts, n_chunks, k)
        return k - 1, n_chunks, sweep

    start = (following - 1, replay.n_chunks, sweep)
    *_, sweep = lax.while_loop(lambda carry: carry[0] >= first, step, start)
    return sweep._replace(round=number - 1)


def _transpose_event(
    context: Context, sweep: _Sweep, starts: Array, n_chunks: Array, step: Array
) -> tuple[Int[Array, ""], _Sweep]:
    """Transpose the visits of an event.

    `n_chunks` is the number of chunks of the round that are not yet transposed, also in the result.
    """
    steps = context.trace.steps
    assert steps is not None
    source, number = steps.source[step], steps.number[step]
    first, end = chunks_of(context.network, context.setting, source)

    # A neuron that fires as predicted is visited at the time of its spike.
    moves = source > context.setting.n_sources

    def one(carry):
        chunk, n_chunks, d_time, sweep = carry
        start = lax.dynamic_index_in_dim(starts, n_chunks - 1, 0, False)
        visit = context.first_visit + n_chunks - 1
        index, valid, weights = chunk_lanes(context.network, context.setting, chunk)
        lanes = lanes_of(context.network, context.packing, start, index, steps.time[step])
        parts = lanes, valid, weights, visit, moves
        d_chunk, d_weights, sweep = _transpose_visit(context, sweep, *parts)
        place = (first_synapse(context.network, context.setting, chunk),)
        old = lax.dynamic_slice(sweep.weights, place, (context.setting.width,))
        new = lax.dynamic_update_slice(sweep.weights, old + d_weights, place)
        sweep, d_chunk = sweep._replace(weights=new), jnp.sum(d_chunk)
        return chunk - 1, n_chunks - 1, d_time + d_chunk, sweep

    carry = (end - 1, n_chunks, jnp.zeros((), starts.dtype), sweep)
    _, n_chunks, d_time, sweep = lax.while_loop(lambda carry: carry[0] >= first, one, carry)
    # Spikes in transit at time 0 have no number and a prescribed arrival.
    source = jnp.where(number < UNKNOWN, source, sweep.delays.size)
    times, delays = sweep.times.at[number].add(d_time), sweep.delays.at[source].add(d_time)
    return n_chunks, sweep._replace(times=times, delays=delays)


def _round_of_synapses(context: Context, lists: Lists, sweep: _Sweep) -> _Sweep:
    """Transpose a round with synaptic delays."""
    setting, network, trace, number = context.setting, context.network, context.trace, sweep.round
    assert sweep.together is not None and trace.spans is not None
    replay = replayed_together(context, lists, number, sweep.left, sweep.together)
    arrivals = replay.arrivals
    length, size = trace.spans.length[number], network.weights.size
    many = sweep.times.size

    def one(carry):
        k, sweep = carry
        place = replay.places[k]
        visit = visit_at(setting, network, arrivals, place, length)
        start = lax.dynamic_slice_in_dim(replay.starts, place, setting.width)
        lanes = lanes_of(network, context.packing, start, visit.row, visit.time)
        parts = lanes, visit.valid, visit.weights, context.first_visit + k, False
        d_times, d_weights, sweep = _transpose_visit(context, sweep, *parts)
        synapse = jnp.where(visit.arrives, visit.synapse, size)
        spike = jnp.where(visit.arrives, visit.number, many)
        return k - 1, sweep._replace(
            weights=sweep.weights.at[synapse].add(d_weights, mode="drop"),
            times=sweep.times.at[spike].add(d_times, mode="drop"),
            delays=sweep.delays.at[synapse].add(d_times, mode="drop"),
        )

    _, sweep = lax.while_loop(lambda carry: carry[0] >= 0, one, (replay.n_visits - 1, sweep))
    return sweep._replace(round=number - 1, together=replay)


def _transpose_visit(
    context: Context,
    sweep: _Sweep,
    lanes: Lanes,
    valid: Bool[Array, " width"],
    weights: Float[Array, " width"],
    visit: Array,
    moves: Array | bool,
) -> tuple[Float[Array, " width"], Float[Array, " width"], _Sweep]:
    """Transpose a visit; also returns the cotangents of the times of arrival and of the weights.

    `moves` is true of a visit at the time of the neuron's own spike. It moves with the spike.
    """
    packing, index = context.packing, lanes.row
    moved, last = last_start(context, lanes, sweep.left, visit)
    flow, neuron = context.network.flow, moved.neuron
    end = flow.advance(neuron, moved.start, moved.dt)
    learnt, own = context.learnt.of(index), rows_of(sweep.rows, index)

    def arrive(values, state, weights):
        return receive(learnt.neuron(values), state, weights)

    _, arrive_t = jax.vjp(arrive, learnt.values, end, weights)
    d_values, d_end, d_weights = arrive_t(packing.state(own))
    later = own[:, packing.size]
    d_moved = _inner(d_end, flow.velocity(neuron, moved.start, moved.dt, end))
    d_time = jnp.where(moves, 0.0, d_moved - later)
    d_moved = jnp.where(moves, later, d_moved)
    sweep = sweep._replace(learnt=_added(sweep.learnt, index, d_values))
    parts = lanes, (moved, last), packing.rows(d_end, d_moved)
    sweep = _transpose_flow(context, sweep, visit, *parts)
    return jnp.where(valid, d_time, 0.0), jnp.where(valid, d_weights, 0.0), sweep


def _transpose_flow(
    context: Context,
    sweep: _Sweep,
    visit: Array,
    lanes: Lanes,
    moved: tuple[Lanes, Last],
    d_end: Float[Array, "lanes columns"],
) -> _Sweep:
    """Transpose the motion of lanes from their last update to a visit, with their spikes.

    `d_end` has the cotangents of the states at its end and of the time of the flow before it, and
    `moved` the lanes that start after their last spikes.
    """
    packing = context.packing
    after, last = moved
    d_start, d_values = _flow_back(context, after, packing.state(d_end))
    rows = packing.rows(d_start, d_end[:, packing.size])
    rows = with_rows(sweep.rows, lanes.row, rows)
    sweep = sweep._replace(rows=rows, learnt=_added(sweep.learnt, lanes.row, d_values))
    words = pack(last.fired)
    many = jnp.sum(lax.population_count(words), dtype=jnp.int32)

    def body(carry):
        done, sweep = carry
        lane, exists = marked(words, done, FIRING)
        chosen = lanes.of(packing, jnp.minimum(lane, last.fired.size - 1))
        n = context.setting.n
        chosen = chosen._replace(
            row=jnp.where(exists, chosen.row, n + jnp.arange(FIRING, dtype=jnp.int32))
        )
        return done + FIRING, _transpose_spikes(context, sweep, visit, chosen)

    start = (jnp.zeros((), jnp.int32), sweep)
    return lax.while_loop(lambda carry: carry[0] < many, body, start)[1]


class _Piece(NamedTuple):
    """State of a group of lanes: the piece before a spike, from the last one to the first."""

    rows: Float[Array, "lanes columns"]  # cotangents after the spike, as in `_Sweep`
    left: Int[Array, " lanes"]  # number of spikes of the neuron, with this one
    learnt: PyTree[Float[Array, " lanes"]]


def _transpose_spikes(context: Context, sweep: _Sweep, visit: Array, lanes: Lanes) -> _Sweep:
    """Transpose the spikes of lanes in a visit, and the flow before them."""
    n, trace, order = context.setting.n, context.trace, context.order
    inside, valid = jnp.minimum(lanes.row, n - 1), lanes.row < n
    learnt, scale = context.learnt.of(lanes.row), context.network.gap_scale[inside]
    first, packing = order.first[inside], context.packing

    def spike_of(left: Array) -> tuple[Array, Array]:
        """Last spike of each lane, and whether it is in the visit."""
        spike = order.spikes[jnp.maximum(first + left - 1, 0)]
        return spike, valid & (left > 0) & (trace.visit[spike] == visit)

    def one(piece: _Piece) -> _Piece:
        spike, active = spike_of(piece.left)
        before = packing.state(trace.before[spike])
        d_before, d_jump = _transposed_reset(learnt, before, packing.state(piece.rows))
        neuron, flow = learnt.neuron(learnt.values), context.network.flow
        previous, same = spike_of(piece.left - 1)
        moved = restarted(context, lanes, Last(same, previous))
        moved = moved._replace(dt=trace.offset[spike] - moved.since)
        velocity = flow.velocity(neuron, moved.start, moved.dt, before)
        d_moved = _inner(d_before, velocity)
        d_event = sweep.times[spike] + d_moved - piece.rows[:, packing.size]
        _, speed = bounded_speed(neuron, before, velocity, scale, context.min_speed)
        # A neuron at or above its threshold at time 0 fires there, whatever its state.
        divides = active & (d_event != 0) & (context.times[spike] > 0) & (speed > 0)
        d_gap = jnp.where(divides, d_event / jnp.where(divides, speed, 1.0), 0.0)
        _, gap_t = jax.vjp(lambda p, x: learnt.neuron(p).threshold_gap(x), learnt.values, before)
        d_cross, d_crossed = gap_t(d_gap)
        d_moved = d_moved + _inner(d_crossed, velocity)
        d_start, d_flow = _flow_back(context, moved, jax.tree.map(jnp.add, d_before, d_crossed))

        def add(x, *parts):
            return x + jnp.where(active, sum(parts), 0.0)

        return _Piece(
            rows=jnp.where(active[:, None], packing.rows(d_start, d_moved), piece.rows),
            left=piece.left - active.astype(jnp.int32),
            learnt=jax.tree.map(add, piece.learnt, d_jump, d_cross, d_flow),
        )

    zero = jax.tree.map(jnp.zeros_like, learnt.values)
    piece = _Piece(rows_of(sweep.rows, lanes.row), sweep.left[inside], zero)
    piece = lax.while_loop(lambda p: jnp.any(spike_of(p.left)[1]), one, piece)
    return sweep._replace(
        rows=with_rows(sweep.rows, lanes.row, piece.rows),
        left=sweep.left.at[lanes.row].set(piece.left, mode="drop"),
        learnt=_added(sweep.learnt, lanes.row, piece.learnt),
    )


def _transposed_reset(learnt: Learnt, before: State, d_after: State) -> tuple[State, PyTree]:
    """Transpose the reset of every lane: cotangents of the state before it and of the values."""
    _, reset_t = jax.vjp(lambda p, x: reset(learnt.neuron(p), x), learnt.values, before)
    d_values, d_before = reset_t(d_after)
    return d_before, d_values


def _flow_back(context: Context, lanes: Lanes, d_end: State) -> tuple[State, PyTree]:
    """Transpose the flow of lanes over their time `dt`: cotangents of their starts and values."""
    flow, learnt = context.network.flow, context.learnt.of(lanes.row)

    def moved(values, start):
        return flow.advance(learnt.neuron(values), start, lanes.dt)

    _, moved_t = jax.vjp(moved, learnt.values, lanes.start)
    d_values, d_start = moved_t(d_end)
    return d_start, d_values


def _added(
    table: Float[Array, "rows learnt"], index: Int[Array, " lanes"], values: PyTree
) -> Float[Array, "rows learnt"]:
    """Add cotangents of the learnt parameters of lanes to the table."""
    leaves = jax.tree.leaves(values)
    if not leaves:
        return table
    return with_rows(table, index, rows_of(table, index) + jnp.stack(leaves, axis=1))


def _inner(a: State, b: State) -> Float[Array, " lanes"]:
    """Inner product over the components of each lane."""
    return ft.reduce(jnp.add, jax.tree.leaves(jax.tree.map(jnp.multiply, a, b)))
