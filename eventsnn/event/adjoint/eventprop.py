"""EventProp: the event loop transposed, from the record it wrote."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ... import checks
from ..engine.batching import BatchNative, reverse_only
from ..engine.delays import lifted_on_way
from ..engine.readout import read, reads
from ..engine.record import Arrivals, nothing
from ..engine.system import (
    BLOCK,
    Inbound,
    Network,
    Plan,
    approach,
    charges,
    driven,
    initial_state,
    jump,
    lift,
    lifts,
    passage,
    read_state,
    state_table,
    weight_rows,
    write_state,
)
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import AbstractAdjoint, Problem, forget, recording
from .messages import Messages, by_channel, first_lifted, sources_of


class EventProp(AbstractAdjoint):
    r"""Exact reverse-mode gradients from the record of spikes (the default).

    Walks the events backwards with the cotangent $\lambda$ of the state and the cotangent $T$
    of absolute time. For an event at the end of a segment of length $dt$ that reached the state
    $x$ with velocity $\dot x$, and a gap $g(x)$ to the threshold,

    $$D = T + \langle \lambda, \dot x \rangle, \qquad
    \lambda \mathrel{+}= \frac{D}{-\nabla g \cdot \dot x} \nabla g \;\;\text{(a spike)}, \qquad
    T \mathrel{-}= D \;\;\text{(an arrival, whose time receives } D),$$

    and then through the flow over $dt$, transposed. Needs one vector-Jacobian product of the
    flow and one division a spike, for any neuron model.

    At a spike, a membrane that only just reaches its threshold has an unbounded derivative
    ($-\nabla g \cdot \dot x \to 0$), which is reported as it is. To bound it, give a `min_speed`:
    slower crossings are then divided by that, and their gradients are no longer exact.

    Neurons that cross at the same instant do not influence each other's spike time: each
    crossing is divided by the speed before any of their spikes arrived.

    Reference: Wunderlich & Pehle, *Event-based backpropagation can compute exact gradients for
    spiking neural networks*, Scientific Reports 11:12829, 2021 (arXiv:2009.08378).
    """

    min_speed: float = eqx.field(static=True)

    def __init__(self, min_speed: float = 0.0):
        r"""**Arguments:**

        - `min_speed`: the least $-\nabla g \cdot \dot x$ to divide by, >= 0, in units of the gap
            (of most neurons, the membrane potential) per unit of time. 0: all gradients are exact.

        **Raises:** `ValueError` for a `min_speed` that is not finite and >= 0.
        """
        self.min_speed = checks.not_negative("min_speed", min_speed)

    def apply(self, loop, problem, active, arrays, arrivals):
        solve = jax.custom_vjp(lambda arrays, arrivals: loop(problem, arrays, arrivals))

        def forward(arrays, arrivals):
            record = loop(recording(problem), arrays, arrivals)
            return forget(record), (arrays, arrivals, record)

        def backward(residual, cotangent):
            arrays, arrivals, record = residual
            marks = tuple(jax.tree.leaves(active))
            d_record = cotangent.times, cotangent.observed
            d_arrays, d_arrivals = _eventprop(
                (problem, marks), arrays, (arrivals, record, d_record)
            )
            no_sources = np.zeros(arrivals.sources.shape, jax.dtypes.float0)
            return d_arrays, d_arrivals._replace(sources=no_sources)

        solve.defvjp(forward, backward)
        return solve(*reverse_only((arrays, arrivals)))


class _Sweep(NamedTuple):
    """What the backward walk carries; batch last."""

    row: Int[Array, ""]
    state: State  # cotangent of the state after the event
    time: Float[Array, " batch"]  # cotangent of absolute time
    pending: Float[Array, "n batch"]  # numerators of crossings found at the end of a segment
    neuron: PyTree[Float[Array, "n batch"]]  # cotangents of parameters
    weights: Float[Array, "sources+2 columns"] | None
    delays: Float[Array, "sources+2 receivers"] | None
    arrivals: Float[Array, "rows batch"]  # cotangent of the time of the arrival at a row
    messages: Messages | None  # with delays


class _Setting(NamedTuple):
    """What the backward walk reads and never changes.

    Parameters that are learnt have a batch axis of their own: their cotangents are then
    elementwise, to be summed once at the end.
    """

    plan: Plan
    network: Network
    learnt: PyTree[Float[Array, "n batch"]]  # None for every other parameter
    fixed: AbstractNeuron  # None for what is learnt
    learns_weights: bool
    sources: Int[Array, "rows batch"]
    inputs: int  # input spikes, with delays
    min_speed: float

    def neuron(self, learnt: PyTree, row: "_Row") -> AbstractNeuron:
        """The (lifted) neuron of a row with these values of what is learnt."""
        return driven(eqx.combine(learnt, self.fixed), self.network.drive, row.driven)

    def segment(self, learnt: PyTree, row: "_Row", start: State, inbound: Inbound | None) -> State:
        """The end of a row's segment, as a function of all that is differentiated."""
        neuron, flow = self.neuron(learnt, row), self.network.flow
        if inbound is None:
            return flow.advance(neuron, start, row.dt)
        return passage(flow, neuron, start, row.dt, inbound).end


