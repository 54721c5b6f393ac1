r"""Maxima of the membrane potentials of leaky integrators.

A sweep over the input spikes in order of time finds the maxima. The gradient of a maximum $V(t^*)$
follows from the cotangents $\lambda$ of the state in reverse order. They start at the last input
spike before $t^*$,

$$\lambda_V = e^{-(t^* - t_k)/\tau_m}, \qquad \lambda_I = k(t^* - t_k),$$

with the synaptic kernel $k$ of `flows.membrane`. An input spike of weight $w$ changes the
velocity of the state by $(w/\tau_m, -w/\tau_s)$, so that its time and its weight receive

$$\frac{\partial V(t^*)}{\partial t_k} = w \left(\frac{\lambda_I}{\tau_s}
- \frac{\lambda_V}{\tau_m}\right), \qquad \frac{\partial V(t^*)}{\partial w} = \lambda_I.$$

The maximum is an interior one, where $V$ is stationary, or it lies at a constant time, or at an
input spike. In the last case $t^*$ moves with the input spike, and $\partial V / \partial t_k$
contains the slope of $V$ after the spike in addition.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..engine.batching import BatchNative, reverse_only
from ..engine.programs import Static
from ..flows import ExactIntegrator, membrane
from ..models import anywhere, largest
from ..neurons import IntegratorState, LeakyIntegrator
from .integrator import response, without_input
from .system import BLOCK, Arrivals, arrivals_of, summed

_FLOW = ExactIntegrator()


def maxima(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    t_max: float,
) -> Float[Array, " n"]:
    """Maxima of the membrane potentials of one sample until `t_max`.

    A sample with invalid times is computed without input spikes, so that it does not affect the
    gradients of other samples. The caller detects it.
    """
    in_times = jnp.where(jnp.all(in_times >= 0), in_times, jnp.inf)
    arrays, static = eqx.partition(neuron, eqx.is_inexact_array)
    arrivals = jax.tree.map(lambda x: x[None], arrivals_of(in_times))
    return _maxima(_Problem(Static(static), t_max), (arrays, weights), arrivals)[0]


class _Problem(NamedTuple):
    """Static part of the computation; hashable."""

    static: Static  # the neuron without its parameters
    t_max: float

    def neuron(self, arrays: PyTree) -> LeakyIntegrator:
        """Return the neuron with these parameters."""
        return eqx.combine(arrays, self.static.tree)


class _Top(NamedTuple):
    """Maximum of each potential.

    `arrived` is the number of input spikes until the maximum, including one at the same time.
    `slope` is the slope of V after an input spike that is the maximum, and 0 at other maxima.
    """

    value: Float[Array, "batch n"]
    time: Float[Array, "batch n"]
    arrived: Int[Array, "batch n"]
    slope: Float[Array, "batch n"]

    def or_better(self, other: "_Top") -> "_Top":
        """Return the larger maximum of each neuron, and this one if they are equal."""
        return self._or(other, other.value > self.value)

    def or_as_good(self, other: "_Top") -> "_Top":
        """Return the larger maximum of each neuron, and the other one if they are equal."""
        return self._or(other, other.value >= self.value)

    def _or(self, other: "_Top", better: Bool[Array, "batch n"]) -> "_Top":
        return jax.tree.map(lambda x, y: jnp.where(better, y, x), self, other)


class _Sweep(NamedTuple):
    """State of the sweep, after the first `arrived` input spikes of every sample."""

    arrived: Int[Array, ""]
    time: Float[Array, " batch"]
    state: IntegratorState
    top: _Top


class _Rows(NamedTuple):
    """Rows of a block: segments that end at an input spike, at most at `t_max`."""

    start: Float[Array, "rows batch"]
    end: Float[Array, "rows batch"]
    channels: Int[Array, "rows batch"]

    @property
    def dt(self) -> Float[Array, "rows batch 1"]:
        """Length of each row."""
        return (self.end - self.start)[..., None]


def _rows(arrivals: Arrivals, t_max: float, first: Array) -> _Rows:
    """Rows of the block of the input spikes number `first`, `first + 1`, ...

    Rows after the last input spike of a sample end at `t_max`. All but the first of them have
    length 0.
    """
    at = first + jnp.arange(-1, BLOCK, dtype=jnp.int32)
    end = jnp.take(arrivals.times, at, axis=1, mode="fill", fill_value=jnp.inf).T
    end = jnp.where((at < 0)[:, None], 0.0, jnp.minimum(end, t_max))
    channels = jnp.take(arrivals.channels, at[1:], axis=1, mode="fill", fill_value=0).T
    return _Rows(end[:-1], end[1:], channels)


def _find(problem: _Problem, shared: PyTree, arrivals: Arrivals) -> _Top:
    """Find the maxima of a batch."""
    arrays, weights = shared
    neuron, batch = problem.neuron(arrays), len(arrivals.times)
    shape = batch, weights.shape[1]
    number = _number(arrivals, problem.t_max)

    def body(sweep: _Sweep) -> _Sweep:
        rows = _rows(arrivals, problem.t_max, sweep.arrived)
        starts, ends, state = _states(neuron, sweep.state, rows, weights[rows.channels])
        arrival = sweep.arrived + jnp.arange(BLOCK, dtype=jnp.int32)
        arrives = arrival[:, None, None] < number[:, None]
        top = _of_ends(neuron, sweep.top, starts, ends, state, rows, arrival, arrives)
        top = _of_interiors(neuron, top, starts, ends, rows, arrival)
        return _Sweep(sweep.arrived + BLOCK, rows.end[-1], state, top)

    state = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), neuron.init_state(shape[1]))
    zero = jnp.zeros_like(state.v)
    top = _Top(state.v, zero, jnp.zeros(shape, jnp.int32), zero)
    start = _Sweep(jnp.asarray(0, jnp.int32), jnp.zeros(batch, zero.dtype), state, top)
    most = largest(number)
    # After the last input spike there is one more segment, up to t_max.
    sweep = lax.while_loop(lambda s: s.arrived <= most, body, start)
    end = jnp.full(batch, problem.t_max, zero.dtype)
    top = sweep.top.or_better(_top(sweep.state.v, end, number, zero))
    finite = jnp.isfinite(sweep.state.v)
    return top._replace(value=jnp.where(finite, top.value, jnp.nan))


def _number(arrivals: Arrivals, t_max: float) -> Int[Array, " batch"]:
    """Number of arrivals of each sample until `t_max`."""
    return jnp.sum(arrivals.times <= t_max, axis=1, dtype=jnp.int32)


def _top(value: Array, time: Array, arrived: Array, slope: Array) -> _Top:
    """Potentials at a time of each sample, as candidates for the maximum."""
    time, arrived = (jnp.broadcast_to(x.reshape(-1, 1), value.shape) for x in (time, arrived))
    return _Top(value, time, arrived, slope)


def _states(
    neuron: LeakyIntegrator, state: IntegratorState, rows: _Rows, received: Array
) -> tuple[IntegratorState, IntegratorState, IntegratorState]:
    """States at the start and at the end of each row, and after the last one.

    `received` are the weights of the input spikes at the ends.
    """

    def row(state, x):
        dt, weights = x
        end = _FLOW.advance(neuron, state, dt)
        return neuron.receive(end, weights), (state, end)

    after, (starts, ends) = lax.scan(row, state, (rows.dt, received))
    return starts, ends, after


def _of_ends(
    neuron: LeakyIntegrator,
    top: _Top,
    starts: IntegratorState,
    ends: IntegratorState,
    after: IntegratorState,
    rows: _Rows,
    arrival: Int[Array, " rows"],
    arrives: Bool[Array, "rows batch 1"],
) -> _Top:
    """Maxima so far, including the potentials at the input spikes of a block.

    `arrival` is the number of the input spike at the end of each row, from 0, and `arrives` is
    false for the rows without one.
    """
    values = jnp.where(arrives, ends.v, -jnp.inf)
    value = jnp.max(values, axis=0)
    # Of input spikes at the same time, the last one determines the slope after the maximum.
    row = jnp.max(jnp.where(values == value, _row_index(values), -1), axis=0)
    later = jnp.concatenate([starts.current[1:], after.current[None]])
    state = IntegratorState(value, _of_row(later, row))
    slope = neuron.vector_field(state).v
    time = _of_row(rows.end[..., None], row)
    return top.or_as_good(_Top(value, time, arrival[0] + row + 1, slope))


def _of_interiors(
    neuron: LeakyIntegrator,
    top: _Top,
    starts: IntegratorState,
    ends: IntegratorState,
    rows: _Rows,
    arrival: Int[Array, " rows"],
) -> _Top:
    """Maxima so far, including those between the input spikes of a block."""
    may = membrane.may_exceed(neuron, starts, ends, rows.dt, top.value - starts.v)

    def search(carry: tuple[_Top, Array]) -> tuple[_Top, Array]:
        """Search the first marked segment of every neuron, which are few."""
        top, may = carry
        row = jnp.min(jnp.where(may, _row_index(may), BLOCK), axis=0)
        start = jax.tree.map(lambda x: _of_row(x, row), starts)
        begin, dt = (_of_row(x, row) for x in (rows.start[..., None], rows.dt))
        _, turn, peaks = membrane.extremum(neuron, start)
        inside = (row < BLOCK) & peaks & (turn < dt)
        value = jnp.where(inside, membrane.potential(neuron, start, turn), -jnp.inf)
        time, zero = jnp.where(inside, begin + turn, 0.0), jnp.zeros_like(value)
        top = top.or_better(_Top(value, time, arrival[0] + row, zero))
        return top, may & (_row_index(may) != row)

    return lax.while_loop(lambda carry: anywhere(carry[1]), search, (top, may))[0]


def _row_index(table: Float[Array, "rows batch n"]) -> Int[Array, "rows batch n"]:
    """Number of the row of each entry. XLA vectorises comparisons with it, but not `argmax`."""
    return lax.broadcasted_iota(jnp.int32, table.shape, 0)


def _of_row(table: Float[Array, "rows batch #n"], row: Int[Array, "batch n"]) -> Array:
    """Select the entry of one row of each neuron."""
    table = jnp.broadcast_to(table, (len(table), *row.shape))
    return jnp.take_along_axis(table, row[None], axis=0, mode="clip")[0]


def _value(problem: _Problem, shared: PyTree, arrivals: Arrivals) -> Float[Array, "batch n"]:
    return _find(problem, shared, arrivals).value


def _differentiated(static: tuple[_Problem, tuple[bool, ...]], shared: PyTree, arrivals: Arrivals):
    problem, marks = static
    (active, _), _ = jax.tree.unflatten(jax.tree.structure((shared, arrivals)), marks)
    if active.tau_mem or active.tau_syn:
        return _superposed(problem, shared, arrivals)
    run = jax.custom_vjp(lambda shared, arrivals: _found(problem, shared, arrivals).value)

    def forward(shared, arrivals):
        top = _found(problem, shared, arrivals)
        return top.value, (shared, arrivals, top)

    def backward(residual, cotangent):
        shared, arrivals, top = residual
        d_shared, d_times = _transposed(problem, shared, (arrivals, top, cotangent))
        no_channels = np.zeros(arrivals.channels.shape, jax.dtypes.float0)
        return d_shared, arrivals._replace(times=d_times, channels=no_channels)

    run.defvjp(forward, backward)
    return run(*reverse_only((shared, arrivals)))


def _superposed(problem: _Problem, shared: PyTree, arrivals: Arrivals) -> Float[Array, "batch n"]:
    """Maxima as sums over all input spikes, which JAX can differentiate in all parameters."""
    arrays, weights = shared
    neuron = problem.neuron(arrays)
    top = _found(problem, *lax.stop_gradient((shared, arrivals)))

    def sample(arrivals: Arrivals, top: _Top) -> Array:
        at = arrivals.times[jnp.maximum(top.arrived - 1, 0)]
        moves = (top.arrived > 0) & (top.time == lax.stop_gradient(at))
        time = jnp.where(moves, at, top.time)
        arrived = jnp.arange(len(arrivals.times), dtype=jnp.int32) < top.arrived[:, None]
        since = jnp.where(arrived, time[:, None] - arrivals.times, -jnp.inf)
        one = jax.tree.map(lambda x: x[:, None] if eqx.is_array(x) and x.ndim else x, neuron)
        responses = response(one, since) * weights[arrivals.channels].T
        return without_input(neuron, time) + jnp.sum(responses, axis=1)

    return jax.vmap(sample)(arrivals, top)


def _transpose(problem: _Problem, shared: PyTree, batch: tuple):
    """Cotangents of the parameters (summed over the batch) and of the arrival times."""
    (arrays, weights), (arrivals, top, d_value) = shared, batch
    neuron = problem.neuron(arrays)
    before = jnp.take_along_axis(arrivals.times, jnp.maximum(top.arrived - 1, 0), axis=1)
    since = jnp.where(top.arrived > 0, top.time - before, 0.0)
    first = IntegratorState(
        d_value * jnp.exp(-since / neuron.tau_mem), d_value * membrane.kernel(neuron, since)
    )
    moved = d_value * top.slope

    def row(state: IntegratorState, x: tuple[Array, Array]):
        dt, starts = x
        state = jax.tree.map(lambda x, y: x + jnp.where(starts, y, 0.0), state, first)
        decayed = jnp.exp(-dt / neuron.tau_syn) * state.current
        earlier = IntegratorState(
            jnp.exp(-dt / neuron.tau_mem) * state.v,
            membrane.kernel(neuron, dt) * state.v + decayed,
        )
        return earlier, state

    def body(carry):
        k, state, d_weights, d_times = carry
        rows = _rows(arrivals, problem.t_max, k)
        arrived = k + 1 + jnp.arange(BLOCK, dtype=jnp.int32)
        starts = top.arrived == arrived[:, None, None]
        state, states = lax.scan(row, state, (rows.dt, starts), reverse=True)
        slope = states.current / neuron.tau_syn - states.v / neuron.tau_mem
        d_time = weights[rows.channels] * slope + jnp.where(starts, moved, 0.0)
        d_time = jnp.sum(d_time, axis=2)
        d_weights = d_weights.at[rows.channels].add(states.current)
        d_times = lax.dynamic_update_slice_in_dim(d_times, d_time, k, 0)
        return k - BLOCK, state, d_weights, d_times

    zero = jax.tree.map(jnp.zeros_like, first)
    many = arrivals.times.shape[1]
    blocks = -(-many // BLOCK)
    d_times = jnp.zeros((blocks * BLOCK, len(d_value)), weights.dtype)
    last = (largest(_number(arrivals, problem.t_max)) - 1) // BLOCK * BLOCK
    carry = last, zero, jnp.zeros_like(weights), d_times
    _, _, d_weights, d_times = lax.while_loop(lambda c: c[0] >= 0, body, carry)

    left = jnp.exp(-top.time / neuron.tau_mem)
    d = jax.tree.map(jnp.zeros_like, arrays)
    d = eqx.tree_at(
        lambda d: (d.v_init, d.bias),
        d,
        (summed(d_value * left, d.v_init), summed(d_value * (1 - left), d.bias)),
    )
    return (d, d_weights), d_times[:many].T


_found = BatchNative("eventsnn_integrator_found", _find)
_transposed = BatchNative("eventsnn_integrator_transpose", _transpose, sums=True)
_maxima = BatchNative("eventsnn_integrator_maxima", _value, derivative=_differentiated)
