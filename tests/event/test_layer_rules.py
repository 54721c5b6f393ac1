"""Rules of docs/events.md, limits and invalid input in layers."""

import functools as ft
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.registry import quick

INF, NAN = np.inf, np.nan
LIF = esn.LIF(10.0, 5.0)
WEIGHTS = ((6.0, 2.0), (4.0, 5.0))
PERIOD = 10 * math.log(2.0)  # of a LIF neuron with bias 2


def layer_of(neuron: esn.AbstractNeuron = LIF, weights: Any = WEIGHTS, t_max=40.0, **options):
    kwargs: dict[str, Any] = {"max_spikes": 8} | options
    return esn.EventLinear(neuron, jnp.asarray(weights), t_max=t_max, **kwargs)


def silent(*batch):
    return np.full((*batch, 2, 1), INF)


# ------------------------------------------------------------------ instants


def test_a_start_at_the_threshold_or_above_fires_at_once():
    """By reset with subtraction a neuron far above its threshold fires twice."""
    v_init = jnp.array([1.0, 1.5, 2.5, 0.999])
    neuron = esn.LIF(10.0, 5.0, reset_mode="subtract", v_init=v_init, bias=0.5)
    layer = layer_of(neuron, np.full((2, 4), 3.0))
    x = np.array([[5.0], [INF]])

    @quick
    @ft.partial(jax.value_and_grad, has_aux=True)
    def run(parameters):
        def spikes(model, parameters):
            where = lambda m: (m.neuron.v_init, m.neuron.threshold)  # noqa: E731
            return eqx.tree_at(where, model, parameters).spikes(x, 3, throw=False)

        found = spikes(layer, parameters)
        expected = spikes(layer.as_network(), jax.lax.stop_gradient(parameters))
        return jnp.sum(jnp.where(found == 0, found, 0.0)), (found, expected)

    (_, (found, expected)), grads = run((v_init, jnp.asarray(1.0)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(np.sum(np.asarray(found) == 0, axis=1), [1, 1, 2, 0])
    assert all(np.all(g == 0) for g in grads)  # a spike at the start does not move


def test_a_crossing_comes_before_an_arrival_at_the_same_instant():
    """Inhibition at the crossing does not prevent the spike; slightly earlier, it does."""
    layer = layer_of(esn.LIF(10.0, 5.0, bias=2.0), [[-1e9]], t_max=20.0)
    x = np.array([PERIOD, PERIOD * (1 + 1e-15), PERIOD - 1e-6, INF])[:, None, None]
    found = layer(x)[:, 0]
    np.testing.assert_allclose(found[:2, 0], PERIOD, rtol=1e-12)
    np.testing.assert_allclose(found[3, :2], [PERIOD, 2 * PERIOD], rtol=1e-12)
    assert np.all(found[:2, 1] == INF) and np.all(found[2] == INF)


def test_a_crossing_at_t_max_counts():
    neuron = esn.LIF(10.0, 5.0, bias=jnp.array([2.0, 2.0 - 1e-13]))
    time = layer_of(neuron, t_max=PERIOD * (1 + 1e-15)).ttfs(silent())
    assert abs(time[0] - PERIOD) <= 2 * np.spacing(PERIOD) and time[1] == INF


@pytest.mark.parametrize("bias", [1.0, 1.0 - 1e-16])
def test_a_potential_that_approaches_its_threshold_never_fires(bias):
    layer = layer_of(esn.LIF(10.0, 5.0, bias=bias), [[-1.0], [0.1]], t_max=2000.0)
    x = np.array([[[3.0], [INF]], [[3.0], [900.0]]])
    found = layer(x)[:, 0]
    assert np.all(found[0] == INF)
    np.testing.assert_allclose(found[1, 0], 900.0, rtol=1e-9)  # an arrival carries it through
    assert found[1, 1] == INF


def test_an_input_spike_at_t_max_is_delivered_and_a_later_one_is_not():
    """Delays are added before; all events are in the solution in order, as in the event loop."""
    layer = layer_of(t_max=20.0, delays=[5.0, 0.0])
    x = np.array([[15.0, 2.0, 0.0], [20.0, 20.1, 3.0]])
    found, expected = layer.simulate(x), layer.as_network().simulate(x)
    count = int(expected.stats["events"])
    np.testing.assert_allclose(found.times[:count], expected.times[:count], rtol=1e-12)
    np.testing.assert_array_equal(found.sources[:count], expected.sources[:count])
    assert np.all(np.isinf(found.times[count:])) and np.all(found.sources[count:] == -1)
    assert found.status == esn.Status.completed
    assert found.stats["spikes"] == expected.stats["spikes"] > 1
    assert found.stats["events"] == count
    driven = layer_of(esn.LeakyIntegrator(10.0, 5.0), [[1.0]], t_max=20.0).potentials_at(
        np.array([[20.0, 25.0]]), [20.0]
    )
    assert driven == 0.0


def test_coincident_arrivals_and_any_order_of_the_inputs(rng):
    """Of coincident arrivals all are received; the spikes do not depend on the order."""
    weights = rng.normal(2.0, 1.0, (4, 3))
    x = rng.uniform(0, 20.0, (4, 4))
    x[1], x[2, :2], x[3, 0] = x[0], x[0, :2], INF
    order = rng.permutation(4)
    found = layer_of(weights=weights, max_spikes=20)(x)
    again = layer_of(weights=weights[order], max_spikes=20)(x[order][:, ::-1])
    np.testing.assert_allclose(found, again, rtol=1e-12)
    merged = np.stack([weights[0] + weights[1], weights[2], weights[3]])
    once = layer_of(weights=merged, max_spikes=20)(x[[0, 2, 3]])
    np.testing.assert_allclose(found, once, rtol=1e-12)
    assert np.isfinite(found).sum() > 6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_time_of_minus_zero_or_below_the_normal_numbers_is_zero(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    layer = layer_of(weights=jnp.asarray([[8.0, 6.0], [8.0, 6.0]], dtype))
    x = np.array([[[0.0], [5.0]], [[-0.0], [5.0]], [[tiny], [5.0]]], dtype)
    found = layer.ttfs(x)
    assert np.all(found == found[0]) and np.all(found < 5.0)


# ------------------------------------------------------------------ little input


def test_no_input():
    layer = layer_of(esn.LIF(10.0, 5.0, bias=2.0))
    expected = np.append(PERIOD * np.arange(1, 6), [INF] * 3)
    np.testing.assert_allclose(layer(silent(3)), np.broadcast_to(expected, (3, 2, 8)))
    assert np.all(layer_of()(silent(3)) == INF)


@pytest.mark.parametrize(
    ("neuron", "query"), [(LIF, "ttfs"), (esn.LeakyIntegrator(10.0, 5.0), "maxima")]
)
def test_an_empty_batch_and_no_times_have_gradients(neuron, query):
    layer = layer_of(neuron)
    for x, expected in ((jnp.zeros((0, 2, 3)), (0, 2)), (jnp.zeros((2, 0)), (2,))):
        grads, out = eqx.filter_grad(
            lambda layer, x=x: (jnp.sum(getattr(layer, query)(x)), getattr(layer, query)(x)),
            has_aux=True,
        )(layer)
        assert out.shape == expected and np.all(grads.weights == 0)


# ------------------------------------------------------------------ limits


def test_more_than_max_spikes():
    layer = layer_of(esn.LIF(10.0, 5.0, bias=np.array([2.0, 0.0])), max_spikes=5)
    layer = eqx.tree_at(lambda layer: layer.weights, layer, layer.weights * np.array([1.0, 0.1]))
    x = np.array([[[INF], [INF]], [[1.0], [2.0]], [[INF], [39.9]]])
    message = r"^1 of 3 samples: A neuron fired more than max_spikes times\. Raise `max_spikes`\.$"
    with pytest.raises(RuntimeError, match=message):
        layer(x)
    with pytest.raises(RuntimeError, match=message):
        layer.simulate(x)
    found = layer(x, throw=False)
    np.testing.assert_array_equal(np.all(np.isnan(found), axis=(1, 2)), [False, True, False])
    np.testing.assert_array_equal(np.any(np.isnan(found), axis=(1, 2)), [False, True, False])
    assert np.array_equal(
        layer.simulate(x, throw=False).status == esn.Status.max_spikes, [False, True, False]
    )
    first = layer_of(layer.neuron, layer.weights, max_spikes=5, truncate=True)(x)
    np.testing.assert_array_equal(first, layer.spikes(x, 5))
    np.testing.assert_array_equal(first[::2], found[::2])
    counts = layer.counts(x)
    assert np.all(np.isfinite(first[1]).sum(axis=-1) == np.minimum(counts[1], 5))
    assert np.max(counts[1]) > 5


def test_a_layer_without_max_spikes_cannot_be_called():
    layer = layer_of(max_spikes=None)
    with pytest.raises(ValueError, match=r"^max_spikes must be given .*, got None\.$"):
        layer(silent())
    solution = layer_of(esn.LeakyIntegrator(10.0, 5.0), max_spikes=None).simulate([[1.0], [50.0]])
    assert solution.times[0] == 1.0 and solution.sources.tolist() == [2, -1]


def test_a_neuron_that_fires_without_end():
    """Its period is shorter than the precision of a time."""
    layer = layer_of(esn.LIF(10.0, 5.0, bias=1e18), max_events=50)
    assert np.all(layer.counts(silent(), throw=False) == -1)
    with pytest.raises(RuntimeError, match="max_events"):
        layer.counts(silent())
    assert np.all(np.isfinite(layer.spikes(silent(), 3)))


def test_pseudospikes_and_late_inputs():
    """Input spikes after t_max are not delivered, also to neurons that fire later."""
    layer = layer_of(
        weights=[[0.6, 0.2], [0.4, 0.5]],
        t_max=20.0,
        max_spikes=8,
        pseudospikes=esn.Pseudospikes(4.0, 30.0),
    )
    x = np.array([[[5.0, 22.0], [20.0, 30.0]], [[INF, INF], [INF, 7.0]]])
    found = layer(x)
    np.testing.assert_allclose(found, layer.as_network().spikes(x, 8), rtol=1e-12)
    assert np.all(found > 20.0)


# ------------------------------------------------------------------ invalid values

STATUS = esn.Status


@quick
def outcomes(x, weights, tau, delay):
    """Status of both samples, spikes, first spikes and counts."""
    layer = layer_of(max_spikes=8, delays=[0.5, 0.5])
    layer = eqx.tree_at(
        lambda layer: (layer.weights, layer.neuron.tau_mem, layer.delays),
        layer,
        (weights, tau, delay),
    )
    status = layer.simulate(x, throw=False).status
    return status, layer(x, throw=False), layer.counts(x, throw=False)


@pytest.mark.parametrize(
    ("bad", "value", "status", "failed"),
    [
        ("x", NAN, STATUS.invalid_input, [True, False]),
        ("x", -1.0, STATUS.invalid_input, [True, False]),
        ("x", -INF, STATUS.invalid_input, [True, False]),
        ("weights", NAN, STATUS.not_finite, [True, True]),
        ("weights", INF, STATUS.not_finite, [True, True]),
        ("tau", -1.0, STATUS.invalid_parameters, [True, True]),
        ("tau", 0.0, STATUS.invalid_parameters, [True, True]),
        ("tau", NAN, STATUS.not_finite, [True, True]),
        ("delay", -1.0, STATUS.invalid_parameters, [True, True]),
        ("delay", NAN, STATUS.invalid_parameters, [True, True]),
    ],
)
def test_invalid_values_under_jit(bad, value, status, failed):
    args = {
        "x": np.array([[[1.0], [3.0]], [[2.0], [INF]]]),
        "weights": np.array([[6.0, 2.0], [4.0, 5.0]]),
        "tau": np.array(10.0),
        "delay": np.array([0.5, 1.5]),
    }
    args[bad][(0,) * args[bad].ndim] = value
    found, spikes, counts = outcomes(**jax.tree.map(jnp.asarray, args))
    np.testing.assert_array_equal(found == status, failed)
    np.testing.assert_array_equal(np.all(np.isnan(spikes), axis=(1, 2)), failed)
    np.testing.assert_array_equal(np.any(np.isnan(spikes), axis=(1, 2)), failed)
    np.testing.assert_array_equal(np.all(counts == -1, axis=1), failed)


def test_invalid_times_outside_of_jit():
    """An error names the value; with `throw=False` the sample fails."""
    layer = layer_of()
    for value in (NAN, -1.0):
        x = np.array([[[1.0], [value]], [[1.0], [2.0]]])
        with pytest.raises(ValueError, match=rf"^in_times must be >= 0 .*, got {value:g}"):
            layer(x)
        assert np.array_equal(np.isnan(layer.ttfs(x, throw=False))[:, 0], [True, False])


def test_a_masked_weight_is_not_used():
    weights = np.array([[NAN, 6.0], [4.0, 5.0]])
    mask = np.array([[False, True], [True, True]])
    x = np.array([[1.0], [3.0]])
    zero = np.where(mask, weights, 0.0)
    found, expected = (
        layer_of(weights=w, mask=m, max_spikes=20)(x) for w, m in ((weights, mask), (zero, None))
    )
    assert np.array_equal(found, expected)
    neuron = esn.LeakyIntegrator(10.0, 5.0)
    found = layer_of(neuron, weights, mask=mask).integrals(x)
    assert np.array_equal(found, layer_of(neuron, zero).integrals(x))
