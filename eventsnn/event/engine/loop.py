"""The event loop, the only one in the package.

One iteration has three stages. *Judge*: check the segment that the flow proposed, in particular
whether another neuron crossed before its end. *Act*: apply the event at its end to the network.
*Propose*: compute the next segment with the flow. Every array has the batch as its last axis.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..adjoint import AbstractAdjoint, Problem
from ..flows import Segment
from ..neurons import AbstractNeuron
from ..neurons.base import State
from ..solution import CODE, RUNNING
from .batching import BatchNative
from .delays import Coming, next_segment
from .instants import Instant
from .queue import Queue, Schedule, empty, peek, push, schedule, take
from .readout import UNREAD, read, reads
from .record import Arrivals, Record, nothing
from .system import (
    BLOCK,
    Network,
    Plan,
    approach,
    blocks,
    driven,
    initial_state,
    jump,
    lift,
    reaches,
    state_table,
    tie_grain,
    triggered,
    weight_rows,
    write_state,
)


class _World(NamedTuple):
    """Constants of the loop."""

    plan: Plan
    network: Network  # the neuron has a batch axis, see `lift`
    span: Float[Array, "n 1"]  # scale of each gap, to which its rounding error is relative
    never_reset: Bool[np.ndarray, "n 1"]
    arrivals: Arrivals  # batch last
    schedule: Schedule | None  # None without delays

    def at(self, time: Instant) -> AbstractNeuron:
        """Return the neuron in a segment from `time` on, with pseudospike current after t_max."""
        network = self.network
        return driven(network.neuron, network.drive, time.reached(self.plan.t_max))


class _Tables(NamedTuple):
    """Fields of [`Record`][] that are written row by row; rows first, batch last."""

    times: Array
    sources: Array
    observed: Array | None
    dt: Array | None
    state: Array | None
    message: Array | None
    wait: Array | None
    driven: Array | None


class _Proposal(NamedTuple):
    """Proposed segment, and the event at its end."""

    segment: Segment
    source: Int[Array, " batch"]
    time: Instant  # end of the segment
    coming: Coming | None  # None without delays


class _Loop(NamedTuple):
    """State of the loop."""

    step: Int[Array, ""]
    state: State
    time: Instant
    proposal: _Proposal
    limit: Float[Array, " batch"]  # shorter horizon after a rejected proposal, otherwise inf
    due: Bool[Array, "n batch"]  # has crossed and not yet fired
    arrived: Int[Array, " batch"]  # number of external events so far
    events: Int[Array, " batch"]  # number of events so far that count towards max_events
    fired: Int[Array, "outputs batch"]  # number of spikes of each output so far
    status: Int[Array, " batch"]
    steps: Int[Array, " batch"]
    queue: Queue | None
    record: _Tables


def run(plan: Plan, network: Network, arrivals: Arrivals) -> Record:
    """Simulate a batch. Arguments and results have the batch as their first axis."""
    neuron = network.neuron
    span = _span(neuron, plan.n)
    state = initial_state(neuron, plan.n, arrivals.times.shape[0])
    arrivals = jax.tree.map(lambda x: x.T, arrivals)
    planned = None
    if network.delays is not None:
        assert arrivals.inputs is not None
        planned = schedule(arrivals.inputs, network.delays, plan.n, plan.t_end)
    stuck = neuron.never_reset(plan.n)[:, None]
    world = _World(plan, network._replace(neuron=lift(neuron)), span, stuck, arrivals, planned)
    start = _start(world, state)

    def more(loop: _Loop):
        return (loop.step < plan.max_steps) & jnp.any(loop.status == RUNNING)

    def body(loop: _Loop):
        return _propose(world, _act(world, loop))

    end = lax.while_loop(more, body, start)
    status = jnp.where(end.status == RUNNING, _out_of(plan, "max_steps", end.time), end.status)
    tables = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), end.record)
    return Record(status=status, steps=end.steps, **tables._asdict())


def _span(neuron: AbstractNeuron, n: int) -> Float[Array, "n 1"]:
    """Scale of each neuron's gap: its size at time 0 or, if that is 0, its size after a reset."""
    start = neuron.normalise(neuron.init_state(n))
    gap = jnp.abs(neuron.threshold_gap(start))
    after = neuron.normalise(neuron.reset(start, jnp.ones((n,), bool)))
    return jnp.where(gap > 0, gap, jnp.abs(neuron.threshold_gap(after)))[:, None]


