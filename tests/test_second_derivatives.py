"""Second derivatives by Autodiff: closed forms, and central differences of EventProp's
gradients (which test_gradients.py compares with differences of the spike times)."""

import functools as ft

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_delays as delays
import test_gradients as gradients
from jax.flatten_util import ravel_pytree
from registry import EXACT
from test_delta_synapses import DeltaLIF

import eventsnn as esn
from eventsnn.flows.short import searched_peak
from eventsnn.neurons import LIFState

SILENT = jnp.zeros((0, 1))
TAU = 20.0


def net_of(neuron, weights, **options):
    options = {"t_max": 100.0, "max_events": 12, "adjoint": esn.Autodiff()} | options
    outputs = tuple(range(np.shape(weights)[1]))
    return esn.EventNetwork(neuron, jnp.asarray(weights), outputs=outputs, **options)


def period(bias, tau=TAU):
    """How long a membrane takes from 0 to the threshold 1."""
    return tau * jnp.log(bias / (bias - 1))


def response(weight):
    """How long a quiet neuron with tau_syn = tau_mem / 2 takes to fire after an input."""
    return -TAU * jnp.log((1 + jnp.sqrt(1 - 4 / weight)) / 2)


def refractory(p):
    neuron = esn.Refractory(esn.LIF(p[1], 5.0, bias=p[0]), p[2])
    return net_of(neuron, [[0.0]]).spikes(SILENT, 3, throw=False)[0, 2]


def quiet_qif(p):
    net = net_of(esn.QIF(TAU, TAU / 2), jnp.array([[0.0], [1.0]]) * p[0])
    return net.ttfs(p[1].reshape(1, 1), throw=False)[0]


def tied(p):
    """Two neurons that fire at the same times and have no synapses; at p = (1.5, 1.5)."""
    spikes = net_of(esn.LIF(TAU, 5.0, bias=p), jnp.zeros((2, 2))).spikes(SILENT, 2, throw=False)
    return jnp.sum(spikes * jnp.array([[1.0, 2.0], [-0.5, 0.7]]))


def delayed(p):
    """A neuron that fires by itself and, after a delay, makes a second one fire."""
    neuron = esn.LIF(TAU, TAU / 2, bias=jnp.array([1.0, 0.0]) * p[0])
    weights, delay = (jnp.array([[0.0, 1.0], [0.0, 0.0]]) * x for x in p[1:])
    return net_of(neuron, weights, delays=delay).ttfs(SILENT, throw=False)[1]


def lifted(delay):
    """A neuron that fires by itself lifts a second one over its threshold, which does so, too, once
    before and once after that."""

    def time(p):
        neuron = DeltaLIF(jnp.full(2, TAU), p[:2], jnp.ones(2))
        weights = jnp.array([[0.0, 2.0], [0.0, 0.0]])
        options = {} if delay is None else {"delays": jnp.array([[0.0, 1.0], [0.0, 0.0]]) * p[2]}
        control = diffrax.PIDController(rtol=1e-10, atol=1e-12)
        options |= {"solver": diffrax.Dopri8(), "stepsize_controller": control}
        return net_of(neuron, weights, t_max=65.0, **options).spikes(SILENT, 3, throw=False)[1, 2]

    return time


def state(p):
    """A membrane a while after its first spike."""
    net = net_of(esn.LIF(TAU, 5.0, bias=p[0]), [[0.0]], t_max=60.0)
    return net.states_at(SILENT, p[1:], throw=False)[0, 0]


def highest(measure):
    """Of V = v x + w (x - x^2), x = exp(-t / tau)."""

    def value(p):
        state = LIFState(p[1].reshape(1, 1), p[0].reshape(1, 1))
        return measure(esn.LIF(TAU, TAU / 2), state, jnp.array([20.0]))[0, 0]

    return value


def peak(p):
    return (p[1] + p[0]) ** 2 / (4 * p[0])


CLOSED = {
    "refractory": (refractory, lambda p: 3 * period(p[0], p[1]) + 2 * p[2], (1.5, 20.0, 3.0)),
    "qif": (
        quiet_qif,
        lambda p: p[1] - TAU * jnp.log(1 - jnp.pi / (2 * jnp.sqrt(p[0]))),
        (30.0, 3.0),
    ),
    "tied": (tied, lambda p: 5.0 * period(p[0]) + 0.9 * period(p[1]), (1.5, 1.5)),
    "delayed": (delayed, lambda p: period(p[0]) + p[2] + response(p[1]), (1.5, 5.0, 2.0)),
    "lifted": (lifted(None), lambda p: period(p[0]) + period(p[1]), (1.2, 1.5)),
    "lifted late": (lifted(1), lambda p: period(p[0]) + p[2] + period(p[1]), (1.2, 1.5, 2.5)),
    "state": (
        state,
        lambda p: p[0] * (1 - jnp.exp(-(p[1] - period(p[0])) / TAU)),
        (1.5, 31.0),
    ),
    "maximum": (highest(esn.ExactLIF().peak), peak, (3.0, 0.4)),
    "searched": (highest(ft.partial(searched_peak, esn.ExactLIF())), peak, (3.0, 0.4)),
}


