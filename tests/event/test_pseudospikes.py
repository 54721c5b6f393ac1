"""Pseudospikes: beyond t_max a constant current drives the network until its outputs have fired.

The reference replaces its neurons at t_max by neurons with a larger bias.
"""

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers import reference_delays as rd
from helpers.differences import STEP, assert_equal_gradients
from helpers.reference_delays import LIF
from helpers.registry import RK4, quick

SIZES = (2, 3, 2)
N, OUTPUTS, T_MAX, DRIVE, DURATION = 5, (3, 4), 24.0, 2.0, 60.0
MASK = np.asarray(esn.feedforward_mask(SIZES))


def lif(p):
    return esn.LIF(10.0, p["tau_syn"], threshold=p["threshold"])


def mixed(p):
    """Hidden layer with two refractory LIF neurons and a QIF neuron; the readout is QIF neurons."""
    part = esn.Refractory(esn.LIF(10.0, p["tau_syn"], threshold=p["threshold"]), 3.0)
    return esn.Populations([(part, 2), (esn.QIF(10.0, p["tau_syn"], bias=-0.2), 3)])


KINDS = {
    "lif": (lif, {}, False),
    "mixed": (mixed, {}, True),
    "solver": (lif, {"solver": esn.ODEFlow(RK4(), dt0=0.1, nodes=1), "max_steps": 1000}, False),
}


def network(kind, p, adjoint=None, *, drive=DRIVE, duration=DURATION):
    neuron, options, _ = KINDS[kind]
    return esn.EventNetwork(
        neuron(p),
        p["weights"],
        MASK,
        outputs=OUTPUTS,
        t_max=T_MAX,
        delays=p.get("delays"),
        max_events=60,
        adjoint=adjoint,
        pseudospikes=None if drive is None else esn.Pseudospikes(drive, duration),
        **{"max_steps": 300, **options},
    )


