"""EventProp: exact gradients from one backward pass over the record of the event loop."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ... import checks
from ..engine.batching import BatchNative, reverse_only
from ..engine.delays import triggered_on_way
from ..engine.readout import read, reads
from ..engine.record import Arrivals, nothing
from ..engine.system import (
    BLOCK,
    Inbound,
    Network,
    Plan,
    Triggered,
    approach,
    charges,
    driven,
    initial_state,
    jump,
    lift,
    passage,
    read_state,
    state_table,
    triggered,
    weight_rows,
    write_state,
)
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import AbstractAdjoint, Problem, forget, recording
from .messages import Messages, by_channel, first_of, sources_of


class EventProp(AbstractAdjoint):
    r"""Exact reverse-mode gradients from the record of events (the default).

    The backward pass visits the events in reverse order. It carries the cotangent $\lambda$ of the
    state and the cotangent $T$ of absolute time. Consider an event at the end of a segment of
    length $dt$, where the state is $x$, its velocity $\dot x$, and the gap to the threshold
    $g(x)$. The event is transposed by

    $$D = T + \langle \lambda, \dot x \rangle, \qquad
    \lambda \mathrel{+}= \frac{D}{-\nabla g \cdot \dot x} \nabla g \;\;\text{(a spike)}, \qquad
    T \mathrel{-}= D \;\;\text{(an arrival, whose time receives } D),$$

    and the flow over $dt$ by its vector-Jacobian product. This takes one vector-Jacobian product
    of the flow per segment and one division per spike, for any neuron model.

    The derivative of a spike time is unbounded where the membrane potential barely reaches the
    threshold, $-\nabla g \cdot \dot x \to 0$. By default it is returned unchanged. A positive
    `min_speed` bounds it: where the closing speed is lower, $D$ is divided by `min_speed` instead,
    and the gradient is no longer exact.

    Neurons that cross at the same time do not influence each other's spike times. The cotangent of
    each crossing is divided by the closing speed before any of these spikes.

    Reference: Wunderlich & Pehle, *Event-based backpropagation can compute exact gradients for
    spiking neural networks*, Scientific Reports 11:12829, 2021 (arXiv:2009.08378).
    """

    min_speed: float = eqx.field(static=True)

    def __init__(self, min_speed: float = 0.0):
        r"""**Arguments:**

        - `min_speed`: lower bound of the divisor $-\nabla g \cdot \dot x$, >= 0, in units of the
            gap per unit of time. For most neuron models, the units of the gap are the units of the
            membrane potential. With 0, the default, all gradients are exact.

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
    """Carry of the backward pass; batch last."""

    row: Int[Array, ""]
    state: State  # cotangent of the state after the event
    time: Float[Array, " batch"]  # cotangent of absolute time
    pending: Float[Array, "n batch"]  # cotangents of spike times, not yet divided by a speed
    neuron: PyTree[Float[Array, "n batch"]]  # cotangents of parameters
    weights: Float[Array, "sources+2 columns"] | None
    delays: Float[Array, "sources+2 receivers"] | None
    arrivals: Float[Array, "rows batch"]  # cotangent of the time of the arrival at each row
    messages: Messages | None  # None without delays


class _Setting(NamedTuple):
    """Constants of the backward pass.

    Parameters that are differentiated ("learnt") are repeated along the batch axis. Their
    cotangents are then elementwise, and are summed over the batch once at the end.
    """

    plan: Plan
    network: Network
    learnt: PyTree[Float[Array, "n batch"]]  # None for every other parameter
    fixed: AbstractNeuron  # None for every learnt parameter
    learns_weights: bool
    sources: Int[Array, "rows batch"]
    inputs: int  # number of input spikes with delays; 0 without delays
    min_speed: float

    def neuron(self, learnt: PyTree, row: "_Row") -> AbstractNeuron:
        """Return the neuron of a row, with a batch axis and these values of learnt parameters."""
        return driven(eqx.combine(learnt, self.fixed), self.network.drive, row.driven)

    def segment(self, learnt: PyTree, row: "_Row", start: State, inbound: Inbound | None) -> State:
        """Return the end of a row's segment, as a function of all differentiated arrays."""
        neuron, flow = self.neuron(learnt, row), self.network.flow
        if inbound is None:
            return flow.advance(neuron, start, row.dt)
        return passage(flow, neuron, start, row.dt, inbound).end


