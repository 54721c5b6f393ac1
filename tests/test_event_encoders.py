"""Encoders of the event mode against their definitions, step by step in Python."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import encoders

INF = np.inf


# ------------------------------------------------------------------ level crossings


def crossings(x, t, threshold):
    """Lists of times at which one signal has moved by the threshold, upwards and downwards."""
    moved, reference = ([], []), x[0]
    for i in range(len(x) - 1):
        share = 0.0
        while True:  # the next crossing in this segment
            direction = np.sign(x[i + 1] - x[i])
            target = reference + direction * threshold
            slope = x[i + 1] - x[i]
            if direction == 0 or (x[i + 1] - target) * direction < -1e-12:
                break
            share = (target - x[i]) / slope
            moved[int(direction < 0)].append(t[i] + share * (t[i + 1] - t[i]))
            reference = target
    return moved


def padded(trains, k):
    return np.array([[*train, *[INF] * (k - len(train))] for train in trains])


def test_level_crossings_are_those_of_a_signal_that_is_followed(rng):
    t = np.sort(rng.uniform(0.0, 50.0, 40))
    xs = np.cumsum(rng.normal(0.0, 0.7, (40, 3, 2)), axis=0) + rng.normal(size=(3, 2))
    xs[10:14] = xs[10]  # constant for some time
    found = np.asarray(encoders.level_crossing_times(xs, t, threshold=0.5))
    lists = [crossings(xs[:, i, j], t, 0.5) for i in range(3) for j in range(2)]
    k = max(len(train) for pair in lists for train in pair)
    assert found.shape == (2, 3, 2, k) and k > 8
    for sign in (0, 1):
        expected = padded([pair[sign] for pair in lists], k).reshape(3, 2, k)
        np.testing.assert_allclose(found[sign], expected, rtol=1e-9)
    # The spikes give the signal back, up to the threshold.
    for i, when in enumerate(t):
        count = (found <= when + 1e-9).sum(axis=-1)
        error = xs[i] - xs[0] - 0.5 * (count[0] - count[1])
        assert np.all(np.abs(error) < 0.5 + 1e-6)


def test_levels_that_are_reached_exactly_and_turning_points():
    t = np.array([0.0, 1.0, 2.0, 4.0])
    up, down = encoders.level_crossing_times([0.0, 1.0, 0.5, -0.5], t, threshold=0.5)
    np.testing.assert_allclose(up, [0.5, 1.0, INF])
    np.testing.assert_allclose(down, [2.0, 3.0, 4.0])
    flat = encoders.level_crossing_times(np.ones((4, 2), int), t)
    np.testing.assert_array_equal(flat, np.full((2, 2, 1), INF))


def test_level_crossings_under_transformations(rng):
    t, xs = np.arange(6.0), np.cumsum(rng.normal(size=(6, 4)), axis=0)

    def encode(xs, max_spikes=20):
        return encoders.level_crossing_times(xs, t, threshold=0.4, max_spikes=max_spikes)

    expected = encode(xs)
    np.testing.assert_allclose(jax.jit(encode)(xs), expected)
    np.testing.assert_allclose(jax.vmap(encode, 1, 1)(xs), expected)
    few = jax.jit(encode, static_argnums=1)(xs, 2)
    many = np.isfinite(expected).sum(-1) > 2
    assert many.any() and not many.all()
    np.testing.assert_array_equal(np.isnan(few), np.broadcast_to(many[..., None], few.shape))
    with pytest.raises(ValueError, match=r"^max_spikes must be at least \d+, .* got 2\.$"):
        encode(xs, 2)
    with pytest.raises(ValueError, match=r"^max_spikes must be an integer under jax\.jit"):
        jax.jit(encode, static_argnums=1)(xs, None)

    # The slope of the time of the first crossing, by finite differences.
    def first(xs):
        return encode(xs)[0, :, 0].min()

    slope, step = jax.grad(first)(xs), 1e-6 * rng.normal(size=xs.shape)
    np.testing.assert_allclose(
        jnp.sum(slope * step), (first(xs + step) - first(xs - step)) / 2, rtol=1e-5
    )
    assert encoders.level_crossing_times(xs.astype(np.float32), t).dtype == np.float32


# ------------------------------------------------------------------ population code


def test_population_code_of_bohte(rng):
    x, low, high = rng.uniform(-1.0, 3.0, (5, 2)), np.array([-1.0, 0.0]), np.array([3.0, 2.0])
    options = {"low": low, "high": high, "tau": 10.0, "beta": 1.2}
    found = encoders.population_times(x, 6, **options)
    for sample, column, i in np.ndindex(5, 2, 6):
        width = high[column] - low[column]
        centre = low[column] + (2 * (i + 1) - 3) / 2 * width / 4
        sigma = width / 4 / 1.2
        response = np.exp(-((x[sample, column] - centre) ** 2) / (2 * sigma**2))
        expected = 10.0 * (1 - response) if response >= 0.1 else INF
        np.testing.assert_allclose(found[sample, column, i], expected, rtol=1e-9)
    assert 0.2 < np.isinf(found).mean() < 0.8
    scalar = encoders.population_times(0.5, 3, threshold=0.0)
    assert scalar.shape == (3,) and scalar[1] == 0 and np.all(np.isfinite(scalar))
    jitted = jax.jit(lambda x: encoders.population_times(x, 6, **options))
    np.testing.assert_allclose(jitted(x), found)


# ------------------------------------------------------------------ event lists


def test_event_lists_become_trains_and_come_back(rng):
    n = 200
    times = rng.permutation(np.linspace(0.0, 30.0, n)).astype(np.float32)
    channels, samples = rng.integers(0, 4, n), rng.integers(0, 5, n)
    samples[samples == 3] = 0  # a sample without spikes
    found = encoders.from_events(times, channels, n_channels=6, samples=samples, n_samples=7)
    expected = [
        [sorted(times[(samples == i) & (channels == j)]) for j in range(6)] for i in range(7)
    ]
    k = max(len(train) for one in expected for train in one)
    assert found.shape == (7, 6, k) and found.dtype == np.float32
    np.testing.assert_array_equal(found, [padded(one, k) for one in expected])
    back = encoders.to_events(found[:, :, ::-1])
    order = np.lexsort((times, samples))
    for a, b in zip(back, (times, channels, samples), strict=True):
        np.testing.assert_array_equal(a, b[order])
    again = encoders.from_events(
        back.times, back.channels, samples=back.samples, n_channels=6, n_samples=7
    )
    np.testing.assert_array_equal(again, found)


def test_event_lists_of_one_sample():
    times, channels = [3, 1, 2], [1, 0, 1]
    found = encoders.from_events(times, channels, n_channels=3, max_spikes=4)
    np.testing.assert_array_equal(found, [[1, INF, INF, INF], [2, 3, INF, INF], [INF] * 4])
    assert not encoders.to_events(found).samples.any()
    empty = encoders.from_events(np.zeros(0), np.zeros(0, int), n_channels=2)
    np.testing.assert_array_equal(empty, [[INF], [INF]])
    assert encoders.to_events(empty).times.shape == (0,)
    for bad in (np.inf, np.nan, -1.0, 0.5):
        with pytest.raises(ValueError, match=rf"^samples must be finite integers >= 0, got {bad}"):
            encoders.from_events(times, channels, n_channels=3, samples=np.full(len(times), bad))
    with pytest.raises(ValueError, match=r"^n_samples must be None without samples, got 2"):
        encoders.from_events(times, channels, n_channels=3, n_samples=2)
    with pytest.raises(ValueError, match=r"^max_spikes must be at least 2, .* got 1"):
        encoders.from_events(times, channels, n_channels=3, max_spikes=1)


def test_encoded_signals_are_inputs_of_a_layer(rng):
    t, xs = np.linspace(0.0, 19.0, 20), np.cumsum(rng.normal(size=(20, 3)), axis=0)
    trains = encoders.level_crossing_times(xs, t, threshold=0.7, max_spikes=12)
    layer = esn.EventLinear(esn.LeakyIntegrator(20.0, 5.0), jnp.ones((6, 1)), t_max=20.0)
    charges = eqx.filter_jit(layer.maxima)(jnp.reshape(trains, (6, 12)))
    assert np.isfinite(charges).all() and charges > 0