def problem(kind, seed, scale=0.6):
    """Some outputs fire before t_max and some after it."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.4, 1.0, MASK.shape) * scale
    weights[N:] *= 4
    p = {
        "weights": weights,
        "tau_syn": np.array(4.0),
        "threshold": np.array(1.0),
        "in_times": rng.uniform(0.0, 20.0, (2, 1)),
    }
    if KINDS[kind][2]:
        p["delays"] = rng.uniform(0.5, 6.0, MASK.shape)
    return jax.tree.map(jnp.asarray, p)


def loss(kind, adjoint, p):
    times = network(kind, p, adjoint).ttfs(p["in_times"], throw=False)
    return jnp.sum(jnp.array([1.0, -0.6]) * times), times


@ft.cache
def compiled(kind, adjoint):
    grad = jax.value_and_grad(ft.partial(loss, kind, adjoint), has_aux=True)
    return quick(grad)


def run(kind, p, adjoint=None):
    (value, times), grads = compiled(kind, adjoint)(p)
    return float(value), np.asarray(times), grads


def first_by_reference(p, drive):
    """First spikes of the outputs, for LIF neurons."""
    tau_syn, threshold = float(p["tau_syn"]), float(p["threshold"])
    neurons, later = (
        [LIF(10.0, tau_syn, threshold, bias=b) for b in bias]
        for bias in (np.zeros(N), np.broadcast_to(drive, (N,)))
    )
    times, sources, _ = rd.simulate(
        neurons,
        p["weights"],
        np.zeros(len(MASK)),
        p["in_times"],
        T_MAX + DURATION,
        mask=MASK,
        then=(T_MAX, later),
    )
    return np.array([times[sources == i][0] for i in OUTPUTS])


@pytest.mark.parametrize("kind", ["lif", "solver"])
def test_times_are_those_of_the_reference(kind):
    late = 0
    for seed, scale in ((0, 0.6), (1, 0.9), (2, 0.1)):
        p = problem("lif", seed, scale)
        expected = first_by_reference(p, DRIVE)
        late += int(np.sum(expected > T_MAX))
        rtol = 1e-9 if kind == "lif" else 1e-8
        np.testing.assert_allclose(run(kind, p)[1], expected, rtol=rtol)
    assert late >= 2


def test_spikes_before_t_max_do_not_change():
    @quick
    def both(p):
        nets = [network("lif", p, drive=drive) for drive in (None, DRIVE)]
        return [net.spikes(p["in_times"], 3, throw=False) for net in nets]

    found = 0
    for seed in range(3):
        without, driven = both(problem("lif", seed, 3.0))
        fired = np.isfinite(without)
        found += int(fired.sum())
        np.testing.assert_allclose(np.asarray(driven)[fired], without[fired], rtol=1e-13)
        assert np.all(driven[~fired] > T_MAX)
    assert found >= 4


def test_a_spike_crosses_t_max_without_a_jump():
    """Spike time as a function of a weight, near the value at which it equals t_max."""
    p = problem("lif", 0)
    p["in_times"] = jnp.array([[21.0], [19.0]])

    def times(scale):
        moved = p["weights"].at[N:].multiply(scale)
        return run("lif", p | {"weights": moved})[1][0]

    low, high = 0.2, 40.0
    assert times(low) > T_MAX > times(high)
    for _ in range(48):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if times(middle) > T_MAX else (low, middle)
    assert 0 < times(low) - times(high) < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_central_differences(kind):
    for seed, scale in ((0, 0.6), (1, 0.9)):
        p = problem(kind, seed, scale)
        loss, times, grads = run(kind, p)
        assert np.any(times > T_MAX)
        rounding = 4 * np.finfo(float).eps * abs(loss) / STEP  # of the differences
        for name, grad in grads.items():
            slopes = []
            for k in range(grad.size):
                way = np.zeros(grad.size)
                way[k] = STEP
                way = way.reshape(grad.shape)
                a, b, c, d = (run(kind, p | {name: p[name] + m * way})[0] for m in (1, -1, 2, -2))
                slopes.append((8 * (a - b) - (c - d)) / (12 * STEP))
            slopes = np.reshape(slopes, grad.shape)
            rtol = 3e-8 + rounding / np.max(np.abs(slopes))
            assert_equal_gradients({name: grad}, {name: slopes}, rtol)


def test_gradients_are_those_of_autodiff():
    p = problem("lif", 0)
    assert_equal_gradients(run("lif", p)[2], run("lif", p, esn.Autodiff())[2], 1e-10)


def test_a_drive_of_the_outputs_only():
    """A silent hidden neuron then stays silent, and the outputs fire because of the drive."""
    p = problem("lif", 0, 1e-3)
    drive = jnp.where(jnp.arange(N) >= 3, DRIVE, 0.0)
    times = network("lif", p, drive=drive).ttfs(p["in_times"])
    np.testing.assert_allclose(times, first_by_reference(p, drive), rtol=1e-9)
    np.testing.assert_allclose(times, T_MAX + 10.0 * np.log(2.0), rtol=1e-3)


def test_a_drive_that_is_too_weak_leaves_them_silent():
    p = problem("lif", 0, 1e-3)
    times = network("lif", p, drive=0.9).ttfs(p["in_times"])
    assert np.all(np.isinf(times))


def test_a_network_that_is_silent_learns():
    """Two layers: every neuron of the network is silent, and after training the outputs fire on
    time."""
    p = problem("lif", 0, 0.05)
    target = jnp.array([14.0, 16.0])

    @quick
    def step(weights, rate):
        def error(weights):
            times = network("lif", p | {"weights": weights}).ttfs(p["in_times"], throw=False)
            return jnp.sum((times - target) ** 2), times

        (_, times), grad = jax.value_and_grad(error, has_aux=True)(weights)
        return weights - rate * grad / (1e-6 + jnp.linalg.norm(grad)), times

    weights, seen = p["weights"], []
    silent = network("lif", p, drive=None).simulate(p["in_times"])
    assert int(silent.stats["spikes"]) == 0
    for rate in np.linspace(0.3, 0.0, 100):
        weights, times = step(weights, rate)
        seen.append(np.asarray(times))
    assert np.all(seen[0] > T_MAX)
    np.testing.assert_allclose(seen[-1], target, atol=0.1)


def test_a_drive_that_is_not_finite_is_a_status():
    """It is also checked at run time, because a drive may be computed under `jit`."""

    @jax.jit
    def ttfs(drive):
        pseudospikes = esn.Pseudospikes(drive, DURATION)
        weights = jnp.zeros((2, 1))
        net = esn.EventNetwork(
            esn.LIF(10.0, 5.0), weights, outputs=(0,), t_max=T_MAX, pseudospikes=pseudospikes
        )
        return net.ttfs(jnp.array([[1.0]]), throw=False)

    assert np.all(np.isnan(ttfs(jnp.nan))) and np.all(np.isnan(ttfs(jnp.inf)))
    assert np.all(np.isfinite(ttfs(2.0)))


@pytest.mark.parametrize("duration", [0.0, -1.0, np.inf, np.nan])
def test_a_duration_is_finite_and_positive(duration):
    with pytest.raises(ValueError, match=r"^duration must be a finite number > 0, got"):
        esn.Pseudospikes(1.0, duration)


def test_a_drive_has_one_value_per_neuron():
    p = problem("lif", 0)
    with pytest.raises(ValueError, match=r"drive.* must be a scalar or have shape \(5,\)"):
        network("lif", p, drive=jnp.ones(3))
    with pytest.raises(ValueError, match=r"^pseudospikes must be eventsnn.Pseudospikes, got"):
        esn.EventNetwork(
            esn.LIF(10.0, 5.0), np.zeros((2, 1)), outputs=(0,), t_max=9.0, pseudospikes=2.0
        )


# ------------------------------------------------------------------ default values

RHEOBASES = {
    "lif": esn.LIF(10.0, 5.0, threshold=2.0, bias=0.5),
    "alif": esn.ALIF(10.0, 5.0, 30.0, 0.1),
    "qif": esn.QIF(10.0, 5.0, bias=-1.0),
    "eif": esn.EIF(10.0, 5.0, sharpness=0.2, threshold=2.0),
    "izhikevich": esn.Izhikevich(5.0),
    "egru": esn.EGRU(10.0, 5.0),
    "refractory": esn.Refractory(esn.LIF(10.0, 5.0), 2.0),
}


@pytest.mark.parametrize("name", RHEOBASES)
def test_a_neuron_fires_with_more_than_its_rheobase(name):
    """From rest, after a long time; Izhikevich's neuron may also fire at the onset of less."""
    neuron = RHEOBASES[name]
    rheobase = neuron.rheobase()
    fires = []
    for factor in (0.97, 1.03):
        driven = neuron.with_current(factor * rheobase)
        net = esn.EventNetwork(driven, jnp.zeros((2, neuron.receptors)), outputs=(0,), t_max=900.0)
        fires.append(bool(jnp.isfinite(net.ttfs(jnp.full((1, 1), jnp.inf), throw=False))[0]))
    assert fires == [name == "izhikevich" and fires[0], True]