class _Row(NamedTuple):
    """A row of the record and the cotangents of what the row says; batch last."""

    source: Int[Array, " batch"]
    dt: Float[Array, " batch"]
    message: Int[Array, "receivers batch"] | None
    wait: Float[Array, "receivers batch"] | None
    driven: Bool[Array, " batch"] | None
    d_time: Float[Array, " batch"]
    d_seen: Float[Array, "outputs batch"] | None


def _backward(static: tuple[Problem, tuple[bool, ...]], arrays: PyTree, batch: Any):
    """Cotangents of the arrays (summed over the batch) and of the arrival times."""
    problem, marks = static
    arrivals, record, (d_times, d_observed) = batch
    active, _ = jax.tree.unflatten(jax.tree.structure((arrays, arrivals)), marks)
    columns = (record.sources, record.dt, record.message, record.wait, record.driven)
    rows = _Row(*columns, d_times, d_observed)
    rows, states = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), (rows, record.state))
    inputs = 0 if arrivals.inputs is None else arrivals.inputs.shape[1]
    assert isinstance(problem.adjoint, EventProp)
    network, min_speed = problem.build(arrays), problem.adjoint.min_speed
    setting = _setting(problem.plan, network, active, rows.source, inputs, min_speed)
    sweep = _walk(setting, rows, states)

    d_network = jax.tree.map(jnp.zeros_like, arrays)
    d_network = d_network._replace(neuron=_through_start(setting, active.neuron, sweep))
    d_weights, d_delays, d_inputs = sweep.weights, sweep.delays, None
    if sweep.messages is not None and d_delays is not None:
        times, charges = sweep.messages.times[:inputs], sweep.messages.charges
        channels = slice(problem.plan.n, problem.plan.n_sources)
        d_inputs = jnp.sum(times, axis=1).T
        d_delays = d_delays.at[channels].add(by_channel(problem.plan, times))
        if d_weights is not None and charges is not None:
            d_weights = d_weights.at[channels].add(by_channel(problem.plan, charges[:inputs]))
        d_network = d_network._replace(delays=d_delays)
    if d_weights is not None:
        d_network = d_network._replace(weights=d_weights)
    d_times = _by_arrival(problem.plan, arrivals, record.sources, sweep.arrivals.T)
    return d_network, arrivals._replace(times=d_times, inputs=d_inputs)


def _setting(
    plan: Plan, network: Network, active: Any, sources: Array, inputs: int, min_speed: float
) -> _Setting:
    arrays, rest = eqx.partition(network.neuron, eqx.is_inexact_array)
    size = sources.shape[1]
    spread = jax.tree.map(
        lambda x, on: jnp.broadcast_to(x, (x.shape[0] if x.ndim else 1, size)) if on else x,
        lift(arrays),
        active.neuron,
    )
    learnt, fixed = eqx.partition(spread, active.neuron)
    fixed = eqx.combine(fixed, rest)
    return _Setting(plan, network, learnt, fixed, active.weights, sources, inputs, min_speed)


