"""EventProp = Autodiff = central differences, for every entry of every parameter and of the input.

The differences are those of the package's own spike times, which test_spike_times.py compares with
an independent reference. They are of fourth order with steps h and 2h: their error is about eps * t
/ h = 5e-10 from rounding, and O(h^4). Steps are small because the spike times of a recurrent LIF
network have kinks where two events change order. EventProp and Autodiff differ by rounding.
"""

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import eventsnn as esn
from helpers.registry import (
    CASES,
    EXACT,
    LIF_SUBTRACT,
    MASK,
    N_IN,
    ODE,
    K,
    N,
    network,
    problem,
    quick,
)

COUNT = 4  # spikes per neuron in the loss
QUERY = np.array([21.0, 4.0, 14.5])
STEP = 1e-5


def draw(case, seed=2):
    """Draw a problem in which every input arrives, so that all times may be perturbed both ways."""
    ratio = np.array([2.0, 1.0, 0.5, 1.7, 1 - 1e-9, 4.0])
    params = problem(case.model, seed, ratio, until=15.0)
    params["in_times"] = np.where(np.isfinite(params["in_times"]), params["in_times"], 9.0)
    return jax.tree.map(jnp.asarray, params)


def loss(case, adjoint, read, params, functional):
    """Linear functional of the spikes that occur, or of potentials at given times."""
    net = network(case, params, t_max=25.0, max_events=80, adjoint=adjoint)
    if read == "spikes":
        values = net.spikes(params["in_times"], COUNT, throw=False)
        values = jnp.where(jnp.isfinite(values), values, 0.0)
    else:
        values = net.potentials_at(params["in_times"], jnp.asarray(QUERY), throw=False)
    return jnp.sum(functional * values)


@ft.cache
def value_and_grad(case, read, adjoint):
    return jax.jit(jax.value_and_grad(ft.partial(loss, case, adjoint, read)))


@ft.cache
def of_many(case, read):
    @jax.jit
    def run(stacked, functional):
        return jax.vmap(lambda params: loss(case, None, read, params, functional))(stacked)

    return run


def central_differences(case, read, params, functional):
    flat, unravel = ravel_pytree(params)
    h = STEP * jnp.eye(flat.size)
    stacked = jax.vmap(unravel)(jnp.concatenate([flat + s * h for s in (1, -1, 2, -2)]))
    near, near_minus, far, far_minus = of_many(case, read)(stacked, functional).reshape(4, -1)
    return unravel((8 * (near - near_minus) - (far - far_minus)) / (12 * STEP))


def random_functional(read, key):
    return jax.random.normal(key, (N, COUNT if read == "spikes" else len(QUERY)))


def assert_equal_gradients(actual, expected, rtol):
    """Compare entry by entry, relative to the largest entry of the parameter."""
    for name, value in expected.items():
        scale = np.max(np.abs(value)) + 1e-300
        found = actual[name] / scale
        np.testing.assert_allclose(found, value / scale, rtol=0, atol=rtol, err_msg=name)


@pytest.mark.parametrize("read", ["spikes", "states"])
@pytest.mark.parametrize("case", EXACT, ids=str)
def test_eventprop_is_central_differences(case, read, getkey):
    params, functional = draw(case), random_functional(read, getkey())
    expected = central_differences(case, read, params, functional)
    for name, value in expected.items():
        if case.model is LIF_SUBTRACT and name == "v_reset":  # it resets by the threshold
            assert np.all(value == 0)
        else:  # this problem uses every parameter
            hidden = np.sum(~MASK) if name == "weights" else 1
            assert np.sum(np.abs(value) < 1e-9) <= hidden, name
    _, actual = value_and_grad(case, read, esn.EventProp())(params, functional)
    assert_equal_gradients(actual, expected, 2e-8)


BY_SOLVER = [*((case, "spikes") for case in ODE), (ODE[1], "states")]