def test_the_default_drive_is_twice_the_rheobase():
    parts = [(esn.LIF(10.0, 5.0, threshold=2.0, bias=0.5), 1), (esn.LeakyIntegrator(10.0, 5.0), 1)]
    net = esn.EventNetwork(
        esn.Populations(parts),
        jnp.zeros((3, 2)),
        outputs=(0,),
        t_max=T_MAX,
        pseudospikes=esn.Pseudospikes(),
    )
    np.testing.assert_array_equal(net.pseudospikes.current(net.neuron), [3.0, 0.0])
    expected = T_MAX + 10 * np.log((3.5 - 0.5 * (1 - np.exp(-T_MAX / 10))) / 1.5)
    np.testing.assert_allclose(net.ttfs(jnp.full((1, 1), jnp.inf)), [expected], rtol=1e-12)


class WithoutRheobase(esn.LeakyIntegrator):
    def rheobase(self):
        return esn.AbstractDrivable.rheobase(self)


def test_a_model_without_rheobase_needs_a_drive():
    neuron, weights = WithoutRheobase(10.0, 5.0), np.zeros((2, 1))
    with pytest.raises(ValueError, match=r"drive must be given for .*WithoutRheobase"):
        esn.EventLinear(neuron, weights, t_max=9.0, pseudospikes=esn.Pseudospikes())
    esn.EventLinear(neuron, weights, t_max=9.0, pseudospikes=esn.Pseudospikes(1.0))


