"""Spike encoders against snnTorch's if those are correct, otherwise against their definition.

`fixtures/make_encoders.py` regenerates `fixtures/encoders.npz`.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import encoders
from helpers.recorded import recorded

SNNTORCH = recorded("encoders.npz")
STEPS = int(SNNTORCH["steps"])
X, XS, LABELS = (jnp.asarray(SNNTORCH[name]) for name in ("x", "xs", "labels"))


def refuses(argument, got):
    return pytest.raises(ValueError, match=f"(?s){argument} must .*{re.escape(got)}")


# ------------------------------------------------------------------ latency


def latency_cases():
    for row, times, train, clipped in zip(
        *(SNNTORCH[f"latency_{k}"] for k in ("options", "times", "trains", "clipped")), strict=True
    ):
        linear, normalize, first, threshold, tau = row
        options = dict(
            mode="linear" if linear else "log",
            first_spike_time=first,
            threshold=threshold,
            tau=tau,
        )
        yield options, bool(normalize), times, train, clipped


def test_latency_equals_snntorch():
    n_spikes = 0
    for options, normalize, times, train, clipped in latency_cases():
        ours = encoders.latency(X, STEPS, normalize=normalize, **options)
        np.testing.assert_array_equal(ours, train)
        ours = encoders.latency(X, STEPS, normalize=normalize, clip=True, **options)
        np.testing.assert_array_equal(ours, clipped)
        last = STEPS - 1 if normalize else None
        ours = encoders.latency_times(X, last_spike_time=last, **options)
        # snnTorch rounds the sum of the threshold and 1e-7 before it computes their difference.
        np.testing.assert_allclose(ours, times, rtol=1e-8, atol=1e-12)
        n_spikes += train.sum() - clipped.sum()
    assert n_spikes > 50  # clip removes some


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_latency_in_low_precision(dtype):
    """Multiples of 1/512 that are exact in bfloat16 give the same steps as in float64."""
    x = jnp.asarray(np.r_[0, 1, 2, 4, 7, 13, 100, 128, 129, 200, 256, 384, 510, 512] / 512)
    np.testing.assert_array_equal(x.astype(dtype).astype(x.dtype), x)
    for mode in ("log", "linear"):
        for threshold in (0.01, 0.25):
            options = dict(mode=mode, threshold=threshold, tau=3.0)
            low = encoders.latency(x.astype(dtype), 40, **options)
            assert low.dtype == dtype
            np.testing.assert_array_equal(low, encoders.latency(x, 40, **options))
            times = encoders.latency_times(x.astype(dtype), **options)
            assert times.dtype == dtype and bool(jnp.all(jnp.isfinite(times)))


def test_latency_times_are_when_a_leaky_membrane_crosses():
    x = jnp.array([0.3, 0.6, 1.0])
    times = encoders.latency_times(x, tau=7.0, threshold=0.2)
    np.testing.assert_allclose(x * (1 - jnp.exp(-times / 7.0)), 0.2, rtol=1e-12)


def test_latency_clip_gives_inf():
    times = encoders.latency_times(jnp.array([0.0, 0.2, 0.25, 1.0]), threshold=0.25, clip=True)
    np.testing.assert_array_equal(jnp.isinf(times), [True, True, False, False])


def test_latency_normalized_alike():
    """Equal values cannot be stretched: every spike is at the first step, without 0 / 0."""
    for mode in ("log", "linear"):
        train = encoders.latency(jnp.ones(3), 1, mode=mode, normalize=True)
        np.testing.assert_array_equal(train, jnp.ones((1, 3)))
    tiny = encoders.latency_times(jnp.ones(3, jnp.float32), threshold=1e-9, last_spike_time=4.0)
    np.testing.assert_array_equal(tiny, jnp.zeros(3))


def test_latency_of_a_sample_depends_on_no_other():
    batch = jnp.array([[0.0, 0.5], [0.9, 0.95]])
    code = partial(encoders.latency_times, last_spike_time=9.0)
    each = jax.vmap(code)(batch)
    np.testing.assert_allclose(each, jnp.stack([code(x) for x in batch]), rtol=1e-14)
    np.testing.assert_allclose(each.max(1), 9.0)


def test_gradient_of_latency_times():
    """dt/dx = -tau threshold / (x (x - threshold)); zero where clipped or saturated."""
    x = jnp.array([0.005, 0.3, 0.8])
    for clip in (False, True):
        slope = jax.grad(lambda x, c=clip: jnp.where((t := _times(x, c)) < 99, t, 0).sum())(x)
        expected = -2.0 * 0.01 / (x * (x - 0.01)) * jnp.array([0.0, 1.0, 1.0])
        np.testing.assert_allclose(slope, expected, rtol=1e-12)


def _times(x, clip):
    return encoders.latency_times(x, tau=2.0, clip=clip)


# ------------------------------------------------------------------ rate


def test_rate_statistics(getkey):
    p = jnp.array([0.0, 0.003, 0.25, 0.6, 1.0, 1.7, -0.4])
    n = 40_000
    expected = np.clip(p, 0, 1)
    for dtype in (jnp.float64, jnp.bfloat16):
        spikes = encoders.rate(getkey(), p.astype(dtype), n)
        assert spikes.shape == (n, 7) and spikes.dtype == dtype
        spikes = np.asarray(spikes, float)
        assert set(np.unique(spikes)) == {0.0, 1.0}
        error = np.abs(spikes.mean(0) - np.clip(np.asarray(p.astype(dtype), float), 0, 1))
        # Five standard deviations; zero where the outcome is certain.
        assert np.all(error <= 5 * np.sqrt(expected * (1 - expected) / n))
    middle = spikes[:, 2] - 0.25
    lagged = np.mean(middle[1:] * middle[:-1])
    crossed = np.mean(middle * (spikes[:, 3] - 0.6))
    assert max(abs(lagged), abs(crossed)) < 5 * 0.25 / np.sqrt(n)


def test_rate_gain_offset_and_first_spike(getkey):
    x = jnp.array([0.0, 0.2, 0.6])
    spikes = encoders.rate(getkey(), x, 6, gain=5.0, offset=-1.0, first_spike_time=2)
    np.testing.assert_array_equal(spikes[:2], jnp.zeros((2, 3)))
    np.testing.assert_array_equal(spikes[2:], jnp.tile(jnp.array([0.0, 0.0, 1.0]), (4, 1)))


def test_rate_that_varies_in_time(getkey):
    xs = jnp.array([[0.0, 1.0], [1.0, 0.0], [0.5, 1.0]])
    spikes = encoders.rate(getkey(), xs, first_spike_time=1)
    np.testing.assert_array_equal(spikes[:3], [[0, 0], [0, 1], [1, 0]])
    assert spikes.shape == (4, 2)
    halved = encoders.rate(getkey(), xs, gain=0.5, offset=0.5)  # a probability of 1 remains certain
    np.testing.assert_array_equal(halved[xs == 1], jnp.ones(3))


def test_one_key_gives_one_train_in_any_dtype(getkey):
    key, x = getkey(), jnp.linspace(0, 1, 9)  # exact in bfloat16
    trains = [encoders.rate(key, x.astype(d), 20) for d in ("float64", "float32", "bfloat16")]
    np.testing.assert_array_equal(trains[0], trains[1])
    np.testing.assert_array_equal(trains[0], trains[2])


# ------------------------------------------------------------------ delta


def test_delta_equals_snntorch():
    cases = zip(SNNTORCH["delta_options"], SNNTORCH["delta_trains"], strict=True)
    for (threshold, off_spike, padding), train in cases:
        ours = encoders.delta(
            XS, threshold=threshold, off_spike=bool(off_spike), padding=bool(padding)
        )
        np.testing.assert_array_equal(ours, train)


def test_delta_of_unsigned_integers():
    frames = jnp.array([200, 100, 250], jnp.uint8)
    ours = encoders.delta(frames, threshold=10.0, off_spike=True)
    np.testing.assert_array_equal(ours, [1.0, -1.0, 1.0])


# ------------------------------------------------------------------ targets


def test_one_hot_equals_snntorch():
    np.testing.assert_array_equal(encoders.one_hot(LABELS, 5), SNNTORCH["one_hot"])
    assert encoders.one_hot(LABELS.reshape(2, 2), 5, dtype=jnp.float32).shape == (2, 2, 5)


def test_regular_rates_equal_snntorch():
    right, wrong = SNNTORCH["rate_values"][::-1], SNNTORCH["rates"][::-1]
    label = jnp.array(0)
    for i, first in enumerate((0, 3)):
        for rate, train in zip(right, wrong[:, i], strict=True):
            ours = encoders.targets_rate(
                label, 2, 40, correct_rate=1.0, incorrect_rate=rate, first_spike_time=first
            )
            np.testing.assert_array_equal(ours[:, 1], train)


@pytest.mark.parametrize("which", range(3))
def test_ramps_equal_snntorch(which):
    on, off = SNNTORCH["targets"][which]
    times = [(0, 4), (2, 3, 9), (3,), (11,), (0, 1, 11), (), *[(0,), (2,), (11,), ()]]
    spikes = np.zeros((STEPS, len(times)))
    for channel, steps in enumerate(times):
        spikes[list(steps), channel] = 1
    ours = encoders.ramp_targets(jnp.asarray(spikes), on_target=on, off_target=off)
    # The last four have at most one spike, as in a latency code; the last one after the end.
    expected = np.hstack([SNNTORCH["ramps"][which].T, SNNTORCH["single_ramps"][which]])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours[spikes == 1], on)


def test_targets_equal_snntorch():
    levels = dict(on_target=1.25, off_target=0.25)
    ours = encoders.targets_rate(LABELS, 5, STEPS, first_spike_time=2, **levels)
    np.testing.assert_array_equal(ours, SNNTORCH["targets_rate"])
    for name, interpolate in (("targets_latency", False), ("targets_latency_ramps", True)):
        ours = encoders.targets_latency(
            LABELS, 5, STEPS, normalize=True, interpolate=interpolate, **levels
        )
        np.testing.assert_allclose(ours, SNNTORCH[name], rtol=0, atol=1e-6)


def test_targets_of_both_rates():
    """Intended behaviour of snnTorch: each neuron has the train, or the ramps, of its own rate."""
    levels = dict(on_target=1.5, off_target=-0.5)
    rates = dict(correct_rate=0.5, incorrect_rate=0.2)
    half, fifth = np.zeros((STEPS, 1, 1)), np.zeros((STEPS, 1, 1))
    half[::2], fifth[::5] = 1, 1
    for interpolate in (False, True):
        ours = encoders.targets_rate(LABELS, 5, STEPS, interpolate=interpolate, **rates, **levels)
        shape = encoders.ramp_targets if interpolate else encoders.spike_targets
        right, wrong = (shape(jnp.asarray(s), **levels) for s in (half, fifth))
        correct = np.arange(5) == np.asarray(LABELS)[:, None]
        np.testing.assert_array_equal(ours, np.where(correct, right, wrong))


def test_clipped_ramps_and_negative_levels():
    """Incorrect neurons stay off, also at a level below zero."""
    options = dict(clip=True, interpolate=True, off_target=-1.0, first_spike_time=2)
    ours = encoders.targets_latency(LABELS, 5, STEPS, **options)
    np.testing.assert_array_equal(ours[:, 0, 0], -jnp.ones(STEPS))
    np.testing.assert_array_equal(ours[:, 0, 1], [-1.0, 0.0, 1.0, *[-1.0] * (STEPS - 3)])


def test_targets_in_another_dtype():
    for code in (encoders.targets_rate, encoders.targets_latency):
        ours = code(LABELS, 5, STEPS, dtype=jnp.bfloat16)
        assert ours.dtype == jnp.bfloat16 and ours.shape == (STEPS, 4, 5)
    long = encoders.ramp_targets(jnp.zeros(300, jnp.bfloat16).at[299].set(1))
    assert long.dtype == jnp.bfloat16
    np.testing.assert_allclose(long.astype(float), np.arange(300) / 299, atol=2**-8)


# ------------------------------------------------------------------ all of them


def test_jit_and_vmap_change_nothing(getkey):
    key = getkey()

    def everything(key, x, xs, labels):
        return (
            encoders.rate(key, x, STEPS),
            encoders.latency(x, STEPS, mode="linear", normalize=True),
            encoders.latency_times(x, clip=True),
            encoders.delta(xs, off_spike=True),
            encoders.targets_rate(labels, 5, STEPS, correct_rate=0.5, interpolate=True),
            encoders.targets_latency(labels, 5, STEPS, tau=3.0),
        )

    keys, batch = jax.random.split(key, 2), jnp.stack([X, X[::-1]])
    both = jax.jit(jax.vmap(everything, in_axes=(0, 0, None, None)))(keys, batch, XS, LABELS)
    for a, b in zip(both, everything(keys[1], batch[1], XS, LABELS), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-14)


def test_rate_refuses(getkey):
    rate = partial(encoders.rate, getkey())
    with refuses("x", "got nan at index (1,)"):
        rate(jnp.array([0.0, np.nan]), 3)
    with refuses("x", "got shape ()"):
        rate(0.5)
    for steps in (0, 2.5, np.nan):
        with refuses("num_steps", repr(steps)):
            rate(jnp.ones(2), steps)
    for first in (-1, 3):
        with refuses("first_spike_time", str(first)):
            rate(jnp.ones(2), 3, first_spike_time=first)


@pytest.mark.parametrize("code", [encoders.latency_times, partial(encoders.latency, num_steps=5)])
def test_latency_refuses(code):
    for bad in (-0.1, 1.5, np.nan):
        with refuses("x", f"got {bad} at index (0, 1)"):
            code(jnp.array([[0.5, bad]]))
    for name, values in dict(
        tau=(0.0, -1.0, np.inf), threshold=(0.0, 1.0, np.nan), first_spike_time=(-1.0, np.nan)
    ).items():
        for value in values:
            with refuses(name, repr(value)):
                code(jnp.ones(2), **{name: value})
    with refuses("mode", "'cubic'"):
        code(jnp.ones(2), mode="cubic")


def test_latency_refuses_a_last_spike_before_the_first():
    with refuses("last_spike_time", "2.0"):
        encoders.latency_times(jnp.ones(2), first_spike_time=3.0, last_spike_time=2.0)
    with refuses("first_spike_time", "5.0"):
        encoders.latency(jnp.ones(2), 5, first_spike_time=5.0)


def test_delta_refuses():
    for bad in ((), (0, 3)):
        with refuses("xs", f"got shape {bad}"):
            encoders.delta(jnp.zeros(bad))
    with refuses("xs", "got inf at index (2,)"):
        encoders.delta(jnp.array([0.0, 1.0, np.inf]))
    for threshold in (0.0, -0.1, np.nan):
        with refuses("threshold", repr(threshold)):
            encoders.delta(jnp.zeros(3), threshold=threshold)


def test_targets_refuse():
    for labels, got in (([0, 5], "got 5 at index (1,)"), ([-1], "got -1"), ([0.5], "got [0.5]")):
        with refuses("labels", got):
            encoders.one_hot(jnp.array(labels), 5)
    with refuses("correct_rate", "1.5"):
        encoders.targets_rate(LABELS, 5, 4, correct_rate=1.5)
    with refuses("incorrect_rate", "0.6"):
        encoders.targets_rate(LABELS, 5, 4, correct_rate=0.5, incorrect_rate=0.6)
    with refuses("first_spike_time", "4"):
        encoders.targets_rate(LABELS, 5, 4, first_spike_time=4)
    with refuses("spikes", "()"):
        encoders.ramp_targets(1.0)
