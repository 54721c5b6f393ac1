"""Readouts of leaky integrators: closed forms, maxima at kinks, and their gradients."""

import functools as ft
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import eventsnn as esn
from eventsnn.event.flows import membrane
from helpers.differences import assert_equal_gradients
from helpers.registry import quick

INF, N_IN = np.inf, 3
T_MAX, TAU, STEP = 25.0, (20.0, 5.0), 1e-5


def response(t):
    t = np.maximum(t, 0.0)
    return (np.exp(-t / 20) - np.exp(-t / 5)) / 3


def potential(t, weights, arrivals, bias=0.0, v_init=0.0):
    rest = bias + (v_init - bias) * np.exp(-t / 20)
    return rest + sum(w * response(t - a) for w, a in zip(weights, arrivals, strict=True))


def test_potentials_and_integrals_have_closed_forms(rng):
    weights, arrivals = rng.normal(size=4), np.array([3.0, 20.0, 3.0, 30.0])
    neuron = esn.LeakyIntegrator(*TAU, bias=0.3, v_init=-0.2)
    layer = esn.EventLinear(neuron, weights[:, None], t_max=T_MAX)
    when = np.linspace(0, T_MAX, 9)

    @quick
    def readouts(x, when):
        total, slopes = jax.value_and_grad(lambda x: layer.integrals(x, throw=False)[0])(x)
        return layer.potentials_at(x, when, throw=False)[0], total, slopes[:, 0]

    found, total, slopes = readouts(arrivals[:, None], np.append(when, [-1.0, T_MAX + 1]))
    given = {"weights": weights, "arrivals": arrivals, "bias": 0.3, "v_init": -0.2}
    np.testing.assert_allclose(found[:9], potential(when, **given), rtol=1e-12)
    assert np.all(np.isnan(found[9:]))
    expected, _ = quad(potential, 0, T_MAX, (*given.values(),), points=(3, 20), epsabs=1e-12)
    np.testing.assert_allclose(total, expected, rtol=1e-12)
    # The derivative of the integral with respect to an input time is minus that of its end.
    expected = np.where(arrivals < T_MAX, -weights * response(T_MAX - arrivals), 0.0)
    np.testing.assert_allclose(slopes, expected, atol=1e-13)


# Weights, arrival times, bias and initial potential of a neuron; place of the maximum. Neuron i is
# observed in sample i.
MAXIMA = {
    "interior": ([2.0, 1.0, 0.0], [2.0, 3.5, INF], 0.0, 0.0),
    "at an input spike": ([2.0, -4.0, 0.0], [2.0, 4.0, INF], 0.0, 0.0),
    "at the last of coincident inputs": ([2.0, 0.5, -6.0], [1.0, 3.0, 3.0], 0.0, 0.0),
    "at the start": ([-1.0, 0.0, 0.0], [5.5, INF, INF], -0.5, 1.0),
    "at the end": ([2.0, 9.0, 0.0], [21.0, 30.5, INF], 0.5, 0.0),
    "at an input spike that is the start": ([-3.0, 0.5, 0.0], [0.0, 2.0, INF], 0.0, 0.5),
}
TIES = [i for i, name in enumerate(MAXIMA) if "coincident" in name or "is the start" in name]
DELAYS = (0.0, 0.5, 1.0)


def parameters():
    weights, arrivals, bias, v_init = map(np.array, zip(*MAXIMA.values(), strict=True))
    params = {
        "weights": weights.T,
        "in_times": arrivals - DELAYS,
        "delays": np.array(DELAYS),
        "bias": bias,
        "v_init": v_init,
        "tau_mem": np.full(len(MAXIMA), TAU[0]),
        "tau_syn": np.full(len(MAXIMA), TAU[1]),
    }
    return jax.tree.map(jnp.asarray, params)


@ft.cache
def gradients_of_maxima(constants):
    """Maxima, and the gradients of their sum, with `constants` also in the time constants."""

    def of(params):
        neuron = {name: params[name] for name in ("bias", "v_init", "tau_mem", "tau_syn")}
        if not constants:
            neuron |= dict(zip(("tau_mem", "tau_syn"), TAU, strict=True))
        layer = esn.EventLinear(
            esn.LeakyIntegrator(**neuron), params["weights"], t_max=T_MAX, delays=params["delays"]
        )
        values = jnp.diagonal(layer.maxima(params["in_times"][..., None], throw=False))
        return jnp.sum(values), values

    return quick(jax.value_and_grad(of, has_aux=True))


