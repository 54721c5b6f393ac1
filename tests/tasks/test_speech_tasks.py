"""Tasks on speech: their parts of the data, the initial network, runs and training."""

import importlib.util
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn.data import folders
from eventsnn.event import EventLinear, LeakyIntegrator
from eventsnn.tasks import SHD, DataError, JapaneseVowels
from eventsnn.tasks.speech import DelayLines, SpeechData, Trains
from helpers.saved_models import check_saved
from helpers.speech_files import spikes, utterances, write_h5, write_ts

FIGURES = {"loss", "accuracy", "confusion", "raster", "membranes"}


@pytest.fixture(autouse=True)
def as_users_do(monkeypatch):
    """Default settings of a user without data: float32, with JAX's own promotion (needed by Adam's
    bias correction)."""
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "aeon" else find_spec(name)
    )
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


# ------------------------------------------------------------------ network


def test_delay_lines_are_delayed_copies():
    in_times = jnp.array([[1.0, 2.0], [3.0, jnp.inf]])
    expected = [[1, 2], [3, np.inf], [6, 7], [8, np.inf], [11, 12], [13, np.inf]]
    np.testing.assert_array_equal(DelayLines(3, 5.0)(in_times), expected)
    np.testing.assert_array_equal(DelayLines(1, 5.0)(in_times), in_times)


@pytest.mark.parametrize("taus", [(20.0, 5.0), (10.0, 10.0)])
def test_initial_potentials_have_the_chosen_fluctuation(taus):
    """Fluctuations over time and samples, without a threshold, for Poisson spikes."""
    rng, shape, t_max = np.random.default_rng(0), (20, 40, 90), 600.0
    in_times = rng.uniform(0, t_max, shape).astype("f4")
    in_times[np.arange(shape[2]) >= rng.poisson(60, shape[:2])[..., None]] = np.inf
    data = SpeechData(Trains(in_times, np.zeros(20, int)), None, None, "abc")
    options = {"t_max": t_max, "tau_mem": taus[0], "tau_syn": taus[1], "delay_lines": 1}
    task = SHD(fluctuation=0.7, n_hidden=50, delay_spacing=0.0, **options)
    hidden = task.build(jax.random.key(0), data)[1]
    free = EventLinear(LeakyIntegrator(*taus), hidden.weights, t_max=t_max)
    times = jnp.linspace(150.0, t_max, 8)  # after the initial transient
    potentials = eqx.filter_jit(free.potentials_at)(in_times, times)
    np.testing.assert_allclose(np.sqrt(np.mean(np.var(potentials, (0, 2)))), 0.7, rtol=0.06)


def test_the_rate_of_the_weights_counts_delayed_copies_and_spikes_until_t_max():
    late = np.array([[[1.0, 2.0, 900.0, np.inf]] * 3] * 2, "f4")
    data = SpeechData(Trains(late, np.zeros(2, int)), None, None, "ab")
    task = SHD(t_max=50.0, delay_lines=4, delay_spacing=1.0, n_hidden=4000, tau_mem=10.0)
    weights = task.build(jax.random.key(0), data)[1].weights
    assert weights.shape == (12, 4000)
    np.testing.assert_allclose(np.std(weights), math.sqrt(40 / (12 * 2 / 50)) / 10, rtol=0.02)


# ------------------------------------------------------------------ SHD


def test_a_run_on_synthetic_words(tmp_path):
    task = SHD(**SHD.quick_settings | {"steps": 60, "learning_rate": 0.02, "n_hidden": 30})
    data = task.load()
    sizes = [len(part.labels) for part in (data.train, *data.evaluated.values())]
    assert sizes == [320, 160, 160]  # four, two and two of eight speakers
    result = task.run(progress=False)
    metrics = result.metrics
    assert metrics["validation_accuracy"] > 0.5 and metrics["test_accuracy"] > 0.5
    assert metrics["selected_step"] in (32, 60) and metrics["gradient_steps"] == 60
    assert metrics["dropped_input_spikes"] == 0 and metrics["input_spikes"] == 640 * 80
    assert set(result.figures) == FIGURES
    check_saved(task, result, tmp_path)
    assert {f"{name}.png" for name in FIGURES} == set(SHD.pictures)


def test_the_network_of_the_best_epoch_is_selected():
    task = SHD(**SHD.quick_settings | {"steps": 4})
    shown = Trains(np.zeros((2, 3, 1), "f4"), np.zeros(2, int))
    data = SpeechData(shown, None, None, "ab")
    model = task.build(jax.random.key(0), data)
    trained = eqx.filter(model, task.trainable(model))

    class Result:
        snapshots = jax.tree.map(lambda x: jnp.stack([x, x + 1, x + 2, x + 3]), trained)
        snapshot_steps = np.array([0, 10, 20, 25])

    Result.model = model
    selected, metrics = task.select(Result(), lambda: [0.1, 0.6, 0.6, 0.5])
    assert metrics == {"selected_step": 20}
    np.testing.assert_allclose(selected[1].weights, model[1].weights + 2, rtol=1e-6)


def files(folder, rng, n_test=5):
    """SHD and SSC. The test set has other numbers of samples than the other sets."""
    for dataset in ("shd", "ssc"):
        times, units, labels, _ = spikes(rng, 24)
        write_h5(folder / f"{dataset}_train.h5", times, units, labels, np.arange(24) % 4 + 6)
        for split, n in (("valid", 7), ("test", n_test)):
            write_h5(folder / f"{dataset}_{split}.h5", *spikes(rng, n))
    return str(folder)


