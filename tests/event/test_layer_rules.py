"""Rules of docs/events.md, limits and invalid input in layers."""

import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.registry import quick

INF, NAN = np.inf, np.nan
T_MAX, COUNT = 40.0, 8
WEIGHTS = ((6.0, 2.0), (4.0, 5.0))
PERIOD = 10 * math.log(2.0)  # of a LIF neuron with bias 2
BATCH, N_IN, N, K = 4, 3, 2, 2  # all tests share one program


def layer_of(neuron, weights, **options):
    options = {"t_max": T_MAX, "max_spikes": COUNT, "max_events": 50} | options
    return esn.EventLinear(neuron, weights, **options)


@quick
def _outcomes(x, weights, neuron, delays):
    layer = layer_of(esn.LIF(**neuron), weights, delays=delays)
    solution = layer.simulate(x, throw=False)
    return layer(x, throw=False), layer.counts(x, throw=False), solution


@quick
def _first_spikes(x, weights, neuron, delays):
    return layer_of(esn.LIF(**neuron), weights, delays=delays, truncate=True)(x, throw=False)


def arguments(x, weights=WEIGHTS, delays=0.0, **neuron):
    """Arrays of the same shapes in all tests, padded with samples and inputs without spikes."""
    x, weights = np.asarray(x, float), np.asarray(weights, float)
    missing = zip((BATCH, N_IN, K), x.shape, strict=True)
    x = np.pad(x, [(0, size - own) for size, own in missing], constant_values=INF)
    weights = np.pad(weights, [(0, N_IN - len(weights)), (0, 0)])
    neuron = {"tau_mem": 10.0, "tau_syn": 5.0, "bias": 0.0} | neuron
    neuron = {name: np.broadcast_to(np.asarray(value, float), N) for name, value in neuron.items()}
    delays = np.broadcast_to(np.asarray(delays, float), N_IN)
    return jax.tree.map(jnp.asarray, (x, weights, neuron, delays))


def outcomes(x, *args, **options):
    """Spikes and counts of the layer, and its solution."""
    return jax.tree.map(np.asarray, _outcomes(*arguments(x, *args, **options)))


def spikes_of(x, *args, **options):
    """Spikes of the layer; every sample is complete."""
    spikes, counts, solution = outcomes(x, *args, **options)
    assert np.all(solution.status == esn.Status.completed)
    np.testing.assert_array_equal(counts, np.isfinite(spikes).sum(axis=-1))
    return spikes


# ------------------------------------------------------------------ instants


