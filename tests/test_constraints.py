"""Parameters constrained to a range during training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import discrete

IN_TIMES = jnp.array([[1.0, 9.0], [4.0, 6.0]])


def network(**options):
    weights = jnp.array([[0.0, 0.5], [0.3, 0.0], [2.0, 1.0], [1.0, 2.5]])
    neuron = esn.LIF(jnp.array([10.0, 12.0]), 5.0)
    return esn.EventNetwork(neuron, weights, outputs=(0, 1), t_max=40.0, max_events=40, **options)


def where(net):
    return net.neuron.tau_mem, net.weights


def test_a_wrapped_network_is_the_same_network():
    net = network()
    wrapped = esn.constrain(net, lambda net: net.neuron.tau_mem)
    assert isinstance(wrapped.neuron.tau_mem, esn.Positive)
    assert wrapped.neuron.tau_mem.shape == (2,)
    assert wrapped.n_neurons == 2
    fires = jax.jit(lambda net: net.spikes(IN_TIMES, 3))
    np.testing.assert_allclose(fires(wrapped), fires(net), rtol=1e-13)
    for a, b in zip(jax.tree.leaves(esn.unwrap(wrapped)), jax.tree.leaves(net), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_gradients_pass_through_the_wrapper():
    def loss(net):
        return jnp.sum(jnp.sin(net.ttfs(IN_TIMES)))

    net = network()
    net = eqx.tree_at(lambda net: net.weights, net, net.weights + 0.1)  # all of them above 0
    wrapped = esn.constrain(net, where)
    plain, raw = (jax.jit(jax.grad(loss))(x) for x in (net, wrapped))
    for value, own, inner in zip(where(net), where(plain), where(raw), strict=True):
        np.testing.assert_allclose(inner.raw, own * -np.expm1(-value), rtol=1e-10)
    assert np.all(np.abs(plain.neuron.tau_mem) > 1e-3)


def test_trained_values_stay_positive():
    """The loss pulls all delays to 0; plain parameters become negative, wrapped ones do not."""
    delays = jnp.array([0.5, 1.5, 0.2, 0.25])

    def learn(net):
        spec = eqx.tree_at(lambda n: n.delays, jax.tree.map(lambda _: False, net), True)
        for _ in range(20):
            trained, fixed = eqx.partition(net, spec)
            grads = step(trained, fixed)
            trained = jax.tree.map(lambda x, g: x - 0.3 * g, trained, grads)
            net = eqx.combine(trained, fixed)
        return net

    def loss(trained, fixed):
        return jnp.sum(eqx.combine(trained, fixed).ttfs(IN_TIMES, throw=False))

    step = eqx.filter_jit(jax.grad(loss))
    net = network(delays=delays)
    learnt = esn.unwrap(learn(esn.constrain(net, lambda net: net.delays)))
    assert jnp.all(learnt.delays > 0)
    assert jnp.min(learnt.delays / delays) < 0.5
    plain = learn(net)
    assert jnp.min(plain.delays) < 0
    assert plain.simulate(IN_TIMES, throw=False).status == esn.Status.invalid_parameters


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_values_that_are_not_positive_are_refused(value):
    with pytest.raises(ValueError, match=r"value must be finite and > 0, got \["):
        esn.Positive(np.array([1.0, value]))


def test_small_and_large_values_survive():
    values = np.array([1e-12, 1e-3, 1.0, 50.0, 1e6])
    np.testing.assert_allclose(esn.Positive(values).unwrap(), values, rtol=1e-9)


def test_a_wrapped_leaf_can_be_passed_to_another_network():
    """A network with other options, built from the leaves of a constrained one."""
    positive = jnp.array([[0.1, 0.5], [0.3, 0.2], [2.0, 1.0], [1.0, 2.5]])
    net = eqx.tree_at(lambda net: net.weights, network(delays=jnp.ones(4)), positive)
    net = esn.constrain(net, lambda net: (net.delays, where(net)))
    neuron = esn.LIF(net.neuron.tau_mem, 5.0, threshold=esn.Positive(1.0))
    again = esn.EventNetwork(neuron, net.weights, outputs=(0, 1), t_max=30.0, delays=net.delays)
    for leaf, value in (
        (again.delays, jnp.ones(4)),
        (again.weights, positive),
        (again.neuron.tau_mem, jnp.array([10.0, 12.0])),
        (again.neuron.threshold, jnp.array(1.0)),
    ):
        assert isinstance(leaf, esn.Positive)
        np.testing.assert_allclose(leaf.unwrap(), value, rtol=1e-14)


# ------------------------------------------------------------------ intervals


def trained(model, loss, steps=25, rate=0.5):
    """Parameters after steps of constant size against the gradient."""

    @eqx.filter_jit
    def step(model):
        grads = eqx.filter_grad(loss)(model)
        return eqx.apply_updates(model, jax.tree.map(lambda g: -rate * jnp.sign(g), grads))

    for _ in range(steps):
        model = step(model)
    return model


@pytest.mark.parametrize("sign", [1, -1])
def test_rates_of_cells_stay_in_an_interval(sign):
    """The loss pulls all rates up or down. Without the interval they leave it at once."""
    cells = [
        discrete.ALIF(jnp.array([0.3, 0.7]), 0.9, 0.2, threshold=0.5),
        discrete.Synaptic(0.5, jnp.array([0.2, 0.95])),
        discrete.DelayedLinear(eqx.nn.Linear(2, 1, key=jax.random.key(0)), 1.5, max_delay=3),
        discrete.LeakyIntegrator(0.8),
    ]
    rates = lambda cells: [cells[0].beta, cells[1].alpha, cells[1].beta, cells[3].beta]  # noqa: E731
    wrapped = esn.constrain(cells, rates, (0.0, 1.0))
    wrapped = esn.constrain(wrapped, lambda cells: cells[2].delays, (1.0, 2.0))
    xs = jnp.ones((5, 2))

    def loss(cells):
        runs = [discrete.run(cell, xs) for cell in cells]
        states = [out.spikes if out.membranes is None else out.membranes for out in runs]
        slide = esn.unwrap(cells[2].delays)
        return -sign * (sum(jnp.sum(states[k]) for k in (0, 1, 3)) + slide)

    found = esn.unwrap(trained(wrapped, loss))
    for value in rates(found):
        assert jnp.all((value > 0) & (value < 1))
        assert jnp.all(value > 0.99 if sign > 0 else value < 0.01)
    assert 1 < found[2].delays < 2 and abs(found[2].delays - 1.5) > 0.49
    plain = trained(cells, loss, steps=2)
    assert any(jnp.any((value <= 0) | (value >= 1)) for value in rates(plain))


def test_time_constants_of_a_network_stay_in_an_interval():
    net = esn.constrain(network(), lambda net: net.neuron.tau_mem, (8.0, 15.0))
    np.testing.assert_allclose(esn.unwrap(net).neuron.tau_mem, [10.0, 12.0], rtol=1e-14)

    spec = eqx.tree_at(lambda net: net.neuron.tau_mem, jax.tree.map(lambda _: False, net), True)
    moving, fixed = eqx.partition(net, spec)
    # The first spikes are earlier for smaller time constants.
    found = trained(moving, lambda part: jnp.sum(eqx.combine(part, fixed).ttfs(IN_TIMES)))
    tau = esn.unwrap(found).neuron.tau_mem
    assert jnp.all((tau > 8) & (tau < 8.01))


def test_a_value_outside_the_interval_is_refused():
    with pytest.raises(ValueError, match=r"^beta must lie between 0\.0 and 1\.0, got 1\.0"):
        esn.constrain(discrete.Leaky(1.0), lambda cell: cell.beta, (0.0, 1.0))


def test_the_error_names_the_parameter():
    net = network(delays=jnp.zeros(4))
    with pytest.raises(ValueError, match=r"^delays must be finite and > 0, got \["):
        esn.constrain(net, lambda net: net.delays)
    model = discrete.Sequential([discrete.Leaky(0.5), discrete.Leaky(1.0)])
    with pytest.raises(ValueError, match=r"^layers\.1\.beta must lie between"):
        esn.constrain(model, lambda model: [x.beta for x in model.layers], (0.0, 1.0))
    with pytest.raises(ValueError, match=r"^value must be finite and > 0, got -1\.0"):
        esn.constrain(jnp.asarray(-1.0), lambda x: x)
