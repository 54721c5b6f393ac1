"""Yin-Yang data: the figure is the published one, classes are balanced, draws are independent."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn.data import yin_yang
from eventsnn.tasks.yin_yang import YinYang

# Half a cell off the axes, so that no point lies on a boundary.
AXIS = (np.arange(400) + 0.5) / 400
GRID = np.stack(np.meshgrid(AXIS, AXIS), axis=-1)
DRAWN = 3000

classify = jax.jit(yin_yang.classify)


def painted(xy):
    """The figure drawn in layers: disc, upper half, two half discs, two dots."""
    z = xy[..., 0] + 1j * xy[..., 1] - (0.5 + 0.5j)
    canvas = np.where(z.imag > 0, 1, 0)
    canvas[np.abs(z + 0.25) < 0.25] = 1
    canvas[np.abs(z - 0.25) < 0.25] = 0
    canvas[(np.abs(z + 0.25) < 0.1) | (np.abs(z - 0.25) < 0.1)] = 2
    canvas[np.abs(z) > 0.5] = -1
    return canvas


@pytest.fixture(scope="module")
def data():
    return yin_yang.generate(jax.random.key(5), train=DRAWN, validation=300, test=300)


# ------------------------------------------------------------------ the figure


def test_the_classes_are_those_of_the_figure():
    found = np.asarray(classify(GRID))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, painted(GRID))
    assert set(np.unique(found)) == {-1, 0, 1, 2}


def test_borders_have_the_published_classes():
    # Exact in binary: the rim, the outer rims of the half discs, and the line between the halves.
    points = {
        (1.0, 0.5): 0,
        (0.0, 0.5): 1,
        (0.5, 1.0): 1,
        (0.25, 0.25): 1,  # d_l = 1/4
        (0.75, 0.75): 0,  # d_r = 1/4
        (0.5, 0.5): 1,
        (0.5, 0.0): 0,
        (0.25, 0.5): 2,
        (0.75, 0.5): 2,
    }
    np.testing.assert_array_equal(classify(np.array(list(points))), list(points.values()))


def test_half_a_turn_swaps_yin_and_yang():
    there, back = np.asarray(classify(GRID)), np.asarray(classify(1 - GRID))
    np.testing.assert_array_equal(back, np.array([1, 0, 2, -1])[there])


def test_the_classes_have_their_areas():
    share = np.bincount(np.asarray(classify(GRID)).ravel() + 1)[1:] / GRID[..., 0].size
    dots = 2 * np.pi * 0.1**2
    half = (np.pi * 0.5**2 - dots) / 2
    np.testing.assert_allclose(share, [half, half, dots], atol=1e-3)


# ------------------------------------------------------------------ the draws


def test_samples_lie_in_their_class(data):
    for part in (data.train, data.validation, data.test):
        assert part.labels.dtype == np.int32 and np.all((part.xy >= 0) & (part.xy < 1))
        np.testing.assert_array_equal(part.labels, painted(part.xy))


def test_classes_are_balanced_and_uniform_within(data):
    xy, labels = data.train
    deviation = np.sqrt(DRAWN * 2 / 9)
    assert np.all(np.abs(np.bincount(labels, minlength=3) - DRAWN / 3) < 4 * deviation)
    for label in range(3):
        drawn, whole = xy[labels == label], GRID[painted(GRID) == label]
        error = np.abs(drawn.mean(0) - whole.mean(0)) / (whole.std(0) / np.sqrt(len(drawn)))
        assert np.all(error < 4)
        np.testing.assert_allclose(drawn.std(0), whole.std(0), rtol=0.1)


def test_no_point_is_drawn_twice(data):
    points = np.concatenate([data.train.xy, data.validation.xy, data.test.xy])
    assert len(np.unique(points, axis=0)) == len(points) == DRAWN + 600


def test_a_key_is_a_draw(data):
    again = yin_yang.generate(jax.random.key(5), train=DRAWN, validation=300, test=300)
    for first, second in zip(
        jax.tree.leaves(data.train), jax.tree.leaves(again.train), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    # Each part has its own key, independent of the sizes of the others.
    np.testing.assert_array_equal(
        yin_yang.sample(jax.random.fold_in(jax.random.key(5), 2), 300).xy, data.test.xy
    )
    other = yin_yang.sample(jax.random.key(6), 300)
    assert not np.any(np.all(other.xy == data.test.xy, axis=1))


@pytest.mark.parametrize("bad", [0, -1, 2.0, "many"])
def test_no_samples_refused(bad):
    for name, function in (
        ("n", lambda n: yin_yang.sample(jax.random.key(0), n)),
        ("train", lambda n: yin_yang.published(train=n)),
        ("test", lambda n: yin_yang.generate(jax.random.key(0), train=1, validation=1, test=n)),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be an integer >= 1, got {bad!r}"):
            function(bad)


# ------------------------------------------------------------------ the published points


@pytest.fixture(scope="module")
def points():
    return yin_yang.published()


def test_the_published_points_are_those(points):
    # First points of each set as drawn by its generator: numpy.random.RandomState(42, 41, 40).
    first = {
        "train": [(0.6803075385877797, 0.450499251969543), (0.09767211400638387, 0.6842330265)],
        "validation": [(0.6805727261759029, 0.3209733938933629), (0.6685157173, 0.9174478489)],
        "test": [(0.23409664559563403, 0.4017249751828972), (0.7513290219574, 0.4682425192681)],
    }
    labels = {
        "train": [2, 1, 2, 1, 1, 1],
        "validation": [0, 1, 0, 0, 2, 1],
        "test": [2, 2, 1, 1, 1, 2],
    }
    counts = {"train": (1681, 1702, 1617), "validation": (316, 336, 348), "test": (350, 316, 334)}
    for name, xy in first.items():
        part = getattr(points, name)
        assert part.xy.dtype == np.float64 and part.labels.dtype == np.int32
        np.testing.assert_allclose(part.xy[:2], xy, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(part.labels[:6], labels[name])
        np.testing.assert_array_equal(np.bincount(part.labels), counts[name])


def test_the_published_points_lie_in_their_class_and_in_one_set(points):
    parts = [points.train, points.validation, points.test]
    xy = np.concatenate([part.xy for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    np.testing.assert_array_equal(labels, painted(xy))
    np.testing.assert_array_equal(labels, classify(xy))
    assert len(np.unique(xy, axis=0)) == len(xy) == 7000


def test_fewer_published_points_are_the_first_of_them(points):
    few = yin_yang.published(train=7, validation=3, test=2)
    for name, n in (("train", 7), ("validation", 3), ("test", 2)):
        found, whole = getattr(few, name), getattr(points, name)
        np.testing.assert_array_equal(found.xy, whole.xy[:n])
        np.testing.assert_array_equal(found.labels, whole.labels[:n])
    with jax.enable_x64(False):
        single = yin_yang.published(train=7, validation=3, test=2)
    assert single.train.xy.dtype == np.float32
    np.testing.assert_array_equal(single.train.xy, few.train.xy.astype(np.float32))


# ------------------------------------------------------------------ spikes and batches


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.bfloat16])
def test_event_inputs(dtype):
    xy = jnp.array([[[0.25, 0.5], [1.0, 0.0]]], dtype)
    times = jax.jit(yin_yang.event_inputs)(xy)
    assert times.shape == (1, 2, 5, 1) and times.dtype == dtype
    expected = [[7.5, 15, 22.5, 15, 0], [30, 0, 0, 30, 0]]
    np.testing.assert_array_equal(np.asarray(times, float)[0, :, :, 0], expected)
    later = yin_yang.event_inputs(xy[0, 0], t_max=4.0, bias_time=2.0)
    np.testing.assert_array_equal(np.asarray(later, float)[:, 0], [1, 2, 3, 2, 2])


def test_points_of_a_wrong_shape_refused():
    for function in (yin_yang.classify, yin_yang.event_inputs):
        with pytest.raises(ValueError, match=r"xy must have shape \(\.\.\., 2\), got shape \(4,\)"):
            function(np.zeros(4))


def test_batches_contain_every_sample_once_per_epoch(data):
    part = data.validation
    found = list(yin_yang.batches(3, part, batch_size=60, epochs=2))
    assert len(found) == 10 and all(batch.xy.shape == (60, 2) for batch in found)
    for epoch in (found[:5], found[5:]):
        xy = np.concatenate([batch.xy for batch in epoch])
        labels = np.concatenate([batch.labels for batch in epoch])
        order = np.lexsort(xy.T), np.lexsort(part.xy.T)
        np.testing.assert_array_equal(xy[order[0]], part.xy[order[1]])
        np.testing.assert_array_equal(labels[order[0]], part.labels[order[1]])
    assert np.any(found[0].xy != found[5].xy)
    # 300 = 4 * 64 + 44: the remainder is dropped; a key gives an endless order.
    endless = yin_yang.batches(jax.random.key(1), part, batch_size=64)
    assert len({tuple(batch.xy[0]) for batch in itertools.islice(endless, 9)}) > 4


# ------------------------------------------------------------------ the task


def test_the_points_of_a_task(points):
    task = YinYang(seed=3, n_train=20, n_validation=20, n_test=20, n_test_fresh=20)
    np.testing.assert_array_equal(task.load().train.xy, points.train.xy[:20])
    fresh, again, other = (
        dataclasses.replace(task, points="fresh", seed=seed) for seed in (3, 3, 4)
    )
    first, second, third = (t.load() for t in (fresh, again, other))
    np.testing.assert_array_equal(first.test.xy, second.test.xy)
    drawn = [task.fresh().xy, other.fresh().xy]
    for data in (first, third):
        drawn += [data.train.xy, data.validation.xy, data.test.xy]
    together = np.concatenate([*drawn, points.train.xy, points.validation.xy, points.test.xy])
    assert len(np.unique(together, axis=0)) == len(together) == 7000 + 8 * 20
    np.testing.assert_array_equal(task.fresh().xy, fresh.fresh().xy)


def test_a_silent_output_is_no_prediction_and_has_a_gradient():
    task = YinYang(n_hidden=2, drive=4.0)
    net = task.build(jax.random.key(0))
    # Hidden neurons that fire, and outputs that barely respond.
    weights = jnp.full((5, 2), 9.0), jnp.full((2, 3), 0.02)
    xy, labels = np.array([[0.5, 0.25], [0.4, 0.9]]), np.array([1, 2], np.int32)

    silent, at_rest = (
        eqx.tree_at(lambda net: (net[0].weights, net[1].weights), net, [w * scale for w in weights])
        for scale in (1.0, 0.0)
    )
    first_spikes = eqx.filter_jit(task.first_spikes)
    # From rest, driven by the current of 4, to the threshold of 1.
    np.testing.assert_allclose(first_spikes(at_rest, xy), 40 + 20 * np.log(4 / 3), rtol=1e-12)
    times = np.asarray(first_spikes(silent, xy))
    assert np.all((times > 40) & (times < 40 + 20 * np.log(4 / 3)))
    np.testing.assert_array_equal(task.predict(silent, xy), [-1, -1])
    assert task.accuracy(silent, yin_yang.Samples(xy, labels)) == 0
    # Larger weights to the correct outputs, smaller ones to the output that is never correct.
    found = eqx.filter_jit(eqx.filter_grad(task.loss))(silent, yin_yang.Samples(xy, labels))
    slopes = np.asarray(found[1].weights)
    assert np.all(slopes[:, 1:] < 0) and np.all(slopes[:, 0] > 0)
