"""The derivative of the event loop, as strategies over it.

No strategy knows the loop: it is handed to them, and they read the record it wrote.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from .batching import BatchNative
from .neurons.base import State
from .spikes import Arrivals, Record, nothing, observation
from .system import Network, Plan, approach, initial_state, jump, lift, read_state, weight_rows


class Problem(NamedTuple):
    """The part of a simulation that is fixed when it is compiled; hashable."""

    plan: Plan
    network: Any  # the static part of a Network, see `Static`
    adjoint: "AbstractAdjoint"

    def build(self, arrays: PyTree) -> Network:
        """The network with these arrays as its leaves."""
        return eqx.combine(arrays, self.network.tree)


class AbstractAdjoint(eqx.Module):
    """How to differentiate a simulation. Fields are static."""

    @abc.abstractmethod
    def apply(
        self,
        loop: Callable[[Problem, PyTree, Arrivals], Record],
        problem: Problem,
        active: PyTree[bool],
        arrays: PyTree,
        arrivals: Arrivals,
    ) -> Record:
        """Run `loop(problem, arrays, arrivals)` so that JAX can differentiate it.

        `active` marks the leaves of `(arrays, arrivals)` that are being differentiated. `loop`
        itself is not differentiable; with `plan.keep_states` it records every segment.
        """


def recording(problem: Problem) -> Problem:
    """The same simulation, with every segment recorded."""
    return problem._replace(plan=problem.plan._replace(keep_states=True))


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
    ($-\nabla g \cdot \dot x \to 0$), which is reported as it is.

    Neurons that cross at the same instant do not influence each other's spike time: each
    crossing is divided by the speed before any of their spikes arrived.

    Reference: Wunderlich & Pehle, *Event-based backpropagation can compute exact gradients for
    spiking neural networks*, Scientific Reports 11:12829, 2021 (arXiv:2009.08378).
    """

    def apply(self, loop, problem, active, arrays, arrivals):
        solve = jax.custom_vjp(lambda arrays, arrivals: loop(problem, arrays, arrivals))

        def forward(arrays, arrivals):
            record = loop(recording(problem), arrays, arrivals)
            return record._replace(dt=None, state=None), (arrays, arrivals, record)

        def backward(residual, cotangent):
            arrays, arrivals, record = residual
            marks = tuple(jax.tree.leaves(active))
            cotangents = cotangent.times, cotangent.observed
            batch = (arrivals, record.sources, record.dt, record.state, cotangents)
            d_arrays, d_times = _eventprop((problem, marks), arrays, batch)
            no_sources = np.zeros(arrivals.sources.shape, jax.dtypes.float0)
            return d_arrays, arrivals._replace(times=d_times, sources=no_sources)

        solve.defvjp(forward, backward)
        return solve(arrays, arrivals)


class Autodiff(AbstractAdjoint):
    """Gradients by JAX's own rules, straight through the recorded events.

    Replays the record as one `lax.scan` in which every spike time is an implicit function of
    the state before it. Slower than [`EventProp`][] and hungrier, but forward-mode and
    higher derivatives work; a check on the other, and on new models.
    """

    def apply(self, loop, problem, active, arrays, arrivals):
        del active
        record = loop(recording(problem), *lax.stop_gradient((arrays, arrivals)))
        assert record.dt is not None
        rows = _Row(record.sources.T, record.dt.T)
        times, observed = _replay(problem, arrays, arrivals, rows)
        times = jnp.where(record.times < jnp.inf, times, jnp.inf)
        return record._replace(times=times, observed=observed, dt=None, state=None)


class _Row(NamedTuple):
    """One segment of the record, batch last."""

    source: Int[Array, " batch"]
    dt: Float[Array, " batch"]