class _Row(NamedTuple):
    """One row of the record, and the cotangents of its time and readout; batch last."""

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
    """Transpose all rows, from the last used row to the first, block by block.

    The states of a block are recomputed from its checkpoint and stored in a table before its rows
    are transposed. The table also prevents XLA from recomputing a state at each use.
    """
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
    """Carry after the last row, where all cotangents are 0."""
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
    """Delayed arrivals within a row; None without delays."""
    if row.message is None or row.wait is None:
        return None
    source = sources_of(setting.plan, row.message, setting.sources, setting.inputs)
    return Inbound(row.message >= 0, row.wait, charges(setting.network.weights, source))


def _current(setting: _Setting, row: _Row) -> Array | None:
    """Weights received at the end of a row; None with delays."""
    if setting.network.delays is not None:
        return None
    return weight_rows(setting.network.weights, row.source)


def _jumped(setting: _Setting, learnt: PyTree, row: _Row, end: State, current: Array | None):
    """State after a row's event."""
    n = setting.plan.n
    winner = lax.broadcasted_iota(jnp.int32, (n, row.source.size), 0) == row.source
    return jump(setting.neuron(learnt, row), end, current, winner)


def _undo(setting: _Setting, sweep: _Sweep, row: _Row, start: State, end: State) -> _Sweep:
    r"""Transpose one event and the segment before it.

    **Ties.** Neurons that cross at the same time cross at the end of one segment with $dt > 0$.
    They fire in consecutive rows $k = 1, \dots, m$, and the later rows have $dt = 0$. Let
    $\lambda_k$ and $T_k$ be the cotangents just before event $k$, and $\dot x_k$ the velocity
    there, so that $L_k = T_k + \langle \lambda_k, \dot x_k \rangle$ is the cotangent of the length
    of row $k$. If neuron $k$ fires later, row $k$ becomes longer and row $k + 1$ shorter. The
    cotangent of its spike time is therefore $D_k = L_k - L_{k+1}$ with $L_{m+1} = 0$, or

    $$D_k = T_k + \langle \lambda_k, \dot x_k \rangle - \sum_{j > k} D_j.$$

    The cotangents $D_j$ stay in `pending` until the row with $dt > 0$ is reached. There all
    crossings are transposed, with $\dot x$ the velocity before any of the spikes:

    $$\lambda \mathrel{+}= \sum_{j=1}^m \frac{D_j}{s_j} \nabla g_j, \qquad
    s_j = -\nabla g_j \cdot \dot x.$$

    **Neurons that event $k$ makes fire.** A neuron $j$ that it pushes over its threshold fires at
    the time of event $k$, whatever the state. Its $D_j$ is a part of $D_k$: it is not subtracted
    there, and not divided by a speed. A neuron $j$ that was at its threshold, and that the received
    current carries through it, crosses at the end of a segment of length 0 after event $k$. Its
    $D_j$ is transposed as above, in the state after the event and with the velocity there.
    """
    plan, flow, learnt = setting.plan, setting.network.flow, setting.learnt
    neuron = setting.neuron(learnt, row)
    winner = lax.broadcasted_iota(jnp.int32, sweep.pending.shape, 0) == row.source
    ends = (row.source >= plan.n) & (row.source != nothing(plan.n_sources))
    moves = row.dt > 0
    inbound = _inbound(setting, row)
    sweep, time = _undo_sending(setting, sweep, row)

    if inbound is None:
        sweep, found, lost = _undo_carried(setting, sweep, row, end, winner)
        time = time - lost
    d_event, d_end, d_current = _undo_jump(setting, sweep, row, end)
    d_read = _undo_reading(setting, row, start, inbound, end)
    if d_read is not None:
        d_event, d_end = _add(d_event, d_read[0]), _add(d_end, d_read[4])
    leg, dt, crosses = start, row.dt, moves
    if inbound is not None:
        way = passage(flow, neuron, start, row.dt, inbound)
        leg, dt, found = way.start, way.dt, triggered_on_way(flow, neuron, way, inbound)
        ends, crosses = ends | jnp.any(found.fires(), axis=0), moves | found.carried
    velocity = flow.velocity(neuron, leg, dt, end)
    _, speed = approach(neuron, end, velocity)
    # push = D_k: subtract the pending cotangents of tied neurons, except of the neurons that this
    # event pushed over their thresholds.
    waiting = jnp.where(found.at_once, 0.0, sweep.pending)
    push = time + _inner(d_end, velocity) - jnp.sum(waiting, axis=0)
    if d_read is not None:
        push = push + d_read[2]

    # Divide by the closing speeds in the row in which the neurons crossed (dt > 0). For tied
    # neurons it is an earlier row than the one in which they fire.
    pending = waiting + jnp.where(winner, push, 0.0)
    crossings = jnp.where(crosses, pending, 0.0)
    d_crossing, d_crossed, lost = _undo_crossings(setting, row, end, speed, crossings)
    flow_t = jax.vjp(lambda p, x, i: setting.segment(p, row, x, i), learnt, start, inbound)[1]
    d_flow, d_start, d_inbound = flow_t(_add(d_end, d_crossed))
    if d_read is not None:
        d_start = _add(d_start, d_read[1])
    time = jnp.where(ends, time - push, time) - lost
    if inbound is not None:
        d_lift = _at_lift(found, sweep.pending, push, inbound.wait.shape[0])
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
        pending=jnp.where(crosses, 0.0, pending),
        neuron=_add(_add(sweep.neuron, d_event), _add(d_crossing, d_flow)),
        weights=weights,
        arrivals=lax.dynamic_update_index_in_dim(
            sweep.arrivals, jnp.where(ends, push, 0.0), sweep.row, 0
        ),
    )