def _out_of(plan: Plan, limit: str, time: Instant) -> Array:
    """Status of a sample that hits a limit.

    After `t_max` only pseudospikes remain, and the sample counts as completed.
    """
    beyond = time.reached(plan.t_max) & (plan.t_end > plan.t_max)
    return jnp.where(beyond, CODE["completed"], CODE[limit]).astype(jnp.int32)


def _start(world: _World, state: State) -> _Loop:
    plan, (flow, _, weights, delays, drive) = world.plan, world.network
    batch, dtype = world.arrivals.times.shape[1], weights.dtype
    zero, none = jnp.zeros(batch, dtype), jnp.zeros(batch, jnp.int32)
    memory = flow.init(world.network.neuron, state, zero + plan.t_max)
    segment = Segment(zero, none, zero > 0, state, memory)
    rows, keeps = plan.max_steps, plan.keep_states

    def table(shape, dtype):
        return jnp.zeros((rows, *shape), dtype)

    coming, queue, receivers = None, None, ()
    if delays is not None:
        assert world.schedule is not None and plan.capacity is not None
        queue = empty(delays.shape[1], plan.capacity, batch, dtype)
        following = peek(queue, world.schedule, Instant.at(zero), plan.n, plan.n_sources)
        _, coming = next_segment(
            world.network, state, zero, memory, following, zero > 0, world.span
        )
        receivers = (delays.shape[1], batch)
    record = _Tables(
        times=jnp.full((rows, batch), jnp.inf, dtype),
        sources=jnp.full((rows, batch), nothing(plan.n_sources), jnp.int32),
        observed=None,
        dt=table((batch,), dtype) if keeps else None,
        state=state_table(blocks(rows), state) if keeps else None,
        message=table(receivers, jnp.int32) - 1 if keeps and receivers else None,
        wait=table(receivers, dtype) if keeps and receivers else None,
        driven=table((batch,), bool) if keeps and drive is not None else None,
    )
    if plan.reading is not None:
        shape = (rows, len(plan.outputs), batch)
        record = record._replace(observed=jnp.full(shape, UNREAD[plan.reading], dtype))
    return _Loop(
        step=jnp.asarray(0, jnp.int32),
        state=state,
        time=Instant.at(zero),
        proposal=_Proposal(segment, none + nothing(plan.n_sources), Instant.at(zero), coming),
        limit=zero + jnp.inf,
        due=world.network.neuron.threshold_gap(state) <= 0,  # at or above threshold at time 0
        arrived=none,
        events=none,
        fired=jnp.zeros((len(plan.outputs), batch), jnp.int32),
        status=_refused(world),
        steps=none,
        queue=queue,
        record=record,
    )


def _refused(world: _World) -> Int[Array, " batch"]:
    """Initial status: an error code for invalid inputs or parameters, otherwise `RUNNING`."""
    neuron, weights, delays = world.network.neuron, world.network.weights, world.network.delays
    leaves = jax.tree.leaves((neuron, weights, world.network.drive))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves if eqx.is_inexact_array(x)])
    times = (world.arrivals.times, world.arrivals.inputs)
    good = [
        jnp.all((jnp.isfinite(x) & (x >= 0)) | (x == jnp.inf), axis=0)
        for x in times
        if x is not None
    ]
    status = jnp.where(jnp.all(jnp.stack(good), axis=0), RUNNING, CODE["invalid_input"])
    valid = neuron.valid() if delays is None else neuron.valid() & jnp.all(delays >= 0)
    status = jnp.where(valid, status, CODE["invalid_parameters"])
    return jnp.where(jnp.all(finite), status, CODE["not_finite"]).astype(jnp.int32)


