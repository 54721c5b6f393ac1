"""Every task runs, at a small size; the smallest one learns.

test_cli.py runs the spike-time regression.
"""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from eventsnn import plots
from eventsnn.data import spike_time_regression
from eventsnn.discrete import OneToOne
from eventsnn.tasks import TASKS, DataError, images, points
from eventsnn.tasks.curves import CurveTask
from eventsnn.tasks.epochs import snapshot_models, steps_per_dispatch
from helpers.saved_models import check_saved

DIGITS = ("leaky-classification", "rleaky-classification", "moving-mnist")
OF_DIGITS = {"loss", "accuracy", "confusion", "raster", "membranes", "counts", "weights", "samples"}
OF_POINTS = {"regions", "loss", "accuracy", "raster"}
OF_TIMES = {"prediction", "loss", "raster", "membranes"}
OF_CURVES = {"before", "after", "loss", "raster"}
ALWAYS = {"final_loss", "steps_per_second", "compile_seconds", "devices_used"}
ERRORS = {"relative_error", "l1"}
ACCURACIES = {"test_accuracy", "test_accuracy_fresh", "validation_accuracy", "gradient_steps"}
ACCURACY = {"test_accuracy", "test_accuracy_last_step", "gradient_steps", "steps_per_epoch"}


pytestmark = pytest.mark.usefixtures("as_users_do")


def quick(name, **options):
    return TASKS[name](**TASKS[name].quick_settings | options)


@pytest.mark.parametrize(
    ("name", "options", "metrics", "figures"),
    [
        ("yin-yang", {}, ACCURACIES, OF_POINTS),
        ("delays", {"delay_kind": "axonal", "n_hidden": 10}, ACCURACIES, OF_POINTS | {"delays"}),
        ("membrane-regression", {"mode": "sqrt"}, ERRORS, OF_CURVES),
        ("membrane-regression", {"mode": "linear"}, ERRORS, OF_CURVES),
        ("spiking-lstm", {}, {"test_mae", "silent"}, OF_TIMES),
        ("leaky-classification", {}, ACCURACY, OF_DIGITS),
        ("rleaky-classification", {}, ACCURACY | {"test_accuracy_membrane"}, OF_DIGITS),
        (
            "rleaky-classification",
            {"feedback": "conv"},
            ACCURACY | {"test_accuracy_membrane"},
            OF_DIGITS,
        ),
        (
            "rleaky-classification",
            {"feedback": "one-to-one", "objective": "membrane"},
            ACCURACY | {"test_accuracy_rate"},  # the alternative readout
            OF_DIGITS,
        ),
        ("moving-mnist", {}, ACCURACY, OF_DIGITS),
    ],
)
def test_a_task_runs(name, options, metrics, figures, tmp_path, monkeypatch):
    monkeypatch.setattr(points, "_GRID", 20)
    task = quick(name, **options)
    result = task.run(progress=False)
    assert metrics | ALWAYS <= set(result.metrics)
    for key, value in result.metrics.items():
        assert np.isfinite(value) and value >= 0, key
        assert not key.startswith("test_accuracy") or value <= 1, key
    assert len(losses(result)) == task.steps
    assert result.metrics["final_loss"] == losses(result)[-1]
    assert losses(result)[-2:].mean() < 0.97 * losses(result)[0]
    check_predictions(task, result)
    assert set(result.figures) == figures
    check_saved(task, result, tmp_path)
    assert {f"{figure}.png" for figure in figures} <= set(TASKS[name].pictures)
    if name in DIGITS:
        assert result.metrics["gradient_steps"] == task.steps
        assert result.metrics["steps_per_epoch"] == 1442 // task.batch_size
    assert set(result.animations) == ({"sample"} if name == "moving-mnist" else set())
    assert {f"{animation}.gif" for animation in result.animations} <= set(TASKS[name].pictures)
    for animation in result.animations.values():
        plots.save_gif(animation, tmp_path / "sample.gif")


