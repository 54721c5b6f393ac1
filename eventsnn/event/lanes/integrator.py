r"""Readouts of leaky integrators: superpositions of the responses to the input spikes.

A leaky integrator is linear and never fires. Its membrane potential is

$$V(t) = b + (V_0 - b)\, e^{-t/\tau_m} + \sum_{t_k < t} w_k\, k(t - t_k)$$

with the synaptic kernel $k$ of `flows.membrane`. The potential at given times, its integral and
the value of its maximum are therefore sums over the input spikes, without a loop over events. Only
the time of the maximum requires a sweep over the input spikes in order of time; by the envelope
theorem the gradient does not depend on it.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..engine.batching import BatchNative
from ..engine.solve import Static
from ..flows import ExactIntegrator, membrane
from ..neurons import IntegratorState, LeakyIntegrator
from .system import Arrivals


def potentials(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    times: Float[Array, " times"],
) -> Float[Array, "n times"]:
    """Membrane potentials of one sample at the given times."""

    def at(time):
        sums = _sum(neuron, weights, lambda neuron, t: _response(neuron, t), time - in_times)
        return _rest(neuron, time) + sums

    return jax.vmap(at, out_axes=1)(times)


def integrals(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    t_max: float,
) -> Float[Array, " n"]:
    """Integrals of the membrane potentials of one sample until `t_max`."""

    def charge(neuron: LeakyIntegrator, t: Array) -> Array:
        # By the differential equation of the kernel, tau_m k' + k = exp(-t / tau_s).
        arrived = jnp.where(t > 0, t, 0.0)
        charged = -neuron.tau_syn * jnp.expm1(-arrived / neuron.tau_syn)
        return jnp.where(t > 0, charged - neuron.tau_mem * _response(neuron, t), 0.0)

    fallen = -neuron.tau_mem * jnp.expm1(-t_max / neuron.tau_mem)
    rest = neuron.bias * t_max + (neuron.v_init - neuron.bias) * fallen
    return rest + _sum(neuron, weights, charge, t_max - in_times)


def maxima(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    arrivals: Arrivals,
    t_max: float,
) -> Float[Array, " n"]:
    """Maxima of the membrane potentials of one sample until `t_max`.

    `arrivals` are the spikes of `in_times`, sorted.
    """
    fixed = lax.stop_gradient((neuron, weights, arrivals.times))
    arrays, rest = eqx.partition(fixed[0], eqx.is_inexact_array)
    batch = Arrivals(fixed[2][None], arrivals.channels[None])
    top = _tops((Static(rest), t_max), (arrays, fixed[1]), batch)
    row, time = top.row[0], top.time[0]
    # A maximum at an arrival moves with it. Elsewhere V is stationary, or the time is constant.
    time = jnp.where(row >= 0, arrivals.times[row], time)

    def one(neuron: LeakyIntegrator, weights: Array, time: Array) -> Array:
        response = jnp.sum(_response(neuron, time - in_times), axis=1)
        return _rest(neuron, time) + response @ weights

    columns = jax.tree.map(lambda x: 0 if eqx.is_array(x) and x.ndim else None, neuron)
    return jax.vmap(one, in_axes=(columns, 1, 0))(neuron, weights, time)


def _rest(neuron: LeakyIntegrator, time: Array) -> Array:
    """Potential without input."""
    return neuron.bias + (neuron.v_init - neuron.bias) * jnp.exp(-time / neuron.tau_mem)


def _response(neuron: LeakyIntegrator, t: Array) -> Array:
    """Response to a spike of weight 1 at time 0."""
    return jnp.where(t > 0, membrane.kernel(neuron, jnp.where(t > 0, t, 0.0)), 0.0)


def _sum(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    kernel: Callable[[LeakyIntegrator, Array], Array],
    since: Float[Array, "inputs k"],
) -> Float[Array, " n"]:
    """Sum of the weighted responses to all input spikes."""
    if neuron.tau_mem.ndim == 0 and neuron.tau_syn.ndim == 0:
        return jnp.sum(kernel(neuron, since), axis=1) @ weights
    return jnp.sum(jnp.sum(kernel(neuron, since[..., None]), axis=1) * weights, axis=0)


class _Top(NamedTuple):
    """Maximum of each neuron: value, time, and number of the arrival at this time, or -1."""

    value: Float[Array, "batch n"]
    time: Float[Array, "batch n"]
    row: Int[Array, "batch n"]


def _find(static: tuple[Static, float], shared: PyTree, arrivals: Arrivals) -> _Top:
    """Times of the maxima of a batch."""
    rest, t_max = static
    arrays, weights = shared
    neuron, flow = eqx.combine(arrays, rest.tree), ExactIntegrator()
    (batch, count), n = arrivals.times.shape, weights.shape[1]
    channels, times = arrivals.channels.T, jnp.minimum(arrivals.times, t_max).T

    def candidates(top: _Top, state: IntegratorState, start: Array, row: Array, dt: Array) -> _Top:
        """Compare with the start of a segment, and with its interior maximum."""
        _, turn, peaks = membrane.extremum(neuron, state)
        peaks = peaks & (turn < dt)
        value = jnp.where(peaks, membrane.maximum(neuron, state, dt), state.v)
        time = jnp.where(peaks, start + turn, start)
        better = value > top.value
        new = _Top(value, time, jnp.where(peaks, -1, row))
        return jax.tree.map(lambda x, y: jnp.where(better, x, y), new, top)

    def more(carry):
        k, *_ = carry
        left = times[jnp.minimum(k, count - 1)] < t_max if count else jnp.zeros((), bool)
        return (k < count) & jnp.any(left)

    def body(carry):
        k, time, state, top = carry
        dt = (times[k] - time)[:, None]
        top = candidates(top, state, time[:, None], jnp.where(k > 0, k - 1, -1), dt)
        end = flow.advance(neuron, state, dt)
        return k + 1, times[k], neuron.receive(end, weights[channels[k]]), top

    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, n)), neuron.init_state(n))
    low = jnp.full((batch, n), -jnp.inf, weights.dtype)
    top = _Top(low, jnp.zeros_like(low), jnp.full((batch, n), -1, jnp.int32))
    init = (jnp.asarray(0, jnp.int32), jnp.zeros(batch, weights.dtype), start, top)
    k, time, state, top = lax.while_loop(more, body, init)
    dt = (t_max - time)[:, None]
    top = candidates(top, state, time[:, None], jnp.where(k > 0, k - 1, -1), dt)
    end = flow.advance(neuron, state, dt)
    better = end.v > top.value
    last = _Top(end.v, jnp.full_like(low, t_max), jnp.full_like(top.row, -1))
    return jax.tree.map(lambda x, y: jnp.where(better, x, y), last, top)


_tops = BatchNative("eventsnn_integrator_maxima", _find)
