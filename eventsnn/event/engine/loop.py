"""The event loop, which simulates a batch of samples.

One iteration has three stages. *Check* the segment that the flow proposed, in particular whether
another neuron crossed before its end. *Apply* the event at its end to the network. *Propose* the
next segment with the flow. Every array has the batch as its last axis.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..flows import Segment
from ..models import anywhere
from ..neurons.base import State
from ..solution import CODE, RUNNING, is_success
from ..state import NetworkState
from .checkpoints import CHECKPOINT_EVERY, n_checkpoints, state_table, write_state
from .delays import Delayed, transport_of
from .instants import Instant
from .readout import NEUTRAL, evaluate, is_read
from .record import Arrivals, Record, no_event_source
from .segments import triggered_by_event
from .system import (
    Network,
    Plan,
    add_batch_axis,
    apply_drive,
    gap_and_speed,
    gap_scale,
    initial_state,
    jump,
    reaches,
    received,
    spiking,
    tie_tolerance,
)
from .transport import Immediate


class _Context(NamedTuple):
    """Constants of the loop."""

    plan: Plan
    network: Network  # the neuron has a batch axis
    transport: Immediate | Delayed
    gap_scale: Float[Array, "n 1"]  # size of each gap, for its rounding error
    never_reset: Bool[np.ndarray, "n 1"]
    arrivals: Arrivals  # batch last

    def at(self, time: Instant) -> Network:
        """Return the network in a segment from `time` on, with pseudospike current after t_max."""
        return apply_drive(self.network, time.reached(self.plan.t_max))


class _Columns(NamedTuple):
    """Fields of [`Record`][] that are written row by row; rows first, batch last."""

    times: Array
    sources: Array
    observed: Array
    dt: Array | None
    message: Array | None
    wait: Array | None
    past_t_max: Array | None


class _Proposal(NamedTuple):
    """Proposed segment, and the event at its end."""

    segment: Segment
    source: Int[Array, " batch"]
    time: Instant  # end of the segment
    transit: Any  # arrivals within the segment, see `Immediate`


class _State(NamedTuple):
    """State of the loop."""

    step: Int[Array, ""]
    neurons: State
    time: Instant
    proposal: _Proposal
    limit: Float[Array, " batch"]  # shorter horizon after a rejected proposal, otherwise inf
    due: Bool[Array, "n batch"]  # has crossed its threshold and not yet fired
    n_arrived: Int[Array, " batch"]  # number of external events so far
    n_events: Int[Array, " batch"]  # number of events so far that count towards max_events
    n_spikes: Int[Array, "outputs batch"]  # number of spikes of each output so far
    status: Int[Array, " batch"]
    n_steps: Int[Array, " batch"]  # number of iterations so far
    queue: Any  # spikes in transit, see `Immediate`
    columns: _Columns
    checkpoints: Array | None


class _Checked(NamedTuple):
    """Result of the check of a proposed segment."""

    crossed: Bool[Array, "n batch"]  # crossed at the end of the segment
    missed: Bool[Array, " batch"]  # another neuron crossed before the end
    not_finite: Bool[Array, " batch"]  # a gap or its closing speed is not finite
    ties: Bool[Array, " batch"]  # another neuron is due to fire


def run(plan: Plan, network: Network, arrivals: Arrivals) -> Record:
    """Simulate a batch. Arguments and results have the batch as their first axis."""
    batch = arrivals.times.shape[0]
    scale = gap_scale(network.neuron, plan.n)[:, None]
    arrivals = jax.tree.map(lambda x: x.T, arrivals)
    context = _Context(
        plan=plan,
        network=network._replace(neuron=add_batch_axis(network.neuron)),
        transport=transport_of(plan, network, arrivals.inputs, scale),
        gap_scale=scale,
        never_reset=network.neuron.never_reset(plan.n)[:, None],
        arrivals=arrivals,
    )

    def more(state: _State):
        return (state.step < plan.max_steps) & anywhere(state.status == RUNNING)

    def body(state: _State):
        checked = _check(context, state)
        state = _apply(context, state, checked)
        # The proposal is carried to the next iteration. Within one iteration XLA would compute the
        # end of the segment once per use.
        return _propose(context, state)

    given = arrivals.start
    neurons = initial_state(network.neuron, plan.n, batch) if given is None else given.neurons
    start = _start(context, neurons)
    end = lax.while_loop(more, body, start)
    status = jnp.where(
        end.status == RUNNING, _limit_status(plan, "max_steps", end.time), end.status
    )
    tables = (end.columns, end.checkpoints)
    columns, checkpoints = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), tables)
    record = Record(status=status, steps=end.n_steps, state=checkpoints, **columns._asdict())
    return record if given is None else _with_end(context, given, end, record)


def _with_end(context: _Context, start: NetworkState, end: _State, record: Record) -> Record:
    """Return the record with the state at the end, for a simulation that started from a state."""
    waits, sources, overflows = context.transport.left(end.queue, start)
    status = jnp.where(overflows & is_success(record.status), CODE["queue_overflow"], record.status)
    final = NetworkState(end.neurons, end.due, waits, sources)
    return record._replace(status=status.astype(jnp.int32), end=jax.tree.map(lambda x: x.T, final))


def _start(context: _Context, neurons: State) -> _State:
    """State of the loop at time 0, with a proposal of length 0 that ends without an event."""
    plan, (flow, neuron, weights, *_) = context.plan, context.network
    batch = context.arrivals.times.shape[1]
    zero, int_zero = jnp.zeros(batch, weights.dtype), jnp.zeros(batch, jnp.int32)
    flow_state = flow.init_state(neuron, neurons, zero + plan.t_max)
    segment = Segment(zero, int_zero, zero > 0, neurons, flow_state)
    time, transit = Instant.at(zero), context.transport.no_transit(neurons, zero)
    checkpoints, given = state_table(n_checkpoints(plan.max_steps), neurons), context.arrivals.start
    at_threshold = neuron.threshold_gap(neurons) <= 0
    return _State(
        step=jnp.asarray(0, jnp.int32),
        neurons=neurons,
        time=time,
        proposal=_Proposal(segment, int_zero + no_event_source(plan.n_sources), time, transit),
        limit=zero + jnp.inf,
        due=at_threshold if given is None else given.due,
        n_arrived=int_zero,
        n_events=int_zero,
        n_spikes=jnp.zeros((len(plan.outputs), batch), jnp.int32),
        status=_initial_status(context),
        n_steps=int_zero,
        queue=context.transport.init(batch, given),
        columns=_blank_columns(context, transit, zero),
        checkpoints=checkpoints if plan.keep_states else None,
    )


def _blank_columns(context: _Context, transit: Any, zero: Float[Array, " batch"]) -> _Columns:
    """Columns of the record before the first row; None for those that are not recorded."""
    plan = context.plan
    message, wait = context.transport.recorded(transit, zero > 0)
    row = _Columns(
        times=zero + jnp.inf,
        sources=jnp.full(zero.shape, no_event_source(plan.n_sources), jnp.int32),
        observed=jnp.full(
            (len(plan.readout.outputs), zero.size), NEUTRAL[plan.readout.kind], zero.dtype
        ),
        dt=zero,
        message=message,
        wait=wait,
        past_t_max=None if context.network.drive is None else zero > 0,
    )
    if not plan.keep_states:
        row = row._replace(dt=None, message=None, wait=None, past_t_max=None)
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (plan.max_steps, *x.shape)), row)


def _initial_status(context: _Context) -> Int[Array, " batch"]:
    """Initial status: an error code for invalid inputs or parameters, otherwise `RUNNING`."""
    network = context.network
    leaves = jax.tree.leaves((network.neuron, network.weights, network.drive))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves if eqx.is_inexact_array(x)])
    times = jax.tree.leaves((context.arrivals.times, context.arrivals.inputs))
    good = [jnp.all((jnp.isfinite(x) & (x >= 0)) | (x == jnp.inf), axis=0) for x in times]
    delays = jax.tree.leaves(network.delays)
    valid = jnp.stack([network.neuron.parameters_valid(), *(jnp.all(x >= 0) for x in delays)])
    status = jnp.where(jnp.all(jnp.stack(good), axis=0), RUNNING, CODE["invalid_input"])
    status = jnp.where(jnp.all(valid), status, CODE["invalid_parameters"])
    return jnp.where(jnp.all(finite), status, CODE["not_finite"]).astype(jnp.int32)


def _limit_status(plan: Plan, limit: str, time: Instant) -> Array:
    """Status of a sample that hits a limit.

    After `t_max` only pseudospikes remain, and the sample counts as completed.
    """
    beyond = time.reached(plan.t_max) & (plan.t_end > plan.t_max)
    return jnp.where(beyond, CODE["completed"], CODE[limit]).astype(jnp.int32)


def _check(context: _Context, state: _State) -> _Checked:
    """Check the proposed segment."""
    segment, source, _, transit = state.proposal
    dt, end = segment.dt, segment.end
    flow, neuron, *_ = context.at(state.time)
    inside = context.transport.inside(transit, state.neurons, segment)
    velocity = flow.velocity(neuron, inside.split.start, inside.split.dt, end)
    gap, speed = gap_and_speed(neuron, end, velocity)
    tolerance = tie_tolerance(dt, speed, context.gap_scale)
    passes = flow.passes(neuron, end)
    past = passes & (gap < -tolerance)
    crossed = past | (passes & (gap <= tolerance) & reaches(neuron, end, velocity, gap, speed))
    # A neuron that fires because of an arrival at the end has not crossed before it.
    past = (past & ~inside.fires) | inside.overshot
    crossed = crossed | inside.fires
    others = _rows(state.due) != source
    missed, not_finite, ties = _any_of(
        past & others & ~state.due & (dt > 0),
        ~(jnp.isfinite(gap) & jnp.isfinite(speed)),
        (crossed | state.due) & others,
    )
    return _Checked(crossed, missed, not_finite, ties)


def _apply(context: _Context, state: _State, checked: _Checked) -> _State:
    """Apply the event at the end of the proposed segment, in the samples that accept it."""
    plan, network, no_event = context.plan, context.at(state.time), context.plan.n_sources
    neuron, (segment, source, time, _) = network.neuron, state.proposal
    running = state.status == RUNNING
    accepted = running & ~checked.missed & ~checked.not_finite
    # A crossing precedes an arrival at the same time: the arrival is left to a later iteration.
    source = jnp.where(checked.ties & (source >= plan.n), no_event, source)
    full = accepted & (source < no_event) & (state.n_events >= plan.max_events)
    accepted = accepted & ~full
    source = jnp.where(accepted, source, no_event)
    spiked = spiking(plan.n, source)

    after = jump(neuron, segment.end, received(network, source), spiked)
    found = triggered_by_event(network, segment.end, after, spiked)
    still_above = spiked & (neuron.threshold_gap(after) < 0)
    sent = (accepted, state.proposal, source, state.step)
    queue, overflows = context.transport.send(state.queue, *sent)
    # A rejected segment is proposed again with a shorter horizon: its own length, or half of it if
    # it was already as long as the shortened horizon.
    shorter = jnp.where(segment.dt < state.limit, segment.dt, 0.5 * segment.dt)
    crossed = state.due | checked.crossed | found.fires()
    n_spikes = state.n_spikes + _count(jnp.asarray(plan.outputs, jnp.int32)[:, None] == source)
    status = jnp.where(full, _limit_status(plan, "max_events", state.time), state.status)
    status = jnp.where(overflows, _limit_status(plan, "queue_overflow", state.time), status)
    status = jnp.where(running & checked.not_finite, CODE["not_finite"], status)
    status = _final_status(context, status, spiked, accepted, n_spikes)
    state = _write(context, state, accepted, source)
    return state._replace(
        step=state.step + 1,
        neurons=jax.tree.map(lambda x, y: jnp.where(accepted, x, y), after, state.neurons),
        time=time.where(accepted, state.time),
        limit=jnp.where(running & checked.missed, shorter, jnp.inf),
        due=jnp.where(accepted, crossed, state.due) & ~spiked | still_above,
        n_arrived=state.n_arrived + _count((source >= plan.n) & (source != no_event)),
        n_events=state.n_events + _count(source < no_event),
        n_spikes=n_spikes,
        status=status,
        n_steps=state.n_steps + _count(running),
        queue=queue,
    )


def _final_status(context: _Context, status, spiked, accepted, n_spikes) -> Int[Array, " batch"]:
    """Status after an event: `no_reset` if a readout fired, `outputs_fired` if all outputs did."""
    if context.never_reset.any():
        stuck = jnp.any(spiked & context.never_reset, axis=0)
        status = jnp.where(stuck, CODE["no_reset"], status)
    if context.plan.stop_after is not None:
        enough = jnp.all(n_spikes >= context.plan.stop_after, axis=0)
        status = jnp.where(accepted & enough, CODE["outputs_fired"], status)
    return status


def _propose(context: _Context, state: _State) -> _State:
    """Compute the next segment with the flow, and determine the event at its end."""
    plan, no_event = context.plan, no_event_source(context.plan.n_sources)
    next_due = jnp.min(jnp.where(state.due, _rows(state.due), plan.n), axis=0)
    is_due = next_due < plan.n
    arrival, channel = _next_arrival(context.arrivals, state.n_arrived)
    left, wait = state.time.until(plan.t_end), state.time.until(arrival)
    upcoming, first = context.transport.upcoming(state.queue, state.time)
    over = ~is_due & (left <= 0) & (jnp.minimum(wait, first) > 0)
    status = jnp.where((state.status == RUNNING) & over, CODE["completed"], state.status)
    running = status == RUNNING
    moves = running & ~is_due

    horizon = jnp.where(moves, jnp.minimum(jnp.minimum(wait, state.limit), left), 0.0)
    network, flow_state = context.at(state.time), state.proposal.segment.flow_state
    segment, transit = context.transport.propose(
        network, state.neurons, horizon, flow_state, upcoming, moves
    )
    reached = moves & ~segment.spiked & (segment.dt >= horizon)
    arrives, ends = reached & (wait <= horizon), reached & (left <= horizon)
    source = jnp.where(arrives, channel, no_event)
    source = jnp.where(segment.spiked, segment.source, source)
    source = jnp.where(moves, source, jnp.where(running & is_due, next_due, no_event))
    # An event at a prescribed time has exactly that time, without the rounding of a sum.
    time = state.time.after(segment.dt, segment.low)
    time = Instant.at(jnp.where(arrives, arrival, plan.t_end)).where(arrives | ends, time)
    proposal = _Proposal(segment._replace(low=None), source, time, transit)
    return state._replace(status=status, proposal=proposal)


def _next_arrival(arrivals: Arrivals, index: Int[Array, " batch"]) -> tuple[Array, Array]:
    """Time and source of the next external event of each sample; time inf if there is none."""
    count, batch = arrivals.times.shape
    flat = jnp.minimum(index, count - 1) * batch + jnp.arange(batch, dtype=index.dtype)
    time = jnp.take(arrivals.times.reshape(-1), flat, mode="clip")
    source = jnp.take(arrivals.sources.reshape(-1), flat, mode="clip")
    return jnp.where(index < count, time, jnp.inf), source


def _write(context: _Context, state: _State, accepted: Array, source: Array) -> _State:
    """Write the row of the proposed segment, and the checkpoint of the state at its start."""
    plan, segment = context.plan, state.proposal.segment
    inside = context.transport.inside(state.proposal.transit, state.neurons, segment)
    message, wait = context.transport.recorded(state.proposal.transit, accepted)
    part = (inside.inbound, state.neurons, segment.dt, segment.end)
    seen = evaluate(plan.readout, context.at(state.time), *part)
    read = is_read(plan.readout, source, accepted, plan.n_sources)
    eventless = source == no_event_source(plan.n_sources)
    row = _Columns(
        times=jnp.where(eventless, jnp.inf, state.proposal.time.high),
        sources=source,
        observed=jnp.where(read, seen, NEUTRAL[plan.readout.kind]),
        dt=jnp.where(accepted, segment.dt, 0.0),
        message=message,
        wait=wait,
        past_t_max=state.time.reached(plan.t_max),
    )

    def put(table, value):
        return table if table is None else lax.dynamic_update_index_in_dim(table, value, at, 0)

    at = state.step
    columns = jax.tree.map(put, state.columns, row, is_leaf=lambda x: x is None)
    state = state._replace(columns=columns)
    if state.checkpoints is None:
        return state
    # Every row overwrites the next checkpoint slot. The last row written to a slot is the first row
    # of its block.
    slot = (state.step + CHECKPOINT_EVERY - 1) // CHECKPOINT_EVERY
    return state._replace(checkpoints=write_state(state.checkpoints, slot, state.neurons))


def _rows(mask: Bool[Array, "n batch"]) -> Int[Array, "n batch"]:
    return lax.broadcasted_iota(jnp.int32, mask.shape, 0)


def _count(mask: Bool[Array, "..."]) -> Int[Array, "..."]:
    return mask.astype(jnp.int32)


def _any_of(*masks: Bool[Array, "n batch"]) -> tuple[Bool[Array, " batch"], ...]:
    """Compute `jnp.any(mask, axis=0)` of several masks in one reduction."""
    bits = sum(_count(m) << k for k, m in enumerate(masks))
    found = lax.reduce(bits, jnp.asarray(0, jnp.int32), lax.bitwise_or, (0,))
    return tuple((found >> k) & 1 == 1 for k in range(len(masks)))