def test_the_validation_set_consists_of_held_out_speakers(tmp_path, rng):
    folder, drawn = files(tmp_path, rng), set()
    options = {"data_dir": folder, "merge": 100, "thin": 2, "max_input_spikes": 2}
    options |= {"batch_size": 6, "validation_speakers": 1}
    whole = SHD(**options).split("train")
    assert whole.in_times.shape == (24, 7, 2)
    for seed in range(6):
        data = SHD(seed=seed, **options).load()
        assert len(data.train.labels) == 18
        held = [
            i
            for i in range(24)
            if (whole.in_times[i] == data.validation.in_times).all((1, 2)).any()
        ]
        speakers = set(whole.speakers[held].tolist())
        assert len(held) == 6 and len(speakers) == 1
        np.testing.assert_array_equal(data.validation.labels, whole.labels[held])
        np.testing.assert_array_equal(data.train.in_times, np.delete(whole.in_times, held, axis=0))
        assert len(data.test.labels) == 5 and list(data.evaluated) == ["validation", "test"]
        assert data.metrics["dropped_input_spikes"] > 0
        drawn |= speakers
    assert len(drawn) > 1


def test_ssc_has_its_own_validation_set(tmp_path, rng):
    task = SHD(dataset="ssc", data_dir=files(tmp_path, rng), merge=700, batch_size=24)
    data = task.load()
    assert [len(part.labels) for part in (data.train, data.validation, data.test)] == [24, 7, 5]


def test_data_that_cannot_be_read_are_one_line(tmp_path, rng):
    for options, message in (
        ({}, "shd_train.h5 from https://zenkelab.org/datasets/ is missing; .*--data-dir"),
        ({"dataset": "ssc", "data_dir": str(tmp_path.parent)}, "a folder with ssc_train.h5"),
        ({"data_dir": files(tmp_path, rng), "merge": 3}, "merge must be a divisor of 700, got 3"),
        (
            {"data_dir": str(tmp_path), "validation_speakers": 4},
            "n must be an integer from 1 to 3, less than the number of speakers, got 4",
        ),
        (
            {"dataset": "synthetic", "data_dir": "here"},
            "data_dir must be None with dataset='synthetic', got 'here'",
        ),
    ):
        with pytest.raises(DataError, match=message) as error:
            SHD(**options).load()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"batch_size must be at most 12, .*, got 64\."):
        SHD(data_dir=str(tmp_path)).load()


# ------------------------------------------------------------------ Japanese Vowels


@pytest.fixture(scope="module")
def vowels(tmp_path_factory):
    """Folder with 10 training and 2 test utterances of each of two speakers."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("vowels")
    for part, n in (("TRAIN", 20), ("TEST", 4)):
        labels = np.arange(n) // (n // 2) + 1
        series = [x + 2 * label for x, label in zip(utterances(rng, n), labels, strict=True)]
        write_ts(folder, f"JapaneseVowels_{part}.ts", series, labels)
    return str(folder)


def test_a_run_on_japanese_vowels(vowels, tmp_path):
    task = JapaneseVowels(**JapaneseVowels.quick_settings | {"data_dir": vowels, "steps": 4})
    result = task.run(progress=False)
    assert 0 <= result.metrics["test_accuracy"] <= 1
    assert "validation_accuracy" not in result.metrics
    assert result.metrics["steps_per_epoch"] == 2 and np.isfinite(result.metrics["final_loss"])
    assert {f"{name}.png" for name in FIGURES} == set(JapaneseVowels.pictures)
    check_saved(task, result, tmp_path)


def test_folds_are_parts_of_the_training_set_of_every_speaker(vowels):
    whole = JapaneseVowels(data_dir=vowels, batch_size=5).load()
    assert list(whole.evaluated) == ["test"] and len(whole.test.labels) == 4
    counts = np.zeros(2, int)
    for fold in range(5):
        data = JapaneseVowels(data_dir=vowels, batch_size=5, fold=fold).load()
        assert list(data.evaluated) == ["validation"]
        assert np.bincount(data.train.labels).tolist() == [8, 8]
        assert np.bincount(data.validation.labels).tolist() == [2, 2]
        counts += np.bincount(data.validation.labels)
        # Means and deviations are those of the training part.
        assert not np.isin(data.train.in_times[:1, :, 0], whole.train.in_times[..., 0]).all()
    assert counts.tolist() == [10, 10]


def test_the_trained_network_is_the_average(vowels):
    task = JapaneseVowels(data_dir=vowels, **JapaneseVowels.quick_settings)

    class Result:
        average = object()

    assert task.select(Result(), lambda: pytest.fail("the test set was used")) == (
        Result.average,
        {},
    )


def test_missing_vowels_are_one_line():
    with pytest.raises(DataError, match=r"are missing; .*pip install 'eventsnn\[data\]'") as error:
        JapaneseVowels().load()
    assert "\n" not in str(error.value)


def test_both_readouts_are_functions_of_the_potentials():
    mean, maximum = (SHD(readout=name, t_max=50.0, n_hidden=4) for name in ("mean", "maximum"))
    in_times = jnp.array([[[1.0, 30.0], [4.0, 5.0], [9.0, jnp.inf], [40.0, jnp.inf]]])
    data = SpeechData(Trains(in_times, np.zeros(1, int)), None, None, "abc")
    outputs = mean.build(jax.random.key(0), data)[2:]
    times = jnp.linspace(0.0, mean.t_max, 4001)
    potentials = np.asarray(eqx.filter_jit(outputs.potentials_at)(in_times, times))
    found = [eqx.filter_jit(task.scores)(outputs, in_times) for task in (mean, maximum)]
    np.testing.assert_allclose(found[0], potentials.mean(axis=-1), atol=1e-3)
    np.testing.assert_allclose(found[1], potentials.max(axis=-1), atol=1e-3)
    assert np.all(np.ptp(found, axis=(0, 1)) > 0.01)
