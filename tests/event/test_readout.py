"""Integrals, maxima and counts of the outputs, against a reference with its own membrane
potentials."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import eventsnn as esn
from helpers import reference as ref
from helpers.registry import quick

T_MAX, N = 30.0, 4
WEIGHTS = np.array(
    [
        [0.0, 0.4, 0.9, -0.5],
        [-0.6, 0.0, 0.3, 1.2],
        [0.2, -0.1, 0.0, 0.1],
        [0.0, 0.0, 0.0, 0.0],
        [2.5, 0.3, 0.5, 0.7],
        [0.4, 2.2, -0.9, -0.4],
    ]
)
IN_TIMES = np.array([[1.0, 12.0, np.inf], [4.0, 5.5, 16.0]])
POINT = {
    "tau_mem": np.array([9.0, 11.0, 10.0, 7.0]),
    "tau_syn": np.array([5.0, 4.0, 10.0, 3.0]),
    "threshold": np.array([0.8, 0.7, 50.0, 60.0]),  # the last two only integrate
    "bias": np.array([0.1, 0.0, 0.2, -0.1]),
    "weights": WEIGHTS,
    "in_times": IN_TIMES,
}
DELAYS = np.linspace(0.3, 4.0, WEIGHTS.size).reshape(WEIGHTS.shape)


def network(point, delays=None, adjoint=None, outputs=range(N), **options):
    neuron = {k: v for k, v in point.items() if k not in ("weights", "in_times")}
    return esn.EventNetwork(
        esn.LIF(**neuron),
        point["weights"],
        outputs=outputs,
        t_max=T_MAX,
        max_events=60,
        delays=delays,
        adjoint=adjoint,
        **options,
    )


def expected():
    """Gauss quadrature between the events of the reference, and its largest sampled value."""
    neuron = {k: v for k, v in POINT.items() if k not in ("weights", "in_times")}
    model = ref.LIF(**neuron, v_reset=np.zeros(N), v_init=np.zeros(N))
    events = ref.simulate(model, WEIGHTS, IN_TIMES, T_MAX)
    edges = np.unique([0.0, *events.times, T_MAX])
    nodes, shares = np.polynomial.legendre.leggauss(12)
    width = np.diff(edges)[:, None] / 2
    times = (edges[:-1, None] + width * (1 + nodes)).reshape(-1)
    dense = np.linspace(0.0, T_MAX, 601)
    seen = ref.simulate(model, WEIGHTS, IN_TIMES, T_MAX, query=np.concatenate([times, dense])).seen
    integrals = seen[:, : len(times)] @ (width * shares).reshape(-1)
    counts = [np.sum(events.sources == i) for i in range(N)]
    return integrals, np.max(seen[:, len(times) :], axis=1), counts


@pytest.fixture(scope="module")
def readings():
    return expected()


def read(net):
    return net.integrals(IN_TIMES), net.maxima(IN_TIMES)


def test_integrals_maxima_and_counts_are_those_of_the_reference(readings):
    integrals, sampled, counts = readings
    ours, peaks = jax.jit(read)(network(POINT))
    np.testing.assert_allclose(ours, integrals, atol=1e-8)
    fires = np.array(counts) > 0
    assert fires.tolist() == [True, True, False, False]
    np.testing.assert_allclose(peaks[fires], POINT["threshold"][fires], rtol=1e-12)
    # Samples 0.05 apart slightly underestimate the peak and never exceed it.
    assert np.all(peaks >= sampled)
    np.testing.assert_allclose(peaks[~fires], sampled[~fires], atol=2e-4)
    np.testing.assert_array_equal(network(POINT).counts(IN_TIMES), counts)


def test_a_solver_reads_the_same():
    options = {"solver": diffrax.Dopri5(), "dt0": 0.25, "max_steps": 300}
    ours, solved = (eqx.filter_jit(read)(network(POINT, **o)) for o in ({}, options))
    np.testing.assert_allclose(ours[0], solved[0], atol=1e-7)
    np.testing.assert_allclose(ours[1], solved[1], atol=1e-7)


def test_the_maximum_between_two_samples_is_found():
    """One input spike: V has a single peak, where its derivative is zero."""
    tau_mem, tau_syn, weight = 10.0, 4.0, 0.7
    net = esn.EventNetwork(
        esn.LIF(tau_mem, tau_syn), jnp.array([[0.0], [weight]]), outputs=(0,), t_max=40.0
    )
    at = np.log(tau_mem / tau_syn) * tau_mem * tau_syn / (tau_mem - tau_syn)
    ratio = tau_syn / (tau_mem - tau_syn)
    top = weight * ratio * (np.exp(-at / tau_mem) - np.exp(-at / tau_syn))
    np.testing.assert_allclose(net.maxima([[3.0]]), [top], rtol=1e-14)
    total = (
        weight * ratio * (tau_mem * -np.expm1(-37 / tau_mem) - tau_syn * -np.expm1(-37 / tau_syn))
    )
    np.testing.assert_allclose(net.integrals([[3.0]]), [total], rtol=1e-13)


@pytest.mark.parametrize("delays", [None, DELAYS], ids=["at once", "delays"])
def test_gradients_are_those_of_finite_differences(delays):
    point = POINT | {} if delays is None else POINT | {"delays": delays}
    weight = np.array([1.0, -2.0, 0.5, 3.0])

    def loss(point, adjoint):
        point = dict(point)
        net = network(point, point.pop("delays", None), adjoint)
        times = point["in_times"]
        return jnp.sum(weight * net.integrals(times)) + jnp.sum(weight * net.maxima(times))

    finite = jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 1e3), point)
    flat, unravel = ravel_pytree(finite)
    one, other = (
        jax.jit(jax.value_and_grad(lambda f, a=adjoint: loss(unravel(f), a)))
        for adjoint in (esn.EventProp(), esn.Autodiff())
    )
    flat, steps = np.asarray(flat), 1e-5 * np.eye(flat.size)
    near, far = (
        np.array([float(one(flat + k * way)[0] - one(flat - k * way)[0]) for way in steps])
        for k in (1, 2)
    )
    differences = (8 * near - far) / (12 * 1e-5)
    scale = np.abs(differences).max()
    for gradient in (one(flat)[1], other(flat)[1]):
        np.testing.assert_allclose(gradient, differences, atol=1e-7 * scale)
    assert np.sum(np.abs(differences) > 0.01 * scale) > 20


@pytest.mark.parametrize("delay", [None, 1.0])
@pytest.mark.parametrize(
    "adjoint", [esn.EventProp(), esn.Autodiff()], ids=["eventprop", "autodiff"]
)
def test_a_maximum_at_an_arrival_moves_with_it(delay, adjoint):
    """Inhibition ends a rise: the maximum is V at its arrival, and V rises at V' before it."""
    weights, times = jnp.array([[0.0], [2.0], [-4.0]]), jnp.array([[1.0], [3.0]])
    neuron = esn.LeakyIntegrator(20.0, 5.0)
    delays = None if delay is None else jnp.full(3, delay)
    net = esn.EventNetwork(
        neuron, weights, outputs=(0,), t_max=30.0, delays=delays, adjoint=adjoint
    )
    top, slopes = quick(jax.value_and_grad(lambda times: net.maxima(times)[0]))(times)
    slow, fast = np.exp(-2.0 / 20), np.exp(-2.0 / 5)
    np.testing.assert_allclose(top, 2.0 / 3 * (slow - fast), rtol=1e-13)
    rise = 2.0 / 3 * (fast / 5 - slow / 20)
    np.testing.assert_allclose(slopes[:, 0], [-rise, rise], rtol=1e-13)