def check_predictions(task, result):
    """Compute a metric of the run from the predictions of its network."""
    if task.name in DIGITS:
        data = task.load()
        found = task.predict(result.model, data.test_images) == data.test_labels
        assert np.mean(found) == result.metrics["test_accuracy"]
    elif isinstance(task, CurveTask):
        inputs, target = task.sample()
        error = np.abs(task.predict(result.model, inputs) - target).mean()
        np.testing.assert_allclose(error, result.metrics["l1"], rtol=1e-5)
    elif task.name == "spiking-lstm":
        x = spike_time_regression.grid(task.n_test)
        found = np.asarray(task.predict(result.model, x))
        assert found.shape == (task.n_test, 1)
        assert np.isinf(found).mean(dtype=np.float32) == np.float32(result.metrics["silent"])
        found = np.where(np.isinf(found), task.num_steps - 1, found)[:, 0]
        error = np.abs(found - np.asarray(spike_time_regression.target(x))).mean()
        np.testing.assert_allclose(error, result.metrics["test_mae"], rtol=1e-5)
    else:
        data = task.load()
        found = task.predict(result.model, data.test.xy) == data.test.labels
        assert np.mean(found) == result.metrics["test_accuracy"]


@pytest.mark.parametrize("name", TASKS)
def test_inputs_of_predictions_have_one_row_per_sample(name):
    for value in (1.0, np.zeros(0), np.zeros((0, 2)), np.zeros((3, 3, 0)), np.zeros((1,) * 4), "a"):
        with pytest.raises(ValueError, match=r"^(x|xy|inputs|images|in_times) must .*, got"):
            TASKS[name]().predict(None, value)


def losses(result):
    """Training losses, as plotted in the picture."""
    return result.figures["loss"].axes[0].lines[0].get_ydata()


def test_equal_seeds_give_equal_runs():
    """Equal seeds give equal numbers, different seeds different ones."""
    runs = [quick("membrane-regression", seed=seed).train(progress=False) for seed in (3, 3, 4)]
    found = [(sample, fitted.losses, fitted.model.layers[1].beta) for _, sample, fitted in runs]
    for first, second, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(first, second)
        assert np.any(first != other)


@pytest.mark.parametrize("name", DIGITS)
def test_the_seed_determines_the_network_and_its_batches(name):
    @jax.jit
    def loss(arrays, batch):
        return task.loss(eqx.combine(arrays, rest), batch)

    found, first = [], []
    for seed in (3, 3, 4):
        task = quick(name, seed=seed, batch_size=64)
        data = task.load()
        arrays, rest = eqx.partition(task.build(jax.random.key(seed), (8, 8)), eqx.is_array)
        batch = images.Batch(*next(task.batches(data, "train")))
        first.append((arrays, batch))
        found.append(loss(arrays, batch))
    assert found[0] == found[1] != found[2]
    for a, b, c in zip(*map(jax.tree.leaves, first), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.size(a) == 1 or np.any(a != c)
    # The keys of a batch are for dropout and motion, which the other tasks do not use.
    (arrays, batch), expected = first[0], found[0]
    other = batch._replace(key_data=batch.key_data[::-1])
    assert (loss(arrays, other) == expected) == (name != "moving-mnist")


def test_digits_are_learnt():
    settings = {"steps": 60, "n_hidden": 64, "num_steps": 10, "learning_rate": 5e-3}
    task = TASKS["leaky-classification"](**settings)
    data = task.load()
    result = task.train(data, progress=False)
    before = next(snapshot_models(result))
    untrained, trained = (task.test(model, data) for model in (before, result.model))
    assert result.losses[-5:].mean() < 0.25 * result.losses[0]
    assert result.monitored[-5:].mean() < 0.4 * result.monitored[0]  # batches of the test set
    assert untrained.accuracies()[""] < 0.3 and trained.accuracies()[""] > 0.8
    matrix = trained.confusion(10)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(data.test_labels))
    assert np.trace(matrix) / 355 == trained.accuracies()[""]


def test_confusion_matrix_and_accuracies():
    labels, predicted = np.array([0, 0, 2, 1, 2]), np.array([0, 2, 2, 1, 1])
    test = images.TestResult(labels, predicted, {"membrane": labels})
    np.testing.assert_array_equal(test.confusion(3), [[1, 0, 1], [0, 1, 0], [0, 1, 1]])
    assert test.accuracies() == {"": 0.6, "_membrane": 1.0}