def _act(world: _World, loop: _Loop) -> _Loop:
    """Check the proposal and, if it is accepted, apply the event at its end to the network."""
    plan, none, neuron = world.plan, nothing(world.plan.n_sources), world.at(loop.time)
    segment, source, time, coming = loop.proposal
    dt, end = segment.dt, segment.end
    running = loop.status == RUNNING
    crossed, late, broken, ties = _judge(world, loop)
    holds = running & ~late & ~broken

    # A crossing precedes an arrival at the same time: the arrival is left to a later iteration.
    source = jnp.where(ties & (source >= plan.n), none, source)
    full = holds & (source < none) & (loop.events >= plan.max_events)
    holds = holds & ~full
    source = jnp.where(holds, source, none)
    winner = _rows(loop.due) == source

    current = weight_rows(world.network.weights, source) if coming is None else None
    after = jump(neuron, end, current, winner)
    again = winner & (neuron.threshold_gap(after) < 0)  # still above threshold after the reset
    if coming is None:
        fires = triggered(world.network.flow, neuron, end, after).fires() & ~winner
    else:
        fires = coming.fires
    queue, overflows = _deliver(world, loop, holds, source)
    # A rejected segment is proposed again with a shorter horizon: its own length or, if the
    # horizon was that short already, half of it. A segment may end without a crossing.
    shorter = jnp.where(dt < loop.limit, dt, 0.5 * dt)
    fired = loop.fired + _count(jnp.asarray(plan.outputs, jnp.int32)[:, None] == source)
    status = jnp.where(full, _out_of(plan, "max_events", loop.time), loop.status)
    status = jnp.where(overflows, _out_of(plan, "queue_overflow", loop.time), status)
    status = jnp.where(running & broken, CODE["not_finite"], status)
    if world.never_reset.any():
        stuck = jnp.any(winner & world.never_reset, axis=0)
        status = jnp.where(stuck, CODE["no_reset"], status)
    if plan.stop_after is not None:
        enough = jnp.all(fired >= plan.stop_after, axis=0)
        status = jnp.where(holds & enough, CODE["outputs_fired"], status)
    return loop._replace(
        step=loop.step + 1,
        state=jax.tree.map(lambda new, old: jnp.where(holds, new, old), after, loop.state),
        time=time.where(holds, loop.time),
        limit=jnp.where(running & late, shorter, jnp.inf),
        due=jnp.where(holds, loop.due | crossed | fires, loop.due) & ~winner | again,
        arrived=loop.arrived + _count((source >= plan.n) & (source != none)),
        events=loop.events + _count(source < none),
        fired=fired,
        status=status,
        steps=loop.steps + _count(running),
        queue=queue,
        record=_write(world, loop, holds, source),
    )


def _deliver(world: _World, loop: _Loop, holds: Array, source: Array):
    """Remove the delivered arrivals from the queue, and add the spike of this event, if any.

    Returns the queue, and a mask of the samples in which it overflows. Without delays the queue
    is None.
    """
    coming, planned, delays = loop.proposal.coming, world.schedule, world.network.delays
    if coming is None or loop.queue is None or planned is None or delays is None:
        return None, jnp.zeros_like(holds)
    passed = jnp.where(holds, loop.proposal.segment.dt, 0.0)
    queue = take(loop.queue, coming.following, holds & coming.inbound.takes, passed)
    waits, left = weight_rows(delays, source), loop.proposal.time.until(world.plan.t_end)
    # Arrivals after t_end are dropped. In a row without an event all delays are inf.
    waits = jnp.where((waits <= left) & holds, waits, jnp.inf)
    message = loop.step + planned.messages.shape[1] - 2
    return push(queue, waits, message, source)


