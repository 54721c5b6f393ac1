"""Fully connected layers: spikes and gradients are those of the event loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers import reference as ref
from helpers.differences import assert_equal_gradients
from helpers.jitted import unsimplified
from helpers.registry import (
    LIF_SET,
    LIF_SUBTRACT,
    N_IN,
    QIF,
    REFRACTORY_LIF,
    THETA,
    TWO_COMPARTMENT,
    Case,
    K,
    N,
    mask_of,
    problem,
    quick,
    rk4,
)

T_MAX, COUNT, BATCH = 30.0, 40, 3


def draw(case, *, ratio=2.0, delays=None, v_init=None):
    """Parameters by name, with the input of three samples; the last one has no spikes."""
    params, rng = problem(case.model, 3, ratio=ratio, until=20.0), np.random.default_rng(3)
    params["weights"] = np.where(mask_of(case.model)[N:], params["weights"][N:], np.nan)
    params["in_times"] = rng.uniform(0.0, 20.0, (BATCH, N_IN, K))
    params["in_times"][0, 1, 1:] = np.inf, T_MAX + 0.1  # absent, and after t_max
    params["in_times"][1, 1] = params["in_times"][1, 0]  # coincident
    params["in_times"][-1] = np.inf
    if delays is not None:
        params["delays"] = rng.uniform(0.0, 4.0, (N_IN, N)[: 1 + (delays == "synaptic")])
    if v_init is not None:
        params["v_init"][: len(v_init)] = v_init
    return {name: jnp.asarray(value) for name, value in params.items()}


def neuron_of(params):
    return {k: v for k, v in params.items() if k not in ("weights", "in_times", "delays")}


def layer_of(case, params, **options):
    return esn.EventLinear(
        case.model.neuron(**neuron_of(params)),
        params["weights"],
        mask_of(case.model)[N:],
        t_max=T_MAX,
        delays=params.get("delays"),
        **{"max_spikes": COUNT, **case.options(), **options},
    )


def value_and_grad(case, as_network):
    """Random functional of all spike times, its gradient in all parameters, and the spikes."""

    def functional(params):
        layer, x = layer_of(case, params), params["in_times"]
        if as_network:
            out = layer.as_network(500).spikes(x, COUNT, throw=False)
        else:
            out = layer(x, throw=False)
        weights = jnp.asarray(np.random.default_rng(1).normal(size=out.shape))
        return jnp.sum(jnp.where(jnp.isfinite(out), weights * out, 0.0)), out

    return unsimplified(jax.value_and_grad(functional, has_aux=True))


def assert_equal_to_the_network(case, params, unused=()):
    """Compare with the event loop, and return the spikes. Masked weights are NaN.

    `unused` are the parameters without a gradient.
    """
    (_, found), grads = value_and_grad(case, False)(params)
    (_, expected), right = value_and_grad(case, True)(params)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert_equal_gradients(grads, right, 1e-9)
    assert {name for name, g in grads.items() if np.all(g == 0)} == set(unused)
    assert np.all((grads["in_times"] == 0) == (params["in_times"] > T_MAX))
    assert np.all(grads["weights"][~mask_of(case.model)[N:]] == 0)
    assert np.isfinite(found).sum() > 30
    return np.asarray(found)


@pytest.mark.parametrize("delays", ["axonal", "synaptic"])
def test_lif_neurons_with_delays_and_pseudospikes(delays):
    """All ratios of the time constants in one layer. Pseudospikes fill all `max_spikes` slots."""
    drive = {"pseudospikes": esn.Pseudospikes(99.0, 20.0)}
    case = Case(LIF_SET, "exact", lambda: drive)
    ratio = np.array([1.0, 2.0, 0.5, 1.7, 1 - 1e-9, 5.0])
    found = assert_equal_to_the_network(case, draw(case, ratio=ratio, delays=delays))
    assert np.all(found[..., -1] < np.inf)
    assert np.any(found[..., 0] > T_MAX) and np.any(found[..., 3] < T_MAX)


def test_lif_neurons_that_start_at_their_threshold_with_a_minimum_speed():
    """By reset with subtraction, a neuron far above its threshold fires twice at the start."""
    case = Case(LIF_SUBTRACT, "exact", lambda: {"adjoint": esn.EventProp(min_speed=0.05)})
    params = draw(case, ratio=1.0, v_init=[1.5, 2.7])
    params["v_init"] = params["v_init"].at[2].set(params["threshold"][2])
    found = assert_equal_to_the_network(case, params, unused=["v_reset"])
    np.testing.assert_array_equal(np.sum(found == 0, axis=-1), [[1, 2, 1, 0, 0, 0]] * BATCH)
    # Without input, (b - theta)/tau is the speed of a crossing: some are below the minimum.
    slow = (params["bias"] - params["threshold"]) / params["tau_mem"] < 0.05
    assert np.any(slow[:, None] & (found[-1] > 0) & np.isfinite(found[-1]))


def test_qif_neurons_with_delays():
    # A series of low order is compiled faster.
    case = Case(QIF, "exact", lambda: {"solver": esn.TaylorQIF(order=12)})
    assert_equal_to_the_network(case, draw(case, delays="synaptic"))


def test_theta_neurons():
    case = Case(THETA, "exact")
    assert_equal_to_the_network(case, draw(case, delays="axonal"))


def test_refractory_neurons():
    found = assert_equal_to_the_network(REFRACTORY, draw(REFRACTORY, delays="axonal"))
    assert np.isfinite(found[..., 1]).any()


REFRACTORY = Case(REFRACTORY_LIF, "exact")


def test_spikes_of_refractory_neurons_are_those_of_the_reference():
    """Counts, and spikes of samples with at most `max_spikes` spikes per neuron."""
    case = REFRACTORY
    params = draw(case, delays="axonal")
    params["in_times"] = params["in_times"].at[0, 0, 1:].set(np.inf)

    @quick
    def results(params):
        layer, x = layer_of(case, params, max_spikes=4), params["in_times"]
        return layer.counts(x, throw=False), layer(x, throw=False)

    counts, found = results(params)
    fails = np.array([False, True, False])
    np.testing.assert_array_equal(np.any(counts > 4, axis=1), fails)
    np.testing.assert_array_equal(np.any(np.isnan(found), axis=(1, 2)), fails)
    assert np.all(np.isnan(found[fails]))
    for x, count, own in zip(params["in_times"], counts, found, strict=True):
        spikes = reference_spikes(case, params, x)
        np.testing.assert_array_equal(count, [len(times) for times in spikes])
        for train, times in zip(own, spikes, strict=True):
            if not np.any(np.isnan(own)):
                np.testing.assert_allclose(train[: len(times)], times, rtol=1e-9)
                assert np.all(train[len(times) :] == np.inf)


def reference_spikes(case, params, in_times):
    """Spikes of each neuron in one sample."""
    neuron, mask = jax.tree.map(np.asarray, neuron_of(params)), mask_of(case.model)
    weights = np.concatenate([np.zeros((N, N)), params["weights"]])
    record = ref.simulate(
        case.model.reference(**neuron),
        np.where(mask, weights, 0.0),
        np.asarray(in_times + params["delays"][:, None]),
        T_MAX,
        mask=mask,
    )
    return [record.spikes(i) for i in range(N)]


def test_a_neuron_with_two_receptors_and_a_solver():
    """It is traced only: the event loop simulates it."""
    case = Case(TWO_COMPARTMENT, "ode", rk4(0.25))
    params = draw(case)
    out = jax.eval_shape(lambda p: layer_of(case, p)(p["in_times"], throw=False), params)
    assert out.shape == (BATCH, N, COUNT)