def _undo_crossings(
    setting: _Setting, row: _Row, state: State, speed: Array, pending: Array
) -> tuple[PyTree, State, Array]:
    """Transpose the crossings of neurons whose spike times have the cotangents `pending`.

    `state` is the state at the crossings, and `speed` the closing speed there. Returns the
    cotangents of the parameters and of the state, and the cotangent to subtract from absolute time.
    """
    bounded = jnp.maximum(speed, setting.min_speed) if setting.min_speed > 0 else speed
    divides = pending != 0
    d_gap = jnp.where(divides, pending / jnp.where(divides, bounded, 1.0), 0.0)
    gap_t = jax.vjp(lambda p, x: setting.neuron(p, row).threshold_gap(x), setting.learnt, state)[1]
    if setting.min_speed == 0:
        return *gap_t(d_gap), jnp.zeros_like(row.dt)
    # With bounded speeds b_j, the state gets only the share s_j / b_j of D_j. Subtract the rest
    # from T, so that the cotangent of the segment's length remains 0.
    lost = pending - d_gap * jnp.where(divides, speed, 0.0)
    return *gap_t(d_gap), jnp.sum(lost, axis=0, where=divides)


def _undo_carried(
    setting: _Setting, sweep: _Sweep, row: _Row, end: State, winner: Array
) -> tuple[_Sweep, Triggered, Array]:
    """Transpose the crossings of the neurons that the received current carries over threshold.

    Only without delays. Also returns the neurons that the event makes fire, and the cotangent to
    subtract from absolute time.
    """
    neuron = setting.neuron(setting.learnt, row)
    after = _jumped(setting, setting.learnt, row, end, _current(setting, row))
    found = triggered(setting.network.flow, neuron, end, after)
    found = Triggered(found.at_once & ~winner, found.carried & ~winner)
    _, speed = approach(neuron, after, neuron.drift(after))
    crossings = jnp.where(found.carried, sweep.pending, 0.0)
    d_crossing, d_after, lost = _undo_crossings(setting, row, after, speed, crossings)
    sweep = sweep._replace(
        state=_add(sweep.state, d_after),
        pending=jnp.where(found.carried, 0.0, sweep.pending),
        neuron=_add(sweep.neuron, d_crossing),
    )
    return sweep, found, lost


