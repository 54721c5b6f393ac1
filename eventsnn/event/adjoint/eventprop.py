"""EventProp: exact gradients from one backward pass over the record of the event loop."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from ... import checks
from ..engine.batching import BatchNative, no_cotangent, reverse_only
from ..engine.checkpoints import CHECKPOINT_EVERY, read_state, state_table, write_state
from ..engine.record import Arrivals
from ..engine.system import Plan, add_batch_axis, gap_scale, initial_state, received
from ..models import largest
from ..neurons import AbstractNeuron
from .base import AbstractAdjoint, Problem, Row, forget, recording
from .messages import transpose_of
from .transpose import Context, Rows, Sweep, transpose_row


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
    threshold, $-\nabla g \cdot \dot x \to 0$. A positive `min_speed` bounds it: where the closing
    speed is lower, $D$ is divided by `min_speed` instead, and the gradient is no longer exact. With
    0, the default, the bound is the speed that a rounding error of the gap can produce; in double
    precision, about $10^{-8}$ of the usual speeds, and in single precision $3 \cdot 10^{-4}$.

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
            membrane potential. With 0, the default, all gradients are exact, except of spikes
            whose existence depends on rounding errors.

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
            static = problem, marks, self.min_speed
            record = record._replace(end=None)
            d_arrays, d_times, d_inputs = _eventprop(static, arrays, (arrivals, record, d_record))
            return d_arrays, no_cotangent(arrivals)._replace(times=d_times, inputs=d_inputs)

        solve.defvjp(forward, backward)
        return solve(*reverse_only((arrays, arrivals)))


def _backward(static: tuple[Problem, tuple[bool, ...], float], arrays: PyTree, batch: Any):
    """Cotangents of the arrays (summed over the batch) and of the arrival times."""
    problem, marks, min_speed = static
    plan = problem.plan
    arrivals, record, d_record = batch
    active, _ = jax.tree.unflatten(jax.tree.structure((arrays, arrivals)), marks)
    d_record, states = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), (d_record, record.state))
    rows = Rows(Row.all(record), *d_record)
    network = problem.build(arrays)
    transport = transpose_of(plan, network, active.weights, rows.row, arrivals)
    context = Context(
        plan=plan,
        network=network,
        transport=transport,
        **_parameters(network.neuron, active.neuron, rows.d_time.shape[-1]),
        gap_scale=gap_scale(network.neuron, plan.n)[:, None],
        min_speed=min_speed,
    )
    sweep = _walk(context, rows, states)

    d_network = jax.tree.map(jnp.zeros_like, arrays)
    neuron = _parameter_cotangents(context, active.neuron, sweep, arrivals.start is None)
    d_network = d_network._replace(neuron=neuron)
    d_network, d_inputs = transport.total(sweep.transport, d_network)
    d_times = _gather_arrivals(plan, arrivals, rows.row, sweep.arrivals)
    return d_network, d_times, d_inputs


def _parameters(neuron: AbstractNeuron, active: PyTree, size: int) -> dict[str, Any]:
    """Split the neuron into learnt parameters, repeated along the batch, and the rest."""
    arrays, rest = eqx.partition(neuron, eqx.is_inexact_array)
    spread = jax.tree.map(
        lambda x, on: jnp.broadcast_to(x, (x.shape[0] if x.ndim else 1, size)) if on else x,
        add_batch_axis(arrays),
        active,
    )
    learnt, fixed = eqx.partition(spread, active)
    return {"learnt": learnt, "fixed": eqx.combine(fixed, rest)}


def _walk(context: Context, rows: Rows, states: Array) -> Sweep:
    """Transpose all rows, from the last used row to the first, block by block.

    The states of a block are recomputed from its checkpoint and stored in a table before its rows
    are transposed. The table also prevents XLA from recomputing a state at each use.
    """
    plan, network = context.plan, context.network
    batch = rows.d_time.shape[-1]
    zero = jax.tree.map(jnp.zeros_like, initial_state(network.neuron, plan.n, batch))

    def at(number) -> Rows:
        return jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, number, 0, False), rows)

    def walk_block(sweep: Sweep) -> Sweep:
        first = sweep.row // CHECKPOINT_EVERY * CHECKPOINT_EVERY

        def recompute(k, carry):
            state, starts, ends = carry
            row = at(first + k).row
            inbound = context.transport.inbound(row)
            end = context.segment(context.learnt, row, state, inbound)
            after = context.jump(context.learnt, row, end, received(network, row.source))
            return after, write_state(starts, k, state), write_state(ends, k, end)

        table = state_table(CHECKPOINT_EVERY, zero)
        start = read_state(states, first // CHECKPOINT_EVERY, zero)
        _, starts, ends = lax.fori_loop(0, CHECKPOINT_EVERY, recompute, (start, table, table))

        def body(sweep: Sweep) -> Sweep:
            k = sweep.row - first
            start, end = read_state(starts, k, zero), read_state(ends, k, zero)
            return transpose_row(context, sweep, at(sweep.row), start, end)

        return lax.while_loop(lambda s: s.row >= first, body, sweep)

    used = (rows.row.source != plan.n_sources) | (rows.row.dt > 0)
    numbers = jnp.arange(plan.max_steps, dtype=jnp.int32)[:, None]
    like = rows.d_time[0]
    sweep = Sweep(
        row=largest(jnp.where(used, numbers, -1)),
        state=zero,
        time=jnp.zeros_like(like),
        pending=jnp.zeros((plan.n, batch), like.dtype),
        neuron=jax.tree.map(jnp.zeros_like, context.learnt),
        arrivals=jnp.zeros_like(rows.d_time),
        transport=context.transport.init(plan.max_steps, like),
    )
    return lax.while_loop(lambda s: s.row >= 0, walk_block, sweep)


def _parameter_cotangents(context: Context, active: PyTree[bool], sweep: Sweep, learns_start: bool):
    """Cotangents of the parameters: sums over all rows, plus the part from the initial state.

    With `learns_start` false, the initial state is a constant.
    """
    arrays, rest = eqx.partition(context.network.neuron, eqx.is_inexact_array)
    n, size = sweep.pending.shape
    _, start_t = jax.vjp(lambda arrays: initial_state(eqx.combine(arrays, rest), n, size), arrays)
    (d_start,) = start_t(sweep.state) if learns_start else (jax.tree.map(jnp.zeros_like, arrays),)

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


def _gather_arrivals(
    plan: Plan, arrivals: Arrivals, rows: Row, d_rows: Float[Array, "rows batch"]
) -> Float[Array, "batch arrivals"]:
    """Convert cotangents per row to cotangents per arrival.

    The k-th arrival is at the k-th row that ends with an external event.
    """
    count = jnp.cumsum(rows.is_external(plan.n, plan.n_sources).T.astype(jnp.int32), axis=1)
    k = jnp.arange(arrivals.times.shape[1], dtype=count.dtype)
    row = jax.vmap(lambda c: jnp.searchsorted(c, k + 1))(count)
    found = row < count.shape[1]
    value = jnp.take_along_axis(d_rows.T, jnp.minimum(row, count.shape[1] - 1), axis=1)
    return jnp.where(found, value, 0.0)


_eventprop = BatchNative("eventsnn_eventprop", _backward, sums=True)
