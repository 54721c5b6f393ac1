"""Fully connected layers: spikes and gradients are those of the event loop and of the reference."""

import functools as ft

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers import reference as ref
from helpers.differences import STEP, assert_equal_gradients
from helpers.jitted import unsimplified
from helpers.registry import (
    EXACT,
    INTEGRATOR,
    LIF_SET,
    LIF_SUBTRACT,
    N_IN,
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
WHEN = np.array([11.0, 0.0, T_MAX, 3.0])


def draw(case, delays=None, seed=3):
    """Parameters by name, with the input of three samples; the last one has no spikes."""
    params = problem(case.model, seed, ratio=RATIO.get(case.model, 2.0), until=20.0)
    rng = np.random.default_rng(seed)
    params["weights"] = params["weights"][N:]
    params["in_times"] = rng.uniform(0.0, 20.0, (BATCH, N_IN, K))
    params["in_times"][0, 1, 1:] = np.inf, 40.0  # absent, and after t_max
    params["in_times"][-1] = np.inf
    if delays is not None:
        params["delays"] = rng.uniform(0.0, 4.0, (N_IN, N)[:delays])
    return {name: jnp.asarray(value) for name, value in params.items()}


# All ratios of the time constants in one layer, and equal time constants.
RATIO = {LIF_SET: np.array([1.0, 2.0, 0.5, 1.7, 1 - 1e-9, 5.0]), LIF_SUBTRACT: 1.0}


def layer_of(case, params, **options):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times", "delays")}
    return esn.EventLinear(
        case.model.neuron(**neuron),
        params["weights"],
        mask_of(case.model)[N:],
        t_max=T_MAX,
        delays=params.get("delays"),
        **{"max_spikes": COUNT, **case.options(), **options},
    )


def answer(model, query, x):
    args = {"potentials_at": (WHEN,), "spikes": (COUNT,)}.get(query, ())
    return getattr(model, query)(x, *args, throw=False)


@ft.cache
def value_and_grad(case, query, as_network):
    """Random functional of a query, its gradient in all parameters, and the result of the query."""

    def functional(params):
        model, query_of = layer_of(case, params), query
        if as_network:
            model, query_of = model.as_network(300), "spikes" if query == "__call__" else query
        out = answer(model, query_of, params["in_times"])
        weights = jnp.asarray(np.random.default_rng(1).normal(size=out.shape))
        return jnp.sum(jnp.where(jnp.isfinite(out), weights * out, 0.0)), out

    return unsimplified(jax.value_and_grad(functional, has_aux=True))


def assert_equal_to_the_network(case, query, params):
    (_, found), grads = value_and_grad(case, query, False)(params)
    (_, expected), right = value_and_grad(case, query, True)(params)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert_equal_gradients(grads, right, 1e-9)
    return found, grads


@pytest.mark.parametrize("case", [EXACT[0], EXACT[2]], ids=str)
def test_spikes_and_gradients_are_those_of_the_event_loop(case):
    params = draw(case, delays=1)
    found, grads = assert_equal_to_the_network(case, "__call__", params)
    assert np.isfinite(found).sum() > 30 and np.all(np.isinf(found[..., -1]))
    assert all(np.any(g != 0) for g in grads.values())
    assert np.all((grads["in_times"] == 0) == (params["in_times"] + 0 > T_MAX))
    assert np.all(grads["weights"][~mask_of(case.model)[N:]] == 0)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_gradients_are_central_differences(case, rng):
    """Along a random direction in each parameter."""
    params = draw(case, delays=1)
    run = value_and_grad(case, "__call__", False)
    _, grads = run(params)
    for name, value in params.items():
        way = rng.normal(size=value.shape)

        def at(step, name=name, way=way):
            return run(params | {name: params[name] + step * STEP * way})[0][0]

        slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP)
        scale = np.linalg.norm(grads[name]) * np.linalg.norm(way)
        error = float(3e-8 * scale + 1e-9)
        np.testing.assert_allclose(np.vdot(grads[name], way), slope, atol=error, err_msg=name)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_spikes_are_those_of_the_reference(case):
    params = jax.tree.map(np.asarray, draw(case, delays=1))
    (_, found), _ = value_and_grad(case, "__call__", False)(draw(case, delays=1))
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times", "delays")}
    arrivals = params["in_times"][0] + params["delays"][:, None]
    weights = np.concatenate([np.zeros((N, N)), params["weights"]])
    record = ref.simulate(
        case.model.reference(**neuron), weights, arrivals, T_MAX, mask=mask_of(case.model)
    )
    for i in range(N):
        spikes = record.spikes(i)
        np.testing.assert_allclose(found[0, i, : len(spikes)], spikes, rtol=1e-9)
        assert np.all(np.isinf(found[0, i, len(spikes) :]))


@pytest.mark.parametrize("query", ["maxima", "potentials_at"])
def test_readouts_of_an_integrator_are_those_of_the_event_loop(query):
    case = Case(INTEGRATOR, "exact")
    found, grads = assert_equal_to_the_network(case, query, draw(case, delays=1))
    assert np.all(np.isfinite(found))
    assert np.all(grads["weights"][mask_of(INTEGRATOR)[N:]] != 0)


def test_synaptic_delays_of_a_layer_that_the_event_loop_simulates():
    assert_equal_to_the_network(Case(THETA, "exact"), "ttfs", draw(Case(THETA, "exact"), delays=2))


def test_a_refractory_layer_without_max_spikes_or_with_fewer_spikes():
    """The event loop has room for all spikes that a query needs."""
    case = Case(REFRACTORY_LIF, "exact")
    params = draw(case)
    x = params["in_times"]

    @quick
    def counted(params):
        unlimited = layer_of(case, params, max_spikes=None)
        short = layer_of(case, params, max_spikes=2, truncate=True)
        return unlimited.counts(x), unlimited.spikes(x, 12), short(x)

    counts, found, two = counted(params)
    np.testing.assert_array_equal(counts, np.isfinite(found).sum(axis=-1))
    np.testing.assert_allclose(two, found[..., :2], rtol=1e-12)
    assert np.max(counts) > 3


def test_a_neuron_with_two_receptors():
    case = Case(TWO_COMPARTMENT, "ode", rk4(0.25))
    params = draw(case)
    layer = layer_of(case, params)
    x = params["in_times"]
    found, expected = quick(lambda x: (layer(x), layer.as_network(300).spikes(x, COUNT)))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert layer.n_neurons == N and np.isfinite(found).sum() > 10
