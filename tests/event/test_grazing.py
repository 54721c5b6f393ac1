"""Spikes whose potentials barely reach the threshold: their gradients are large, and finite.

One input spike of weight w at time 0 gives V = w (x - x^2) with x = exp(-t / 20). Its maximum w / 4
is at x = 1/2, so w = 4 is the smallest weight with a spike, and dt/dw is infinite there.
"""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn

LIF = esn.LIF(20.0, 10.0)
#: At w = 4: dV/dw = 1/4, and V'' = -w/2 / 20^2 = -1/200. The slowest speed is sqrt(2 eps / 200).
LARGEST = 1 / 4 / np.sqrt(2 / 200)


def layer(weight):
    net = esn.EventLinear(LIF, weight[None, None], t_max=40.0, max_spikes=1, truncate=True)
    return net(jnp.zeros((1, 1), weight.dtype))[0, 0]


def network(adjoint, solver=None):
    def first_spike(weight):
        weights = jnp.stack([jnp.zeros_like(weight), weight])[:, None]
        options = {"solver": solver, "adjoint": adjoint}
        net = esn.EventNetwork(LIF, weights, outputs=(0,), t_max=40.0, **options)
        return net.ttfs(jnp.zeros((1, 1), weight.dtype))[0]

    return first_spike


ODE = network(esn.EventProp(), diffrax.Tsit5())
CASES = {
    "layer": (layer, 1),
    "EventProp": (network(esn.EventProp()), 1),
    "Autodiff": (network(esn.Autodiff()), 3),  # three steps of Newton's method
    "ODE": (ODE, 1),
}


def check(first_spike, largest):
    eps = np.finfo(jnp.zeros(()).dtype).eps
    evaluate = jax.jit(jax.vmap(jax.value_and_grad(first_spike)))

    def at(weights):
        weights = jnp.asarray(weights)
        return [np.asarray(x, np.float64) for x in (weights, *evaluate(weights))]

    # The smallest weight with a spike: 4, but for errors of rounding and of the solver.
    silent, fires = 3.99, 4.01
    while fires - silent > 100 * eps:
        weights, times, _ = at(np.linspace(silent, fires, 64))
        first = np.isfinite(times).argmax()
        silent, fires = weights[first - 1], weights[first]
    assert abs(fires / 4 - 1) < 1e-5
    _, times, grads = at(fires * (1 + np.arange(-20, 44) * eps))
    assert 20 < np.isfinite(times).sum() < 60
    assert np.isfinite(grads).all()
    grads = grads[np.isfinite(times)]
    np.testing.assert_array_less(grads, 0)
    np.testing.assert_array_less(-grads, 1.01 * largest * LARGEST / np.sqrt(eps))

    if first_spike is ODE:  # its steps do not resolve the weights below in double precision
        return
    weights, _, grads = at(fires * (1 + np.geomspace(1e4, 1e5, 64) * eps))
    root = np.sqrt(1 - fires / weights)
    np.testing.assert_allclose(grads, -40 / (1 + root) / (weights**2 * root), rtol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_grazing_spikes(case):
    check(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_grazing_spikes_in_single_precision(case, as_users_do):
    check(*CASES[case])
