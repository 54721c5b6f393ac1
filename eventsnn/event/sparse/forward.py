"""Rounds: the simulation of a sparse network with delays, updating only the targets of each spike.

Every spike takes at least the shortest delay to arrive. Within a *round* of this length, therefore,
no neuron influences another one, and all arrivals are known at its start. They are delivered in
order. A delivery advances the targets of the spike, and only these, from their last update to the
arrival, finds the spikes that they have fired in between, and adds the weights. At the end of the
round all neurons advance to its end. The spikes of the round are then sorted, and become arrivals
of later rounds.

The computation time of a spike is proportional to its number of targets. In addition all neurons
are visited once per round.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..engine.instants import Instant
from ..lanes.system import initial_status
from ..solution import CODE, RUNNING
from .lanes import all_lanes, fire, lanes_of, moved, receive
from .ordering import sort_first
from .records import Found, Pending, Run, Steps, Trace, write
from .system import (
    Inputs,
    Network,
    Packing,
    Setting,
    chunk_lanes,
    initial_rows,
    padded_rows,
    rows_of,
    with_rows,
)
from .transit import entry, input_arrivals, send


class _State(NamedTuple):
    """State between two rounds."""

    time: Instant
    rows: Float[Array, "rows columns"]
    pending: Pending
    n_inputs: Int[Array, ""]  # number of input spikes so far
    n_events: Int[Array, ""]  # number of spikes of neurons so far
    n_spikes: Int[Array, " n"]
    step: Int[Array, ""]
    visit: Int[Array, ""]
    status: Int[Array, ""]
    run: Run


class _Deliveries(NamedTuple):
    """State within a round."""

    n_pending: Int[Array, ""]  # number of pending arrivals that were delivered
    n_inputs: Int[Array, ""]
    n_chunks: Int[Array, ""]
    length: Float[Array, ""]  # of the round; arrivals may shorten it
    rows: Float[Array, "rows columns"]
    found: Found
    step: Int[Array, ""]
    visit: Int[Array, ""]
    steps: Steps | None


class _Context(NamedTuple):
    """Constants of the simulation."""

    setting: Setting
    network: Network
    packing: Packing
    arrivals: Pending  # of the input spikes
    window: Float[Array, ""]  # longest round


def run(setting: Setting, network: Network, inputs: Inputs) -> Run:
    """Simulate one sample."""
    packing, rows = initial_rows(network, setting)
    context = _Context(
        setting,
        network,
        packing,
        input_arrivals(setting, network, inputs),
        _window(network, setting),
    )
    state = _round_at_start(context, _start(context, rows, inputs))

    def more(state: _State):
        return (state.status == RUNNING) & (state.run.rounds < setting.max_rounds)

    state = lax.while_loop(more, lambda state: _round(context, state), state)
    limit = jnp.asarray(CODE["max_steps"], jnp.int32)
    status = jnp.where(state.status == RUNNING, limit, state.status)
    return state.run._replace(status=status, steps=state.step)


def _window(network: Network, setting: Setting) -> Float[Array, ""]:
    """Shortest delay of a neuron with targets; inf if there is none."""
    fan, n = network.fan, setting.n
    sends = fan.offsets[1 : n + 1] > fan.offsets[:n]
    return jnp.min(jnp.where(sends, network.delays[:n], jnp.inf), initial=jnp.inf)


def _start(context: _Context, rows: Array, inputs: Inputs) -> _State:
    """State at time 0."""
    setting, network, _, _, _ = context
    n, size, dtype = setting.n, setting.capacity, network.weights.dtype
    events = setting.max_events + size
    zero = jnp.zeros((), jnp.int32)
    steps = setting.max_events + inputs.times.size + setting.max_rounds
    blank, rounds = jnp.zeros(steps, jnp.int32), jnp.zeros(setting.max_rounds, jnp.int32)
    components = rows.shape[1] - 1
    trace = Trace(
        offset=jnp.zeros(events, dtype),
        visit=jnp.full(events, -1, jnp.int32),
        before=jnp.zeros((events, components), dtype),
        steps=Steps(blank, jnp.zeros(steps, dtype), blank),
        first_step=rounds,
        first_visit=rounds,
        first_spike=rounds,
        tables=jnp.zeros((setting.max_rounds, n, components), dtype),
    )
    run = Run(
        times=jnp.full(events, jnp.inf, dtype),
        sources=jnp.full(events, setting.n_sources, jnp.int32),
        status=zero,
        steps=zero,
        rounds=zero,
        trace=trace if setting.keep else None,
    )
    inf = Instant.at(jnp.full(size, jnp.inf, dtype))
    padding = jnp.full(size, setting.n_sources, jnp.int32)
    return _State(
        time=Instant.at(jnp.zeros((), dtype)),
        rows=rows,
        pending=Pending(inf, padding, padding, zero),
        n_inputs=zero,
        n_events=zero,
        n_spikes=jnp.zeros(n, jnp.int32),
        step=zero,
        visit=zero,
        status=_initial_status(network, inputs),
        run=run,
    )


def _initial_status(network: Network, inputs: Inputs) -> Int[Array, ""]:
    """Initial status: an error code for invalid inputs or parameters, otherwise `RUNNING`."""
    arrays = network.weights, network.delays
    status = initial_status(network.neuron, arrays, inputs.times[None])[0]
    wrong = (status != CODE["not_finite"]) & jnp.any(network.delays < 0)
    return jnp.where(wrong, CODE["invalid_parameters"], status).astype(jnp.int32)


def _round(context: _Context, state: _State) -> _State:
    """Deliver the arrivals of a round, and advance all neurons to its end."""
    setting, network, packing, arrivals, window = context
    length = jnp.minimum(window, state.time.until(setting.t_max))
    start = packing.state(state.rows[: setting.n])
    longest = jnp.asarray(network.flow.longest(network.neuron, start), length.dtype)
    length = jnp.minimum(length, jnp.min(longest))
    deliveries = _no_deliveries(context, state, length)

    def following(d: _Deliveries) -> tuple[Array, ...]:
        """Time, source and number of the next arrival, and whether it is an input spike."""
        time, source, number = entry(state.pending, d.n_pending, state.time)
        of_input = entry(arrivals, d.n_inputs, state.time)
        external = of_input[0] < time
        pair = zip(of_input, (time, source, number), strict=True)
        return *(jnp.where(external, a, b) for a, b in pair), external

    def more(carry):
        d, (time, source, _, _) = carry
        return (time <= d.length) & (d.n_chunks + _n_chunks(context, source) <= setting.max_chunks)

    def body(carry):
        d, (time, source, number, external) = carry
        rows, found, longest = _deliver(context, d, source, time)
        d = d._replace(
            n_pending=d.n_pending + (~external).astype(jnp.int32),
            n_inputs=d.n_inputs + external.astype(jnp.int32),
            n_chunks=d.n_chunks + _n_chunks(context, source),
            length=jnp.minimum(d.length, time + longest),
            rows=rows,
            found=found,
            step=d.step + 1,
            visit=d.visit + _n_chunks(context, source),
            steps=write(d.steps, Steps(source, time, number), d.step),
        )
        return d, following(d)

    d, (time, *_) = lax.while_loop(more, body, (deliveries, following(deliveries)))
    # A round with too many arrivals ends at the first one that is left.
    length = jnp.minimum(d.length, time)
    rows, found = _advance_all(context, d, length)
    return _finish(context, state, d._replace(rows=rows, found=found), length)


def _round_at_start(context: _Context, state: _State) -> _State:
    """Fire the neurons that are at or above their thresholds at time 0: a round of length 0."""
    network, packing, n = context.network, context.packing, context.setting.n
    zero = jnp.zeros((), state.rows.dtype)
    d = _no_deliveries(context, state, zero)
    lanes = all_lanes(network, context.setting, packing, d.rows, zero)
    due = network.neuron.threshold_gap(lanes.start) <= 0
    ends, found = fire(network, packing, lanes, due, d.rows[:n, :-1], d.found, d.visit, due)
    d = d._replace(rows=padded_rows(ends, context.setting), found=found)
    return _finish(context, state, d, zero)


def _no_deliveries(context: _Context, state: _State, length: Array) -> _Deliveries:
    """State at the start of a round of this length."""
    setting, dtype, zero = context.setting, state.rows.dtype, jnp.zeros((), jnp.int32)
    size, trace = setting.capacity, state.run.trace
    found = Found(
        Instant.at(jnp.full(size, jnp.inf, dtype)),
        jnp.full(size, setting.n_sources, jnp.int32),
        jnp.zeros(size, jnp.int32),
        jnp.zeros((size, context.packing.size), dtype) if setting.keep else None,
        zero,
    )
    steps = None if trace is None else trace.steps
    counts = state.step, state.visit
    return _Deliveries(zero, state.n_inputs, zero, length, state.rows, found, *counts, steps)


def _n_chunks(context: _Context, source: Int[Array, ""]) -> Int[Array, ""]:
    offsets = context.network.fan.offsets
    return offsets[source + 1] - offsets[source]


def _deliver(
    context: _Context, d: _Deliveries, source: Array, time: Array
) -> tuple[Float[Array, "rows columns"], Found, Float[Array, ""]]:
    """Deliver a spike to all its targets.

    Also returns the time for which the flow of the targets is valid.
    """
    offsets = context.network.fan.offsets

    def one(chunk, carry):
        rows, found, longest = carry
        visit = d.visit + chunk - offsets[source]
        rows, found, here = _deliver_chunk(context, rows, found, chunk, time, visit)
        return rows, found, jnp.minimum(longest, here)

    start = (d.rows, d.found, jnp.full_like(time, jnp.inf))
    return lax.fori_loop(offsets[source], offsets[source + 1], one, start)


def _deliver_chunk(
    context: _Context, rows: Array, found: Found, chunk: Array, time: Array, visit: Array
) -> tuple[Float[Array, "rows columns"], Found, Float[Array, ""]]:
    """Advance the targets in a chunk to the time of an arrival, and add the weights."""
    setting, network, packing, _, _ = context
    index, valid, weights = chunk_lanes(network, setting, chunk)
    lanes = lanes_of(network, packing, rows_of(rows, index), index, time)
    end, may = moved(network, lanes)
    ends, found = fire(network, packing, lanes, may & valid, packing.rows(end), found, visit)
    after = receive(lanes.neuron, packing.state(ends), weights)
    longest = jnp.asarray(network.flow.longest(lanes.neuron, after), time.dtype)
    longest = jnp.min(jnp.where(valid, longest, jnp.inf))
    return with_rows(rows, index, packing.rows(after, time)), found, longest


def _advance_all(
    context: _Context, d: _Deliveries, length: Array
) -> tuple[Float[Array, "rows columns"], Found]:
    """Advance all neurons to the end of the round."""
    setting, network, packing, _, _ = context
    lanes = all_lanes(network, setting, packing, d.rows, length)
    end, may = moved(network, lanes)
    ends, found = fire(network, packing, lanes, may, packing.rows(end), d.found, d.visit)
    return padded_rows(ends, setting), found


def _finish(context: _Context, state: _State, d: _Deliveries, length: Array) -> _State:
    """Sort the spikes of a round of this length, and send them."""
    setting, network, _, _, _ = context
    end = jnp.asarray(setting.n_sources, jnp.int32)
    steps = write(d.steps, Steps(end, length, end), d.step)
    d = d._replace(steps=steps, step=d.step + 1, visit=d.visit + 1)
    found, order = d.found, jnp.arange(setting.capacity, dtype=jnp.int32)
    high, low, source, order = sort_first(found.n_spikes, (*found.time, found.source, order))
    exists = jnp.arange(source.size, dtype=jnp.int32) < found.n_spikes
    when = state.time.after(high, low)
    when = Instant(jnp.where(exists, when.high, jnp.inf), jnp.where(exists, when.low, 0.0))
    number = state.n_events + jnp.arange(source.size, dtype=jnp.int32)
    pending, overflows = send(network, state.pending, d.n_pending, when, source, number, found)
    n_events = state.n_events + found.n_spikes
    n_spikes = state.n_spikes.at[source].add(1, mode="drop")
    run = state.run

    def put(table, values):
        return lax.dynamic_update_slice_in_dim(table, values, state.n_events, 0)

    trace = run.trace
    if trace is not None and found.before is not None and d.steps is not None:
        trace = Trace(
            offset=put(trace.offset, high),
            visit=put(trace.visit, jnp.where(exists, found.visit[order], -1)),
            before=put(trace.before, found.before[order]),
            steps=d.steps,
            first_step=write(trace.first_step, state.step, run.rounds),
            first_visit=write(trace.first_visit, state.visit, run.rounds),
            first_spike=write(trace.first_spike, state.n_events, run.rounds),
            tables=write(trace.tables, state.rows[: setting.n, :-1], run.rounds),
        )
    run = run._replace(
        times=put(run.times, when.high),
        sources=put(run.sources, source),
        rounds=run.rounds + 1,
        trace=trace,
    )
    time = state.time.after(length)
    over = time.reached(setting.t_max)
    status = jnp.where(over, CODE["completed"], RUNNING)
    if setting.stop_after is not None:
        least = jnp.min(n_spikes[jnp.asarray(setting.outputs, jnp.int32)])
        status = jnp.where(least >= setting.stop_after, CODE["outputs_fired"], status)
    status = jnp.where(n_events > setting.max_events, CODE["max_events"], status)
    status = jnp.where(overflows, CODE["queue_overflow"], status)
    finite = jnp.all(jnp.isfinite(d.rows))
    status = jnp.where(finite, status, CODE["not_finite"])
    status = jnp.where(state.status == RUNNING, status, state.status).astype(jnp.int32)
    counts = d.n_inputs, n_events, n_spikes, d.step, d.visit
    return _State(time, d.rows, pending, *counts, status, run)