def _replay(problem: Problem, arrays: PyTree, arrivals: Arrivals, rows: _Row):
    plan, network = problem.plan, problem.build(arrays)
    neuron, batch = lift(network.neuron), arrivals.times.shape[0]
    outputs, reads = jnp.asarray(plan.outputs), observation(plan.n_sources)

    def body(carry, row: _Row):
        state, time, due_time, arrived = carry
        is_arrival = (row.source >= plan.n) & (row.source != nothing(plan.n_sources))
        winner = jnp.arange(plan.n, dtype=row.source.dtype)[:, None] == row.source
        moves = row.dt > 0

        # When each neuron crosses, as a function of the state: the value of the shift is zero.
        end = network.flow.advance(neuron, state, row.dt)
        velocity = network.flow.velocity(neuron, state, row.dt, end)
        gap, speed = lax.stop_gradient(approach(neuron, end, velocity))
        closing = speed > 0
        shift = (neuron.threshold_gap(end) - gap) / jnp.where(closing, speed, 1.0)
        due_time = jnp.where(moves, time + row.dt + jnp.where(closing, shift, 0.0), due_time)

        until = jnp.take_along_axis(arrivals.times, arrived[:, None], axis=1, mode="clip")[:, 0]
        until = jnp.where(is_arrival, until, time + row.dt)
        until = jnp.where(winner.any(0), jnp.sum(jnp.where(winner, due_time, 0.0), 0), until)
        end = network.flow.advance(neuron, state, until - time)
        seen = _read(neuron, state, end, row.source == reads)[outputs] if plan.observe else None
        state = jump(neuron, end, weight_rows(network.weights, row.source), winner)
        return (state, until, due_time, arrived + is_arrival.astype(arrived.dtype)), (until, seen)

    state = initial_state(network.neuron, plan.n, batch)
    zero = jnp.zeros(batch, rows.dt.dtype)
    start = (state, zero, jnp.zeros((plan.n, batch), zero.dtype), jnp.zeros(batch, jnp.int32))
    _, (times, seen) = lax.scan(body, start, rows)
    return times.T, None if seen is None else jnp.moveaxis(seen, -1, 0)


def _read(neuron, start: State, end: State, reads: Array) -> Array:
    """The observable at the end of a segment where it is read. Elsewhere it may be infinite
    there, and a zero cotangent would become NaN: so the start is looked at."""
    return neuron.observe(jax.tree.map(lambda a, b: jnp.where(reads, b, a), start, end))


class _Sweep(NamedTuple):
    """What the backward walk carries; batch last."""

    row: Int[Array, ""]
    end: State  # the state at the end of the row's segment
    state: State  # cotangent of the state after the event
    time: Float[Array, " batch"]  # cotangent of absolute time
    pending: Float[Array, "n batch"]  # numerators of crossings found at the end of a segment
    neuron: PyTree[Float[Array, "n batch"]]  # cotangents of parameters
    weights: Float[Array, "sources+2 n"] | None
    arrivals: Float[Array, "rows batch"]  # cotangent of the time of the arrival at a row


def _backward(static: tuple[Problem, tuple[bool, ...]], arrays: PyTree, batch: Any):
    """Cotangents of the arrays (summed over the batch) and of the arrival times."""
    problem, marks = static
    arrivals, sources, dt, states, (d_times, d_observed) = batch
    plan, network = problem.plan, problem.build(arrays)
    tree = jax.tree.structure((arrays, arrivals))
    active, _ = jax.tree.unflatten(tree, marks)
    size = dt.shape[0]

    # Active parameters get a batch axis: their cotangents are then elementwise, summed once.
    lifted = lift(eqx.filter(network.neuron, eqx.is_inexact_array))
    spread = jax.tree.map(
        lambda x, on: jnp.broadcast_to(x, (plan.n, size)) if on else x, lifted, active.neuron
    )
    learnt, fixed = eqx.partition(spread, active.neuron)
    fixed = eqx.combine(fixed, eqx.filter(network.neuron, eqx.is_inexact_array, inverse=True))
    states = jnp.moveaxis(states, 0, -1)
    rows = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), (sources, dt, d_times, d_observed))
    zero = jax.tree.map(jnp.zeros_like, initial_state(network.neuron, plan.n, size))

    def at(row):
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, row, 0, False), rows)

    def end_of(row):
        state = read_state(states, row, zero)
        return network.flow.advance(eqx.combine(learnt, fixed), state, at(row)[1])

    def body(sweep: _Sweep) -> _Sweep:
        start = read_state(states, sweep.row, zero)
        new = _undo(plan, network, learnt, fixed, active.weights, sweep, start, *at(sweep.row))
        # The end of the next segment is carried, or XLA would repeat the flow for each use.
        return new._replace(end=end_of(jnp.maximum(new.row, 0)))

    used = jnp.any((rows[0] != nothing(plan.n_sources)) | (rows[1] > 0), axis=1)
    last = plan.max_steps - 1 - jnp.argmax(used[::-1]).astype(jnp.int32)
    zeros = jnp.zeros((plan.n, size), dt.dtype)
    last = jnp.where(jnp.any(used), last, -1)
    sweep = _Sweep(
        row=last,
        end=end_of(jnp.maximum(last, 0)),
        state=zero,
        time=zeros[0],
        pending=zeros,
        neuron=jax.tree.map(jnp.zeros_like, learnt),
        weights=jnp.zeros_like(network.weights) if active.weights else None,
        arrivals=jnp.zeros_like(rows[1]),
    )
    sweep = lax.while_loop(lambda s: s.row >= 0, body, sweep)
    d_neuron = _through_start(plan, network.neuron, active.neuron, sweep)
    d_network = Network(
        jax.tree.map(jnp.zeros_like, arrays.flow),
        d_neuron,
        jnp.zeros_like(network.weights) if sweep.weights is None else sweep.weights,
    )
    return d_network, _by_arrival(plan, arrivals, sources, sweep.arrivals.T)


