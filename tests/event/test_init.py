"""Initial weights, for every neuron model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn

INF = np.inf
T_MAX, WINDOW = 40.0, 20.0
SPIKES = (np.arange(32) + 0.5) * WINDOW / 32
NEURONS = {
    "lif": esn.LIF(20.0, 5.0),
    "lif in mV": esn.LIF(20.0, 5.0, threshold=15.0),
    "lif, several": esn.LIF(20.0, jnp.array([5.0, 20.0]), threshold=jnp.array([1.0, 0.1])),
    "qif": esn.QIF(20.0, 5.0),
    "refractory": esn.Refractory(esn.LIF(20.0, 5.0), 2.0),
    "populations": esn.Populations([(esn.LIF(20.0, 5.0), 2), (esn.QIF(10.0, 5.0), 1)]),
}


def first_spikes(neuron, drive):
    """First spikes of neurons with the given drives, in the event loop."""
    n = drive.size
    weights = jnp.zeros((n + 1, n)).at[n].set(drive.reshape(-1) / 32)
    net = esn.EventNetwork(neuron, weights, outputs=range(n), t_max=T_MAX, max_events=500)
    return np.asarray(net.ttfs(jnp.asarray(SPIKES)[None], throw=False))


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_with_the_critical_drive_fires_at_the_end_of_the_window(name):
    drive = esn.init.critical_drive(NEURONS[name], t_max=T_MAX)
    assert np.all(first_spikes(NEURONS[name], 1.003 * drive) <= WINDOW)
    assert np.all(first_spikes(NEURONS[name], 0.997 * drive) > WINDOW)


def test_the_drive_of_a_lif_neuron_in_closed_form():
    since = WINDOW - SPIKES
    response = np.mean(np.exp(-since / 20) - np.exp(-since / 5)) / 3
    for neuron in (esn.LIF(20.0, 5.0), esn.LeakyIntegrator(20.0, 5.0)):
        found = esn.init.critical_drive(neuron, t_max=T_MAX)
        np.testing.assert_allclose(found, 1 / response, rtol=2e-3)
    scaled = esn.init.critical_drive(esn.LIF(20.0, 5.0, threshold=15.0), t_max=T_MAX)
    np.testing.assert_allclose(scaled, 15 / response, rtol=2e-3)


def test_a_neuron_that_fires_by_itself_fires_twice_as_early():
    neuron = esn.LIF(20.0, 5.0, bias=1.2)
    alone = 20 * np.log(6)
    drive = esn.init.critical_drive(neuron, t_max=T_MAX)
    np.testing.assert_allclose(first_spikes(neuron, drive), min(alone / 2, WINDOW), rtol=2e-2)


def test_moments_of_the_weights():
    key, neuron = jax.random.key(0), esn.LIF(20.0, 5.0, threshold=jnp.array([1.0, 10.0]))
    drive = esn.init.critical_drive(neuron, t_max=T_MAX)
    weights = esn.init.normal(neuron, t_max=T_MAX, mean=3.0, deviation=0.0)(key, (400, 2))
    np.testing.assert_allclose(weights, jnp.broadcast_to(3 * drive / 400, (400, 2)), rtol=1e-12)
    weights = esn.init.normal(neuron, t_max=T_MAX, mean=3.0, deviation=2.0)(key, (40000, 2))
    np.testing.assert_allclose(weights.std(axis=0), 2 * drive / 200, rtol=0.02)
    kernel = esn.init.normal(neuron, t_max=T_MAX, mean=0.0)(key, (2, 8, 50, 50))
    np.testing.assert_allclose(kernel.reshape(2, -1).std(axis=1), drive / np.sqrt(20000), rtol=0.02)
    assert esn.init.normal(neuron, t_max=T_MAX)(key, (3, 2), jnp.float32).dtype == jnp.float32


@pytest.mark.parametrize("active", [0.5, 1.0])
@pytest.mark.parametrize("kind", ["lif", "qif", "recurrent"])
def test_default_weights_make_some_of_the_neurons_fire(kind, active, rng):
    x = rng.uniform(0.0, 10.0, (50, 64, 1))
    x = jnp.asarray(np.where(rng.uniform(size=x.shape) < active, x, np.inf))
    options = {"key": jax.random.key(1), "t_max": 20.0}
    lif, qif = esn.LIF(20.0, 20.0), esn.QIF(20.0, 20.0)
    if kind == "recurrent":
        sizes = {"inputs": 64, "hidden": 50, "outputs": 5}
        model = esn.recurrent(lif, **sizes, max_events=5000, **options)
    else:
        neuron = lif if kind == "lif" else qif
        sizes = (64, 100, 30)
        model = esn.feedforward(neuron, sizes=sizes, max_spikes=20, truncate=True, **options)
    for layer in esn.activity(model, x):
        assert 0.15 < layer.silent < 0.85 and not layer.failed


def test_recurrent_weights():
    """Input synapses have the statistics of a layer, recurrent ones a hundredth of its variance."""
    lif, sizes = esn.LIF(20.0, 5.0), {"inputs": 300, "hidden": 200, "outputs": 100}
    net = esn.recurrent(lif, **sizes, key=jax.random.key(0), t_max=20.0)
    drive = float(esn.init.critical_drive(lif, t_max=20.0))
    weights, n = np.asarray(net.weights) / drive, 300
    of_inputs, of_outputs = weights[n:, :200], weights[:200, 200:]
    inner = weights[:200, :200][~np.eye(200, dtype=bool)]
    for block, number in ((of_inputs, 300), (of_outputs, 200)):
        np.testing.assert_allclose(block.std() * np.sqrt(number), 1.0, rtol=0.02)
        np.testing.assert_allclose(block.mean() * number, 1.0, atol=0.4)
    np.testing.assert_allclose(inner.std() * np.sqrt(199), 0.1, rtol=0.02)
    np.testing.assert_allclose(inner.mean() * 199, 0.0, atol=0.1)
    alone = esn.recurrent(lif, inputs=0, hidden=1, outputs=1, key=jax.random.key(0), t_max=20.0)
    assert np.isfinite(alone.weights).all()


def test_weights_under_transformations():
    """Networks from a batch of keys, and the drive as a function of traced parameters."""

    def build(key):
        return esn.feedforward(
            esn.LIF(20.0, 5.0), sizes=(3, 4, 2), key=key, t_max=20.0, max_spikes=3
        )

    keys = jax.random.split(jax.random.key(0), 2)
    weights = jax.vmap(lambda key: build(key).layers[0].weights)(keys)
    np.testing.assert_allclose(weights[1], build(keys[1]).layers[0].weights, rtol=1e-12)
    of = jax.jit(
        lambda threshold: esn.init.critical_drive(esn.LIF(20.0, 5.0, threshold), t_max=9.0)
    )
    np.testing.assert_allclose(of(3.0), 3 * of(1.0), rtol=3e-3)


def test_the_readout_is_the_last_layer():
    readout = esn.LeakyIntegrator(20.0, 5.0)
    options = {"key": jax.random.key(0), "t_max": 20.0, "readout": readout}
    threshold = jnp.array([1.0, 2.0, 3.0])
    neuron = esn.LIF(20.0, 5.0, threshold=threshold)
    model = esn.feedforward(neuron, sizes=(3, 3, 2), max_spikes=200, **options)
    assert isinstance(model[1].neuron, esn.LeakyIntegrator)
    np.testing.assert_array_equal(model[0].neuron.threshold, threshold)
    net = esn.feedforward_network(neuron, sizes=(3, 3, 2), **options)
    x = jnp.array([[0.0, 3.0], [1.0, INF], [2.0, 5.0]])
    np.testing.assert_allclose(model.maxima(x), net.maxima(x), rtol=1e-12)
    with pytest.raises(ValueError, match="readout must be None for a single layer"):
        esn.feedforward(neuron, sizes=(3, 2), **options)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neuron": 3}, "neuron must be a neuron model"),
        ({"t_max": -1.0}, "t_max must be"),
        ({"window": 50.0}, "window must be at most t_max = 40.0"),
        ({"mean": INF}, "mean must be"),
        ({"deviation": -1.0}, "deviation must be"),
        ({"neuron": esn.LIF(20.0, 5.0, threshold=1e9)}, "fires for a drive of at most 1e6"),
    ],
)
def test_invalid_arguments(changed, message):
    with pytest.raises(ValueError, match=message):
        esn.init.normal(**{"neuron": esn.LIF(20.0, 5.0), "t_max": T_MAX} | changed)
