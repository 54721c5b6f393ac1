r"""The backward sweep: exact gradients of the spike times of a layer, by EventProp.

The rows of the forward sweep are visited in reverse order, with the cotangent $\lambda$ of the
state of every lane. An event at time $t$ maps the state $x^-$ to $x^+ = J(x^-)$, and the cotangent
of its time is

$$D = g + \langle \lambda^-, f(x^-) \rangle - \langle \lambda^+, f(x^+) \rangle,
\qquad \lambda^- = J^T \lambda^+,$$

with the vector field $f$, and the cotangent $g$ of a spike time that the layer returns. The time
of an arrival receives $D$, summed over all neurons. The time of a spike is the zero of the gap
$\gamma$ to the threshold, and
$\lambda^- \mathrel{+}= D / (-\nabla \gamma \cdot f)\, \nabla \gamma$. If the reset sets the
potential to a constant, $\lambda^- = J^T \lambda^+$ has no component along it.

If the flow is affine in the state, and no parameter of the neuron is differentiated, the states of
the rows cancel, and only those at the spikes are needed.
"""

import functools as ft
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..engine.system import bounded_speed
from ..models import anywhere, largest
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .compact import marked, pack, total
from .forward import Sweep
from .system import BLOCK, CHUNK, Arrivals, Lanes, Layer, Rows, Setting, Spikes, driven


class Learnt(NamedTuple):
    """The neuron, split into the parameters that are differentiated and the others."""

    parameters: PyTree  # of shape (batch, n): cotangents are elementwise; None for all others
    fixed: AbstractNeuron

    current: Float[Array, "..."] | None  # of pseudospikes

    def neuron(self, parameters: PyTree) -> AbstractNeuron:
        """Return the neuron with these values of the differentiated parameters."""
        return driven(eqx.combine(parameters, self.fixed), self.current)

    def of(self, lanes: Lanes) -> "Learnt":
        """Gather the parameters of the lanes."""
        current = None if self.current is None else lanes.of(self.current)
        return Learnt(lanes.of(self.parameters), lanes.parameters(self.fixed), current)


class _Carry(NamedTuple):
    """Carry of the backward sweep."""

    row: Int[Array, ""]
    state: State  # cotangent of the state after the row
    left: Int[Array, "batch n"]  # number of spikes not yet transposed
    spike_row: Int[Array, "batch n"]  # row of the last of them, -1 for none
    weights: Float[Array, "sources n"] | None
    times: Float[Array, "rows batch"]  # cotangents of the time of the arrival at each row
    learnt: PyTree


class _Piece(NamedTuple):
    """State of a chunk of lanes within a row: the piece between two spikes of a lane."""

    state: State  # cotangent at the end of the piece
    end: Float[Array, " lanes"]
    left: Int[Array, " lanes"]
    learnt: PyTree
    active: Array


class Cotangents(NamedTuple):
    """Cotangents of the weights, of the arrival times, and of the learnt parameters."""

    weights: Float[Array, "sources n"] | None
    times: Float[Array, "batch arrivals"]
    learnt: PyTree  # of shape (batch, n)


def transpose(
    setting: Setting,
    layer: Layer,
    learnt: Learnt,
    learns_weights: bool,
    min_speed: float,
    arrivals: Arrivals,
    swept: Sweep,
    d_times: Float[Array, "batch n spikes"],
) -> Cotangents:
    """Return the cotangents, given those of the spike times."""
    rows, spikes = swept.rows, swept.spikes
    batch, n, _ = d_times.shape
    d_times = jnp.where(spikes.row >= 0, d_times, 0.0)
    zero = layer.neuron.init_state(n)
    zero = jax.tree.map(lambda x: jnp.zeros((batch, n), x.dtype), zero)
    left = jnp.sum(spikes.row >= 0, axis=2, dtype=jnp.int32)
    carry = _Carry(
        row=largest(swept.steps) - 1,
        state=zero,
        left=left,
        spike_row=_row_of(spikes, left),
        weights=jnp.zeros_like(layer.weights) if learns_weights else None,
        times=jnp.zeros_like(rows.dt),
        learnt=jax.tree.map(jnp.zeros_like, learnt.parameters),
    )
    context = _Context(setting, layer, learnt, min_speed, rows, spikes, d_times)

    def row(carry: _Carry, start: State, end: State) -> _Carry:
        return _row(context, carry, start, end)

    if setting.keep == "spikes":
        carry = lax.while_loop(lambda c: c.row >= 0, lambda c: row(c, zero, zero), carry)
    else:
        carry = lax.while_loop(
            lambda c: c.row >= 0,
            lambda c: _block(context, swept.checkpoints, c, row),
            carry,
        )
    initial = jax.vmap(lambda p: _initial(learnt.neuron(p), n), axis_size=batch)
    _, start_t = jax.vjp(initial, learnt.parameters)
    (first,) = start_t(carry.state)
    arrives = rows.source < setting.n_in
    samples = jnp.broadcast_to(jnp.arange(batch), rows.number.shape)
    number = jnp.where(arrives, rows.number, arrivals.times.shape[1])
    d_arrivals = jnp.zeros_like(arrivals.times)
    d_arrivals = d_arrivals.at[samples, number].add(carry.times, mode="drop")
    total_learnt = jax.tree.map(jnp.add, carry.learnt, first)
    return Cotangents(carry.weights, d_arrivals, total_learnt)


