"""Activity of the layers of a model, and calibration of their weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn

INF = np.inf
KEY = jax.random.key(0)
LIF, READOUT = esn.LIF(20.0, 20.0), esn.LeakyIntegrator(20.0, 20.0)


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.uniform(0.0, 20.0, (40, 16, 1)))


def scaled(model, factor):
    spec = esn.trainable(model, *({"weights"} if not has_kernel(model) else {"weights", "kernel"}))
    return jax.tree.map(lambda w, on: factor * w if on else w, model, spec)


def has_kernel(model):
    return any(isinstance(layer, esn.EventConv2d) for layer in getattr(model, "layers", ()))


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def layers(readout=READOUT, **options):
    options = {"max_spikes": 20, "truncate": True} | options
    return esn.feedforward(
        LIF, sizes=(16, 30, 20, 4), key=KEY, t_max=20.0, readout=readout, **options
    )


def convolutional():
    options = {"t_max": 20.0, "max_spikes": 20, "truncate": True}
    kernel, weights = jax.random.normal(KEY, (3, 1, 2, 2)), jax.random.normal(KEY, (27, 4))
    return esn.EventSequential(
        [
            lambda x: x.reshape(-1, 1, 4, 4, 1),
            esn.EventConv2d(LIF, kernel, **options),
            esn.EventFlatten(),
            esn.EventLinear(LIF, weights, **options),
        ]
    )


def recurrent():
    sizes = {"inputs": 16, "hidden": 20, "outputs": 4}
    return esn.recurrent(LIF, **sizes, key=KEY, t_max=20.0, readout=READOUT, max_events=4000)


def test_activity_by_hand():
    """Two neurons with one input each: spikes that cross by arithmetic."""
    neuron = esn.LIF(10.0, 10.0)
    layer = esn.EventLinear(neuron, jnp.array([[30.0, 0.0], [0.0, 5.0]]), t_max=20.0, max_spikes=3)
    x = jnp.array([[[0.0], [INF]], [[INF], [1.0]], [[INF], [INF]], [[0.0], [INF]]])
    counts = np.asarray(layer.as_network().counts(x))
    assert counts.max() > 3  # fails in two samples, which do not contribute
    (found,) = esn.activity(layer, x)
    assert (found.name, found.n_neurons) == ("layer", 2)
    assert found.failed == {"max_spikes": 0.5}
    kept = counts[[1, 2]]
    assert found.silent == np.mean(kept == 0) and found.spikes == kept.mean()
    assert found.dead == 0.5 and found.max_spikes == kept.max()
    first = float(layer.as_network().ttfs(x[1])[1])
    np.testing.assert_allclose(found.first_spike, [first] * 3, rtol=1e-12)
    text = str(esn.activity(layer, x))
    assert "layer: 50% of the samples failed: max_spikes" in text
    failing = esn.activity(layer, x[jnp.array([0, 3])])  # no sample that does not fail
    (none,), (_, row, cause) = failing, str(failing).splitlines()
    assert row.split() == ["layer", "2", *["-"] * 6]
    assert cause == "layer: 100% of the samples failed: max_spikes"
    assert np.isnan([none.silent, none.dead, none.spikes]).all() and none.failed["max_spikes"] == 1
    more = esn.EventLinear(neuron, layer.weights, t_max=20.0, max_spikes=3, truncate=True)
    (found,) = esn.activity(more, x)
    assert found.saturated == 0.25 and not found.failed and found.max_spikes == 3


def test_activity_of_layers_and_of_the_network(x):
    model = layers(max_spikes=60, truncate=False)
    net = model.as_network(max_events=4000)
    by_layer, (hidden,) = esn.activity(model, x), esn.activity(net, x)
    assert [layer.name for layer in by_layer] == ["layers[0]", "layers[1]"]
    weights = np.array([30, 20]) / 50
    for field in ("silent", "spikes", "dead"):
        mean = sum(w * getattr(layer, field) for w, layer in zip(weights, by_layer, strict=True))
        np.testing.assert_allclose(getattr(hidden, field), mean, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "factor"), [(layers, 1e-3), (convolutional, 30.0), (recurrent, 0.1)]
)
def test_calibrated_layers_fire_as_wanted(build, factor, x):
    model = scaled(build(), factor)
    fitted = esn.calibrate(model, x, firing=0.4, potential=2.0)
    found = esn.activity(fitted, x)
    np.testing.assert_allclose([layer.silent for layer in found], 0.6, atol=0.03)
    if build is not convolutional:  # the others have readouts
        np.testing.assert_allclose(rms(fitted.maxima(x, throw=False)), 2.0, rtol=1e-6)
    # Only the weights change.
    spec = esn.trainable(model, "weights", *(["kernel"] if has_kernel(model) else []))
    keep = [eqx.filter(m, jax.tree.map(lambda on: not on, spec)) for m in (fitted, model)]
    assert eqx.tree_equal(*keep)


def test_numbers_and_times_of_spikes(x):
    """Two targets at once, by a shift in addition to the factor."""
    layer = layers()[0]
    plain = esn.activity(esn.calibrate(layer, x), x)[0]
    for option, value in (("spikes", 1.2), ("first_spike", 14.0)):
        found = esn.activity(esn.calibrate(layer, x, **{option: value}), x)[0]
        np.testing.assert_allclose(found.silent, 0.5, atol=0.03)
        name = {"spikes": found.spikes, "first_spike": found.first_spike[1]}
        before = {"spikes": plain.spikes, "first_spike": plain.first_spike[1]}
        assert abs(name[option] - value) < abs(before[option] - value) / 2


def test_inhibitory_weights_are_shifted(x):
    layer = eqx.tree_at(lambda m: m.weights, layers()[0], -jnp.abs(layers()[0].weights))
    found = esn.activity(esn.calibrate(layer, x), x)[0]
    np.testing.assert_allclose(found.silent, 0.5, atol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": 3}, "model must be"),
        ({"firing": 1.0}, "firing must be"),
        ({"spikes": 0.0}, "spikes must be"),
        ({"first_spike": -1.0}, "first_spike must be"),
        ({"potential": 0.0}, "potential must be"),
        ({"in_times": jnp.zeros(16)}, "in_times must be spike times >= 0"),
        ({"in_times": jnp.zeros((15, 1))}, r"in_times must have shape \(..., 16, k\)"),
    ],
)
def test_invalid_arguments(options, message, x):
    with pytest.raises(ValueError, match=message):
        esn.calibrate(**{"model": layers(), "in_times": x} | options)


def test_weights_that_cannot_be_scaled(x):
    with pytest.raises(
        ValueError, match=r"weights of model.layers.0. must be finite and not all 0"
    ):
        esn.calibrate(scaled(layers(), 0.0), x)


def test_weights_are_checked_before_any_layer_is_simulated(x, monkeypatch):
    monkeypatch.delattr("eventsnn.event.calibration.responses")
    model = eqx.tree_at(lambda m: m.layers[2].weights, layers(), jnp.ones((20, 4)))
    wrapped = esn.constrain(model, lambda m: m.layers[2].weights)
    nested = esn.EventSequential([lambda x: x, wrapped])
    message = r"weights of model.layers.1..layers.2. must not be wrapped .* Calibrate first"
    with pytest.raises(ValueError, match=message):
        esn.calibrate(nested, x)
    zero = eqx.tree_at(lambda m: m.layers[2].weights, model, jnp.zeros((20, 4)))
    with pytest.raises(
        ValueError, match=r"weights of model.layers.2. must be finite and not all 0"
    ):
        esn.calibrate(zero, x)


def test_readouts_whose_maxima_hardly_vary():
    """Scores are of order 1 although their deviation is small against their mean."""
    x = 5.0 + jnp.asarray(np.linspace(0.0, 0.01, 8))[:, None, None] * jnp.ones((16, 1))
    weights = 0.02 + 0.0002 * jax.random.normal(KEY, (16, 3))
    before = esn.EventLinear(READOUT, weights, t_max=20.0)
    maxima = np.asarray(before.maxima(x))
    assert maxima.std() < 0.01 * maxima.mean()
    fitted = esn.calibrate(before, x)
    scores = np.asarray(fitted.maxima(x))
    np.testing.assert_allclose(rms(scores), 1.0, rtol=1e-12)
    assert np.abs(scores).max() < 1.1
    by_deviation = np.abs(maxima).max() / maxima.std()
    assert by_deviation > 100  # scores that a deviation of 1 would give
    # A bias raises the maxima without input spikes, and is not part of the increase.
    biased = esn.EventLinear(esn.LeakyIntegrator(20.0, 20.0, 3.0), weights, t_max=20.0)
    silent = np.asarray(biased.maxima(jnp.full_like(x, INF)))
    increase = np.asarray(esn.calibrate(biased, x).maxima(x)) - silent
    np.testing.assert_allclose(rms(increase), 1.0, rtol=1e-12)


def test_readouts_that_do_not_respond(x):
    """Inhibitory weights: all maxima are the initial potential."""
    weights = -jnp.abs(jax.random.normal(KEY, (16, 4)))
    model = esn.EventSequential([esn.EventLinear(READOUT, weights, t_max=20.0)])
    with pytest.warns(
        UserWarning, match=r"readouts of model.layers.0., whose weights are"
    ) as caught:
        fitted = esn.calibrate(model, x)
    assert caught[0].filename == __file__
    assert eqx.tree_equal(fitted, model)


def test_one_sample_is_a_batch_of_one(x):
    for model in (convolutional(), recurrent()):
        one, batch = esn.activity(model, x[0]), esn.activity(model, x[:1])
        assert str(one) == str(batch)
        np.testing.assert_array_equal(one[0].first_spikes, batch[0].first_spikes)
    fitted = [esn.calibrate(layers()[0], each).weights for each in (x[0], x[:1])]
    np.testing.assert_array_equal(*fitted)


def test_samples_that_fail_with_the_calibrated_weights(x):
    """Neurons that fire more often than `max_spikes` allows."""
    layer = layers(max_spikes=1, truncate=False)[0]
    with pytest.warns(UserWarning, match="some samples fail, 20% with the status max_spikes in la"):
        fitted = esn.calibrate(layer, x, firing=0.9)
    np.testing.assert_allclose(esn.activity(fitted, x)[0].failed["max_spikes"], 0.2)
    # One neuron fires often before the other one fires.
    weights, x = jnp.array([[9.0, 0.1], [9.0, -0.1]]), jnp.arange(10.0) + jnp.array([[0.0], [0.5]])
    unequal = esn.EventLinear(LIF, weights, t_max=20.0, max_spikes=1)
    with pytest.raises(ValueError, match=r"got 0.9 and the samples fail: 100% with the status max"):
        esn.calibrate(unequal, x, firing=0.9)


def test_a_silent_layer_before(x):
    with pytest.raises(ValueError, match=r"in_times of model.layers.0. must contain spikes"):
        esn.calibrate(layers(), jnp.full_like(x, INF))