def test_epochs_and_steps():
    task = TASKS["leaky-classification"]
    for settings, steps in (
        ({}, task.default_epochs["digits"] * 11),
        ({"epochs": 2}, 22),
        ({"epochs": 2, "steps": 5}, 5),
        ({"epochs": 1, "batch_size": 1000}, 1),
    ):
        assert task(**settings).n_steps(1442)[0] == steps
    for settings, expected in (
        ({"batch_size": 1443}, "batch_size must be at most 1442, the .*, got 1443"),
        ({"epochs": 10**6, "batch_size": 1}, "epochs must be at most .* 100000000 steps .*, got"),
    ):
        with pytest.raises(ValueError, match=expected):
            task(**settings).n_steps(1442 if settings["batch_size"] > 1 else 10**8)


def test_a_dispatch_ends_with_each_epoch():
    for epoch, expected in ((1, 1), (11, 11), (41, 1), (156, 39), (468, 39), (80, 40)):
        assert steps_per_dispatch(epoch) == expected


def test_the_images_must_suffice_for_a_batch_of_each_split():
    with pytest.raises(ValueError, match=r"batch_size must be at most 355, .*, got 356\."):
        TASKS["leaky-classification"](batch_size=356).load()
    with pytest.raises(ValueError, match="data_dir must be None with dataset='digits', got 'here'"):
        TASKS["leaky-classification"](data_dir="here").load()


def test_defaults_depend_on_other_settings():
    yin_yang, latency, delays = (TASKS[name] for name in ("yin-yang", "mnist-latency", "delays"))
    assert (yin_yang().n_hidden, yin_yang(neuron="qif").n_hidden) == (200, 20)
    assert yin_yang(neuron="qif", n_hidden=7, drive=0.5).drive == 0.5
    assert latency(dataset="mnist").dropout == 0.1
    assert latency(dataset="mnist", readout="ttfs", dropout=0.1).dropout == 0.1
    assert delays(delays="none").alpha == 3 * delays().alpha
    for task in TASKS.values():
        unset = {name for name, value in dataclasses.asdict(task()).items() if value is None}
        described = {name for name, of in task.options().items() if of.metadata["unset"]}
        assert unset <= described <= {"steps", "average", "data_dir", "fold"}


def test_the_whole_test_set_is_used_for_any_batch_size():
    task = quick("leaky-classification")
    data, model = task.load(), task.build(jax.random.key(0), (8, 8))
    predictions = [
        dataclasses.replace(task, test_batch_size=size).test(model, data).predicted
        for size in (355, 100)
    ]
    np.testing.assert_array_equal(*predictions)
    assert predictions[0].shape == (355,)


def test_each_kind_of_feedback():
    for kind, hidden in (("linear", (128, 128)), ("conv", (8, 8, 3, 3))):
        model = quick("rleaky-classification", feedback=kind).build(jax.random.key(0), (8, 8))
        cells = [layer for layer in model.layers if hasattr(layer, "feedback")]
        assert [cell.feedback.weight.shape for cell in cells] == [hidden, (10, 10)]
    model = quick("rleaky-classification", feedback="one-to-one").build(jax.random.key(0), (8, 8))
    cells = [layer for layer in model.layers if hasattr(layer, "feedback")]
    assert all(isinstance(cell.feedback, OneToOne) for cell in cells)
    assert [cell.feedback.v.shape for cell in cells] == [(128,), (10,)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("leaky-classification", {"dataset": "nothing"}),
        ("rleaky-classification", {"objective": "counts"}),
        ("rleaky-classification", {"feedback": "all"}),
        ("membrane-regression", {"mode": "cubic"}),
        ("ttfs-regression", {"solver": "magic"}),
        ("spiking-lstm", {"objective": "rate"}),
        ("yin-yang", {"neuron": "eif"}),
        ("yin-yang", {"points": "mine"}),
        ("delays", {"delays": "long"}),
        ("delays", {"delay_kind": "dendritic"}),
    ],
)
def test_invalid_choices_are_refused(name, options):
    ((argument, value),) = options.items()
    with pytest.raises(ValueError, match=rf"^{argument} must be one of .*, got '{value}'\.$"):
        TASKS[name](**options)


@pytest.mark.parametrize("name", DIGITS)
def test_missing_data_is_an_error_that_names_it(name, tmp_path):
    task = TASKS[name](dataset="mnist", data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        task.load()
