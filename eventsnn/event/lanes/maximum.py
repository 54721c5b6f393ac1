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
from ..engine.solve import Static
from ..flows import ExactIntegrator, membrane
from ..neurons import IntegratorState, LeakyIntegrator
from .integrator import response, rest
from .system import Arrivals, arrivals_of

_FLOW = ExactIntegrator()


def maxima(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    t_max: float,
) -> Float[Array, " n"]:
    """Maxima of the membrane potentials of one sample until `t_max`."""
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
    """State of the sweep."""

    arrived: Int[Array, ""]
    time: Float[Array, " batch"]
    state: IntegratorState
    top: _Top


def _find(problem: _Problem, shared: PyTree, arrivals: Arrivals) -> _Top:
    """Find the maxima of a batch."""
    arrays, weights = shared
    neuron, batch = problem.neuron(arrays), len(arrivals.times)
    shape = batch, weights.shape[1]
    number = _number(arrivals, problem.t_max)
    times, channels = jnp.minimum(arrivals.times, problem.t_max).T, arrivals.channels.T

    def body(sweep: _Sweep) -> _Sweep:
        time = times[sweep.arrived]
        end, top = _segment(neuron, sweep, time)
        state = neuron.receive(end, weights[channels[sweep.arrived]])
        arrived = sweep.arrived + 1
        # After the last arrival of a sample, its segments have length 0.
        value = jnp.where((arrived <= number)[:, None], end.v, -jnp.inf)
        # Of input spikes at the same time, the last one determines the slope after the maximum.
        top = top.or_as_good(_top(value, time, arrived, neuron.vector_field(state).v))
        return _Sweep(arrived, time, state, top)

    state = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), neuron.init_state(shape[1]))
    zero = jnp.zeros_like(state.v)
    top = _Top(state.v, zero, jnp.zeros(shape, jnp.int32), zero)
    start = _Sweep(jnp.asarray(0, jnp.int32), jnp.zeros(batch, zero.dtype), state, top)
    most = jnp.max(number)
    sweep = lax.while_loop(lambda s: s.arrived < most, body, start)
    last = jnp.full(batch, problem.t_max, zero.dtype)
    end, top = _segment(neuron, sweep, last)
    return top.or_better(_top(end.v, last, number, zero))


def _number(arrivals: Arrivals, t_max: float) -> Int[Array, " batch"]:
    """Number of arrivals of each sample until `t_max`."""
    return jnp.sum(arrivals.times < t_max, axis=1, dtype=jnp.int32)


def _top(value: Array, time: Array, arrived: Array, slope: Array) -> _Top:
    """Potentials at a time of each sample, as candidates for the maximum."""
    time, arrived = (jnp.broadcast_to(x.reshape(-1, 1), value.shape) for x in (time, arrived))
    return _Top(value, time, arrived, slope)


def _segment(
    neuron: LeakyIntegrator, sweep: _Sweep, end: Float[Array, " batch"]
) -> tuple[IntegratorState, _Top]:
    """State at the end of a segment, and the maxima so far, including interior ones."""
    state, top, dt = sweep.state, sweep.top, (end - sweep.time)[:, None]
    after = _FLOW.advance(neuron, state, dt)
    may = membrane.may_exceed(neuron, state, after, dt, top.value - state.v)

    def search(top: _Top) -> _Top:
        _, turn, peaks = membrane.extremum(neuron, state)
        inside = peaks & (turn < dt)
        value = membrane.potential(neuron, state, turn)
        time = sweep.time[:, None] + turn
        return top.or_better(
            _Top(
                jnp.where(inside, value, -jnp.inf),
                jnp.where(inside, time, 0.0),
                jnp.broadcast_to(sweep.arrived, value.shape),
                jnp.zeros_like(value),
            )
        )

    return after, lax.cond(jnp.any(may), search, lambda top: top, top)


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
        return rest(neuron, time) + jnp.sum(responses, axis=1)

    return jax.vmap(sample)(arrivals, top)


def _transpose(problem: _Problem, shared: PyTree, batch: tuple):
    """Cotangents of the parameters (summed over the batch) and of the arrival times."""
    (arrays, weights), (arrivals, top, d_value) = shared, batch
    neuron = problem.neuron(arrays)
    times, channels = jnp.minimum(arrivals.times, problem.t_max).T, arrivals.channels.T

    before = jnp.take_along_axis(arrivals.times, jnp.maximum(top.arrived - 1, 0), axis=1)
    since = jnp.where(top.arrived > 0, top.time - before, 0.0)
    first = IntegratorState(
        d_value * jnp.exp(-since / neuron.tau_mem), d_value * membrane.kernel(neuron, since)
    )
    moved = d_value * top.slope

    def body(carry):
        k, state, d_weights, d_times = carry
        starts = top.arrived == k + 1
        state = jax.tree.map(lambda x, y: x + jnp.where(starts, y, 0.0), state, first)
        row = weights[channels[k]]
        d_time = row * (state.current / neuron.tau_syn - state.v / neuron.tau_mem)
        d_time = jnp.sum(d_time + jnp.where(starts, moved, 0.0), axis=1)
        d_weights = d_weights.at[channels[k]].add(state.current)
        earlier = jnp.where(k > 0, times[jnp.maximum(k - 1, 0)], 0.0)
        dt = (times[k] - earlier)[:, None]
        state = IntegratorState(
            jnp.exp(-dt / neuron.tau_mem) * state.v,
            membrane.kernel(neuron, dt) * state.v + jnp.exp(-dt / neuron.tau_syn) * state.current,
        )
        return k - 1, state, d_weights, lax.dynamic_update_index_in_dim(d_times, d_time, k, 0)

    zero = jax.tree.map(jnp.zeros_like, first)
    most = jnp.max(_number(arrivals, problem.t_max))
    carry = most - 1, zero, jnp.zeros_like(weights), jnp.zeros_like(times)
    _, _, d_weights, d_times = lax.while_loop(lambda c: c[0] >= 0, body, carry)

    left = jnp.exp(-top.time / neuron.tau_mem)
    d = jax.tree.map(jnp.zeros_like, arrays)
    d = eqx.tree_at(
        lambda d: (d.v_init, d.bias),
        d,
        (_summed(d_value * left, d.v_init), _summed(d_value * (1 - left), d.bias)),
    )
    return (d, d_weights), d_times.T


def _summed(cotangents: Float[Array, "batch n"], like: Array) -> Array:
    """Sum over the batch and, for a scalar parameter, over the neurons."""
    return jnp.sum(cotangents, axis=None if like.ndim == 0 else 0)


_found = BatchNative("eventsnn_integrator_found", _find)
_transposed = BatchNative("eventsnn_integrator_transpose", _transpose, sums=True)
_maxima = BatchNative("eventsnn_integrator_maxima", _value, derivative=_differentiated)
