"""The forward sweep: all arrivals of each sample in order, and the spikes of all lanes.

The states of all lanes advance from arrival to arrival, as if no lane fired. A cheap test marks the
lanes that may have fired in between. Only for these the spikes are computed, and their states
corrected.

The next row is proposed at the end of an iteration, and completed in the next one. Within one
iteration XLA would compute the mask of the marked lanes without vector instructions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.instants import Instant
from ..models import anywhere
from ..neurons.base import State
from ..solution import CODE, RUNNING
from .compact import marked, pack, total
from .firing import next_spike
from .system import (
    BLOCK,
    CHUNK,
    Arrivals,
    Lanes,
    Layer,
    Rows,
    Setting,
    Spikes,
    driven,
    initial_status,
)


class Sweep(NamedTuple):
    """Result of a forward sweep."""

    spikes: Spikes
    counts: Int[Array, "batch n"]  # number of spikes until t_max
    status: Int[Array, " batch"]
    steps: Int[Array, " batch"]  # number of rows, equal in all samples
    rows: Rows  # for a backward pass
    checkpoints: State  # states at the first row of each block, for a backward pass


class _Proposal(NamedTuple):
    """Next row, without the spikes in it."""

    dt: Float[Array, " batch"]
    time: Float[Array, " batch"]  # end of the row
    arrives: Bool[Array, " batch"]  # whether the row ends with an arrival
    channel: Int[Array, " batch"]
    is_final: Bool[Array, " batch"]  # whether the simulation ends with the row
    end: State  # of lanes that do not fire
    may: Bool[Array, "batch n"]  # lanes that may fire


class _State(NamedTuple):
    """State of the sweep."""

    row: Int[Array, ""]
    neurons: State  # at the start of the row
    time: Float[Array, " batch"]  # start of the row
    arrived: Int[Array, " batch"]  # number of arrivals so far
    n_spikes: Int[Array, "batch n"]  # number of spikes so far
    until_t_max: Int[Array, "batch n"] | None  # with pseudospikes, number of spikes until t_max
    unfinished: Int[Array, " batch"]  # number of lanes that may still fire
    spikes: Spikes
    rows: Rows
    checkpoints: State
    running: Bool[Array, " batch"]


class _Chunk(NamedTuple):
    """State of a chunk of lanes within a row."""

    neurons: State
    time: Instant
    left: Float[Array, " lanes"]  # time left until the end of the row
    n_spikes: Int[Array, " lanes"]
    due: Bool[Array, " lanes"]  # above its threshold: fires at once
    active: Bool[Array, " lanes"]
    spikes: Spikes


def sweep(setting: Setting, layer: Layer, arrivals: Arrivals) -> Sweep:
    """Simulate a batch."""

    def more(carry: tuple[_State, _Proposal]):
        state, _ = carry
        return (state.row < setting.max_rows) & anywhere(state.running)

    def body(carry: tuple[_State, _Proposal]):
        state = _row(setting, layer, *carry)
        return state, _propose(setting, layer, arrivals, state)

    end, _ = lax.while_loop(more, body, _start(setting, layer, arrivals))
    status = jnp.where(end.unfinished > 0, CODE["completed"], CODE["outputs_fired"])
    status = jnp.where(end.running, CODE["max_steps"], status)
    finite = [jnp.all(jnp.isfinite(x), axis=1) for x in jax.tree.leaves(end.neurons)]
    finite = jnp.all(jnp.stack(finite), axis=0)
    status = jnp.where(finite, status, CODE["not_finite"])
    first = initial_status(layer.neuron, layer.weights, arrivals.times)
    status = jnp.where(first == RUNNING, status, first).astype(jnp.int32)
    steps = jnp.broadcast_to(end.row, status.shape)
    counts = end.n_spikes if end.until_t_max is None else end.until_t_max
    return Sweep(end.spikes, counts, status, steps, end.rows, end.checkpoints)


def _start(setting: Setting, layer: Layer, arrivals: Arrivals) -> tuple[_State, _Proposal]:
    (batch, _), n = arrivals.times.shape, setting.n
    neuron, dtype = layer.neuron, layer.weights.dtype
    zero, none = jnp.zeros(batch, dtype), jnp.zeros((batch, n), jnp.int32)
    neurons = neuron.normalise(neuron.init_state(n))
    neurons = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, n)), neurons)
    # The tables that are not needed are empty.
    slots, kept = (batch, n, setting.max_spikes), setting.keep != "nothing"
    recorded = slots if kept else (batch, n, 0)
    before = jax.tree.map(lambda x: jnp.zeros(recorded, x.dtype), neurons)
    spikes = Spikes(jnp.full(slots, jnp.inf, dtype), jnp.full(recorded, -1, jnp.int32), before)
    blank = jnp.zeros((setting.max_rows if kept else 0, batch), dtype)
    number = jnp.zeros(blank.shape, jnp.int32)
    rows = Rows(blank, blank, number + setting.n_in, number, number > 0)
    blocks = -(-setting.max_rows // BLOCK) if setting.keep == "states" else 0
    checkpoints = jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), neurons)
    state = _State(
        row=jnp.asarray(0, jnp.int32),
        neurons=neurons,
        time=zero,
        arrived=jnp.zeros(batch, jnp.int32),
        n_spikes=none,
        until_t_max=None if layer.drive is None else none,
        unfinished=jnp.full(batch, n, jnp.int32),
        spikes=spikes,
        rows=rows,
        checkpoints=checkpoints,
        running=initial_status(layer.neuron, layer.weights, arrivals.times) == RUNNING,
    )
    proposal = _propose(setting, layer, arrivals, state)
    # A lane at or above its threshold at time 0 fires there.
    due = (neuron.threshold_gap(neurons) <= 0) & state.running[:, None]
    return state, proposal._replace(may=proposal.may | due)


def _propose(setting: Setting, layer: Layer, arrivals: Arrivals, state: _State) -> _Proposal:
    """Compute the next row. It ends at the next arrival, at a limit, or where the flow ends."""
    past = _past(setting, state)
    flow, neuron = layer.flow, driven(layer.neuron, layer.current(past))
    arrival, channel = _next(arrivals, state.arrived)
    limit = jnp.where(past, setting.t_end, setting.t_max).astype(arrival.dtype)
    stop = jnp.minimum(arrival, limit)
    left = jnp.where(state.running, stop - state.time, 0.0)
    longest = flow.longest(neuron, state.neurons)
    dt = left if isinstance(longest, float) else jnp.minimum(left, jnp.min(longest, axis=1))
    whole, arrives = state.running & (dt >= left), arrival <= limit
    end = flow.advance(neuron, state.neurons, dt[:, None])
    may = flow.may_cross(neuron, state.neurons, dt[:, None], end)
    return _Proposal(
        dt=dt,
        time=jnp.where(whole, stop, state.time + dt),
        arrives=whole & arrives,
        channel=channel,
        is_final=whole & ~arrives & (limit >= setting.t_end),
        end=end,
        may=may & _fires_on(setting, state.n_spikes) & state.running[:, None],
    )


def _past(setting: Setting, state: _State) -> Bool[Array, " batch"]:
    """Mask of the samples that have reached t_max, and continue with pseudospikes."""
    return state.time >= setting.t_max


def _row(setting: Setting, layer: Layer, state: _State, proposal: _Proposal) -> _State:
    """Complete the proposed row: its spikes, and the arrival at its end."""
    neuron, past = layer.neuron, _past(setting, state)
    end, count, unfinished, spikes = _fire(setting, layer, state, proposal)
    source = jnp.where(proposal.arrives, proposal.channel, setting.n_in)
    row = Rows(proposal.dt, proposal.time, source, state.arrived, past)
    after = neuron.normalise(neuron.receive(end, layer.weights[source]))
    return state._replace(
        row=state.row + 1,
        neurons=after,
        time=proposal.time,
        arrived=state.arrived + proposal.arrives.astype(jnp.int32),
        n_spikes=count,
        until_t_max=_until_t_max(state, past, count),
        unfinished=unfinished,
        spikes=spikes,
        rows=_write(state.rows, row, state.row),
        checkpoints=_checkpoint(state),
        running=state.running & ~proposal.is_final & (unfinished > 0),
    )


def _until_t_max(
    state: _State, past: Bool[Array, " batch"], count: Int[Array, "batch n"]
) -> Int[Array, "batch n"] | None:
    """Numbers of spikes until t_max; None if the simulation ends there."""
    if state.until_t_max is None:
        return None
    return jnp.where(past[:, None], state.until_t_max, count)


def _checkpoint(state: _State) -> State:
    """Store the state in the checkpoint of its block, which ends with that of the first row."""
    block, first = state.row // BLOCK, state.row % BLOCK == 0

    def one(table, x):
        if not table.size:
            return table
        old = lax.dynamic_index_in_dim(table, block, 0, False)
        return lax.dynamic_update_index_in_dim(table, jnp.where(first, x, old), block, 0)

    return jax.tree.map(one, state.checkpoints, state.neurons)


def _write(table: Any, values: Any, row: Array) -> Any:
    """Write the values to a row of the table, unless the table is empty."""

    def one(table, x):
        return lax.dynamic_update_index_in_dim(table, x, row, 0) if table.size else table

    return jax.tree.map(one, table, values)


def _fires_on(setting: Setting, count: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Mask of the lanes that are simulated further, given their numbers of spikes."""
    return jnp.ones_like(count, bool) if setting.stop_after is None else count < setting.stop_after


