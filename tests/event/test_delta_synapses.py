"""Synapses that increment the membrane potential: an arrival can push a neuron over its threshold.

The neuron then fires at the time of the arrival. A custom neuron, on the ODE flow. The reference
steps from event to event with the closed form of the membrane potential, in NumPy.
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import eventsnn as esn
from helpers.delta_lif import DeltaLIF

T_MAX = 40.0
WEIGHTS = np.array(  # spikes of two neurons push others over threshold, which push the next ones
    [[0.0, 0.55, 0.2], [0.3, 0.0, 0.6], [0.1, 0.2, 0.0], [0.7, 0.4, 0.1], [0.5, 0.1, 0.45]]
)
TAU, BIAS = np.array([10.0, 12.0, 8.0]), np.array([0.9, 1.1, 0.3])
THRESHOLD = np.array([1.0, 0.9, 1.05])
IN_TIMES = np.array([[2.0, 9.0, 15.0], [5.0, 9.5, 21.0]])


def network(parameters, adjoint=None):
    weights, *neuron = jax.tree.map(jnp.asarray, parameters)
    return esn.EventNetwork(
        DeltaLIF(*neuron),
        weights,
        outputs=(0, 1, 2),
        t_max=T_MAX,
        max_events=60,
        solver=diffrax.Tsit5(),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
        adjoint=adjoint,
    )


def reference(weights, tau, bias, threshold, in_times):
    """Times and sources of all events; at equal times, spikes before arrivals."""
    v, t, events = np.zeros(3), 0.0, []
    queue = sorted((time, 3 + channel) for channel, row in enumerate(in_times) for time in row)
    while True:
        with np.errstate(invalid="ignore", divide="ignore"):
            wait = tau * np.log((bias - v) / (bias - threshold))
        wait = np.where(v >= threshold, 0.0, np.where(bias > threshold, wait, np.inf))
        who = int(np.argmin(wait))
        arrival = queue[0][0] if queue else np.inf
        spikes = t + wait[who] <= arrival
        now = t + wait[who] if spikes else arrival
        if now > T_MAX:
            return events
        v = bias + (v - bias) * np.exp(-(now - t) / tau)
        source = who if spikes else queue.pop(0)[1]
        v, t = v + weights[source], now
        if spikes:
            v[who] = 0.0
        events.append((now, source))


def test_a_neuron_pushed_over_its_threshold_fires_at_the_arrival():
    expected = reference(WEIGHTS, TAU, BIAS, THRESHOLD, IN_TIMES)
    times, sources = (np.array(column) for column in zip(*expected, strict=True))
    assert np.sum(np.diff(times) == 0) > 8  # most neurons are pushed over threshold
    solution = network((WEIGHTS, TAU, BIAS, THRESHOLD)).simulate(IN_TIMES)
    assert solution.status == esn.Status.completed
    n = len(expected)
    np.testing.assert_array_equal(solution.sources[:n], sources)
    np.testing.assert_allclose(solution.times[:n], times, atol=1e-8)
    assert np.all(np.isinf(solution.times[n:]))


def test_an_arrival_that_just_reaches_the_threshold_fires():
    neuron = DeltaLIF(jnp.array([10.0]), jnp.array([0.0]), jnp.array([1.0]))

    def first_spike(weight):
        weights = jnp.array([[0.0], [1.0]]) * weight
        net = esn.EventNetwork(neuron, weights, outputs=(0,), t_max=T_MAX, max_events=5)
        return net.ttfs(jnp.array([[3.0]]), throw=False)[0]

    times = jax.vmap(first_spike)(jnp.array([1.0, 1.0 - 1e-9]))
    np.testing.assert_array_equal(times, [3.0, jnp.inf])


@pytest.mark.parametrize(
    "adjoint", [esn.EventProp(), esn.Autodiff()], ids=["eventprop", "autodiff"]
)
def test_gradients_are_those_of_finite_differences(adjoint):
    def loss(point, adjoint):
        parameters, in_times = point
        times = network(parameters, adjoint).spikes(in_times, 6)
        return jnp.sum(jnp.where(jnp.isfinite(times), jnp.sin(times), 0.0))

    flat, unravel = ravel_pytree(((WEIGHTS, TAU, BIAS, THRESHOLD), IN_TIMES))
    value = jax.jit(jax.vmap(lambda flat: loss(unravel(flat), None)))
    step = 1e-5 * jnp.eye(flat.size)
    near, far = (value(flat + k * step) - value(flat - k * step) for k in (1, 2))
    differences = (8 * near - far) / (12 * 1e-5)
    gradient = ravel_pytree(jax.grad(lambda p: loss(p, adjoint))(unravel(flat)))[0]
    assert np.sum(np.abs(differences) > 0.1) > 8
    np.testing.assert_allclose(gradient, differences, atol=1e-6 * np.abs(differences).max())