def _undo(plan, network, learnt, fixed, learns_weights, sweep, x, source, dt, d_time, d_seen):
    """One event and the segment before it, transposed."""
    winner = lax.broadcasted_iota(jnp.int32, sweep.pending.shape, 0) == source
    is_arrival = (source >= plan.n) & (source != nothing(plan.n_sources))
    moves = dt > 0
    current = weight_rows(network.weights, source)

    def flow(params, state):
        return network.flow.advance(eqx.combine(params, fixed), state, dt)

    def event(params, state, current):
        return jump(eqx.combine(params, fixed), state, current, winner)

    def gap(params, state):
        return eqx.combine(params, fixed).threshold_gap(state)

    def observe(params, state):
        return eqx.combine(params, fixed).observe(state)[jnp.asarray(plan.outputs)]

    end = sweep.end
    _, flow_t = jax.vjp(flow, learnt, x)
    _, event_t = jax.vjp(event, learnt, end, current)
    _, gap_t = jax.vjp(gap, learnt, end)

    d_event, d_end, d_current = event_t(sweep.state)
    if d_seen is not None:
        # Only where it was read: elsewhere, say at a spike, an observable may be infinite.
        reads = source == observation(plan.n_sources)
        d_seen = jax.tree.map(
            lambda x: jnp.where(reads, x, 0.0), jax.vjp(observe, learnt, end)[1](d_seen)
        )
        d_event, d_end = _add(d_event, d_seen[0]), _add(d_end, d_seen[1])
    velocity = network.flow.velocity(eqx.combine(learnt, fixed), x, dt, end)
    _, speed = approach(eqx.combine(learnt, fixed), end, velocity)
    time = sweep.time + d_time
    # Neurons that tied act at rows of their own, but each at its own time: the sooner one
    # acts, the longer it is until the next, so what belongs to the others is taken off.
    push = time + _inner(d_end, velocity) - jnp.sum(sweep.pending, axis=0)

    # A crossing is divided by the speed at the end of the segment in which it happened, which
    # for neurons that tied is an earlier row than the one at which they act.
    pending = sweep.pending + jnp.where(winner, push, 0.0)
    divides = moves & (pending != 0)
    d_gap = jnp.where(divides, pending / jnp.where(divides, speed, 1.0), 0.0)
    d_crossing, d_state = gap_t(d_gap)
    d_flow, d_start = flow_t(_add(d_end, d_state))

    weights = sweep.weights
    if learns_weights:
        weights = _add_rows(weights, source, d_current)
    return sweep._replace(
        row=sweep.row - 1,
        state=d_start,
        time=jnp.where(is_arrival, time - push, time),
        pending=jnp.where(moves, 0.0, pending),
        neuron=_add(_add(sweep.neuron, d_event), _add(d_crossing, d_flow)),
        weights=weights,
        arrivals=lax.dynamic_update_index_in_dim(
            sweep.arrivals, jnp.where(is_arrival, push, 0.0), sweep.row, 0
        ),
    )


def _add(a, b):
    return jax.tree.map(jnp.add, a, b)


def _inner(a, b):
    """The inner product over all neurons and components, one a sample."""
    parts = jax.tree.leaves(jax.tree.map(jnp.multiply, a, b))
    return jnp.sum(sum(parts[1:], parts[0]), axis=0)


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


def _through_start(plan: Plan, neuron, active, sweep: _Sweep):
    """Cotangents of the parameters: those gathered, and those through the initial state."""
    arrays, rest = eqx.partition(neuron, eqx.is_inexact_array)
    size = sweep.time.shape[0]
    _, start_t = jax.vjp(
        lambda arrays: initial_state(eqx.combine(arrays, rest), plan.n, size), arrays
    )
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
