"""Tasks of sparse networks: the balanced network and its statistics, and precise spike times."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.balanced import network
from eventsnn import LIF, EventNetwork, Status, Synapses
from eventsnn.tasks import balanced_network, firing, precise_spikes
from eventsnn.tasks.balanced_network import BalancedNetwork
from eventsnn.tasks.firing import SpikeTrains
from eventsnn.tasks.pattern import Pattern
from eventsnn.tasks.precise_spikes import Arrivals
from helpers.saved_models import check_saved

# ------------------------------------------------------------------ statistics


def trains(*neurons, start=0.0, end=100.0):
    times = np.concatenate(neurons)
    sources = np.repeat(np.arange(len(neurons)), [len(own) for own in neurons])
    order = np.argsort(times, kind="stable")
    return SpikeTrains(times[order], sources[order], len(neurons), start, end)


def test_rates_and_irregularity():
    regular, intervals = np.arange(5.0, 100.0, 10.0), np.array([1.0, 3.0, 2.0, 8.0, 6.0, 4.0])
    found = trains(regular, 20.0 + np.cumsum(intervals), np.array([2.0, 50.0]), np.zeros(0))
    np.testing.assert_allclose(firing.rates(found), [100.0, 60.0, 20.0, 0.0])
    expected = np.std(intervals[1:], ddof=1) / np.mean(intervals[1:])
    np.testing.assert_allclose(
        firing.coefficients_of_variation(found), [0.0, expected, np.nan, np.nan], atol=1e-12
    )


def test_counts_and_their_correlation_are_those_of_numpy():
    rng = np.random.default_rng(0)
    found = trains(*(np.sort(rng.uniform(20.0, 100.0, n)) for n in (30, 5, 50)), start=20.0)
    edges = np.linspace(20.0, 100.0, 17)
    each = [np.histogram(found.times[found.sources == i], edges)[0] for i in range(3)]
    total, variances = np.sum(each, axis=0), np.var(each, axis=1)
    np.testing.assert_allclose(firing.bin_edges(found, 5.0), edges)
    np.testing.assert_array_equal(firing.population_counts(found, 5.0), total)
    assert firing.fano_factor(found, 5.0) == pytest.approx(np.var(total) / np.mean(total))
    covariance = np.cov(each, ddof=0)
    pairs = covariance.sum() - np.trace(covariance)
    assert firing.correlation(found, 5.0) == pytest.approx(pairs / (2 * variances.sum()))


def test_neurons_that_fire_together_have_the_correlation_1():
    together = np.array([3.0, 31.0, 33.0, 71.0])
    assert firing.correlation(trains(together, together, together), 10.0) == pytest.approx(1.0)
    assert np.isnan(firing.correlation(trains(together), 10.0))
    silent = trains(np.zeros(0), np.zeros(0))
    assert np.isnan(firing.correlation(silent, 10.0)) and np.isnan(firing.fano_factor(silent, 10.0))


# ------------------------------------------------------------------ the balanced network


def test_weights_and_biases_are_those_of_the_benchmark():
    """Its tests compare their mean and variance with Campbell's theorem."""
    task = BalancedNetwork(neurons=400, in_degree=100)
    weight, inhibiting = task.mean_weights
    assert weight == pytest.approx(network.excitation(80, 20))
    assert inhibiting == -network.INHIBITION * weight
    drive = np.mean(network.draw(400, 0, 100)["bias"])
    assert task.mean_bias == pytest.approx(drive, abs=5 * network.BIAS_SPREAD / np.sqrt(400))


def test_a_balanced_network_is_simulated(tmp_path, as_users_do):
    task = BalancedNetwork(
        neurons=100, in_degree=40, duration=200.0, warm_up=50.0, trials=2, input_mean=12.0
    )
    result = task.run(progress=False)
    net = result.model
    sources, targets = np.asarray(net.weights.sources), np.asarray(net.weights.targets)
    exciting = np.bincount(targets[sources < 80], minlength=100)
    np.testing.assert_array_equal(exciting, 32)
    np.testing.assert_array_equal(np.bincount(targets, minlength=100), 40)
    np.testing.assert_array_equal(np.asarray(net.weights.weights) > 0, sources < 80)
    rates = task.predict(net, task.initial_potentials())
    metrics = result.metrics
    assert rates.shape == (2, 100) and np.any(rates[0] != rates[1])
    assert metrics["mean_rate"] == pytest.approx(np.mean(rates)) and metrics["mean_rate"] > 1
    assert metrics["spikes"] == pytest.approx(np.mean(rates) * 100 * 0.2)
    assert 0 < metrics["cv"] < 2 and metrics["fano_factor"] > 0
    assert {f"{name}.png" for name in result.figures} == set(task.pictures)
    check_saved(task, result, tmp_path)


def test_settings_of_a_balanced_network_that_do_not_fit_are_errors(monkeypatch):
    with pytest.raises(ValueError, match=r"^in_degree must be small enough for 8 .*, got 10\.$"):
        BalancedNetwork(neurons=10, in_degree=10).run(progress=False)
    full = types.SimpleNamespace(status=Status.max_events)
    monkeypatch.setattr(balanced_network, "_simulated", lambda *_: full)
    small = BalancedNetwork(neurons=20, in_degree=5, max_rate=0.5)
    with pytest.raises(ValueError, match=r"^max_rate must exceed .*, got 0\.5 Hz: Reached max_ev"):
        small.run(progress=False)


# ------------------------------------------------------------------ precise spike times


