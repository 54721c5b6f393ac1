"""Losses of samples with different numbers of steps: each sample counts as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import losses

T, C = 7, 4
LENGTHS = np.array([7, 3, 2, 5])
B = len(LENGTHS)
AFTER = np.arange(T)[:, None] >= LENGTHS  # (T, batch)
WEIGHT = np.array([1.0, 2.0, 0.5, 3.0])


def values(spikes, membranes, targets, **options):
    """Every loss and accuracy over time that is a mean over the batch."""
    labels, labels_over_time, potentials, steps = targets
    temporal = {"on_target": (0, 2), "off_target": (-1, -1)} | options
    return {
        "ce_rate": losses.ce_rate(spikes, labels, weight=WEIGHT, **options),
        "ce_count": losses.ce_count(spikes, labels, **options),
        "mse_count": losses.mse_count(
            spikes, labels, correct_rate=0.58, incorrect_rate=0.29, weight=WEIGHT, **options
        ),
        "mse_count of populations": losses.mse_count(
            spikes, labels % 2, correct_rate=0.7, num_classes=2, **options
        ),
        "ce_max_membrane": losses.ce_max_membrane(membranes, labels, **options),
        "ce_membrane": losses.ce_membrane(membranes, labels, weight=WEIGHT, **options),
        "mse_membrane": losses.mse_membrane(membranes, labels, weight=WEIGHT, **options),
        "mse_membrane of steps": losses.mse_membrane(membranes, labels_over_time, **options),
        "mse_membrane of curves": losses.mse_membrane(membranes, potentials, **options),
        "mse_membrane of levels": losses.mse_membrane(membranes, potentials[0], **options),
        "ce_temporal": losses.ce_temporal(spikes, labels, weight=WEIGHT, **options),
        "ce_temporal, reciprocal": losses.ce_temporal(
            spikes, labels, inverse="reciprocal", **options
        ),
        "mse_temporal": losses.mse_temporal(spikes, labels, tolerance=2, **options),
        "mse_temporal of steps": losses.mse_temporal(spikes, steps, **options),
        "mse_temporal of labels": losses.mse_temporal(spikes, labels, **temporal),
        "accuracy_rate": losses.accuracy_rate(spikes, labels, **options),
        "accuracy_temporal": losses.accuracy_temporal(spikes, labels, **options),
    }


def total(arrays, targets, **options):
    """Sum of all losses with different factors, and the single losses."""
    found = values(*arrays, targets, **options)
    return sum(k * loss.astype(float) for k, loss in enumerate(found.values(), 1)), found


gradient = jax.jit(jax.value_and_grad(total, has_aux=True))


def drawn(rng):
    spikes = (rng.random((T, B, C)) < 0.3).astype(float)
    spikes[:, 1], spikes[:, 3, :2] = 0, 0  # silent outputs count as firing at the last step
    membranes, potentials = rng.normal(size=(2, T, B, C)) - 2  # negative: 0 is no maximum
    targets = rng.integers(0, C, B), rng.integers(0, C, (T, B)), potentials
    return (spikes, membranes), (*targets, rng.integers(-1, 1, (1, B, C)).astype(float))


def test_a_batch_is_the_mean_of_its_samples(rng):
    arrays, (labels, over_time, potentials, steps) = drawn(rng)
    padded = [np.where(AFTER[..., None], np.nan, x) for x in (*arrays, potentials)]
    of_padding = labels, np.where(AFTER, -1, over_time), padded[2], steps
    (_, found), slopes = gradient(padded[:2], of_padding, lengths=LENGTHS)
    singles, singly = [], []
    for b, n in enumerate(LENGTHS):
        one = [x[:n, b : b + 1] for x in arrays]
        own = over_time[:n, b : b + 1], potentials[:n, b : b + 1], steps[:, b : b + 1]
        (_, values), slope = gradient(one, (labels[b : b + 1], *own))
        singles.append(values)
        singly.append(slope)
    for name, value in found.items():
        expected = np.mean([single[name] for single in singles])
        np.testing.assert_allclose(value, expected, rtol=1e-12, err_msg=name)
    for k, slope in enumerate(slopes):
        assert np.all(np.asarray(slope)[AFTER] == 0)
        for b, n in enumerate(LENGTHS):
            np.testing.assert_allclose(slope[:n, b], singly[b][k][:, 0] / B, rtol=1e-11, atol=1e-15)


def test_equal_lengths_are_no_lengths(rng):
    arrays, targets = drawn(rng)
    (_, found), slopes = gradient(arrays, targets, lengths=np.full(B, T))
    (_, expected), same = gradient(arrays, targets)
    pairs = zip(*map(jax.tree.leaves, ((found, slopes), (expected, same))), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_first_spikes_and_rates(rng):
    """A silent output has the last step of its sample; rates count the steps of all samples."""
    (spikes, _), _ = drawn(rng)
    padded, lengths = np.where(AFTER[..., None], np.nan, spikes), jnp.asarray(LENGTHS)
    before = np.where(AFTER[..., None], 0, spikes)
    steps = np.where(before.any(axis=0), before.argmax(axis=0), LENGTHS[:, None] - 1)
    np.testing.assert_array_equal(losses.first_spike_steps(padded, lengths=lengths), steps)
    second = np.asarray(losses.spike_steps(padded, 2, lengths=lengths)[1])
    assert np.all(second <= LENGTHS[:, None] - 1) and np.any(second > steps)
    rates = before.sum(axis=(0, 1)) / LENGTHS.sum()
    found = losses.target_rate(padded, 0.25, lengths=lengths)
    np.testing.assert_allclose(found, np.mean((rates - 0.25) ** 2), rtol=1e-12)
    found = losses.rate_range(padded, lower=0.2, upper=0.21, lengths=lengths)
    error = np.maximum(0.2 - rates, 0) ** 2 + np.maximum(rates - 0.21, 0) ** 2
    np.testing.assert_allclose(found, np.mean(error), rtol=1e-12)
    found = losses.l1_rate_sparsity(padded, 0.5, lengths=lengths)
    np.testing.assert_allclose(found, 0.5 * before.sum(), rtol=1e-12)
