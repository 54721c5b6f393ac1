"""Derivatives by JAX's automatic differentiation, on a replay of the record."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..engine.batching import program, varying
from ..engine.delays import triggered_on_way
from ..engine.readout import of, read
from ..engine.record import Arrivals, nothing, observation
from ..engine.system import (
    Inbound,
    Passage,
    approach,
    charges,
    driven,
    initial_state,
    jump,
    lift,
    passage,
    triggered,
    weight_rows,
)
from ..neurons.base import State
from .base import AbstractAdjoint, Problem, forget, recording
from .messages import first_of, sources_of

#: Order up to which derivatives of crossing times are correct.
_ORDERS = 3


class Autodiff(AbstractAdjoint):
    """JAX's automatic differentiation through the recorded events.

    Replays the record as one `lax.scan`, in which every spike time is an implicit function of the
    state before it. Supports forward mode and second derivatives (`jax.jvp`, `jax.hessian`). It is
    slower than [`EventProp`][] and needs more memory. Useful to validate EventProp and new neuron
    models.
    """

    def apply(self, loop, problem, active, arrays, arrivals):
        del active
        record = loop(recording(problem), *lax.stop_gradient((arrays, arrivals)))
        assert record.dt is not None
        numbers = jnp.arange(problem.plan.max_steps, dtype=jnp.int32)
        columns = (record.sources, record.dt, record.message, record.wait, record.driven)
        rows = _Row(numbers, *jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), columns))
        shifts, observed = program(_replay, problem=problem)(arrays, arrivals, rows)
        times = jnp.where(record.times < jnp.inf, record.times + shifts, jnp.inf)
        return forget(record)._replace(times=times, observed=observed)


class _Row(NamedTuple):
    """One row of the record, batch last."""

    number: Int[Array, ""]
    source: Int[Array, " batch"]
    dt: Float[Array, " batch"]
    message: Int[Array, "receivers batch"] | None
    wait: Float[Array, "receivers batch"] | None
    driven: Bool[Array, " batch"] | None


class _Replay(NamedTuple):
    """Carry of the replay.

    Times are shifts: a shift has the value zero and the derivative of the time. The values are
    taken from the record, since a difference of two late times is inexact.
    """

    state: State
    time: Float[Array, " batch"]
    due: Float[Array, "n batch"]  # shift of each neuron's last crossing
    arrived: Int[Array, " batch"]  # number of external events so far
    sent: Float[Array, "messages batch"] | None  # shift of each spike; None without delays


def _replay(arrays: PyTree, arrivals: Arrivals, rows: _Row, *, problem: Problem):
    """Return the shifts of the times of all rows, and their readout; batch first."""
    plan, network = problem.plan, problem.build(arrays)
    flow, batch = network.flow, arrivals.times.shape[0]
    first, inputs = initial_state(network.neuron, plan.n, batch), 0
    zero, sent, delays = jnp.zeros(batch, rows.dt.dtype), None, None
    shifts = _shift(arrivals.times)
    if arrivals.inputs is not None and network.delays is not None:
        inputs, delays = arrivals.inputs.shape[1], _shift(network.delays)
        sent = jnp.concatenate([_shift(arrivals.inputs.T), jnp.zeros_like(rows.dt)])
    network = network._replace(neuron=lift(network.neuron))

    def inbound_of(carry: _Replay, row: _Row):
        """Delayed arrivals within a row; their times depend on the times of the spikes sent."""
        if carry.sent is None or row.message is None or row.wait is None or delays is None:
            return None
        takes = row.message >= 0
        source = sources_of(plan, row.message, rows.source, inputs)
        receiver = jnp.arange(len(takes), dtype=source.dtype)[:, None]
        when = jnp.take_along_axis(carry.sent, row.message, axis=0, mode="clip")
        wait = row.wait + (when + delays[source, receiver] - carry.time)
        return Inbound(takes, jnp.where(takes, wait, 0.0), charges(network.weights, source))

    def body(carry: _Replay, row: _Row):
        state, time, due, arrived, sent = carry
        neuron = driven(network.neuron, network.drive, row.driven)
        is_arrival = (row.source >= plan.n) & (row.source != nothing(plan.n_sources))
        winner = jnp.arange(plan.n, dtype=row.source.dtype)[:, None] == row.source
        inbound = inbound_of(carry, row)
        crossing = time + _crossing(flow, neuron, state, row.dt, inbound)
        due = jnp.where(row.dt > 0, crossing, due)
        found = None
        if inbound is not None:
            way = _way(flow, neuron, state, row.dt, inbound)
            found = triggered_on_way(flow, neuron, way, inbound)
            due = jnp.where(found.carried, crossing, due)

        until = jnp.take_along_axis(shifts, arrived[:, None], axis=1, mode="clip")[:, 0]
        until = jnp.where(is_arrival, until, time)
        until = jnp.where(winner.any(0), jnp.sum(jnp.where(winner, due, 0.0), 0), until)
        current = weight_rows(network.weights, row.source) if inbound is None else None
        if inbound is not None and found is not None:
            ends = first_of(found.fires(), len(inbound.wait))
            # The wait of these arrivals is the length of the segment: the difference is a shift.
            arrives = time + (inbound.wait - row.dt)
            first_arrives = jnp.sum(jnp.where(ends, arrives, 0.0), axis=0)
            until = jnp.where(found.fires().any(0), first_arrives, until)
            due = jnp.where(found.at_once, arrives, due)
        dt = row.dt + (until - time)
        end = _way(flow, neuron, state, dt, inbound).end
        seen = None
        if plan.reading == "state":
            reads = row.source == observation(plan.n_sources)
            seen = of(_read(neuron, first, end, reads), plan.outputs)
        elif plan.reading is not None:
            seen = read(plan.reading, flow, neuron, plan.outputs, state, dt, inbound, end)
        after = jump(neuron, end, current, winner)
        if inbound is None:
            found = triggered(flow, neuron, end, after)
            due = jnp.where(found.at_once & ~winner, until, due)
            crossing = until + _crossing(flow, neuron, after, jnp.zeros_like(row.dt), None)
            due = jnp.where(found.carried & ~winner, crossing, due)
        if sent is not None:
            sent = lax.dynamic_update_index_in_dim(sent, until, inputs + row.number, 0)
        arrived = arrived + is_arrival.astype(arrived.dtype)
        return _Replay(after, until, due, arrived, sent), (until, seen)

    due = jnp.zeros((plan.n, batch), zero.dtype)
    start = _Replay(first, zero, due, jnp.zeros(batch, jnp.int32), sent)
    _, (times, seen) = lax.scan(body, varying(start, (arrays, arrivals, rows)), rows)
    return times.T, None if seen is None else jnp.moveaxis(seen, -1, 0)


def _shift(x: Array) -> Array:
    """Return zero, with the derivative of x where x is finite."""
    finite = jnp.isfinite(x)
    return jnp.where(finite, x, 0.0) - lax.stop_gradient(jnp.where(finite, x, 0.0))


def _crossing(flow, neuron, state: State, dt: Array, inbound: Inbound | None) -> Array:
    """Shift of each neuron's crossing time, if it crosses at the end of the segment.

    The crossing time is an implicit function: the zero of the gap. Starting from the known zero,
    each step of Newton's method with a constant slope makes one more order of derivatives correct.
    """
    way = _way(flow, neuron, state, dt, inbound)
    velocity = flow.velocity(neuron, way.start, way.dt, way.end)
    _, speed = lax.stop_gradient(approach(neuron, way.end, velocity))
    closing = speed > jnp.finfo(speed.dtype).tiny ** (1 / _ORDERS)  # else 1 / speed^3 overflows
    shift = jnp.zeros_like(speed)
    for _ in range(_ORDERS):
        gap = _shift(neuron.threshold_gap(_way(flow, neuron, state, dt + shift, inbound).end))
        shift = shift + jnp.where(closing, gap / jnp.where(closing, speed, 1.0), 0.0)
    return shift


def _way(flow, neuron, state: State, dt: Array, inbound: Inbound | None) -> Passage:
    if inbound is None:
        return Passage(state, state, dt, flow.advance(neuron, state, dt))
    return passage(flow, neuron, state, dt, inbound)


def _read(neuron, safe: State, end: State, reads: Array) -> Array:
    """Observable at the end of a segment, in the samples where it is read.

    Elsewhere the observable may be infinite, and a zero cotangent would become NaN. There the
    state `safe` is observed instead.
    """
    return neuron.observe(jax.tree.map(lambda a, b: jnp.where(reads, b, a), safe, end))
