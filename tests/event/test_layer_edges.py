"""Layers with unusual input: the results, or one clear error."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn

INF = jnp.inf
LIF, READOUT = esn.LIF(10.0, 5.0), esn.LeakyIntegrator(10.0, 5.0)


def linear(weights, neuron=LIF, t_max=20.0, **options):
    return esn.EventLinear(neuron, jnp.asarray(weights), t_max=t_max, **options)


def test_one_input_spike():
    """V = 8 (x - x^2) with x = exp(-t / 10)."""
    out = linear([[8.0]], max_spikes=1, truncate=True)(jnp.zeros((1, 1)))
    np.testing.assert_allclose(out, [[-10 * np.log((1 + np.sqrt(0.5)) / 2)]], rtol=1e-12)


@pytest.mark.parametrize("query", ["integrals", "maxima", "potentials_at"])
@pytest.mark.parametrize("wrong", [-INF, jnp.nan, -1.0])
def test_an_invalid_sample_does_not_affect_the_gradient_of_others(query, wrong):
    layer = linear(np.ones((2, 3)), READOUT)
    more = (jnp.array([3.0, 15.0]),) if query == "potentials_at" else ()

    @jax.jit
    @jax.grad
    def grad(weights, x):
        now = eqx.tree_at(lambda layer: layer.weights, layer, weights)
        return jnp.nansum(getattr(now, query)(x, *more, throw=False))

    good = jnp.array([[1.0], [2.0]])
    both = grad(layer.weights, jnp.stack([good, jnp.array([[wrong], [2.0]])]))
    np.testing.assert_allclose(both, grad(layer.weights, good[None]), rtol=1e-12)


SYNAPTIC = [[0.0, 3.0, 1.0], [2.0, 0.5, 30.0]]  # the last one is longer than t_max


@pytest.mark.parametrize("vector", [True, False])
def test_readouts_with_synaptic_delays(vector):
    """Values and gradients are those of the event loop."""
    readout = esn.LeakyIntegrator(*(np.array([8.0, 10.0, 5.0]), 5.0) if vector else (10.0, 5.0))
    layer = linear([[1.0, -0.5, 2.0], [0.3, 1.2, 0.7]], readout, delays=np.array(SYNAPTIC))
    x, times = (
        jnp.array([[[1.0, 4.0], [2.0, INF]], [[INF, 0.0], [7.0, 5.0]]]),
        jnp.array([3.0, 9.0]),
    )

    def answers(layer, x):
        out = layer.potentials_at(x, times), layer.maxima(x), layer.integrals(x)
        return sum(jnp.sum(jnp.sin(x)) for x in out), out

    both = eqx.filter_value_and_grad(
        lambda args: answers(args[0].as_network() if args[2] else args[0], args[1]), has_aux=True
    )
    ((_, found), grads), ((_, right), expected) = both((layer, x, False)), both((layer, x, True))
    for own, other in zip(*map(jax.tree.leaves, ((found, grads), (right, expected))), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-12)
    assert np.all(grads[0].delays[0] != 0) and np.all(grads[1][jnp.isfinite(x)] != 0)


def test_failed_samples_with_synaptic_delays():
    """A sample fails for all neurons, if it fails for one."""
    weights = [[8.0, 0.1, 8.0], [8.0, 0.1, 8.0]]
    layer = linear(weights, delays=np.array(SYNAPTIC), max_spikes=2)
    x = jnp.array([[[1.0], [INF]], [[1.0], [jnp.nan]], [[1.0], [1.5]]])
    status = layer.simulate(x, throw=False).status
    for k, name in enumerate(["completed", "invalid_input", "max_spikes"]):
        expected = np.arange(3) == k
        np.testing.assert_array_equal(status == getattr(esn.Status, name), expected)
    np.testing.assert_array_equal(jnp.isnan(layer(x, throw=False)).all((1, 2)), [False, True, True])
    counts = layer.counts(x, throw=False)
    np.testing.assert_array_equal(counts, layer.as_network().counts(x, throw=False))
    assert counts[0].tolist() == [2, 0, 2] and counts[1].tolist() == [-1] * 3
    late = linear(weights, delays=np.ones((2, 3)), max_spikes=2)
    late = eqx.tree_at(lambda layer: layer.delays, late, late.delays - 1.5)
    assert (late.simulate(x[:1], throw=False).status == esn.Status.invalid_parameters).all()


def test_simulate_ends_at_t_max():
    """Pseudospikes are not events of a simulation."""
    late = esn.Pseudospikes(3.0, 50.0)
    layer = linear([[8.0, 0.1]], max_spikes=3, truncate=True, pseudospikes=late)
    assert ((layer([[1.0]]) > 20.0) & (layer([[1.0]]) < INF)).any()
    network, found = layer.as_network().simulate([[1.0]]), layer.simulate([[1.0]])
    number = int(network.stats["events"])
    assert int(found.stats["events"]) == number
    assert int(found.stats["spikes"]) == int(network.stats["spikes"]) == number - 1
    np.testing.assert_allclose(found.times[:number], network.times[:number], rtol=1e-12)
    np.testing.assert_array_equal(found.sources[:number], network.sources[:number])
    assert (found.times[number:] == INF).all()


def test_an_invalid_sample_has_no_events():
    layer = linear(np.full((2, 1), 8.0), max_spikes=3, truncate=True)
    found = layer.simulate(jnp.array([[[jnp.nan], [2.0]], [[1.0], [2.0]]]), throw=False)
    np.testing.assert_array_equal(found.status == esn.Status.invalid_input, [True, False])
    assert (found.times[0] == INF).all() and (found.sources[0] == -1).all()
    assert int(found.stats["events"][0]) == 0
    assert int(found.stats["events"][1]) > 2


@pytest.mark.parametrize("neuron", [LIF, READOUT])
@pytest.mark.parametrize("query", ["ttfs", "counts", "integrals", "maxima"])
def test_a_delay_does_not_make_a_negative_time_valid(neuron, query):
    layer = linear(np.full((2, 1), 8.0), neuron, delays=[3.0, 0.0])
    x = jnp.array([[[-1.0], [2.0]], [[1.0], [2.0]]])
    out = getattr(layer, query)(x, throw=False)
    failed = out == -1 if query == "counts" else jnp.isnan(out)
    np.testing.assert_array_equal(failed, [[True], [False]])


@pytest.mark.parametrize("neuron", [LIF, READOUT])
@pytest.mark.parametrize("query", ["ttfs", "integrals", "maxima"])
def test_a_negative_delay_is_named(neuron, query):
    """A step of an optimizer can make a delay negative."""
    layer = linear(np.full((2, 1), 8.0), neuron, delays=[3.0, 0.0])
    layer = eqx.tree_at(lambda layer: layer.delays, layer, jnp.array([-1.0, 0.0]))
    x = jnp.array([[1.0], [2.0]])
    with pytest.raises(RuntimeError, match="a delay < 0"):
        getattr(layer, query)(x)
    assert jnp.isnan(getattr(layer, query)(x, throw=False)).all()


def test_pooling_of_trains_without_slots():
    for max_spikes in (1, 3):
        out = esn.EventPool2d(2, max_spikes=max_spikes)(jnp.zeros((1, 4, 4, 0)))
        np.testing.assert_array_equal(out, np.full((1, 2, 2, max_spikes), INF))


def test_pseudospikes_of_a_convolution():
    """A silent neuron receives the current after t_max: V = 3 (1 - exp(-t / 10))."""
    options = {"t_max": 20.0, "max_spikes": 1, "truncate": True}
    late = esn.Pseudospikes(3.0, 50.0)
    layer = esn.EventConv2d(LIF, jnp.zeros((2, 1, 3, 3)), pseudospikes=late, **options)
    out = layer(jnp.ones((1, 4, 4, 1)))
    np.testing.assert_allclose(out, np.full((2, 2, 2, 1), 20 + 10 * np.log(1.5)), rtol=1e-12)


def test_errors():
    a, b = linear(np.ones((2, 4)), max_spikes=2), linear(np.ones((5, 1)), max_spikes=2)
    wrong = esn.EventSequential([a, b])
    with pytest.raises(
        ValueError, match=r"layers\[1\] must have .* 4 neurons of layers\[0\], got 5"
    ):
        wrong.as_network()
    with pytest.raises(ValueError, match=r"layers\[1\] of an EventSequential"):
        wrong(jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"layers\[1\] of an EventSequential"):
        wrong.ttfs(jnp.ones((2, 1)))
    other = linear(np.ones((4, 1)), max_spikes=2, adjoint=esn.EventProp(min_speed=0.1))
    with pytest.raises(ValueError, match="its adjoint"):
        esn.EventSequential([a, other]).as_network()
    with pytest.raises(ValueError, match="max_spikes must be given"):
        linear(np.ones((2, 4))).simulate(jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"delays must have shape \(2, 1, 3, 3\), got"):
        esn.EventConv2d(LIF, jnp.ones((2, 1, 3, 3)), t_max=20.0, delays=[1.0, 2.0])


def test_merge_of_integers():
    out = esn.merge([jnp.array([[1]]), jnp.array([[2]])])
    assert jnp.issubdtype(out.dtype, jnp.floating)
    np.testing.assert_array_equal(out, [[1.0, 2.0]])
