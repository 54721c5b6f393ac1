"""Gradients by JAX's own rules, on a replay of the record."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..delayed import lifted_on_way
from ..neurons.base import State
from ..readings import of, read
from ..spikes import Arrivals, nothing, observation
from ..system import (
    Inbound,
    Passage,
    approach,
    charges,
    driven,
    initial_state,
    jump,
    lift,
    lifted_by_jump,
    passage,
    weight_rows,
)
from .base import AbstractAdjoint, Problem, forget, recording
from .messages import first_lifted, sources_of


class Autodiff(AbstractAdjoint):
    """Gradients by JAX's own rules, straight through the recorded events.

    Replays the record as one `lax.scan` in which every spike time is an implicit function of
    the state before it. Slower than [`EventProp`][] and hungrier, but forward mode works;
    a check on the other, and on new models. First derivatives only: a crossing enters
    linearised, so a derivative of a gradient would be wrong.
    """

    def apply(self, loop, problem, active, arrays, arrivals):
        del active
        record = loop(recording(problem), *lax.stop_gradient((arrays, arrivals)))
        assert record.dt is not None
        numbers = jnp.arange(problem.plan.max_steps, dtype=jnp.int32)
        columns = (record.sources, record.dt, record.message, record.driven)
        rows = _Row(numbers, *jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), columns))
        times, observed = _replay(problem, arrays, arrivals, rows)
        times = jnp.where(record.times < jnp.inf, times, jnp.inf)
        return forget(record)._replace(times=times, observed=observed)


class _Row(NamedTuple):
    """One segment of the record, batch last."""

    number: Int[Array, ""]
    source: Int[Array, " batch"]
    dt: Float[Array, " batch"]
    message: Int[Array, "receivers batch"] | None
    driven: Bool[Array, " batch"] | None


class _Replay(NamedTuple):
    """What is carried from row to row."""

    state: State
    time: Float[Array, " batch"]
    due_time: Float[Array, "n batch"]  # when each neuron last crossed
    arrived: Int[Array, " batch"]
    sent: Float[Array, "messages batch"] | None  # with delays, when


def _replay(problem: Problem, arrays: PyTree, arrivals: Arrivals, rows: _Row):
    plan, network = problem.plan, problem.build(arrays)
    lifted_neuron, flow, batch = lift(network.neuron), network.flow, arrivals.times.shape[0]
    first, inputs = initial_state(network.neuron, plan.n, batch), 0
    zero, sent = jnp.zeros(batch, rows.dt.dtype), None
    if arrivals.inputs is not None:
        inputs = arrivals.inputs.shape[1]
        sent = jnp.concatenate([arrivals.inputs.T, jnp.zeros_like(rows.dt)])

    def inbound_of(carry: _Replay, row: _Row):
        """What was received on the way, at times that depend on who sent it when."""
        if carry.sent is None or row.message is None or network.delays is None:
            return None
        takes = row.message >= 0
        source = sources_of(plan, row.message, rows.source, inputs)
        receiver = jnp.arange(len(takes), dtype=source.dtype)[:, None]
        when = jnp.take_along_axis(carry.sent, row.message, axis=0, mode="clip")
        wait = when + network.delays[source, receiver] - carry.time
        # Of what never came, the time is infinite, and a zero cotangent would become NaN.
        return Inbound(takes, jnp.where(takes, wait, 0.0), charges(network.weights, source))

    def body(carry: _Replay, row: _Row):
        state, time, due_time, arrived, sent = carry
        neuron = driven(lifted_neuron, network.drive, row.driven)
        is_arrival = (row.source >= plan.n) & (row.source != nothing(plan.n_sources))
        winner = jnp.arange(plan.n, dtype=row.source.dtype)[:, None] == row.source
        moves, inbound = row.dt > 0, inbound_of(carry, row)

        # When each neuron crosses, as a function of the state: the value of the shift is zero.
        way = _way(flow, neuron, state, row.dt, inbound)
        velocity = flow.velocity(neuron, way.start, way.dt, way.end)
        gap, speed = lax.stop_gradient(approach(neuron, way.end, velocity))
        closing = speed > 0
        shift = (neuron.threshold_gap(way.end) - gap) / jnp.where(closing, speed, 1.0)
        due_time = jnp.where(moves, time + row.dt + jnp.where(closing, shift, 0.0), due_time)

        until = jnp.take_along_axis(arrivals.times, arrived[:, None], axis=1, mode="clip")[:, 0]
        until = jnp.where(is_arrival, until, time + row.dt)
        until = jnp.where(winner.any(0), jnp.sum(jnp.where(winner, due_time, 0.0), 0), until)
        current = weight_rows(network.weights, row.source) if inbound is None else None
        if inbound is not None:
            lifted = lifted_on_way(neuron, way, inbound)
            ends = first_lifted(lifted, len(inbound.wait))
            arrives = time + jnp.sum(jnp.where(ends, inbound.wait, 0.0), axis=0)
            until = jnp.where(lifted.any(0), arrives, until)
        end = _way(flow, neuron, state, until - time, inbound).end
        seen = None
        if plan.reading == "state":
            reads = row.source == observation(plan.n_sources)
            seen = of(_read(neuron, first, end, reads), plan.outputs)
        elif plan.reading is not None:
            kind, dt = plan.reading, until - time
            seen = read(kind, flow, neuron, plan.outputs, state, dt, inbound, end)
        after = jump(neuron, end, current, winner)
        if inbound is None:
            lifted = lifted_by_jump(neuron, end, after, winner)
        # Who is lifted over its threshold by the event fires with it.
        due_time = jnp.where(lifted, until, due_time)
        if sent is not None:
            sent = lax.dynamic_update_index_in_dim(sent, until, inputs + row.number, 0)
        arrived = arrived + is_arrival.astype(arrived.dtype)
        return _Replay(after, until, due_time, arrived, sent), (until, seen)

    crossed = jnp.zeros((plan.n, batch), zero.dtype)
    start = _Replay(first, zero, crossed, jnp.zeros(batch, jnp.int32), sent)
    _, (times, seen) = lax.scan(body, start, rows)
    return times.T, None if seen is None else jnp.moveaxis(seen, -1, 0)


def _way(flow, neuron, state: State, dt: Array, inbound: Inbound | None) -> Passage:
    if inbound is None:
        return Passage(state, state, dt, flow.advance(neuron, state, dt))
    return passage(flow, neuron, state, dt, inbound)


def _read(neuron, safe: State, end: State, reads: Array) -> Array:
    """The observable at the end of a segment where it is read. Elsewhere it may be infinite, and a
    zero cotangent would become NaN: so another state is looked at."""
    return neuron.observe(jax.tree.map(lambda a, b: jnp.where(reads, b, a), safe, end))