def _judge(world: _World, loop: _Loop) -> tuple[Array, Array, Array, Array]:
    """Check the proposed segment.

    Returns the mask of the neurons that have crossed at its end and, per sample, whether another
    neuron crossed before its end, whether a gap or its closing speed is not finite, and whether
    another neuron is due to fire.
    """
    segment, source, _, coming = loop.proposal
    dt, end = segment.dt, segment.end
    neuron, flow = world.at(loop.time), world.network.flow
    start, last = (loop.state, dt) if coming is None else (coming.passage.start, coming.passage.dt)
    velocity = flow.velocity(neuron, start, last, end)
    gap, speed = approach(neuron, end, velocity)
    grain = tie_grain(dt, speed, world.span)
    passes = flow.passes(neuron, end)
    past = passes & (gap < -grain)
    crossed = past | (passes & (gap <= grain) & reaches(neuron, end, velocity, gap, speed))
    if coming is not None:
        crossed, past = crossed & ~coming.fires, (past & ~coming.fires) | coming.overshot
    others, fires = _rows(loop.due) != source, crossed | loop.due
    late, broken, ties = _any_of(
        past & others & ~loop.due & (dt > 0),
        ~(jnp.isfinite(gap) & jnp.isfinite(speed)),
        (fires if coming is None else fires | coming.fires) & others,
    )
    return crossed, late, broken, ties


def _propose(world: _World, loop: _Loop) -> _Loop:
    """Compute the next segment with the flow, and determine the event at its end."""
    plan, none = world.plan, nothing(world.plan.n_sources)
    network = world.network._replace(neuron=world.at(loop.time))
    next_due = jnp.min(jnp.where(loop.due, _rows(loop.due), plan.n), axis=0)
    is_due = next_due < plan.n
    arrival, channel = _next_arrival(world.arrivals, loop.arrived)
    left, wait = loop.time.until(plan.t_end), loop.time.until(arrival)
    following, soonest = None, wait
    if loop.queue is not None and world.schedule is not None:
        following = peek(loop.queue, world.schedule, loop.time, plan.n, plan.n_sources)
        soonest = jnp.minimum(soonest, jnp.min(following.wait, axis=0))
    over = ~is_due & (left <= 0) & (soonest > 0)
    status = jnp.where((loop.status == RUNNING) & over, CODE["completed"], loop.status)
    running = status == RUNNING
    flows = running & ~is_due

    horizon = jnp.where(flows, jnp.minimum(jnp.minimum(wait, loop.limit), left), 0.0)
    memory, coming = loop.proposal.segment.memory, None
    if following is None:
        segment = network.flow.next_spike(network.neuron, loop.state, horizon, memory)
    else:
        segment, coming = next_segment(
            network, loop.state, horizon, memory, following, flows, world.span
        )
    reached = flows & ~segment.spiked & (segment.dt >= horizon)
    arrives, ends = reached & (wait <= horizon), reached & (left <= horizon)
    source = jnp.where(arrives, channel, none)
    source = jnp.where(segment.spiked, segment.who, source)
    source = jnp.where(flows, source, jnp.where(running & is_due, next_due, none))
    # An event at a prescribed time has exactly that time, without the rounding of a sum.
    time = loop.time.after(segment.dt, segment.low)
    time = Instant.at(jnp.where(arrives, arrival, plan.t_end)).where(arrives | ends, time)
    segment = segment._replace(low=None)
    return loop._replace(status=status, proposal=_Proposal(segment, source, time, coming))


def _next_arrival(arrivals: Arrivals, index: Int[Array, " batch"]) -> tuple[Array, Array]:
    """Time and source of the next external event of each sample; time inf if there is none."""
    count, batch = arrivals.times.shape
    flat = jnp.minimum(index, count - 1) * batch + jnp.arange(batch, dtype=index.dtype)
    time = jnp.take(arrivals.times.reshape(-1), flat, mode="clip")
    source = jnp.take(arrivals.sources.reshape(-1), flat, mode="clip")
    return jnp.where(index < count, time, jnp.inf), source