def _next(arrivals: Arrivals, index: Int[Array, " batch"]) -> tuple[Array, Array]:
    """Time and channel of the next arrival of each sample; time inf if there is none."""
    count = arrivals.times.shape[1]
    at = jnp.minimum(index, max(count - 1, 0))[:, None]
    time = jnp.take_along_axis(arrivals.times, at, axis=1, mode="clip")[:, 0]
    channel = jnp.take_along_axis(arrivals.channels, at, axis=1, mode="clip")[:, 0]
    return jnp.where(index < count, time, jnp.inf), channel


def _fire(
    setting: Setting, layer: Layer, state: _State, proposal: _Proposal
) -> tuple[State, Array, Array, Spikes]:
    """Compute the spikes within the proposed row, and the states of these lanes at its end.

    Returns the states of all lanes, their numbers of spikes so far, the number of lanes of each
    sample that may still fire, and the spikes.
    """
    words = pack(proposal.may)
    whole = driven(layer.neuron, layer.current(_past(setting, state)))

    def body(carry):
        first, end, count, unfinished, spikes = carry
        index, found = marked(words, first, CHUNK)
        lanes = Lanes(index // setting.n, index % setting.n, found)
        neuron, start = lanes.parameters(whole), lanes.of(state.neurons)
        at_start = found & (state.row == 0) & (neuron.threshold_gap(start) <= 0)
        chunk = _Chunk(
            neurons=start,
            time=Instant.at(lanes.of_sample(state.time)),
            left=lanes.of_sample(proposal.dt),
            n_spikes=lanes.of(state.n_spikes),
            due=at_start,
            active=found,
            spikes=spikes,
        )
        end_time = lanes.of_sample(proposal.time)
        chunk = lax.while_loop(
            lambda chunk: anywhere(chunk.active),
            lambda chunk: _next_spikes(setting, layer, neuron, state.row, lanes, end_time, chunk),
            chunk,
        )
        if setting.stops:
            finished = found & (chunk.n_spikes == setting.stop_after)
            unfinished = unfinished.at[lanes.sample].add(-finished.astype(jnp.int32), mode="drop")
        return (
            first + CHUNK,
            lanes.put(end, chunk.neurons),
            lanes.put(count, chunk.n_spikes),
            unfinished,
            chunk.spikes,
        )

    many = total(words)
    start = (
        jnp.asarray(0, jnp.int32),
        proposal.end,
        state.n_spikes,
        state.unfinished,
        state.spikes,
    )
    return lax.while_loop(lambda carry: carry[0] < many, body, start)[1:]


def _next_spikes(setting, layer, neuron, row, lanes: Lanes, end_time, chunk: _Chunk) -> _Chunk:
    """Compute the next spike of each active lane within the row, which ends at `end_time`."""
    start, scale = chunk.neurons, layer.scale_of(lanes)
    found = next_spike(layer.flow, neuron, scale, start, chunk.left, chunk.due)
    fires = chunk.active & found.fires
    when = chunk.time.after(found.wait, found.remainder)
    when = Instant.at(end_time).where(found.at_end, when)
    before, count = found.before, chunk.n_spikes
    spikes = _record(setting, chunk.spikes, row, lanes, count, when.high, before, fires)
    count = count + fires.astype(jnp.int32)
    again = fires & found.may & _fires_on(setting, count)

    def choose(now, then, old):
        return jnp.where(chunk.active, jnp.where(again, now, then), old)

    return _Chunk(
        neurons=jax.tree.map(choose, found.after, found.end, start),
        time=when.where(fires, chunk.time),
        left=jnp.where(fires, found.left, 0.0),
        n_spikes=count,
        due=fires & found.due,
        active=again,
        spikes=spikes,
    )


def _record(setting, spikes: Spikes, row, lanes: Lanes, count, times, before: State, fires):
    """Write the spikes of the lanes in `fires`, up to `max_spikes` per lane."""
    fires = fires & (count < setting.max_spikes)
    spikes = spikes._replace(times=lanes.put_at(spikes.times, count, times, fires))
    if setting.keep == "nothing":
        return spikes
    rows = jnp.broadcast_to(row, count.shape)
    return spikes._replace(
        row=lanes.put_at(spikes.row, count, rows, fires),
        before=lanes.put_at(spikes.before, count, before, fires),
    )
