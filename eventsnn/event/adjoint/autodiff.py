"""Derivatives by JAX's automatic differentiation, on a replay of the record."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..engine.batching import varying
from ..engine.delays import delayed_weights
from ..engine.programs import program
from ..engine.readout import evaluate
from ..engine.record import Arrivals, observation_source
from ..engine.segments import Inbound, NoInbound, SplitSegment, triggered_by_event
from ..engine.system import (
    Network,
    Plan,
    add_batch_axis,
    apply_drive,
    bounded_speed,
    gap_scale,
    initial_state,
    jump,
    received,
    spiking,
)
from ..neurons.base import State
from .base import AbstractAdjoint, Problem, Row, forget, recording
from .messages import first_of, sources_after, sources_of

#: Order up to which derivatives of crossing times are correct.
_ORDERS = 3


class Autodiff(AbstractAdjoint):
    """JAX's automatic differentiation through the recorded events.

    The record is replayed as one `lax.scan`, in which every spike time is an implicit function of
    the state before it. This supports forward mode and second derivatives (`jax.jvp`,
    `jax.hessian`). It is slower than [`EventProp`][] and needs more memory, and serves to validate
    EventProp and new neuron models.
    """

    def apply(self, loop, problem, active, arrays, arrivals):
        del active
        record = loop(recording(problem), *lax.stop_gradient((arrays, arrivals)))
        rows = Row.all(record)
        shifts, observed = program(_replay, problem=problem)(arrays, arrivals, rows)
        times = jnp.where(record.times < jnp.inf, record.times + shifts, jnp.inf)
        return forget(record)._replace(times=times, observed=observed)


class _Replay(NamedTuple):
    """Carry of the replay.

    Times are shifts: a shift has the value zero and the derivative of the time. The values are in
    the record, since a difference of two late times is inexact.
    """

    number: Int[Array, ""]  # of the row
    state: State
    time: Float[Array, " batch"]
    crossings: Float[Array, "n batch"]  # shift of each neuron's last crossing
    carried: Bool[Array, "n batch"]  # cross at the start of the next segment, see `Triggered`
    n_arrived: Int[Array, " batch"]  # number of external events so far
    sent: Any  # shift of each spike, see `_Delayed`; () without delays


class _Immediate(NamedTuple):
    """Transport without delays."""

    def init(self) -> tuple[()]:
        return ()

    def inbound(self, replay: _Replay, row: Row) -> NoInbound:
        return NoInbound()

    def arrivals(self, inbound: Any, replay: _Replay, row: Row) -> Array:
        """Shifts of the arrival times of delayed spikes."""
        return replay.time[None]

    def send(self, replay: _Replay, time: Array) -> tuple[()]:
        return ()


class _Delayed(NamedTuple):
    """Transport with delays. The times of arrivals depend on the times of the spikes sent."""

    plan: Plan
    weights: Float[Array, "rows columns"]
    delays: Float[Array, "rows receivers"]  # shifts
    inputs: Float[Array, "inputs batch"]  # shifts
    sources: Int[Array, "spikes batch"]  # see `sources_after`

    def init(self) -> Float[Array, "messages batch"]:
        later = jnp.zeros((len(self.sources), self.inputs.shape[1]), self.inputs.dtype)
        return jnp.concatenate([self.inputs, later])

    def inbound(self, replay: _Replay, row: Row) -> Inbound:
        arrives = row.message >= 0
        source = sources_of(self.plan, row.message, self.sources, len(self.inputs))
        receiver = jnp.arange(len(arrives), dtype=source.dtype)[:, None]
        when = jnp.take_along_axis(replay.sent, row.message, axis=0, mode="clip")
        # Spikes in transit at time 0 have a prescribed arrival.
        sent = row.message < len(self.inputs) + self.plan.max_steps
        delay = jnp.where(sent, self.delays[source, receiver], 0.0)
        wait = row.wait + (when + delay - replay.time)
        return Inbound(jnp.where(arrives, wait, jnp.inf), delayed_weights(self.weights, source))

    def arrivals(self, inbound: Any, replay: _Replay, row: Row) -> Array:
        """Shifts of the times of arrivals at the end of the segment, whose wait is `row.dt`."""
        return replay.time + (inbound.first() - row.dt)

    def send(self, replay: _Replay, time: Array) -> Float[Array, "messages batch"]:
        number = len(self.inputs) + replay.number
        return lax.dynamic_update_index_in_dim(replay.sent, time, number, 0)


def _transport(
    plan: Plan, network: Network, arrivals: Arrivals, rows: Row
) -> _Immediate | _Delayed:
    if arrivals.inputs is None or network.delays is None:
        return _Immediate()
    delays, inputs = _shift(network.delays), _shift(arrivals.inputs.T)
    return _Delayed(plan, network.weights, delays, inputs, sources_after(rows, arrivals))


def _replay(arrays: PyTree, arrivals: Arrivals, rows: Row, *, problem: Problem):
    """Return the shifts of the times of all rows, and their readout; batch first."""
    plan, network = problem.plan, problem.build(arrays)
    batch, dtype = rows.dt.shape[-1], rows.dt.dtype
    initial, shifts = initial_state(network.neuron, plan.n, batch), _shift(arrivals.times)
    if arrivals.start is not None:
        initial = jax.tree.map(lambda x: x.T, arrivals.start.neurons)
    scale = gap_scale(network.neuron, plan.n)[:, None]
    network = network._replace(neuron=add_batch_axis(network.neuron))
    transport = _transport(plan, network, arrivals, rows)

    def body(replay: _Replay, row: Row):
        prescribed = row.is_external(plan.n, plan.n_sources)
        at = jnp.take_along_axis(shifts, replay.n_arrived[:, None], axis=1, mode="clip")[:, 0]
        start = replay._replace(n_arrived=replay.n_arrived + prescribed.astype(jnp.int32))
        until = jnp.where(prescribed, at, replay.time)
        return _replay_row(plan, network, transport, initial, scale, start, row, until)

    zero, none = jnp.zeros(batch, dtype), jnp.zeros(batch, jnp.int32)
    number, crossings = jnp.asarray(0, jnp.int32), jnp.zeros((plan.n, batch), dtype)
    start = _Replay(number, initial, zero, crossings, crossings > 0, none, transport.init())
    _, (times, seen) = lax.scan(body, varying(start, (arrays, arrivals, rows)), rows)
    return times.T, jnp.moveaxis(seen, -1, 0)


def _replay_row(
    plan: Plan,
    network: Network,
    transport: _Immediate | _Delayed,
    initial: State,
    scale: Float[Array, "n 1"],
    replay: _Replay,
    row: Row,
    until: Float[Array, " batch"],
) -> tuple[_Replay, tuple[Array, Array]]:
    """Replay one row; `until` is the shift of its end, unless a spike or a delayed arrival ends it.

    Returns the carry, the shift of the end, and the readout. `initial` is the state at time 0, and
    `scale` the scale of each gap.
    """
    network, spiked = apply_drive(network, row.past_t_max), spiking(plan.n, row.source)
    state, time, inbound = replay.state, replay.time, transport.inbound(replay, row)
    split = inbound.split(network, state, row.dt)
    within = inbound.triggered(network, split)
    within = within.without(row.fires_at_start(network.neuron, split.before))
    crosses = (row.dt > 0) | within.carried | replay.carried
    crossing = _crossing(
        network, scale, split, lambda late: inbound.split(network, state, row.dt + late)
    )
    crossings = jnp.where(crosses, time + crossing, replay.crossings)

    # The end of the segment: a spike, or the first arrival that makes a neuron fire.
    until = jnp.where(spiked.any(0), jnp.sum(jnp.where(spiked, crossings, 0.0), 0), until)
    arrivals = transport.arrivals(inbound, replay, row)
    ends = first_of(within.fires(), len(arrivals))
    earliest = jnp.sum(jnp.where(ends, arrivals, 0.0), axis=0)
    until = jnp.where(within.fires().any(0), earliest, until)
    crossings = jnp.where(within.at_once, arrivals, crossings)
    dt = row.dt + (until - time)
    end = inbound.split(network, state, dt).end

    # Elsewhere the observable may be infinite, and a zero cotangent would become NaN.
    read = row.source == observation_source(plan.n_sources)
    last = end
    if plan.readout.kind == "state":
        last = jax.tree.map(lambda x, y: jnp.where(read, x, y), end, initial)
    seen = evaluate(plan.readout, network, inbound, state, dt, last)

    after = jump(network.neuron, end, received(network, row.source), spiked)
    fired = spiked | row.fires_at_start(network.neuron, end)
    by_event = triggered_by_event(network, end, after, fired)
    crossings = jnp.where(by_event.at_once, until, crossings)
    sent = transport.send(replay, until)
    number, carried = replay.number + 1, by_event.carried
    return _Replay(number, after, until, crossings, carried, replay.n_arrived, sent), (until, seen)


def _shift(x: Array) -> Array:
    """Return zero, with the derivative of x where x is finite."""
    finite = jnp.isfinite(x)
    return jnp.where(finite, x, 0.0) - lax.stop_gradient(jnp.where(finite, x, 0.0))


def _crossing(
    network: Network,
    scale: Float[Array, "n 1"],
    split: SplitSegment,
    lengthened: Callable[[Array], SplitSegment],
) -> Array:
    """Shift of each neuron's crossing time, if it crosses at the end of the segment `split`.

    `lengthened(shift)` is the same segment, whose end is later by `shift` of each neuron. The
    crossing time is an implicit function: the zero of the gap. Starting from the known zero, each
    step of Newton's method with a constant slope makes one more order of derivatives correct.
    `scale` is the scale of each gap.
    """
    neuron = network.neuron
    velocity = network.flow.velocity(neuron, split.start, split.dt, split.end)
    _, speed = lax.stop_gradient(bounded_speed(neuron, split.end, velocity, scale))
    closing = speed > jnp.finfo(speed.dtype).tiny ** (1 / _ORDERS)  # else 1 / speed^3 overflows

    def newton_step(_, shift):
        gap = _shift(neuron.threshold_gap(lengthened(shift).end))
        return shift + jnp.where(closing, gap / jnp.where(closing, speed, 1.0), 0.0)

    return lax.fori_loop(0, _ORDERS, newton_step, jnp.zeros_like(speed))