@pytest.mark.parametrize(("case", "read"), BY_SOLVER, ids=str)
def test_eventprop_is_central_differences_for_any_solver(case, read, getkey):
    """Along a random direction in each parameter separately: one compilation."""
    params, functional = draw(case), random_functional(read, getkey())
    run = value_and_grad(case, read, esn.EventProp())
    _, grads = run(params, functional)
    for name, value in params.items():
        way = jax.random.normal(getkey(), value.shape)

        def at(step, name=name, way=way):
            return run(params | {name: params[name] + step * STEP * way}, functional)[0]

        slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP)
        scale = jnp.linalg.norm(grads[name]) * jnp.linalg.norm(way)
        np.testing.assert_allclose(
            jnp.vdot(grads[name], way), slope, rtol=0, atol=2e-8 * scale, err_msg=name
        )


BY_AUTODIFF = [(case, "spikes") for case in CASES] + [(EXACT[0], "states")]


@pytest.mark.parametrize(("case", "read"), BY_AUTODIFF, ids=str)
def test_eventprop_is_autodiff(case, read, getkey):
    for seed in (0, 1):
        params, functional = draw(case, seed), random_functional(read, getkey())
        _, expected = value_and_grad(case, read, esn.Autodiff())(params, functional)
        _, actual = value_and_grad(case, read, esn.EventProp())(params, functional)
        assert_equal_gradients(actual, expected, 1e-10)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_mask_holds_in_the_gradient(case, getkey):
    functional = random_functional("spikes", getkey())
    params = draw(case)
    _, grads = value_and_grad(case, "spikes", esn.EventProp())(params, functional)
    assert np.all(grads["weights"][~MASK] == 0)
    assert np.all(grads["weights"][MASK] != 0)


def test_gradients_of_a_batch(getkey, case=EXACT[2]):
    """vmap(grad) equals a loop of grads, and the gradient of a sum over a batch is their sum."""
    params, functional = draw(case), random_functional("spikes", getkey())
    in_times = jax.random.uniform(getkey(), (3, N_IN, K), maxval=15.0)
    net = network(case, params, t_max=25.0, max_events=80)

    def read(net, in_times):
        spikes = net.spikes(in_times, COUNT, throw=False)
        return jnp.sum(functional * jnp.where(jnp.isfinite(spikes), spikes, 0.0))

    one = eqx.filter_grad(lambda both: read(*both))
    a_sample = eqx.filter_jit(one)
    by_loop = [a_sample((net, x)) for x in in_times]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *by_loop)
    by_vmap = eqx.filter_jit(jax.vmap(lambda x: one((net, x))))(in_times)
    of_sum = eqx.filter_jit(eqx.filter_grad(lambda both: read(*both)))((net, in_times))

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11 * np.max(np.abs(b)) + 1e-300)

    jax.tree.map(close, by_vmap, stacked)
    jax.tree.map(close, of_sum[0], jax.tree.map(lambda x: x.sum(0), stacked[0]))
    close(of_sum[1], stacked[1])
    # The module as the argument, or its parameters by name: the gradient is the same.
    by_name = value_and_grad(case, "spikes", esn.EventProp())
    _, by_name = by_name(params | {"in_times": in_times[0]}, functional)
    close(by_loop[0][0].weights, by_name["weights"])
    close(by_loop[0][0].neuron.tau_syn, by_name["tau_syn"])


def test_closed_forms():
    # tau_mem = 2 tau_syn, one input of weight w at s: the first spike is at s - tau log(x(w)).
    def first(neuron, w, s):
        net = esn.EventNetwork(
            neuron=neuron,
            weights=jnp.array([[0.0], [1.0]]) * w,
            outputs=(0,),
            t_max=80.0,
            max_events=9,
        )
        return net.ttfs(s.reshape(1, 1))[0]

    def lif(w):
        return (1 + jnp.sqrt(1 - 4 / w)) / 2

    def qif(w):
        return 1 - jnp.pi / (2 * jnp.sqrt(w))

    tau = 20.0
    for neuron, x, w in ((esn.LIF(tau, tau / 2), lif, 5.0), (esn.QIF(tau, tau / 2), qif, 30.0)):
        at = jnp.asarray(w), jnp.asarray(3.0)
        found = jax.jit(jax.value_and_grad(lambda w, s, n=neuron: first(n, w, s), argnums=(0, 1)))(
            *at
        )
        closed = jax.value_and_grad(lambda w, s, x=x: s - tau * jnp.log(x(w)), argnums=(0, 1))(*at)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found, closed)


