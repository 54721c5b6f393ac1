"""The event loop: the only one in the package.

One iteration of the loop: *judge* the segment that the flow proposed (did another neuron cross
before its end?), let what happens at its end *act* on the network, and have the flow *propose*
the next segment. Every array has the batch as its last axis.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .adjoint import AbstractAdjoint, Problem
from .batching import BatchNative
from .flows import AbstractFlow, Segment
from .neurons import AbstractNeuron
from .neurons.base import State
from .spikes import Arrivals, Record, nothing, observation
from .status import CODE, RUNNING
from .system import (
    Network,
    Plan,
    approach,
    initial_state,
    jump,
    lift,
    lifted_by_jump,
    state_table,
    weight_rows,
    write_state,
)

#: Crossings closer to each other than this many units in the last place of the time (and of the
#: gap) are one instant. Neurons with the same inputs in another order differ by rounding, and
#: must tie all the same.
TIE_ULPS = 16


class _World(NamedTuple):
    """What the loop reads and never changes."""

    plan: Plan
    flow: AbstractFlow
    neuron: AbstractNeuron  # lifted
    weights: Float[Array, "sources+2 n"]
    span: Float[Array, "n 1"]  # the size of a gap, to which its rounding error is relative
    arrivals: Arrivals  # batch last


class _Tables(NamedTuple):
    """The fields of [`Record`][] that are written row by row; rows first, batch last."""

    times: Array
    sources: Array
    observed: Array | None
    dt: Array | None
    state: Array | None


class _Proposal(NamedTuple):
    segment: Segment
    source: Int[Array, " batch"]
    time: Float[Array, " batch"]  # when the segment ends


class _Loop(NamedTuple):
    step: Int[Array, ""]
    state: State
    time: Float[Array, " batch"]
    proposal: _Proposal
    limit: Float[Array, " batch"]  # a crossing is known to lie before this time
    due: Bool[Array, "n batch"]  # has crossed, is yet to fire
    arrived: Int[Array, " batch"]
    events: Int[Array, " batch"]
    fired: Int[Array, "outputs batch"]
    status: Int[Array, " batch"]
    steps: Int[Array, " batch"]
    record: _Tables


def run(plan: Plan, network: Network, arrivals: Arrivals) -> Record:
    """Simulate a batch; arrays come and go with the batch first."""
    flow, neuron, weights = network
    span = jnp.abs(neuron.threshold_gap(neuron.normalise(neuron.init_state(plan.n))))[:, None]
    state = initial_state(neuron, plan.n, arrivals.times.shape[0])
    world = _World(plan, flow, lift(neuron), weights, span, jax.tree.map(lambda x: x.T, arrivals))
    start = _start(world, state)

    def more(loop: _Loop):
        return (loop.step < plan.max_steps) & jnp.any(loop.status == RUNNING)

    def body(loop: _Loop):
        return _propose(world, _act(world, loop))

    end = lax.while_loop(more, body, start)
    status = jnp.where(end.status == RUNNING, CODE["max_steps"], end.status)
    tables = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), end.record)
    return Record(status=status, steps=end.steps, **tables._asdict())


def _start(world: _World, state: State) -> _Loop:
    plan, dtype = world.plan, world.weights.dtype
    batch = world.arrivals.times.shape[1]
    zero, none = jnp.zeros(batch, dtype), jnp.zeros(batch, jnp.int32)
    memory = world.flow.init(world.neuron, state, zero + plan.t_max)
    segment = Segment(zero, none, zero > 0, state, memory)
    rows = plan.max_steps

    def table(shape, dtype):
        return jnp.zeros((rows, *shape), dtype)

    record = _Tables(
        times=jnp.full((rows, batch), jnp.inf, dtype),
        sources=jnp.full((rows, batch), nothing(plan.n_sources), jnp.int32),
        observed=table((len(plan.outputs), batch), dtype) if plan.observe else None,
        dt=table((batch,), dtype) if plan.keep_states else None,
        state=state_table(rows, state) if plan.keep_states else None,
    )
    return _Loop(
        step=jnp.asarray(0, jnp.int32),
        state=state,
        time=zero,
        proposal=_Proposal(segment, none + nothing(plan.n_sources), zero),
        limit=zero + jnp.inf,
        due=jnp.zeros((plan.n, batch), bool),
        arrived=none,
        events=none,
        fired=jnp.zeros((len(plan.outputs), batch), jnp.int32),
        status=_refused(world),
        steps=none,
        record=record,
    )


def _refused(world: _World) -> Int[Array, " batch"]:
    """What can be known to be wrong before the first step."""
    leaves = jax.tree.leaves((world.neuron, world.weights))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves if eqx.is_inexact_array(x)])
    times = world.arrivals.times
    good = jnp.all((jnp.isfinite(times) & (times >= 0)) | (times == jnp.inf), axis=0)
    status = jnp.where(good, RUNNING, CODE["invalid_input"])
    status = jnp.where(world.neuron.valid(), status, CODE["invalid_parameters"])
    return jnp.where(jnp.all(finite), status, CODE["not_finite"]).astype(jnp.int32)


def _act(world: _World, loop: _Loop) -> _Loop:
    """Judge the proposal; if it holds, let what happens at its end act on the network."""
    plan, none = world.plan, nothing(world.plan.n_sources)
    (dt, _, _, end, _), source, time = loop.proposal
    running = loop.status == RUNNING
    crossed, late, broken, ties = _judge(world, loop)
    holds = running & ~late & ~broken

    # A crossing comes before an arrival at the same instant, which then has to wait a step.
    source = jnp.where(ties & (source >= plan.n), none, source)
    full = holds & (source < none) & (loop.events >= plan.max_events)
    holds = holds & ~full
    source = jnp.where(holds, source, none)
    winner = _rows(loop.due) == source

    after = jump(world.neuron, end, weight_rows(world.weights, source), winner)
    again = winner & (world.neuron.threshold_gap(after) < 0)  # a reset that did not suffice
    lifted = lifted_by_jump(world.neuron, end, after, winner)
    # A second try is at a shorter horizon: up to the wrong guess, or if that was the horizon
    # already, half of it. (To stop where nobody crosses does no harm.)
    shorter = jnp.where(time < loop.limit, time, 0.5 * (loop.time + time))
    fired = loop.fired + _count(jnp.asarray(plan.outputs, jnp.int32)[:, None] == source)
    status = jnp.where(full, CODE["max_events"], loop.status)
    status = jnp.where(running & broken, CODE["not_finite"], status)
    if plan.stop_after is not None:
        enough = jnp.all(fired >= plan.stop_after, axis=0)
        status = jnp.where(holds & enough, CODE["outputs_fired"], status)
    return loop._replace(
        step=loop.step + 1,
        state=jax.tree.map(lambda new, old: jnp.where(holds, new, old), after, loop.state),
        time=jnp.where(holds, time, loop.time),
        limit=jnp.where(running & late, shorter, jnp.inf),
        due=jnp.where(holds, loop.due | crossed | lifted, loop.due) & ~winner | again,
        arrived=loop.arrived + _count((source >= plan.n) & (source != none)),
        events=loop.events + _count(source < none),
        fired=fired,
        status=status,
        steps=loop.steps + _count(running),
        record=_write(world, loop, jnp.where(holds, dt, 0.0), source),
    )


def _judge(world: _World, loop: _Loop) -> tuple[Array, Array, Array, Array]:
    """Who has crossed at the end of the proposed segment (a mask), and of each sample: did
    somebody cross before its end; is anything not finite; is somebody else yet to fire?"""
    (dt, _, _, end, _), source, time = loop.proposal
    velocity = world.flow.velocity(world.neuron, loop.state, dt, end)
    gap, speed = approach(world.neuron, end, velocity)
    grain = TIE_ULPS * jnp.finfo(time.dtype).eps * (time * jnp.abs(speed) + world.span)
    past = gap < -grain
    crossed = past | ((gap <= grain) & (speed > 0))
    others = _rows(loop.due) != source
    late, broken, ties = _any_of(
        past & others & ~loop.due & (dt > 0),
        ~(jnp.isfinite(gap) & jnp.isfinite(speed)),
        (crossed | loop.due) & others,
    )
    return crossed, late, broken, ties


def _propose(world: _World, loop: _Loop) -> _Loop:
    """Ask the flow for the next segment, and say what happens at its end."""
    plan, none = world.plan, nothing(world.plan.n_sources)
    next_due = jnp.min(jnp.where(loop.due, _rows(loop.due), plan.n), axis=0)
    is_due = next_due < plan.n
    arrival, channel = _next_arrival(world.arrivals, loop.arrived)
    over = ~is_due & (loop.time >= plan.t_max) & (arrival > plan.t_max)
    status = jnp.where((loop.status == RUNNING) & over, CODE["completed"], loop.status)
    running = status == RUNNING
    flows = running & ~is_due

    until = jnp.minimum(jnp.minimum(arrival, loop.limit), plan.t_max)
    horizon = jnp.where(flows, until - loop.time, 0.0)
    segment = world.flow.next_spike(world.neuron, loop.state, horizon, loop.proposal.segment.memory)
    reached = ~segment.spiked & (segment.dt >= horizon)
    source = jnp.where(reached & (arrival <= until), channel, none)
    source = jnp.where(segment.spiked, segment.who, source)
    source = jnp.where(flows, source, jnp.where(running & is_due, next_due, none))
    time = jnp.where(flows & reached, until, loop.time + segment.dt)
    return loop._replace(status=status, proposal=_Proposal(segment, source, time))


def _next_arrival(arrivals: Arrivals, index: Int[Array, " batch"]) -> tuple[Array, Array]:
    """Time and source of the next arrival of each sample; time inf if there is none."""
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
    """`jnp.any(mask, axis=0)` of several masks in one reduction."""
    bits = sum(_count(m) << k for k, m in enumerate(masks))
    found = lax.reduce(bits, jnp.asarray(0, jnp.int32), lax.bitwise_or, (0,))
    return tuple((found >> k) & 1 == 1 for k in range(len(masks)))


def _write(world: _World, loop: _Loop, dt: Array, source: Array) -> _Tables:
    plan, record = world.plan, loop.record
    silent = source == nothing(plan.n_sources)

    def put(table, row):
        return lax.dynamic_update_index_in_dim(table, row, loop.step, 0)

    record = record._replace(
        times=put(record.times, jnp.where(silent, jnp.inf, loop.proposal.time)),
        sources=put(record.sources, source),
    )
    if record.dt is not None and record.state is not None:
        record = record._replace(
            dt=put(record.dt, dt), state=write_state(record.state, loop.step, loop.state)
        )
    if plan.observe:
        seen = world.neuron.observe(loop.proposal.segment.end)[jnp.asarray(plan.outputs)]
        reads = source == observation(plan.n_sources)
        record = record._replace(observed=put(record.observed, jnp.where(reads, seen, 0.0)))
    return record


class Static:
    """A pytree of hashable leaves, itself hashable: by its leaves and its structure."""

    def __init__(self, tree: Any):
        self.tree = tree
        self._key = tuple(jax.tree.leaves(tree)), jax.tree.structure(tree)

    def __eq__(self, other):
        return isinstance(other, Static) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


def solve(plan: Plan, network: Network, adjoint: AbstractAdjoint, arrivals: Arrivals) -> Record:
    """Simulate one sample, differentiably; under `jax.vmap`, a batch in one loop."""
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