def _walk(setting: _Setting, rows: _Row, states: Array) -> _Sweep:
    """All rows from the last that was used to the first, block by block: the states of a block are
    made again before it is walked. (Also, a state that is read from a table is not computed again
    for each use, as XLA likes to.)"""
    plan, network = setting.plan, setting.network
    zero = jax.tree.map(jnp.zeros_like, initial_state(network.neuron, plan.n, rows.dt.shape[1]))

    def at(row) -> _Row:
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, row, 0, False), rows)

    def walk_block(sweep: _Sweep) -> _Sweep:
        first = sweep.row // BLOCK * BLOCK

        def remake(k, carry):
            state, starts, ends = carry
            row = at(first + k)
            end = setting.segment(setting.learnt, row, state, _inbound(setting, row))
            after = _jumped(setting, setting.learnt, row, end, _current(setting, row))
            return after, write_state(starts, k, state), write_state(ends, k, end)

        table = state_table(BLOCK, zero)
        start = read_state(states, first // BLOCK, zero)
        _, starts, ends = lax.fori_loop(0, BLOCK, remake, (start, table, table))

        def body(sweep: _Sweep) -> _Sweep:
            k = sweep.row - first
            return _undo(
                setting,
                sweep,
                at(sweep.row),
                read_state(starts, k, zero),
                read_state(ends, k, zero),
            )

        return lax.while_loop(lambda s: s.row >= first, body, sweep)

    used = jnp.any((rows.source != nothing(plan.n_sources)) | (rows.dt > 0), axis=1)
    last = plan.max_steps - 1 - jnp.argmax(used[::-1]).astype(jnp.int32)
    start = _start(setting, rows, zero, jnp.where(jnp.any(used), last, -1))
    return lax.while_loop(lambda s: s.row >= 0, walk_block, start)


def _start(setting: _Setting, rows: _Row, zero: State, last: Array) -> _Sweep:
    """After the last row, where all cotangents are 0."""
    plan, network, like = setting.plan, setting.network, rows.dt[0]
    delays, messages = network.delays, None
    if delays is not None:
        receivers, columns = delays.shape[1], network.weights.shape[1]
        messages = Messages.none(setting.inputs + plan.max_steps, receivers, columns, like)
    return _Sweep(
        row=last,
        state=zero,
        time=jnp.zeros_like(like),
        pending=jnp.zeros((plan.n, like.size), like.dtype),
        neuron=jax.tree.map(jnp.zeros_like, setting.learnt),
        weights=jnp.zeros_like(network.weights) if setting.learns_weights else None,
        delays=None if delays is None else jnp.zeros_like(delays),
        arrivals=jnp.zeros_like(rows.dt),
        messages=messages,
    )


def _inbound(setting: _Setting, row: _Row) -> Inbound | None:
    """What was received on the way of a row, with delays."""
    if row.message is None or row.wait is None:
        return None
    source = sources_of(setting.plan, row.message, setting.sources, setting.inputs)
    return Inbound(row.message >= 0, row.wait, charges(setting.network.weights, source))


def _current(setting: _Setting, row: _Row) -> Array | None:
    """What is received at the end of a row, without delays."""
    if setting.network.delays is not None:
        return None
    return weight_rows(setting.network.weights, row.source)


def _jumped(setting: _Setting, learnt: PyTree, row: _Row, end: State, current: Array | None):
    """The state after a row's event."""
    n = setting.plan.n
    winner = lax.broadcasted_iota(jnp.int32, (n, row.source.size), 0) == row.source
    return jump(setting.neuron(learnt, row), end, current, winner)


def _undo(setting: _Setting, sweep: _Sweep, row: _Row, start: State, end: State) -> _Sweep:
    """One event and the segment before it, transposed."""
    plan, flow, learnt = setting.plan, setting.network.flow, setting.learnt
    neuron = setting.neuron(learnt, row)
    winner = lax.broadcasted_iota(jnp.int32, sweep.pending.shape, 0) == row.source
    ends = (row.source >= plan.n) & (row.source != nothing(plan.n_sources))
    moves = row.dt > 0
    inbound = _inbound(setting, row)
    sweep, time = _undo_sending(setting, sweep, row)

    d_event, d_end, d_current, lifted = _undo_jump(setting, sweep, row, end, winner)
    d_read = _undo_reading(setting, row, start, inbound, end)
    if d_read is not None:
        d_event, d_end = _add(d_event, d_read[0]), _add(d_end, d_read[4])
    leg, dt = start, row.dt
    if inbound is not None:
        way = passage(flow, neuron, start, row.dt, inbound)
        leg, dt, lifted = way.start, way.dt, lifted_on_way(flow, neuron, way, inbound)
        ends = ends | jnp.any(lifted, axis=0)
    velocity = flow.velocity(neuron, leg, dt, end)
    _, speed = approach(neuron, end, velocity)
    bounded = jnp.maximum(speed, setting.min_speed) if setting.min_speed > 0 else speed
    # Neurons that tied act at rows of their own, but each at its own time: the sooner one
    # acts, the longer it is until the next, so what belongs to the others is taken off. One that
    # this event lifted over its threshold fires with it, whatever the state.
    waiting = jnp.where(lifted, 0.0, sweep.pending)
    push = time + _inner(d_end, velocity) - jnp.sum(waiting, axis=0)
    if d_read is not None:
        push = push + d_read[2]

    # A crossing is divided by the speed at the end of the segment in which it happened, which
    # for neurons that tied is an earlier row than the one at which they act.
    pending = waiting + jnp.where(winner, push, 0.0)
    divides = moves & (pending != 0)
    d_gap = jnp.where(divides, pending / jnp.where(divides, bounded, 1.0), 0.0)
    gap_t = jax.vjp(lambda p, x: setting.neuron(p, row).threshold_gap(x), learnt, end)[1]
    d_crossing, d_crossed = gap_t(d_gap)

    flow_t = jax.vjp(lambda p, x, i: setting.segment(p, row, x, i), learnt, start, inbound)[1]
    d_flow, d_start, d_inbound = flow_t(_add(d_end, d_crossed))
    if d_read is not None:
        d_start = _add(d_start, d_read[1])
    time = jnp.where(ends, time - push, time)
    if setting.min_speed > 0:  # what a bounded crossing does not pass on is nobody else's
        time = time - jnp.sum(
            pending - d_gap * jnp.where(divides, speed, 0.0), axis=0, where=divides
        )
    if inbound is not None:
        d_lift = _at_lift(lifted, sweep.pending, push, inbound.wait.shape[0])
        d_wait, d_charge = d_inbound.wait, d_inbound.charge
        if d_read is not None:
            d_wait, d_charge = d_wait + d_read[3].wait, d_charge + d_read[3].charge
        time = time - jnp.sum(d_wait, axis=0)
        sweep = _undo_receiving(setting, sweep, row, d_wait + d_lift, d_charge)
    weights = sweep.weights
    if weights is not None and d_current is not None:
        weights = _add_rows(weights, row.source, d_current)
    return sweep._replace(
        row=sweep.row - 1,
        state=d_start,
        time=time,
        pending=jnp.where(moves, 0.0, pending),
        neuron=_add(_add(sweep.neuron, d_event), _add(d_crossing, d_flow)),
        weights=weights,
        arrivals=lax.dynamic_update_index_in_dim(
            sweep.arrivals, jnp.where(ends, push, 0.0), sweep.row, 0
        ),
    )


def _at_lift(lifted: Array, pending: Array, push: Array, receivers: int) -> Array:
    """Cotangents of the waits for the arrivals that lifted neurons over their thresholds at the end
    of a segment: each has that of its own neuron's spike, and the first what is left."""
    own = jnp.where(lifted, pending, 0.0)
    total = jnp.sum(own, axis=0, keepdims=True)
    rest = jnp.where(first_lifted(lifted, receivers), push - total, 0.0)
    return rest + (total if receivers == 1 else own)


def _undo_sending(setting: _Setting, sweep: _Sweep, row: _Row) -> tuple[_Sweep, Array]:
    """With delays: what became of the spike at this row goes to its delays and weights. The
    cotangent of time after the row's event, with that of the spike's arrivals."""
    time = sweep.time + row.d_time
    if sweep.messages is None or sweep.delays is None:
        return sweep, time
    times, charge = sweep.messages.sent(setting.inputs + sweep.row)
    weights = sweep.weights
    if weights is not None and charge is not None:
        weights = _add_rows(weights, row.source, charge)
    delays = _add_rows(sweep.delays, row.source, times)
    return sweep._replace(weights=weights, delays=delays), time + jnp.sum(times, axis=0)


def _undo_receiving(setting, sweep: _Sweep, row: _Row, d_wait: Array, d_charge: Array) -> _Sweep:
    """With delays: what was received on the way of this row goes to its senders."""
    assert sweep.messages is not None and row.message is not None
    weights = sweep.weights
    if weights is not None and sweep.messages.charges is None:
        source = sources_of(setting.plan, row.message, setting.sources, setting.inputs)
        weights = _add_rows(weights, source[0], d_charge)
    messages = sweep.messages.received(row.message, d_wait, d_charge)
    return sweep._replace(weights=weights, messages=messages)


def _undo_jump(setting: _Setting, sweep: _Sweep, row: _Row, end: State, winner: Array):
    """Cotangents, before the event, of the parameters, the state, and the current received (None
    with delays); and whom the event lifted over its threshold."""
    current = _current(setting, row)
    after, jump_t = jax.vjp(
        lambda p, x, i: _jumped(setting, p, row, x, i), setting.learnt, end, current
    )
    lifted = lifts(setting.network.flow, setting.neuron(setting.learnt, row), end, after)
    return *jump_t(sweep.state), lifted & ~winner


def _undo_reading(
    setting: _Setting, row: _Row, start: State, inbound: Inbound | None, end: State
) -> tuple[Any, ...] | None:
    """Cotangents of the parameters, the start, the length and the end of the segment, and of what
    came in, if something was read in it."""
    plan, kind = setting.plan, setting.plan.reading
    if row.d_seen is None or kind is None:
        return None

    def shown(p, *args):
        neuron = setting.neuron(p, row)
        return read(kind, setting.network.flow, neuron, plan.outputs, *args)

    args = (setting.learnt, start, row.dt, inbound, end)
    read_t = jax.vjp(shown, *args)[1]
    # Only where it was read: elsewhere, say at a spike, an observable may be infinite.
    counts = reads(kind, row.source, row.dt >= 0, plan.n_sources)
    return tuple(
        jax.tree.map(lambda x: x if x.dtype == jax.dtypes.float0 else jnp.where(counts, x, 0.0), d)
        for d in read_t(row.d_seen)
    )


def _add(a, b):
    return jax.tree.map(jnp.add, a, b)


def _inner(a, b):
    """The inner product over all neurons and components, one a sample."""
    by_rows: dict[int, Array] = {}  # one reduction for all components of equal size
    for part in jax.tree.leaves(jax.tree.map(jnp.multiply, a, b)):
        rows = part.shape[0]
        by_rows[rows] = by_rows[rows] + part if rows in by_rows else part
    first, *rest = (jnp.sum(x, axis=0) for x in by_rows.values())
    return sum(rest, first)


#: Up to this many entries a matrix product with one-hot sources beats a scatter.
_ONE_HOT_ENTRIES = 1 << 14


def _add_rows(weights: Array, source: Array, rows: Float[Array, "n batch"]) -> Array:
    """Add column b of `rows` to row `source[b]` of the weights."""
    if weights.size > _ONE_HOT_ENTRIES:
        return weights.at[source].add(rows.T)
    hot = source[None] == jnp.arange(weights.shape[0], dtype=source.dtype)[:, None]
    dims = (((1,), (1,)), ((), ()))
    return weights + lax.dot_general(
        hot.astype(rows.dtype), rows, dims, precision=lax.Precision.HIGHEST
    )


def _through_start(setting: _Setting, active: PyTree[bool], sweep: _Sweep):
    """Cotangents of the parameters: those gathered, and those through the initial state."""
    arrays, rest = eqx.partition(setting.network.neuron, eqx.is_inexact_array)
    n, size = sweep.pending.shape
    _, start_t = jax.vjp(lambda arrays: initial_state(eqx.combine(arrays, rest), n, size), arrays)
    (d_start,) = start_t(sweep.state)

    def total(param, on, start, gathered):
        if not on:
            return jnp.zeros_like(param)
        return start + (jnp.sum(gathered) if param.ndim == 0 else jnp.sum(gathered, axis=1))

    flat, tree = jax.tree.flatten(arrays)
    gathered = iter(jax.tree.leaves(sweep.neuron))
    out = [
        total(p, on, s, next(gathered) if on else None)
        for p, on, s in zip(flat, jax.tree.leaves(active), jax.tree.leaves(d_start), strict=True)
    ]
    return jax.tree.unflatten(tree, out)


def _by_arrival(plan: Plan, arrivals: Arrivals, sources, d_rows):
    """From cotangents a row to cotangents an arrival: the k-th arrival is at the k-th such row."""
    is_arrival = (sources >= plan.n) & (sources != nothing(plan.n_sources))
    count = jnp.cumsum(is_arrival.astype(jnp.int32), axis=1)
    k = jnp.arange(arrivals.times.shape[1], dtype=count.dtype)
    row = jax.vmap(lambda c: jnp.searchsorted(c, k + 1))(count)
    found = row < count.shape[1]
    value = jnp.take_along_axis(d_rows, jnp.minimum(row, count.shape[1] - 1), axis=1)
    return jnp.where(found, value, 0.0)


_eventprop = BatchNative("eventsnn_eventprop", _backward, sums=True)