class _Context(NamedTuple):
    """Constants of the backward sweep."""

    setting: Setting
    layer: Layer
    learnt: Learnt
    min_speed: float
    rows: Rows
    spikes: Spikes
    d_times: Float[Array, "batch n spikes"]

    def at(self, row: Array) -> Learnt:
        """Return the neuron within a row."""
        return self.learnt._replace(current=self.layer.current(self.rows.past[row]))


def _initial(neuron: AbstractNeuron, n: int) -> State:
    return neuron.normalise(neuron.init_state(n))


def _row_of(spikes: Spikes, left: Array) -> Array:
    """Row of the spike before number `left`, -1 for none."""
    at = jnp.maximum(left - 1, 0)[..., None]
    row = jnp.take_along_axis(spikes.row, at, axis=-1)[..., 0]
    return jnp.where(left > 0, row, -1)


def _block(context: _Context, checkpoints: State, carry: _Carry, row) -> _Carry:
    """Recompute the states of a block from its checkpoint, and transpose its rows."""
    first = carry.row // BLOCK * BLOCK
    start = jax.tree.map(
        lambda x: lax.dynamic_index_in_dim(x, first // BLOCK, 0, False), checkpoints
    )

    def replay(k, c):
        state, starts, ends = c
        after, end = _replay(context, first + k, state)
        starts = jax.tree.map(
            lambda t, x: lax.dynamic_update_index_in_dim(t, x, k, 0), starts, state
        )
        ends = jax.tree.map(lambda t, x: lax.dynamic_update_index_in_dim(t, x, k, 0), ends, end)
        return after, starts, ends

    table = jax.tree.map(lambda x: jnp.zeros((BLOCK, *x.shape), x.dtype), start)
    _, starts, ends = lax.fori_loop(0, carry.row - first + 1, replay, (start, table, table))

    def one(c: _Carry):
        at = c.row - first
        pair = jax.tree.map(lambda t: lax.dynamic_index_in_dim(t, at, 0, False), (starts, ends))
        return row(c, *pair)

    return lax.while_loop(lambda c: c.row >= first, one, carry)


def _replay(context: _Context, row: Array, state: State) -> tuple[State, State]:
    """State after a row, and at its end before the arrival, from the recorded spikes."""
    flow, weights = context.layer.flow, context.layer.weights
    learnt = context.at(row)
    neuron = learnt.neuron(learnt.parameters)
    rows, spikes = context.rows, context.spikes
    here = spikes.row == row
    last = here.shape[-1] - 1 - jnp.argmax(here[..., ::-1], axis=-1)[..., None]
    fired = jnp.any(here, axis=-1)

    def of(table):
        return jnp.take_along_axis(table, last, axis=-1)[..., 0]

    after = neuron.normalise(neuron.reset(jax.tree.map(of, spikes.before), fired))
    since = jnp.where(fired, rows.end[row][:, None] - of(spikes.times), rows.dt[row][:, None])
    state = jax.tree.map(lambda x, y: jnp.where(fired, x, y), after, state)
    end = flow.advance(neuron, state, since)
    return neuron.normalise(neuron.receive(end, weights[rows.source[row]])), end


def _row(context: _Context, carry: _Carry, start: State, end: State) -> _Carry:
    """Transpose the arrival at the end of a row, the spikes within the row, and its flow."""
    rows, layer, flow = context.rows, context.layer, context.layer.flow
    learnt = context.at(carry.row)
    dt, source = rows.dt[carry.row], rows.source[carry.row]

    def deliver(p, x, w):
        neuron = learnt.neuron(p)
        return neuron.normalise(neuron.receive(x, w))

    after, deliver_t = jax.vjp(deliver, learnt.parameters, end, layer.weights[source])
    d_deliver, state, d_weights = deliver_t(carry.state)
    neuron = learnt.neuron(learnt.parameters)
    before, later = neuron.vector_field(end), neuron.vector_field(after)
    d_time = _inner(state, before) - _inner(carry.state, later)
    weights = carry.weights
    if weights is not None:
        weights = weights.at[source].add(d_weights)

    fired = carry.spike_row == carry.row
    silent = jax.tree.map(lambda x: jnp.where(fired, 0.0, x), state)
    _, flow_t = jax.vjp(
        lambda p, x: flow.advance(learnt.neuron(p), x, dt[:, None]), learnt.parameters, start
    )
    d_flow, d_start = flow_t(silent)
    carry = carry._replace(
        weights=weights,
        times=lax.dynamic_update_index_in_dim(carry.times, jnp.sum(d_time, axis=1), carry.row, 0),
        learnt=jax.tree.map(lambda x, y, z: x + y + z, carry.learnt, d_deliver, d_flow),
    )
    return _fired(context, carry, pack(fired), start, state, d_start)


def _fired(context: _Context, carry: _Carry, words, start: State, d_end: State, d_start: State):
    """Transpose the spikes within a row, and the flow between them."""
    setting, many = context.setting, total(words)

    def body(c):
        first, d_start, left, spike_row, learnt = c
        index, found = marked(words, first, CHUNK)
        lanes = Lanes(index // setting.n, index % setting.n, found)
        d_own, own_left, d_learnt = _pieces(context, carry.row, lanes, start, d_end, left)
        row = jnp.where(
            own_left > 0, context.spikes.row[lanes.sample, lanes.neuron, own_left - 1], -1
        )
        learnt = jax.tree.map(
            lambda table, x: lanes.put(table, lanes.of(table) + x), learnt, d_learnt
        )
        return (
            first + CHUNK,
            lanes.put(d_start, d_own),
            lanes.put(left, own_left),
            lanes.put(spike_row, row),
            learnt,
        )

    init = (jnp.asarray(0, jnp.int32), d_start, carry.left, carry.spike_row, carry.learnt)
    _, d_start, left, spike_row, learnt = lax.while_loop(lambda c: c[0] < many, body, init)
    carry = carry._replace(left=left, spike_row=spike_row, learnt=learnt)
    return carry._replace(row=carry.row - 1, state=d_start)


def _pieces(context: _Context, row: Array, lanes: Lanes, start: State, d_end: State, left: Array):
    """Transpose a row in the lanes that fire in it, from its end to its start."""
    rows, spikes, flow = context.rows, context.spikes, context.layer.flow
    learnt, scale = context.at(row).of(lanes), context.layer.scale_of(lanes)

    def advance(p, x, dt):
        return flow.advance(learnt.neuron(p), x, dt)

    def one(piece: _Piece) -> _Piece:
        at = piece.left - 1
        time, before, d_time = jax.tree.map(
            lambda t: t[lanes.sample, lanes.neuron, jnp.maximum(at, 0)],
            (spikes.times, spikes.before, context.d_times),
        )

        def jump(p, x):
            neuron = learnt.neuron(p)
            return neuron.normalise(neuron.reset(x, jnp.ones_like(lanes.found)))

        after, jump_t = jax.vjp(jump, learnt.parameters, before)
        dt = piece.end - time
        _, flow_t = jax.vjp(lambda p, x: advance(p, x, dt), learnt.parameters, after)
        d_flow, d_after = flow_t(piece.state)
        d_jump, d_before = jump_t(d_after)

        neuron = learnt.neuron(learnt.parameters)
        velocity = neuron.vector_field(before)
        _, speed = bounded_speed(neuron, before, velocity, scale, context.min_speed)
        d_event = d_time + _inner(d_before, velocity) - _inner(d_after, neuron.vector_field(after))
        # A lane at or above its threshold at time 0 fires there, whatever its state.
        divides = (d_event != 0) & (time > 0) & (speed > 0)
        d_gap = jnp.where(divides, d_event / jnp.where(divides, speed, 1.0), 0.0)
        _, gap_t = jax.vjp(
            lambda p, x: learnt.neuron(p).threshold_gap(x), learnt.parameters, before
        )
        d_cross, d_crossed = gap_t(d_gap)

        active = piece.active
        more = (
            active
            & (at > 0)
            & (spikes.row[lanes.sample, lanes.neuron, jnp.maximum(at - 1, 0)] == row)
        )

        def add(x, *parts):
            return x + jnp.where(active, sum(parts), 0.0)

        return _Piece(
            state=jax.tree.map(
                lambda x, y, old: jnp.where(active, x + y, old), d_before, d_crossed, piece.state
            ),
            end=jnp.where(active, time, piece.end),
            left=jnp.where(active, at, piece.left),
            learnt=jax.tree.map(add, piece.learnt, d_flow, d_jump, d_cross),
            active=more,
        )

    piece = _Piece(
        state=lanes.of(d_end),
        end=lanes.of_sample(rows.end[row]),
        left=lanes.of(left),
        learnt=jax.tree.map(jnp.zeros_like, learnt.parameters),
        active=lanes.found,
    )
    piece = lax.while_loop(lambda p: anywhere(p.active), one, piece)
    dt = piece.end - lanes.of_sample(rows.end[row] - rows.dt[row])
    _, flow_t = jax.vjp(lambda p, x: advance(p, x, dt), learnt.parameters, lanes.of(start))
    d_flow, d_start = flow_t(piece.state)
    d_flow = jax.tree.map(lambda x: jnp.where(lanes.found, x, 0.0), d_flow)
    return d_start, piece.left, jax.tree.map(jnp.add, piece.learnt, d_flow)


def _inner(a: State, b: State) -> Array:
    """Inner product over the components of each lane."""
    parts = jax.tree.leaves(jax.tree.map(jnp.multiply, a, b))
    return ft.reduce(jnp.add, parts)
