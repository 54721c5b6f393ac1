"""Gradients by JAX's own rules, on a replay of the record."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..neurons.base import State
from ..spikes import Arrivals, nothing, observation
from ..system import approach, initial_state, jump, lift, lifted_by_jump, weight_rows
from .base import AbstractAdjoint, Problem, recording


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
        seen = _read(neuron, first, end, row.source == reads)[outputs] if plan.observe else None
        state = jump(neuron, end, weight_rows(network.weights, row.source), winner)
        # Who is lifted over its threshold by the event fires with it.
        due_time = jnp.where(lifted_by_jump(neuron, end, state, winner), until, due_time)
        return (state, until, due_time, arrived + is_arrival.astype(arrived.dtype)), (until, seen)

    first = initial_state(network.neuron, plan.n, batch)
    zero = jnp.zeros(batch, rows.dt.dtype)
    start = (first, zero, jnp.zeros((plan.n, batch), zero.dtype), jnp.zeros(batch, jnp.int32))
    _, (times, seen) = lax.scan(body, start, rows)
    return times.T, None if seen is None else jnp.moveaxis(seen, -1, 0)


def _read(neuron, safe: State, end: State, reads: Array) -> Array:
    """The observable at the end of a segment where it is read. Elsewhere it may be infinite, and a
    zero cotangent would become NaN: so another state is looked at."""
    return neuron.observe(jax.tree.map(lambda a, b: jnp.where(reads, b, a), safe, end))