def test_a_crossing_comes_before_an_arrival_at_the_same_instant():
    """Inhibition at the crossing, to rounding, does not prevent the spike; earlier, it does."""
    x = np.array([PERIOD, PERIOD * (1 - 1e-15), PERIOD - 1e-6, INF])[:, None, None]
    found = spikes_of(x, [[-1e9, 0.0]], bias=2.0)
    expected = np.append(PERIOD * np.arange(1, 6), [INF] * 3)
    np.testing.assert_allclose(found[:, 1], [expected] * BATCH, rtol=1e-12)
    np.testing.assert_allclose(found[3, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(found[:2, 0, 0], PERIOD, rtol=1e-12)
    assert np.all(found[:2, 0, 1:] == INF) and np.all(found[2, 0] == INF)


def test_a_crossing_at_t_max_counts():
    """Also one that is later by less than rounding."""
    tau_mem = T_MAX / math.log(2.0) * (1 + 1e-15)
    found = spikes_of(np.zeros((0, 0, 0)), bias=[2.0, 2.0 - 1e-13], tau_mem=tau_mem)
    assert abs(found[0, 0, 0] - T_MAX) <= 2 * np.spacing(T_MAX) and np.all(found[:, 1] == INF)


def test_a_potential_that_approaches_its_threshold_never_fires():
    x = [[[0.06], [INF]], [[0.06], [18.0]]]
    found = spikes_of(x, [[-1.0] * 2, [0.1] * 2], bias=[1.0, 1 - 1e-16], tau_mem=0.2, tau_syn=0.1)
    assert np.all(found[0] == INF) and np.all(found[1, :, 1:] == INF)
    np.testing.assert_allclose(found[1, :, 0], 18.0, rtol=1e-9)  # an arrival carries it through


def test_a_solution_has_the_input_spikes_until_t_max():
    """With delays, at the times at which they are sent."""
    x = [[[35.0, 2.0], [0.0, INF]], [[T_MAX, T_MAX + 0.1], [3.0, 3.0]]]
    spikes, counts, solution = outcomes(x, delays=[5.0, 0.0, 0.0])
    assert np.all(counts[:2].sum(axis=1) > 1) and np.all(counts[2:] == 0)
    for i, inputs in enumerate(x):
        trains = [*spikes[i].tolist(), *inputs]
        events = sorted((t, j) for j, train in enumerate(trains) for t in train if t <= T_MAX)
        times, sources = map(list, zip(*events, strict=True))
        n = solution.stats["events"][i]
        assert solution.times[i, :n].tolist() == times
        assert solution.sources[i, :n].tolist() == sources
        assert np.all(solution.times[i, n:] == INF) and np.all(solution.sources[i, n:] == -1)
    np.testing.assert_array_equal(solution.stats["spikes"], counts.sum(axis=1))


def test_coincident_arrivals_and_any_order_of_the_inputs(rng):
    """Of coincident arrivals all are received; the spikes do not depend on the order."""
    weights, x = rng.normal(2.0, 1.0, (N_IN, N)), rng.uniform(0, 20.0, (BATCH, N_IN, K))
    x[:, 1] = x[:, 0]
    x[1, 1, 0], x[2, 2, 0], x[3, 2] = x[1, 2, 0], INF, x[3, 0]
    found = spikes_of(x, weights)
    order = [2, 0, 1]
    np.testing.assert_allclose(spikes_of(x[:, order, ::-1], weights[order]), found, rtol=1e-12)
    merged = [weights[0] + weights[1], weights[2]]
    once = spikes_of(x[[0, 2, 3]][:, [0, 2]], merged)
    np.testing.assert_allclose(once[:3], found[[0, 2, 3]], rtol=1e-12)
    assert np.isfinite(found).sum() > 10


def test_a_time_of_minus_zero_or_below_the_normal_numbers_is_zero():
    tiny = np.finfo(float).smallest_subnormal
    found = spikes_of([[[0.0], [5.0]], [[-0.0], [5.0]], [[tiny], [5.0]]], [[8.0, 6.0]] * 2)
    assert np.all(found[:3] == found[0]) and np.all(found[:3, :, 0] < 5.0)


# ------------------------------------------------------------------ limits


def test_more_than_max_spikes():
    x = [[[INF], [INF]], [[1.0], [2.0]], [[INF], [39.9]]]
    given = {"weights": [[20.0, 0.6], [20.0, 0.5]], "bias": [2.0, 0.0]}
    found, counts, solution = outcomes(x, **given)
    fails = np.array([False, True, False, False])
    np.testing.assert_array_equal(counts[:, 0] > COUNT, fails)
    np.testing.assert_array_equal(np.all(np.isnan(found), axis=(1, 2)), fails)
    np.testing.assert_array_equal(np.any(np.isnan(found), axis=(1, 2)), fails)
    np.testing.assert_array_equal(solution.status == esn.Status.max_spikes, fails)
    x, weights, neuron, delays = arguments(x, **given)
    first = _first_spikes(x, weights, neuron, delays)
    np.testing.assert_array_equal(first[~fails], found[~fails])
    np.testing.assert_array_equal(np.isfinite(first).sum(axis=-1), np.minimum(counts, COUNT))
    assert np.all(np.diff(first[1, 0]) > 0)
    message = "1 of 4 samples: A neuron fired more than max_spikes times. Raise `max_spikes`."
    with pytest.raises(RuntimeError, match=rf"^{re.escape(message)}$"):
        layer_of(esn.LIF(**neuron), weights)(x)


def test_a_neuron_that_fires_without_end():
    """Its period is shorter than the precision of a time."""
    given = arguments(np.zeros((0, 0, 0)), bias=[0.0, 1e18])
    found, counts, solution = _outcomes(*given)
    assert np.all(np.isnan(found)) and np.all(counts == -1)
    assert np.all(solution.status == esn.Status.max_spikes)
    assert np.all(np.isfinite(_first_spikes(*given)[:, 1]))


def test_a_layer_without_max_spikes_cannot_be_called():
    with pytest.raises(ValueError, match=r"^max_spikes must be given .*, got None\.$"):
        layer_of(esn.LIF(10.0, 5.0), WEIGHTS, max_spikes=None)(np.ones((2, 1)))
    readout = layer_of(esn.LeakyIntegrator(10.0, 5.0), WEIGHTS, max_spikes=None)
    assert jax.eval_shape(readout.simulate, np.ones((2, 1))).times.shape == (2,)


@pytest.mark.parametrize(
    ("neuron", "query"), [(esn.LIF(10.0, 5.0), "ttfs"), (esn.LeakyIntegrator(10.0, 5.0), "maxima")]
)
def test_an_empty_batch_and_no_times_have_gradients(neuron, query):
    layer = layer_of(neuron, WEIGHTS)
    for shape, expected in (((0, 2, 3), (0, 2)), ((2, 0), (2,))):

        def loss(layer, shape=shape):
            out = getattr(layer, query)(jnp.zeros(shape), throw=False)
            return jnp.sum(out), out

        grads, out = eqx.filter_eval_shape(eqx.filter_grad(loss, has_aux=True), layer)
        assert out.shape == expected and grads.weights.shape == (2, 2)


# ------------------------------------------------------------------ invalid values

STATUS = esn.Status


@pytest.mark.parametrize(
    ("bad", "value", "status", "failed"),
    [
        ("x", NAN, STATUS.invalid_input, 1),
        ("x", -1.0, STATUS.invalid_input, 1),
        ("x", -INF, STATUS.invalid_input, 1),
        ("weights", NAN, STATUS.not_finite, BATCH),
        ("weights", INF, STATUS.not_finite, BATCH),
        ("tau_mem", -1.0, STATUS.invalid_parameters, BATCH),
        ("tau_mem", 0.0, STATUS.invalid_parameters, BATCH),
        ("tau_mem", NAN, STATUS.not_finite, BATCH),
        ("delays", -1.0, STATUS.invalid_parameters, BATCH),
        ("delays", NAN, STATUS.invalid_parameters, BATCH),
    ],
)
def test_invalid_values_under_jit(bad, value, status, failed):
    args = {
        "x": np.array([[[1.0], [3.0]], [[2.0], [INF]]]),
        "weights": np.array(WEIGHTS),
        "tau_mem": np.array(10.0),
        "delays": np.array([0.5, 1.5, 0.0]),
    }
    args[bad][(0,) * args[bad].ndim] = value
    spikes, counts, solution = outcomes(**args)
    failed = np.arange(BATCH) < failed
    np.testing.assert_array_equal(solution.status == status, failed)
    np.testing.assert_array_equal(np.all(np.isnan(spikes), axis=(1, 2)), failed)
    np.testing.assert_array_equal(np.any(np.isnan(spikes), axis=(1, 2)), failed)
    np.testing.assert_array_equal(np.all(counts == -1, axis=1), failed)


@pytest.mark.parametrize("value", [NAN, -1.0])
def test_invalid_times_outside_of_jit(value):
    """An error names the value, unless `throw` is false."""
    layer, x = layer_of(esn.LIF(10.0, 5.0), WEIGHTS), np.array([[1.0], [value]])
    with pytest.raises(ValueError, match=rf"^in_times must be >= 0 .*, got {value:g}"):
        layer(x)
    assert jax.eval_shape(lambda: layer.ttfs(x, throw=False)).shape == (2,)