# ------------------------------------------------------------------ spikes at t_max


@pytest.mark.parametrize("kind", ["layer", "network"])
def test_spikes_at_t_max_have_the_gradients_of_pseudospikes(kind):
    """Of three neurons, one fires before t_max, one after it, and one is not reached in time."""
    weights = jnp.array([[60.0, 1.0, -4e9]])
    x = jnp.array([[1.0]])

    def times(weights, at_t_max):
        pseudospikes = esn.Pseudospikes(2.0, 60.0, at_t_max=at_t_max)
        layer = esn.EventLinear(
            esn.LIF(10.0, 5.0),
            weights,
            t_max=T_MAX,
            max_spikes=1,
            truncate=True,
            pseudospikes=pseudospikes,
        )
        return (layer if kind == "layer" else layer.as_network()).ttfs(x)

    own, limited = times(weights, False), times(weights, True)
    assert own[0] < T_MAX < own[1] < own[2] == jnp.inf
    np.testing.assert_array_equal(limited, [own[0], np.nextafter(T_MAX, 0.0), jnp.inf])
    finite = jnp.array([1.0, 1.0, 0.0])

    def loss(weights, at_t_max):
        return jnp.sum(jnp.where(finite > 0, times(weights, at_t_max), 0.0))

    grads = [jax.grad(loss)(weights, at_t_max) for at_t_max in (False, True)]
    np.testing.assert_array_equal(*grads)
    assert grads[0][0, 1] != 0


def test_silent_hidden_neurons_before_a_readout_have_a_gradient():
    def model(at_t_max):
        hidden = esn.EventLinear(
            esn.LIF(20.0, 20.0),
            jnp.full((3, 4), 0.01),
            t_max=T_MAX,
            max_spikes=2,
            truncate=True,
            pseudospikes=esn.Pseudospikes(at_t_max=True) if at_t_max else None,
        )
        readout = esn.EventLinear(esn.LeakyIntegrator(20.0, 20.0), jnp.ones((4, 2)), t_max=T_MAX)
        return esn.EventSequential([hidden, readout])

    x = jnp.array([[0.0], [1.0], [3.0]])
    with_late, without = model(True), model(False)
    np.testing.assert_allclose(with_late.maxima(x), without.maxima(x), atol=1e-12)
    grads = [
        eqx.filter_grad(lambda m: jnp.sum(m.maxima(x)))(m)[0].weights for m in (with_late, without)
    ]
    assert np.all(grads[0] > 0) and np.all(grads[1] == 0)
    with pytest.raises(ValueError, match=r"layers\[0\] must be .* without pseudospikes at t_max"):
        with_late.as_network()


def _readout_of_layers_and_network(weights, out, **options):
    """Layers, and a network with the same weights, whose hidden neurons fire at most once."""
    n_in, hidden = weights.shape
    neurons, late = (esn.LIF(20.0, 15.0), esn.LeakyIntegrator(20.0, 20.0)), options.pop("late")
    first = esn.EventLinear(
        neurons[0], weights, t_max=T_MAX, max_spikes=1, truncate=True, pseudospikes=late
    )
    layers = esn.EventSequential([first, esn.EventLinear(neurons[1], out, t_max=T_MAX)])
    n = hidden + out.shape[1]
    matrix = jnp.zeros((n + n_in, n)).at[:hidden, hidden:].set(out).at[n:, :hidden].set(weights)
    network = esn.EventNetwork(
        esn.Populations([(neurons[0], hidden), (neurons[1], out.shape[1])]),
        matrix,
        matrix != 0,
        outputs=range(hidden, n),
        t_max=T_MAX,
        pseudospikes=late,
        **options,
    )
    return layers, network


