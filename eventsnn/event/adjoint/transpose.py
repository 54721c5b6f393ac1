"""Transpose of one row of the record: an event, and the segment before it."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..engine.readout import evaluate, is_read
from ..engine.segments import Inbound, NoInbound, Triggered, triggered_by_event
from ..engine.system import (
    Network,
    Plan,
    apply_drive,
    bounded_speed,
    jump,
    received,
    spiking,
)
from ..models import anywhere
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import Row
from .messages import DelayedTranspose, ImmediateTranspose, Reception


class Context(NamedTuple):
    """Constants of the backward pass.

    Parameters that are differentiated ("learnt") are repeated along the batch axis. Their
    cotangents are then elementwise, and are summed over the batch once at the end.
    """

    plan: Plan
    network: Network
    transport: ImmediateTranspose | DelayedTranspose
    learnt: PyTree[Float[Array, "n batch"]]  # None for every other parameter
    fixed: AbstractNeuron  # None for every learnt parameter
    gap_scale: Float[Array, "n 1"]
    min_speed: float

    def at(self, learnt: PyTree, row: Row) -> Network:
        """Return the network in a row, with a batch axis and these values of learnt parameters."""
        network = self.network._replace(neuron=eqx.combine(learnt, self.fixed))
        return apply_drive(network, row.past_t_max)

    def segment(
        self, learnt: PyTree, row: Row, start: State, inbound: NoInbound | Inbound
    ) -> State:
        """Return the end of a row's segment, as a function of all differentiated arrays."""
        return inbound.split(self.at(learnt, row), start, row.dt).end

    def jump(self, learnt: PyTree, row: Row, end: State, weights: Array | None) -> State:
        """Return the state after a row's event, as a function of all differentiated arrays."""
        return jump(self.at(learnt, row).neuron, end, weights, spiking(self.plan.n, row.source))


class Sweep(NamedTuple):
    """Carry of the backward pass; batch last."""

    row: Int[Array, ""]
    state: State  # cotangent of the state after the event
    time: Float[Array, " batch"]  # cotangent of absolute time
    pending: Float[Array, "n batch"]  # cotangents of spike times, not yet divided by a speed
    neuron: PyTree[Float[Array, "n batch"]]  # cotangents of parameters
    arrivals: Float[Array, "rows batch"]  # cotangent of the time of the arrival at each row
    transport: Any  # cotangents of weights and delays, see `messages`


class Rows(NamedTuple):
    """Rows of the record, and the cotangents of their times and readouts; batch last."""

    row: Row
    d_time: Float[Array, "... batch"]
    d_seen: Float[Array, "... outputs batch"]


