"""Tasks of the event mode: runs, training and definitions; Yin-Yang has its own tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import constraints
from eventsnn.tasks.images import Batch, key_data_of
from eventsnn.tasks.latency import RandomAffine
from eventsnn.tasks.membrane_event import MembraneEvent
from eventsnn.tasks.mnist_conv import MNISTConv
from eventsnn.tasks.mnist_latency import MNISTLatency
from helpers.saved_models import check_saved

OF_LATENCIES = {"loss", "accuracy", "confusion", "raster", "membranes", "weights", "samples"}
OF_CONVOLUTIONS = OF_LATENCIES - {"raster"} | {"first_spikes"}
OF_CURVES = {"before", "after", "loss", "raster"}


def small(**options):
    return MNISTLatency(**{"n_hidden": 40, "dropout": 0.0, **options})


@pytest.fixture(scope="module")
def digits():
    with jax.enable_x64(False):
        return small().load()


def shown(digits, n=5):
    """Batch of the first images, in float64."""
    images = jnp.asarray(digits.train_images[:n], float)
    return Batch(images, jnp.asarray(digits.train_labels[:n]), key_data_of(np.arange(n)))


# ------------------------------------------------------------------ digits by latencies


def test_layers_are_one_network(digits):
    """The layers give the results and gradients of the single network of the figures."""
    task = small()
    model = task.build(jax.random.key(1), (8, 8))
    batch = shown(digits)

    def whole(model):
        in_times = task.in_times(model, batch.images, batch.keys)
        return task.network(model).maxima(in_times.reshape(len(in_times), 64, 1))

    def apart(model):
        return task.simulate(model, batch.images, batch.keys)

    factors = jax.random.normal(jax.random.key(2), (5, 10))
    found, expected = (
        eqx.filter_jit(eqx.filter_value_and_grad(lambda m, f=f: jnp.sum(factors * f(m))))(model)
        for f in (apart, whole)
    )
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_bright_pixels_come_first_and_the_background_never():
    task = small()
    model = task.build(jax.random.key(0), (1, 4))
    image = jnp.array([[0.0, 1.0, 0.25, 1 / 255]])
    times = task.encode(model, image, jax.random.key(0))
    np.testing.assert_allclose(times, [[np.inf, 0.0, 15.0, np.inf]])


def test_dropout_drops_pixels_in_training_only(digits):
    task = small(dropout=0.5)
    model = task.build(jax.random.key(0), (8, 8))
    image, keys = shown(digits).images[0], jax.random.split(jax.random.key(1), 200)
    visible = np.asarray(image) > 0
    times = jax.vmap(lambda key: task.encode(model, image, key))(keys)
    kept = np.isfinite(times)
    assert not kept[:, ~visible].any()
    assert abs(kept[:, visible].mean() - 0.5) < 0.05
    tested = task.encode(eqx.nn.inference_mode(model), image, keys[0])
    np.testing.assert_array_equal(np.isfinite(tested), visible)
    np.testing.assert_array_equal(times[kept], np.broadcast_to(tested, times.shape)[kept])


def test_images_are_distorted_in_training_only(digits):
    """A rotation by 90 degrees, a shift by one pixel, and a scaling, of known draws."""
    image, key = shown(digits).images[0], jax.random.key(3)
    angle, _, _, down, across = np.asarray(jax.random.uniform(key, (5,), image.dtype, -1, 1))
    turned = RandomAffine(90.0 / angle, 0.0, 0.0)(image, key)
    np.testing.assert_allclose(turned, np.rot90(image, -1), atol=1e-12)
    shifted = RandomAffine(0.0, 0.0, 1.0 / down)(image, key)
    expected = np.zeros((8, 8))
    fraction = across / down - np.floor(across / down)
    rows = np.pad(np.asarray(image)[1:], ((0, 1), (9, 9)))
    for column in range(8):
        at = column + 9 + int(np.floor(across / down))
        expected[:, column] = (1 - fraction) * rows[:, at] + fraction * rows[:, at + 1]
    np.testing.assert_allclose(shifted, expected, atol=1e-12)
    scaled = RandomAffine(0.0, 0.3, 0.0)(image, key)
    assert np.all((scaled >= 0) & (scaled <= 1)) and np.any(scaled != image)
    for unchanged in (RandomAffine(0.0, 0.0, 0.0), RandomAffine(9.0, 0.1, 1.0, inference=True)):
        np.testing.assert_array_equal(unchanged(image, key), image)


def test_silent_outputs_learn_from_pseudospikes(digits):
    """Outputs that no spike makes fire: the correct one gets a gradient."""
    task = small(readout="ttfs")
    model = task.build(jax.random.key(1), (8, 8))
    model = eqx.tree_at(
        lambda m: m.layers[2].weights, model, replace_fn=lambda w: jnp.full_like(w, 1e-3)
    )
    batch = shown(digits, 1)
    times = task.simulate(model, batch.images, batch.keys)
    assert np.all((times > task.t_max) & np.isfinite(times))
    slope = eqx.filter_jit(eqx.filter_grad(task.loss))(model, batch).layers[2].weights
    label = int(batch.labels[0])
    others = np.delete(slope, label, axis=1)
    assert np.all(slope[:, label] <= 0) and np.any(slope[:, label] < 0)
    assert np.all(others >= 0) and np.all(np.any(others > 0, axis=0))


@pytest.mark.parametrize(
    "options",
    [{"readout": "potential", "n_hidden": 20}, {"readout": "ttfs", "learning_rate": 1e-2}],
    ids=lambda options: options["readout"],
)
def test_digits_are_learnt(options, digits, tmp_path, as_users_do):
    task = small(epochs=2, batch_size=32, **options)
    result = task.run(progress=False)
    steps, epoch = task.n_steps(len(digits.train_labels))
    assert result.metrics["gradient_steps"] == steps == 2 * epoch
    assert result.metrics["test_accuracy"] > 0.5  # chance level: 0.1
    assert set(result.figures) == OF_LATENCIES and not result.animations
    check_saved(task, result, tmp_path)
    assert {f"{figure}.png" for figure in OF_LATENCIES} <= set(task.pictures)


def test_digits_are_learnt_by_convolutions(tmp_path, as_users_do):
    task = MNISTConv(channels=4, epochs=4, batch_size=32, learning_rate=5e-2)
    result = task.run(progress=False)
    assert result.metrics["test_accuracy"] > 0.5  # chance level: 0.1
    assert 0 < result.metrics["hidden_spikes_mean"] < result.metrics["hidden_spikes_max"] <= 3
    assert set(result.figures) == OF_CONVOLUTIONS and not result.animations
    check_saved(task, result, tmp_path)
    assert {f"{figure}.png" for figure in OF_CONVOLUTIONS} <= set(task.pictures)


# ------------------------------------------------------------------ a membrane


@pytest.mark.parametrize(
    ("options", "limit"),
    [({}, 0.1), ({"mode": "linear", "seed": 3}, 0.15), ({"time_constants": "fixed"}, 0.1)],
)
def test_a_membrane_is_learnt(options, limit, tmp_path, as_users_do):
    task = MembraneEvent(steps=500, **options)
    result = task.run(progress=False)
    assert 0 < result.metrics["relative_error"] < limit
    assert 0 < result.metrics["l1"] < 0.01
    assert set(result.figures) == OF_CURVES
    check_saved(task, result, tmp_path)
    assert {f"{figure}.png" for figure in OF_CURVES} == set(task.pictures)


def test_time_constants_learn_unless_they_are_fixed(as_users_do):
    for constants, learnt in (("learnt", True), ("fixed", False)):
        task = MembraneEvent(**MembraneEvent.quick_settings, time_constants=constants)
        before, _, fitted = task.train(progress=False)
        start, end = (constraints.unwrap(net).neuron.parts for net in (before, fitted.model))
        for part, now in zip(start, end, strict=True):
            for name in ("tau_mem", "tau_syn"):
                old, new = getattr(part, name), getattr(now, name)
                assert np.all(new > 0)
                assert np.any(old != new) == learnt
            # No other parameter of a neuron is trained.
            assert part.v_init == now.v_init and np.all(part.bias == now.bias)
        assert np.any(before.weights != fitted.model.weights)


def test_the_input_has_one_spike_per_channel():
    task = MembraneEvent(n_inputs=4, t_max=20.0)
    np.testing.assert_allclose(task.in_times, [[0.0], [5.0], [10.0], [15.0]])