def test_a_maximum_of_a_neuron_with_a_function_among_its_fields():
    class Named(esn.QIF):
        function: Callable = jnp.tanh

    weights, times = jnp.array([[0.0], [0.5]]), jnp.array([[2.0]])
    found = [
        esn.EventNetwork(neuron, weights, outputs=(0,), t_max=30.0).maxima(times)
        for neuron in (Named(10.0, 5.0), esn.QIF(10.0, 5.0))
    ]
    np.testing.assert_array_equal(*found)


def test_a_batch_is_its_samples():
    times = np.stack([IN_TIMES, IN_TIMES + 1.5, IN_TIMES[::-1]])
    net = network(POINT, outputs=(3, 0))  # neither in order nor adjacent
    whole = jax.jit(lambda x: (net.integrals(x), net.maxima(x), net.counts(x)))(times)
    one = jax.jit(lambda x: (net.integrals(x), net.maxima(x), net.counts(x)))
    for k, x in enumerate(times):
        for a, b in zip(whole, one(x), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-12)


def test_invalid_samples_are_nan():
    times = np.stack([IN_TIMES, IN_TIMES])
    times[1, 0, 0] = np.nan
    found = jax.jit(lambda x: network(POINT).integrals(x, throw=False))(times)
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isnan(found[1]))