def test_maxima_by_two_algorithms():
    """With the gradients of the time constants, and without them."""
    (_, values), grads = gradients_of_maxima(False)(parameters())
    (_, others), right = gradients_of_maxima(True)(parameters())
    np.testing.assert_allclose(values, others, rtol=1e-12)
    assert_equal_gradients(right, {k: g for k, g in grads.items() if "tau" not in k}, 1e-10)
    when = np.linspace(0, T_MAX, 200_001)
    for value, (weights, arrivals, *rest) in zip(values, MAXIMA.values(), strict=True):
        curve = potential(when, weights, np.array(arrivals), *rest)
        np.testing.assert_allclose(value, np.max(curve), rtol=1e-7)


@pytest.mark.parametrize("key", ["weights", "in_times", "bias", "v_init", "tau_mem", "tau_syn"])
def test_the_gradient_of_a_maximum(key):
    """By central differences in all neurons at once, where it exists."""
    run, params = gradients_of_maxima("tau" in key), parameters()
    _, grads = run(params)
    for i in range(N_IN) if key in ("weights", "in_times") else [...]:
        entry = (slice(None), i) if key == "in_times" else i
        (_, up), _ = run(params | {key: params[key].at[entry].add(STEP)})
        (_, down), _ = run(params | {key: params[key].at[entry].add(-STEP)})
        error = np.delete(grads[key][entry] - (up - down) / (2 * STEP), TIES)
        np.testing.assert_allclose(error, 0.0, atol=1e-8)


def test_the_gradient_of_a_maximum_at_an_input_spike():
    """Delays have the gradients of the input times, summed over the samples."""
    _, grads = gradients_of_maxima(False)(parameters())
    np.testing.assert_allclose(grads["in_times"][1, :2], [-0.05921476, 0.05921476], atol=1e-8)
    np.testing.assert_allclose(grads["delays"], grads["in_times"].sum(axis=0), rtol=1e-12)
    # Of coincident input spikes, the maximum belongs to the last. The first changes the slope at
    # the second: it is -w/tau before, and V' + w/tau there.
    slope = 2.0 * (math.exp(-2 / 5) / 5 - math.exp(-2 / 20) / 20) / 3
    expected = [-slope, -0.5 / 20, slope + 0.5 / 20]
    np.testing.assert_allclose(grads["in_times"][2], expected, rtol=1e-9)


def test_gradients_at_equal_time_constants():
    """Of vectors of constants, one pair equal, differentiated together under jit."""
    tau_mem, tau_syn = jnp.linspace(8.0, 12.0, 5), jnp.linspace(4.0, 12.0, 5)
    x, weights = jnp.array([[1.0, 4.0], [2.0, 9.0]]), jnp.asarray([[1.0] * 5, [-0.4] * 5])

    @jax.jit
    @jax.value_and_grad
    def of(params):
        neuron = esn.LeakyIntegrator(params["tau_mem"], params["tau_syn"])
        layer = esn.EventLinear(neuron, params["weights"], t_max=20.0)
        return jnp.sum(layer.potentials_at(params["x"], [7.0, 20.0]) * jnp.array([1.0, -0.5]))

    params = {"tau_mem": tau_mem, "tau_syn": tau_syn, "weights": weights, "x": x}
    _, grads = of(params)
    step = 1e-4
    for name in ("tau_mem", "tau_syn"):
        for i in range(5):
            at = [of(params | {name: params[name].at[i].add(s * step)})[0] for s in (1, -1, 2, -2)]
            slope = (8 * (at[0] - at[1]) - (at[2] - at[3])) / (12 * step)
            np.testing.assert_allclose(grads[name][i], slope, rtol=1e-8)
    # dk/dtau_s = t^2 e^{-t/tau} / (2 tau^3) at equal constants; dk/dtau_m has -t/tau^2 in addition.
    neuron = esn.LeakyIntegrator(10.0, 10.0)
    d = jax.jit(jax.grad(lambda n: membrane.kernel(n, jnp.asarray(3.0))))(neuron)
    np.testing.assert_allclose(d.tau_syn, 9 * math.exp(-0.3) / 2000, rtol=1e-12)
    np.testing.assert_allclose(
        d.tau_mem, 9 * math.exp(-0.3) / 2000 - 0.03 * math.exp(-0.3), rtol=1e-12
    )