def test_spikes_are_assigned_to_the_nearest_targets():
    found = precise_spikes.match(
        jnp.array([[9.0, 31.0, 34.0], [50.0, jnp.inf, jnp.inf]]),
        jnp.array([[10.0, 30.0], [20.0, 52.0]]),
        5.0,
    )
    np.testing.assert_array_equal(found.hit, [[True, True], [False, True]])
    np.testing.assert_array_equal(found.nearest[found.hit], [0, 1, 0])
    np.testing.assert_array_equal(found.surplus, [[False, False, True], [False, False, False]])


def test_the_membrane_potential_at_each_spike_is_the_threshold():
    rng = np.random.default_rng(1)
    n, n_in, delay = 6, 4, 2.0
    constants = {"tau_mem": 20.0, "tau_syn": 5.0}
    weights = rng.normal(1.0, 2.0, (n + n_in, n))
    synapses = Synapses.from_dense(weights, delays=delay)
    net = EventNetwork(LIF(**constants), synapses, outputs=range(n), t_max=60.0)
    events = net.simulate(rng.uniform(0, 50, (n_in, 5)))
    neurons = jnp.arange(n, dtype=events.sources.dtype)
    found = precise_spikes.trains_of(events.times, events.sources, neurons, 20)
    fired = np.isfinite(found)
    for neuron in range(n):
        own = np.sort(events.times[events.sources == neuron])
        np.testing.assert_array_equal(found[neuron][fired[neuron]], own)
    assert np.sum(fired.sum(axis=1) > 1) >= 5
    arrivals = Arrivals(events.times + delay, jnp.asarray(weights)[np.maximum(events.sources, 0)])
    at = jnp.where(fired, found, 0.0)
    v = precise_spikes.potentials(arrivals, found, at, at, **constants)
    np.testing.assert_allclose(v[fired], 1.0, atol=1e-9)


def test_membrane_potentials_with_equal_time_constants():
    arrivals = Arrivals(jnp.array([3.0, jnp.inf]), jnp.array([[2.0], [5.0]]))
    silent, times = jnp.full((1, 1), jnp.inf), jnp.array([[2.0, 3.0, 13.0]])
    found = precise_spikes.potentials(arrivals, silent, times, times, tau_mem=10.0, tau_syn=10.0)
    np.testing.assert_allclose(found, [[0.0, 0.0, 2.0 * np.exp(-1.0)]])


def test_missing_spikes_raise_and_surplus_spikes_lower_the_weights_before_them():
    """One input before 20 ms, one after it; the neuron fires at 20 ms or not at all."""
    inputs = jnp.array([12.0, 25.0])

    @jax.jit
    @jax.value_and_grad
    def loss(weights, train, target):
        constants = {"window": 3.0, "tau_mem": 20.0, "tau_syn": 5.0}
        arrivals = Arrivals(inputs, weights[:, None])
        return precise_spikes.loss(
            arrivals, jnp.array([[train]]), jnp.array([[target]]), **constants
        )

    weak, strong = jnp.ones(2), jnp.full(2, 50.0)
    before, after = loss(weak, jnp.inf, 20.0)[1]
    assert before < 0 and after == 0
    early, late = loss(weak, 20.0, 45.0)[1]
    alone = loss(weak, jnp.inf, 45.0)[1]
    assert early > alone[0] and late < 0
    # A spike with a target has an error in time, and one of its potential only if it is slow.
    value, slope = loss(strong, 20.0, 21.0)
    assert value == pytest.approx(1 / 9) and not slope.any()
    value, (before, after) = loss(weak, 20.0, 21.0)
    assert value > 1 / 9 and before < 0 and after == 0


def test_a_pattern_is_learnt(tmp_path, as_users_do):
    task = Pattern(
        steps=80,
        n_neurons=60,
        n_inputs=60,
        n_outputs=3,
        n_spikes=2,
        in_degree=20,
        input_degree=50,
        t_max=80.0,
        learning_rate=5e-2,
        max_events=600,
    )
    result = task.run(progress=False)
    metrics = result.metrics
    assert metrics["final_loss"] < 0.3 * result.figures["loss"].axes[0].lines[0].get_ydata()[0]
    assert metrics["timing_error"] < 0.5 * metrics["untrained_timing_error"]
    assert metrics["right_counts"] > metrics["untrained_right_counts"]
    in_times, targets = task.sample()
    found = np.asarray(task.predict(result.model, in_times))
    assert found.shape == (1, 3, 8)
    assert metrics["best_step"] % 20 == 0 and metrics["van_rossum"] < 1
    error = np.mean(np.abs(np.minimum(found[..., :2], task.t_max) - targets))
    assert error == pytest.approx(metrics["timing_error"], rel=1e-5)
    assert np.all(np.diff(targets, axis=-1) >= task.min_interval)
    assert {f"{name}.png" for name in result.figures} == set(task.pictures)
    check_saved(task, result, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_outputs": 2000}, r"n_outputs must be at most n_neurons = 1000, got 2000\."),
        ({"in_degree": 1000}, r"in_degree must be at most n_neurons - 1 = 999, got 1000\."),
        ({"input_degree": 101}, r"input_degree must be at most n_inputs = 100, got 101\."),
        ({"delay_min": 9.0}, r"delay_min must be at most delay_max = 5\.0, got 9\.0\."),
        ({"n_spikes": 30}, r"n_spikes must be small enough for intervals of 15\.0 .*, got 30\."),
    ],
)
def test_settings_of_a_pattern_that_do_not_fit_are_errors(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Pattern(**settings).train(progress=False)