def _at_lift(found: Triggered, pending: Array, push: Array, receivers: int) -> Array:
    """Cotangents of the waits of arrivals that made neurons fire and ended a segment.

    Each arrival that pushed its neuron over threshold gets the cotangent of that neuron's spike
    time. The first arrival also gets the rest of `push`, the cotangent of the time of the event.
    """
    own = jnp.where(found.at_once, pending, 0.0)
    total = jnp.sum(own, axis=0, keepdims=True)
    rest = jnp.where(first_of(found.fires(), receivers), push - total, 0.0)
    return rest + (total if receivers == 1 else own)


def _undo_sending(setting: _Setting, sweep: _Sweep, row: _Row) -> tuple[_Sweep, Array]:
    """Transpose the sending of the spike at this row.

    With delays, the cotangents of the spike's arrivals are added to those of its delays and
    weights. Also returns the cotangent of the time of the row's event, which includes the
    cotangents of these arrival times.
    """
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
    """Transpose the delayed arrivals within this row: store their cotangents for the senders."""
    assert sweep.messages is not None and row.message is not None
    weights = sweep.weights
    if weights is not None and sweep.messages.charges is None:
        source = sources_of(setting.plan, row.message, setting.sources, setting.inputs)
        weights = _add_rows(weights, source[0], d_charge)
    messages = sweep.messages.received(row.message, d_wait, d_charge)
    return sweep._replace(weights=weights, messages=messages)


def _undo_jump(setting: _Setting, sweep: _Sweep, row: _Row, end: State):
    """Transpose the jump of the state at the event.

    Returns the cotangents of the parameters, of the state before the event, and of the received
    weights (None with delays).
    """
    current = _current(setting, row)
    jump_t = jax.vjp(lambda p, x, i: _jumped(setting, p, row, x, i), setting.learnt, end, current)[
        1
    ]
    return jump_t(sweep.state)


def _undo_reading(
    setting: _Setting, row: _Row, start: State, inbound: Inbound | None, end: State
) -> tuple[Any, ...] | None:
    """Transpose the readout of a segment.

    Returns the cotangents of the parameters and of the start, the length, the arrivals and the end
    of the segment, in this order. Returns None if the query reads nothing.
    """
    plan, kind = setting.plan, setting.plan.reading
    if row.d_seen is None or kind is None:
        return None

    def shown(p, *args):
        neuron = setting.neuron(p, row)
        return read(kind, setting.network.flow, neuron, plan.outputs, *args)

    args = (setting.learnt, start, row.dt, inbound, end)
    read_t = jax.vjp(shown, *args)[1]
    # Only rows that are read: elsewhere, for example at a spike, an observable may be infinite.
    counts = reads(kind, row.source, row.dt >= 0, plan.n_sources)
    return tuple(
        jax.tree.map(lambda x: x if x.dtype == jax.dtypes.float0 else jnp.where(counts, x, 0.0), d)
        for d in read_t(row.d_seen)
    )


def _add(a, b):
    return jax.tree.map(jnp.add, a, b)


def _inner(a, b):
    """Inner product over all neurons and components, one value per sample."""
    by_rows: dict[int, Array] = {}  # one reduction for all components of equal size
    for part in jax.tree.leaves(jax.tree.map(jnp.multiply, a, b)):
        rows = part.shape[0]
        by_rows[rows] = by_rows[rows] + part if rows in by_rows else part
    first, *rest = (jnp.sum(x, axis=0) for x in by_rows.values())
    return sum(rest, first)


#: Number of entries up to which a matrix product with one-hot sources is faster than a scatter.
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
    """Cotangents of the parameters: sums over all rows, plus the part from the initial state."""
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
    """Convert cotangents per row to cotangents per arrival.

    The k-th arrival is at the k-th row whose source is an input channel or an observation.
    """
    is_arrival = (sources >= plan.n) & (sources != nothing(plan.n_sources))
    count = jnp.cumsum(is_arrival.astype(jnp.int32), axis=1)
    k = jnp.arange(arrivals.times.shape[1], dtype=count.dtype)
    row = jax.vmap(lambda c: jnp.searchsorted(c, k + 1))(count)
    found = row < count.shape[1]
    value = jnp.take_along_axis(d_rows, jnp.minimum(row, count.shape[1] - 1), axis=1)
    return jnp.where(found, value, 0.0)


_eventprop = BatchNative("eventsnn_eventprop", _backward, sums=True)
