"""Readouts of leaky integrators: closed forms, maxima at kinks, and their gradients."""

import functools as ft
import math
from typing import Any

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
    when, x = np.linspace(0, T_MAX, 9), arrivals[:, None]
    given = {"weights": weights, "arrivals": arrivals, "bias": 0.3, "v_init": -0.2}
    np.testing.assert_allclose(
        layer.potentials_at(x, when)[0], potential(when, **given), rtol=1e-12
    )
    total, _ = quad(potential, 0, T_MAX, (*given.values(),), points=(3, 20), epsabs=1e-12)
    np.testing.assert_allclose(layer.integrals(x), total, rtol=1e-12)
    # The derivative of the integral with respect to an input time is minus that of its end.
    d = jax.grad(lambda x: layer.integrals(x)[0])(jnp.asarray(x))
    expected = np.where(arrivals < T_MAX, -weights * response(T_MAX - arrivals), 0.0)
    np.testing.assert_allclose(d[:, 0], expected, atol=1e-13)
    inside = jax.jit(lambda when: layer.potentials_at(x, when))(jnp.array([-1.0, 5.0, T_MAX + 1]))
    np.testing.assert_array_equal(np.isnan(inside), [[True, False, True]])


# Weights, input times, delays and bias of a neuron with an initial potential; place of the maximum.
MAXIMA = {
    "interior": ([2.0, 1.0], [1.0, 3.0], [1.0, 0.5], 0.0, 0.0),
    "at an input spike": ([2.0, -4.0], [1.0, 3.0], [1.0, 1.0], 0.0, 0.0),
    "at the last of coincident inputs": ([2.0, 0.5, -6.0], [1.0, 3.0, 3.0], [0.0] * 3, 0.0, 0.0),
    "at the start": ([-1.0, np.nan], [5.0, np.inf], [0.5, 1.0], -0.5, 1.0),
    "at the end": ([2.0, 9.0], [20.0, 30.0], [1.0, 0.5], 0.5, 0.0),
    "at an input spike that is the start": ([-3.0, 0.5], [0.0, 2.0], [0.0, 0.0], 0.0, 0.5),
}


@ft.cache
def gradients_of_maximum(n_in, form, constants):
    """Maximum and its gradients, with `constants` also in the time constants."""

    def of(params):
        neuron = esn.LeakyIntegrator(*TAU, bias=params["bias"], v_init=params["v_init"])
        if constants:
            neuron = eqx.tree_at(lambda n: (n.tau_mem, n.tau_syn), neuron, params["tau"])
        layer = esn.EventLinear(
            neuron, params["weights"][:, None], t_max=T_MAX, delays=params["delays"]
        )
        model = layer if form == "layer" else layer.as_network(60)
        return model.maxima(params["in_times"][:, None], throw=False)[0]

    return quick(jax.value_and_grad(of))


def parameters(name) -> dict[str, Any]:
    weights, in_times, delays, bias, v_init = MAXIMA[name]
    weights = np.nan_to_num(weights)
    params = dict(weights=weights, in_times=in_times, delays=delays, bias=bias, v_init=v_init)
    arrays: dict[str, Any] = {k: jnp.asarray(v, float) for k, v in params.items()}
    return arrays | {"tau": (jnp.asarray(TAU[0]), jnp.asarray(TAU[1]))}


@pytest.mark.parametrize("name", MAXIMA)
def test_the_gradient_of_a_maximum(name):
    """By central differences where it exists, and equal to that of the event loop."""
    params = parameters(name)
    n_in, tie = len(params["weights"]), "coincident" in name or "is the start" in name
    run = gradients_of_maximum(n_in, "layer", False)
    value, grads = run(params)
    forms = [("layer", True)] + [("network", True)] * (n_in == 2)
    for form in forms:
        other, right = gradients_of_maximum(n_in, *form)(params)
        np.testing.assert_allclose(other, value, rtol=1e-12)
        right = {name: g for name, g in right.items() if name != "tau"}
        assert_equal_gradients(grads | {"tau": 0}, right, 1e-10)
    when = np.linspace(0, T_MAX, 200_001)
    arrivals = np.asarray(params["in_times"] + params["delays"])
    rest = float(params["bias"]), float(params["v_init"])
    curve = potential(when, np.asarray(params["weights"]), arrivals, *rest)
    np.testing.assert_allclose(value, np.max(curve), rtol=1e-7)
    for key in () if tie else ("weights", "in_times", "delays", "bias", "v_init"):
        for i in np.ndindex(params[key].shape):
            up, down = (run(params | {key: params[key].at[i].add(s)})[0] for s in (STEP, -STEP))
            slope = 0.0 if params[key][i] == np.inf else (up - down) / (2 * STEP)
            np.testing.assert_allclose(grads[key][i], slope, atol=1e-8, err_msg=key)


def test_the_gradient_of_a_maximum_at_a_delayed_input_spike():
    expected = {"in_times": np.array([-0.05921476, 0.05921476])}
    expected["delays"] = expected["in_times"]
    for form in ("layer", "network"):
        _, grads = gradients_of_maximum(2, form, form == "network")(parameters("at an input spike"))
        for name, value in expected.items():
            np.testing.assert_allclose(grads[name], value, atol=1e-8)


def test_a_maximum_at_coincident_input_spikes_belongs_to_the_last():
    """The first changes the slope at the second: -w/tau before, V' + w/tau there."""
    _, grads = gradients_of_maximum(3, "layer", False)(
        parameters("at the last of coincident inputs")
    )
    slope = 2.0 * (math.exp(-2 / 5) / 5 - math.exp(-2 / 20) / 20) / 3
    np.testing.assert_allclose(grads["in_times"], [-slope, -0.5 / 20, slope + 0.5 / 20], rtol=1e-9)


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