@pytest.mark.parametrize("query", ["potentials_at", "maxima"])
def test_late_spikes_of_a_network_are_those_of_its_layers(query, rng):
    """One hidden neuron fires before t_max, the others after it."""
    weights = jnp.array([[1.6, 0.3, -0.2], [1.6, 0.1, 0.4]])
    out = jnp.asarray(rng.uniform(0.5, 1.0, (3, 2)))
    late = esn.Pseudospikes(at_t_max=True)
    layers, network = _readout_of_layers_and_network(weights, out, late=late)
    x = jnp.array([[[0.0], [1.0]], [[3.0], [jnp.inf]]])

    def read(model, x):
        args = (jnp.array([T_MAX, 5.0]),) if query == "potentials_at" else ()
        return getattr(model, query)(x, *args)

    def value(model, x):
        return jnp.sum(read(model, x) ** 2 + 0.3 * read(model, x))

    np.testing.assert_allclose(read(network, x), read(layers, x), rtol=1e-12)
    both = [eqx.filter_grad(lambda pair: value(*pair))((m, x)) for m in (layers, network)]
    (by_layers, d_layers), (by_network, d_network) = both
    np.testing.assert_allclose(d_network, d_layers, rtol=1e-9, atol=1e-12)
    assert np.all(by_layers[0].weights != 0)
    np.testing.assert_allclose(by_network.weights[5:, :3], by_layers[0].weights, rtol=1e-9)
    np.testing.assert_allclose(by_network.weights[:3, 3:], by_layers[1].weights, rtol=1e-9)


@pytest.mark.parametrize("delayed", [False, True])
def test_a_silent_recurrent_network_with_a_readout_has_a_gradient(delayed):
    hidden, n, n_in = 4, 6, 3
    delays = jnp.full((n + n_in, n), 2.0) if delayed else None

    def model(late):
        return esn.recurrent(
            esn.LIF(20.0, 20.0),
            inputs=n_in,
            hidden=hidden,
            outputs=n - hidden,
            readout=esn.LeakyIntegrator(20.0, 20.0),
            key=jax.random.key(0),
            init=jax.nn.initializers.uniform(0.01),
            t_max=T_MAX,
            delays=delays,
            pseudospikes=late,
        )

    def value(model):
        return jnp.sum(model.potentials_at(x, jnp.array([T_MAX])))

    x = jnp.array([[0.0, 2.0], [1.0, jnp.inf], [3.0, 4.0]])
    with_late, without = model(esn.Pseudospikes(at_t_max=True)), model(None)
    np.testing.assert_allclose(value(with_late), value(without), atol=1e-12)
    grads = [eqx.filter_grad(value)(m).weights for m in (with_late, without)]
    assert np.all(grads[0][n:, :hidden] > 0) and np.all(grads[1] == 0)


def test_late_spikes_of_a_network_without_input_spikes():
    late = esn.Pseudospikes(at_t_max=True)
    _, network = _readout_of_layers_and_network(jnp.ones((2, 3)), jnp.ones((3, 2)), late=late)
    np.testing.assert_allclose(network.maxima(jnp.zeros((2, 0))), 0.0, atol=1e-12)
    invalid = jnp.array([[[-1.0], [1.0]], [[1.0], [jnp.inf]]])
    found = network.maxima(invalid, throw=False)
    assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
    with pytest.raises(ValueError, match="in_times"):
        network.maxima(invalid)


@pytest.mark.parametrize("kind", ["layer", "network"])
def test_the_default_drive_follows_the_parameters(kind):
    """A neuron whose bias has fallen since it was made still fires, at the time of the closed form
    for a drive of twice the rheobase 1 - bias."""
    layer = esn.EventLinear(
        esn.LIF(10.0, 5.0),
        jnp.zeros((1, 1)),
        t_max=T_MAX,
        max_spikes=1,
        pseudospikes=esn.Pseudospikes(),
    )
    model = layer if kind == "layer" else layer.as_network()

    def fires(bias):
        where = lambda m: m.neuron.bias  # noqa: E731
        changed = eqx.tree_at(where, model, jnp.full_like(model.neuron.bias, bias))
        return jnp.sum(changed.ttfs(jnp.array([[jnp.inf]])))

    bias, tau = -3.0, 10.0
    start = bias * -np.expm1(-T_MAX / tau)  # the potential at t_max
    end = 2 * (1.0 - bias) + bias  # the potential without a threshold
    expected = T_MAX + tau * np.log((end - start) / (end - 1.0))
    np.testing.assert_allclose(fires(bias), expected, rtol=1e-12)
    assert jax.grad(fires)(bias) < 0