WAYS = {"forward": jax.hessian, "reverse": lambda f: jax.jacrev(jax.jacrev(f))}


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "forward") for name in CLOSED), ("refractory", "reverse")],
)
def test_closed_forms(name, way):
    found, closed, at = CLOSED[name]
    at, derivative = jnp.array(at), WAYS[way]
    expected = derivative(closed)(at)
    assert np.max(np.abs(expected)) > 1e-3
    np.testing.assert_allclose(found(at), closed(at), rtol=1e-9)
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(
        jax.jit(derivative(found))(at) / scale, expected / scale, rtol=0, atol=1e-7
    )


def products(autodiff, eventprop, params, key):
    """The second derivatives of a loss in a random direction: by Autodiff, and by differences of
    EventProp's gradients."""
    flat, unravel = ravel_pytree(params)
    way, step = jax.random.normal(key, flat.shape) * jnp.abs(flat), 1e-5

    @jax.jit
    def along(params, way):
        return jax.jvp(jax.grad(autodiff), (params,), (way,))[1]

    def moved(k):
        return ravel_pytree(eventprop(unravel(flat + k * step * way)))[0]

    near, far = moved(1) - moved(-1), moved(2) - moved(-2)
    return along(params, unravel(way)), unravel((8 * near - far) / (12 * step))


def assert_equal(found, expected):
    for name, value in expected.items():
        scale = np.max(np.abs(value)) + 1e-300
        np.testing.assert_allclose(
            found[name] / scale, value / scale, rtol=0, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("case", [EXACT[1]], ids=str)
def test_central_differences_of_gradients(case, getkey):
    params, functional = gradients.draw(case), gradients.random_functional("spikes", getkey())

    def loss(params):
        return gradients.loss(case, esn.Autodiff(), "spikes", params, functional)

    def gradient(params):
        return gradients.value_and_grad(case, "spikes", esn.EventProp())(params, functional)[1]

    assert_equal(*products(loss, gradient, params, getkey()))


@pytest.mark.parametrize("case", [delays.LIF], ids=str)
def test_central_differences_of_gradients_with_delays(case, getkey):
    params, functional = delays.problem(case), delays.functional_of()

    def loss(params):
        return delays.loss(case, esn.Autodiff(), "spikes", params, functional)[0]

    def gradient(params):
        return delays.run(case, params, functional)[2]

    assert_equal(*products(loss, gradient, params, getkey()))


EVENTPROP = "EventProp gives reverse-mode first derivatives only; use adjoint=esn.Autodiff()"


@pytest.mark.parametrize("way", [jax.jacfwd, jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))])
@pytest.mark.parametrize("compiled", [False, True])
def test_eventprop_has_reverse_mode_first_derivatives_only(way, compiled):
    def first(weight):
        net = net_of(
            esn.LIF(TAU, TAU / 2), jnp.array([[0.0], [1.0]]) * weight, adjoint=esn.EventProp()
        )
        return net.ttfs(jnp.ones((1, 1)), throw=False)[0]

    derivative = way(jax.vmap(first))
    with pytest.raises(NotImplementedError, match=EVENTPROP) as error:
        (jax.jit(derivative) if compiled else derivative)(jnp.full(2, 5.0))
    assert "\n" not in str(error.value)


def test_a_slow_neuron_that_does_not_cross_has_finite_second_derivatives():
    """Its membrane rises by 1e-18 a unit of time at the end, the square of which float32 lacks."""
    with jax.enable_x64(False):

        def time(p):
            neuron = esn.LIF(TAU, 5.0, bias=jnp.array([1.5, 0.0]), v_init=jnp.array([0.0, -1.0]))
            weights = jnp.zeros((2, 2)).at[1, 0].set(1.0)
            net = net_of(neuron, weights * p, t_max=1000.0, max_events=60)
            return jnp.sum(net.spikes(SILENT, 45, throw=False)[0])

        assert np.isfinite(jax.jit(jax.hessian(time))(jnp.array(1.0)))