def _rows(mask: Bool[Array, "n batch"]) -> Int[Array, "n batch"]:
    return lax.broadcasted_iota(jnp.int32, mask.shape, 0)


def _count(mask: Bool[Array, "..."]) -> Int[Array, "..."]:
    return mask.astype(jnp.int32)


def _any_of(*masks: Bool[Array, "n batch"]) -> tuple[Bool[Array, " batch"], ...]:
    """Compute `jnp.any(mask, axis=0)` of several masks in one reduction."""
    bits = sum(_count(m) << k for k, m in enumerate(masks))
    found = lax.reduce(bits, jnp.asarray(0, jnp.int32), lax.bitwise_or, (0,))
    return tuple((found >> k) & 1 == 1 for k in range(len(masks)))


def _write(world: _World, loop: _Loop, holds: Array, source: Array) -> _Tables:
    plan, record, coming = world.plan, loop.record, loop.proposal.coming
    silent = source == nothing(plan.n_sources)

    def put(table, row):
        return lax.dynamic_update_index_in_dim(table, row, loop.step, 0)

    record = record._replace(
        times=put(record.times, jnp.where(silent, jnp.inf, loop.proposal.time.high)),
        sources=put(record.sources, source),
    )
    dts, states = record.dt, record.state
    if dts is not None and states is not None:
        if coming is not None:
            taken = holds & coming.inbound.takes
            message = jnp.where(taken, coming.following.message, -1)
            record = record._replace(
                message=put(record.message, message), wait=put(record.wait, coming.inbound.wait)
            )
        if record.driven is not None:
            record = record._replace(driven=put(record.driven, loop.time.reached(plan.t_max)))
        dt = jnp.where(holds, loop.proposal.segment.dt, 0.0)
        # Every row overwrites the next checkpoint slot. The last write before the slot advances
        # is the first row of that block.
        place = (loop.step + BLOCK - 1) // BLOCK
        record = record._replace(dt=put(dts, dt), state=write_state(states, place, loop.state))
    if plan.reading is not None:
        kind, segment = plan.reading, loop.proposal.segment
        inbound = None if coming is None else coming.inbound
        flow, neuron = world.network.flow, world.network.neuron
        shown = read(kind, flow, neuron, plan.outputs, loop.state, segment.dt, inbound, segment.end)
        counts = reads(kind, source, holds, plan.n_sources)
        shown = jnp.where(counts, shown, UNREAD[kind])
        record = record._replace(observed=put(record.observed, shown))
    return record


class Static:
    """Hashable wrapper of a pytree with hashable leaves; equal if leaves and structure are."""

    def __init__(self, tree: Any):
        self.tree = tree
        self._key = tuple(jax.tree.leaves(tree)), jax.tree.structure(tree)

    def __eq__(self, other):
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


def solve(plan: Plan, network: Network, adjoint: AbstractAdjoint, arrivals: Arrivals) -> Record:
    """Simulate one sample, differentiably. Under `jax.vmap` one loop simulates the batch."""
    arrays, static = eqx.partition(network, eqx.is_inexact_array)
    one = jax.tree.map(lambda x: x[None], arrivals)
    record = _simulate(Problem(plan, Static(static), adjoint), arrays, one)
    return jax.tree.map(lambda x: x[0], record)


def _run_problem(problem: Problem, arrays: Any, arrivals: Arrivals) -> Record:
    return run(problem.plan, problem.build(arrays), arrivals)


def _differentiated(static: tuple[Problem, tuple[bool, ...]], arrays: Any, arrivals: Arrivals):
    problem, marks = static
    active = jax.tree.unflatten(jax.tree.structure((arrays, arrivals)), marks)
    return problem.adjoint.apply(_loop, problem, active, arrays, arrivals)


_loop = BatchNative("eventsnn_loop", _run_problem)
_simulate = BatchNative("eventsnn_simulate", _run_problem, derivative=_differentiated)