def transpose_row(context: Context, sweep: Sweep, rows: Rows, start: State, end: State) -> Sweep:
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
    the time of event $k$. Its $D_j$ is a part of $D_k$: it is not subtracted there, and not divided
    by a speed. A neuron $j$ at its threshold that the received current carries through it crosses
    after a segment of length 0. Its $D_j$ is transposed as above, with the state and the velocity
    after event $k$.
    """
    plan, transport, row, number = context.plan, context.transport, rows.row, sweep.row
    network, inbound = context.at(context.learnt, row), transport.inbound(row)
    split = inbound.split(network, start, row.dt)
    within = inbound.triggered(network, split)
    within = within.without(row.fires_at_start(network.neuron, split.before))

    sent, d_sent = transport.sent(sweep.transport, row, number)
    sweep = sweep._replace(transport=sent, time=sweep.time + rows.d_time + d_sent)
    sweep, by_event = _transpose_carried(context, sweep, row, end)
    jumped = _transpose_jump(context, sweep, row, end)
    seen = _transpose_readout(context, rows, start, inbound, end)
    d_end = _add(jumped.end, seen.end)

    velocity = network.flow.velocity(network.neuron, split.start, split.dt, end)
    # D_k: subtract the pending cotangents of tied neurons, except of the neurons that an arrival
    # pushed over their thresholds.
    tied = jnp.where(by_event.at_once | within.at_once, 0.0, sweep.pending)
    d_event = sweep.time + _inner(d_end, velocity) - jnp.sum(tied, axis=0) + seen.dt
    pending = tied + jnp.where(spiking(plan.n, row.source), d_event, 0.0)
    # Divide by the closing speeds in the row in which the neurons crossed. For tied neurons it is
    # an earlier row than the one in which they fire.
    crosses = (row.dt > 0) | within.carried
    crossing = jnp.where(crosses, pending, 0.0)
    crossed = _transpose_crossings(context, row, end, velocity, crossing)

    args = (context.learnt, start, inbound)
    _, segment_t = jax.vjp(lambda p, x, i: context.segment(p, row, x, i), *args)
    d_flow, d_start, d_inbound = segment_t(_add(d_end, crossed.state))
    d_inbound = _add(d_inbound, seen.inbound)
    reception = Reception(jumped.weights, d_inbound, sweep.pending, d_event)
    transport, d_waits = transport.received(sweep.transport, row, within, reception)
    ends = row.is_external(plan.n, plan.n_sources) | jnp.any(within.fires(), axis=0)
    d_arrival = jnp.where(ends, d_event, 0.0)
    return sweep._replace(
        row=number - 1,
        state=_add(d_start, seen.start),
        time=sweep.time - d_arrival - crossed.time + d_waits,
        pending=jnp.where(crosses, 0.0, pending),
        neuron=_add(sweep.neuron, jumped.learnt, seen.learnt, crossed.learnt, d_flow),
        arrivals=lax.dynamic_update_index_in_dim(sweep.arrivals, d_arrival, number, 0),
        transport=transport,
    )


class _Crossed(NamedTuple):
    """Cotangents of the quantities that determine the times of crossings."""

    learnt: PyTree[Float[Array, "n batch"]]
    state: State
    time: Float[Array, " batch"]  # to subtract from the cotangent of absolute time


def _transpose_crossings(
    context: Context, row: Row, state: State, velocity: State, pending: Array
) -> _Crossed:
    """Transpose the crossings of neurons whose spike times have the cotangents `pending`.

    `state` is the state at the crossings, and `velocity` its velocity there.
    """
    neuron = context.at(context.learnt, row).neuron
    speed, bounded = bounded_speed(neuron, state, velocity, context.gap_scale, context.min_speed)
    divides = (pending != 0) & (bounded > 0)
    d_gap = jnp.where(divides, pending / jnp.where(divides, bounded, 1.0), 0.0)
    _, gap_t = jax.vjp(
        lambda p, x: context.at(p, row).neuron.threshold_gap(x), context.learnt, state
    )
    # With bounded speeds b_j, the state gets only the share s_j / b_j of D_j. The rest is
    # subtracted from T, so that the cotangent of the segment's length remains 0.
    rest = pending - d_gap * jnp.where(divides, speed, 0.0)
    return _Crossed(*gap_t(d_gap), time=jnp.sum(rest, axis=0, where=divides))


def _transpose_carried(
    context: Context, sweep: Sweep, row: Row, end: State
) -> tuple[Sweep, Triggered]:
    """Transpose the crossings of neurons that the event's current carries over their thresholds.

    Also returns the masks of all neurons that the event makes fire. A cotangent is pending only if
    several neurons fire at the same time. Otherwise the sweep is unchanged, and the masks are
    empty.
    """

    def transposed(sweep: Sweep) -> tuple[Sweep, Triggered]:
        network, spiked = context.at(context.learnt, row), spiking(context.plan.n, row.source)
        after = context.jump(context.learnt, row, end, received(network, row.source))
        fired = spiked | row.fires_at_start(network.neuron, end)
        found = triggered_by_event(network, end, after, fired)
        velocity = network.neuron.vector_field(after)
        carried = jnp.where(found.carried, sweep.pending, 0.0)
        crossed = _transpose_crossings(context, row, after, velocity, carried)
        sweep = sweep._replace(
            state=_add(sweep.state, crossed.state),
            time=sweep.time - crossed.time,
            pending=jnp.where(found.carried, 0.0, sweep.pending),
            neuron=_add(sweep.neuron, crossed.learnt),
        )
        return sweep, found

    def unchanged(sweep: Sweep) -> tuple[Sweep, Triggered]:
        return sweep, Triggered.none(*sweep.pending.shape)

    return lax.cond(anywhere(sweep.pending != 0), transposed, unchanged, sweep)


class _Jumped(NamedTuple):
    """Cotangents of the quantities that determine the state after an event."""

    learnt: PyTree[Float[Array, "n batch"]]
    end: State  # state before the event
    weights: Float[Array, "columns batch"] | None  # received at the event; None with delays


def _transpose_jump(context: Context, sweep: Sweep, row: Row, end: State) -> _Jumped:
    """Transpose the jump of the state at the event."""
    weights = received(context.network, row.source)
    args = (context.learnt, end, weights)
    _, jump_t = jax.vjp(lambda p, x, w: context.jump(p, row, x, w), *args)
    return _Jumped(*jump_t(sweep.state))


class _Seen(NamedTuple):
    """Cotangents of the quantities that determine the readout of a segment."""

    learnt: PyTree[Float[Array, "n batch"]]
    inbound: NoInbound | Inbound
    start: State
    dt: Float[Array, " batch"]
    end: State


def _transpose_readout(
    context: Context, rows: Rows, start: State, inbound: NoInbound | Inbound, end: State
) -> _Seen:
    """Transpose the readout of a segment."""
    plan, row = context.plan, rows.row

    def seen(learnt, *args):
        return evaluate(plan.readout, context.at(learnt, row), *args)

    _, seen_t = jax.vjp(seen, context.learnt, inbound, start, row.dt, end)
    # Only rows that are read: elsewhere, for example at a spike, an observable may be infinite.
    read = is_read(plan.readout, row.source, row.dt >= 0, plan.n_sources)
    return _Seen(*jax.tree.map(lambda x: jnp.where(read, x, 0.0), seen_t(rows.d_seen)))


def _add(*trees):
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *trees)


def _inner(a, b):
    """Inner product over all neurons and components, one value per sample."""
    by_rows: dict[int, Array] = {}  # one reduction for all components of equal size
    for part in jax.tree.leaves(jax.tree.map(jnp.multiply, a, b)):
        rows = part.shape[0]
        by_rows[rows] = by_rows[rows] + part if rows in by_rows else part
    first, *rest = (jnp.sum(x, axis=0) for x in by_rows.values())
    return sum(rest, first)