def test_silent_neurons_have_no_gradient():
    params = draw(EXACT[0])
    params["weights"] = params["weights"] * 1e-3
    params["bias"] = params["bias"] * 0.0
    functional = jnp.ones((N, COUNT))
    _, grads = value_and_grad(EXACT[0], "spikes", esn.EventProp())(params, functional)
    assert all(np.all(value == 0) for value in grads.values())


def test_potentials_are_differentiable_in_the_given_times():
    params = draw(EXACT[0])
    net = network(EXACT[0], params, t_max=25.0, max_events=80)

    @eqx.filter_jit
    def value_and_slope(times):
        read = ft.partial(net.potentials_at, params["in_times"], throw=False)
        values, transpose = jax.vjp(read, times)
        return values, transpose(jnp.ones_like(values))[0]

    times, h = jnp.asarray(QUERY), 1e-5
    _, slope = value_and_slope(times)
    above, below = value_and_slope(times + h)[0], value_and_slope(times - h)[0]
    np.testing.assert_allclose(slope, ((above - below) / (2 * h)).sum(0), rtol=1e-8)


def lif_of(adjoint=None):
    weights = jnp.array([[0.0, 2.0, -1.0], [0.5, 0.0, 2.0], [1.0, -2.0, 0.0], [9.0, 3.0, 6.0]])
    return esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=0.4), weights, outputs=(0, 2), t_max=30.0, adjoint=adjoint
    )


@pytest.mark.parametrize(
    "adjoint", [esn.EventProp(), esn.Autodiff()], ids=["eventprop", "autodiff"]
)
def test_states_are_differentiable_in_their_times(adjoint):
    """Differentiable except at events; in the order of the given times."""
    net, in_times = lif_of(adjoint), jnp.array([[2.0, 9.0]])

    @jax.jit
    def read(times):
        return jnp.sum(
            net.potentials_at(in_times, times) * jnp.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]])
        )

    times, step = jnp.array([21.3, 4.2, 14.0]), 1e-5
    slopes = [(read(times + step * e) - read(times - step * e)) / (2 * step) for e in jnp.eye(3)]
    np.testing.assert_allclose(jax.grad(read)(times), jnp.stack(slopes), rtol=1e-6)
    assert (jnp.abs(jnp.stack(slopes)) > 1e-4).all()


def test_autodiff_in_forward_mode():
    net, in_times = lif_of(esn.Autodiff()), jnp.array([[2.0, 9.0]])
    way = jnp.arange(12.0).reshape(4, 3) - 5.0

    def loss(step):
        moved = eqx.tree_at(lambda net: net.weights, net, net.weights + step * way)
        return jnp.sum(moved.ttfs(in_times))

    zero, one = jnp.asarray(0.0), jnp.asarray(1.0)
    _, slope = jax.jvp(loss, (zero,), (one,))
    np.testing.assert_allclose(slope, jax.grad(loss)(zero), rtol=1e-12)


@pytest.mark.parametrize("model", [esn.LIF, esn.QIF])
def test_autodiff_of_one_parameter_alone(model):
    """The current depends on no differentiated parameter; its derivative is 0."""
    weights = jnp.array([[0.0], [9.0]])

    def first(bias, adjoint):
        neuron = model(10.0, 5.0, bias=bias)
        net = esn.EventNetwork(neuron, weights, outputs=(0,), t_max=60.0, adjoint=adjoint)
        return net.ttfs(jnp.array([[2.0]]), throw=False)[0]

    slopes = [
        quick(jax.grad(lambda bias, a=adjoint: first(bias, a)))(jnp.asarray(0.2))
        for adjoint in (esn.EventProp(), esn.Autodiff())
    ]
    assert slopes[0] < -1e-3
    np.testing.assert_allclose(*slopes, rtol=1e-11)