# ------------------------------------------------------------------ many input spikes


def trains_of(rng, *numbers):
    """Input spikes of one sample per number, in three channels, two of them at t_max and after."""
    x = np.full((len(numbers), 3, 40), INF)
    for sample, n in zip(x, numbers, strict=True):
        for k, time in enumerate(rng.uniform(0.0, 0.8 * T_MAX, n)):
            sample[k % 3, k // 3] = time
    x[-1, 2, 38:] = T_MAX, T_MAX + 1.0
    return jnp.asarray(x)


def gradients_of_layer(layer, x, factors):
    def of(weights, x):
        found = eqx.tree_at(lambda layer: layer.weights, layer, weights).maxima(x, throw=False)
        return jnp.sum(jnp.where(jnp.isfinite(found), factors * found, 0.0)), found

    return quick(jax.value_and_grad(of, (0, 1), has_aux=True))(layer.weights, x)


def test_maxima_of_many_input_spikes(rng):
    """Numbers of input spikes around multiples of the size of a block, in one batch; by the event
    loop, and with a second derivative."""
    weights = rng.normal(0.0, 1.0, (3, 4))
    x, factors = trains_of(rng, 0, 1, 15, 16, 17, 33, 60), jnp.asarray(rng.normal(size=(7, 4)))
    layer = esn.EventLinear(esn.LeakyIntegrator(20.0, 5.0), weights, t_max=T_MAX)
    (_, found), grads = gradients_of_layer(layer, x, factors)
    by_events = esn.EventLinear(layer.neuron, weights, t_max=T_MAX, adjoint=esn.Autodiff())
    (_, expected), right = gradients_of_layer(by_events, x, factors)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.any(found > 0, axis=1).tolist() == [False] + [True] * 6
    for a, b in zip(grads, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    _, slope = jax.jvp(lambda x: by_events.maxima(x[:3]), (x,), (jnp.ones_like(x),))
    np.testing.assert_allclose(jnp.sum(factors[:3] * slope), jnp.sum(right[1][:3]), rtol=1e-9)


@pytest.mark.parametrize("invalid", [np.nan, -1.0, -INF])
def test_an_invalid_sample_has_no_effect_on_the_gradients_of_others(invalid, rng):
    x, factors = trains_of(rng, 20, 9), jnp.ones((2, 4))
    layer = esn.EventLinear(
        esn.LeakyIntegrator(20.0, 5.0), rng.normal(0.0, 1.0, (3, 4)), t_max=T_MAX
    )
    (_, found), grads = gradients_of_layer(layer, x.at[1, 0, 0].set(invalid), factors)
    (_, expected), right = gradients_of_layer(layer, x[:1], factors[:1])
    np.testing.assert_array_equal(found[:1], expected)
    assert np.all(np.isnan(found[1]))
    np.testing.assert_allclose(grads[0], right[0], rtol=1e-13)
    np.testing.assert_array_equal(grads[1][0], right[1][0])


def test_an_input_spike_at_t_max():
    """A maximum at an input spike moves with it, also at t_max."""
    neuron, weights = esn.LeakyIntegrator(20.0, 5.0), np.array([[1.0], [0.5]])
    layer = esn.EventLinear(neuron, weights, t_max=10.0)
    of = quick(jax.grad(lambda x: layer.maxima(x, throw=False)[0]))
    slope = (np.exp(-8 / 5) / 5 - np.exp(-8 / 20) / 20) / 3
    np.testing.assert_allclose(of(jnp.array([[2.0], [10.0]]))[:, 0], [-slope, slope], rtol=1e-12)
    right = jax.grad(lambda x: layer.as_network().maxima(x, throw=False)[0])
    np.testing.assert_allclose(right(jnp.array([[2.0], [10.0]]))[:, 0], [-slope, slope], rtol=1e-9)
