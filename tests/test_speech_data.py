"""Readers of spoken words: SHD and SSC from HDF5 files, Japanese Vowels from text files."""

import gzip
import importlib.util
import sys
import types

import h5py
import jax
import numpy as np
import pytest

from eventsnn.data import folders, heidelberg, japanese_vowels
from helpers.speech_files import KEYS, spikes, utterances, write_h5, write_ts, write_uci


@pytest.fixture(autouse=True)
def no_files_of_this_machine(monkeypatch):
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "aeon" else find_spec(name)
    )


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------ SHD and SSC


def by_hand(times, units, channel, width):
    """Spike times (ms) of a group of `width` units in one sample, in ascending order."""
    return np.sort(np.asarray(times, "f4")[np.asarray(units) // width == channel] * 1e3)


@pytest.mark.parametrize("name", ["shd_train.h5", "shd_train.h5.gz", "SHD/shd_train.h5"])
def test_times_in_ms_of_every_unit(tmp_path, rng, name, monkeypatch):
    times, units, labels, speakers = spikes(rng)
    path = write_h5(tmp_path / name, times, units, labels, speakers)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(heidelberg, "_BLOCK", 3)
    data = heidelberg.read("shd", "train", data_dir=tmp_path, max_spikes=5)
    assert data.in_times.shape == (7, 700, 5) and data.in_times.dtype == np.float32
    for i in range(7):
        for channel in range(700):
            found = data.in_times[i, channel]
            expected = by_hand(times[i], units[i], channel, 1)
            np.testing.assert_array_equal(found[np.isfinite(found)], expected)
            assert np.all(np.isinf(found[len(expected) :]))
    np.testing.assert_array_equal(data.labels, labels)
    np.testing.assert_array_equal(data.speakers, speakers)
    assert data.labels.dtype == np.int32 and not data.dropped.any()
    assert data.classes == KEYS


@pytest.mark.parametrize(("merge", "thin", "k"), [(70, 1, 3), (350, 4, 5), (100, 2, 1)])
def test_channels_are_merged_and_spikes_thinned(tmp_path, rng, merge, thin, k):
    drawn = spikes(rng, most=120)
    write_h5(tmp_path / "shd_test.h5", *drawn)
    options = {"merge": merge, "thin": thin, "max_spikes": k}
    data = heidelberg.read("shd", "test", data_dir=str(tmp_path), **options)
    dropped = np.zeros(7, int)
    for i, channel in np.ndindex(7, 700 // merge):
        expected = by_hand(drawn[0][i], drawn[1][i], channel, merge)[::thin]
        if len(expected) > k:
            dropped[i] += len(expected) - k
            expected = expected[np.arange(k) * len(expected) // k]
        found = data.in_times[i, channel]
        np.testing.assert_array_equal(found[: len(expected)], expected)
        assert np.all(np.isinf(found[len(expected) :]))
    np.testing.assert_array_equal(data.dropped, dropped)
    assert dropped.any()


def test_the_three_splits_of_ssc_and_the_environment(tmp_path, rng, monkeypatch):
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    for split, n in (("train", 4), ("valid", 3), ("test", 2)):
        times, units, labels, _ = spikes(rng, n)
        names = np.array([f"{i:08x}_nohash" for i in range(n)])
        write_h5(tmp_path / "ssc" / f"ssc_{split}.h5", times, units, labels, names)
        data = heidelberg.read("ssc", split, merge=700, max_spikes=2)
        assert data.in_times.shape == (n, 1, 2)
        assert data.speakers.tolist() == names.tolist()


def some(n=6):
    index = np.arange(n, dtype=np.int32)
    times = index[:, None, None].astype("f4")
    return heidelberg.SpikeTrains(times, index % 2, np.array([3, 5, 3, 8, 5, 9]), index, ("a", "b"))


def test_a_split_by_speaker_keeps_every_sample_once():
    rest, held = heidelberg.split_by_speaker(some(), [5, 9])
    assert rest.labels.tolist() == [0, 0, 1] and held.labels.tolist() == [1, 0, 1]
    for part, rows in ((rest, [0, 2, 3]), (held, [1, 4, 5])):
        for name in ("in_times", "labels", "speakers", "dropped"):
            np.testing.assert_array_equal(getattr(part, name), getattr(some(), name)[rows])
        assert part.classes == ("a", "b")


def test_speakers_are_drawn_by_key():
    drawn = [heidelberg.draw_speakers(jax.random.key(i), some(), 2).tolist() for i in range(20)]
    assert drawn[0] == heidelberg.draw_speakers(jax.random.key(0), some(), 2).tolist()
    assert all(pair == sorted(set(pair)) and len(pair) == 2 for pair in drawn)
    assert {speaker for pair in drawn for speaker in pair} == {3, 5, 8, 9}


@pytest.mark.parametrize("speakers", [[4], [3, 5, 8, 9], [], 3, None, "3", np.array([3, 4])])
def test_speakers_that_are_not_some_of_all_are_refused(speakers):
    with pytest.raises(ValueError, match=r"speakers must be some of the 4 .*, got") as error:
        heidelberg.split_by_speaker(some(), speakers)
    one_line(error)


def test_missing_files_are_named_with_their_source(tmp_path, monkeypatch):
    expected = "shd_train.h5.* from https://zenkelab.org/datasets/"
    for data_dir, match in (
        (None, f"^{expected} is missing; give its folder as data_dir .*{folders.VARIABLE}"),
        (tmp_path / "no", "data_dir must be an existing folder, got '.*no'"),
        (tmp_path, rf"data_dir must be a folder with {expected}, got '{tmp_path}' without it"),
    ):
        with pytest.raises(FileNotFoundError, match=match) as error:
            heidelberg.read("shd", "train", data_dir=data_dir, max_spikes=1)
        one_line(error)
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"{folders.VARIABLE} must be a folder with"):
        heidelberg.read("shd", "train", max_spikes=1)


def test_without_h5py_the_error_names_the_extra(tmp_path, rng, monkeypatch):
    write_h5(tmp_path / "shd_train.h5", *spikes(rng))
    monkeypatch.setitem(sys.modules, "h5py", None)
    match = r"h5py must be installed.*pip install 'eventsnn\[data\]'"
    with pytest.raises(ModuleNotFoundError, match=match) as error:
        heidelberg.read("shd", "train", data_dir=tmp_path, max_spikes=1)
    one_line(error)


def damaged_files(rng):
    """Name of the damage, writer of a file, and the expected message."""
    times, units, labels, speakers = spikes(rng)
    good = times, units, labels, speakers

    def truncated(path):
        write_h5(path, *good)
        path.write_bytes(path.read_bytes()[:-300])

    def broken_gzip(path):
        write_h5(path, *good)
        path.write_bytes(gzip.compress(path.read_bytes())[:-20])

    def not_ragged(path):
        write_h5(path, *good, without=["spikes/times"])
        with h5py.File(path, "a") as file:
            file["spikes/times"] = np.zeros(7)

    def changed(**parts):
        named = dict(zip(("times", "units", "labels", "speakers"), good, strict=True)) | parts
        return lambda path: write_h5(path, **named)

    def with_first(trains, value):
        return [train if i != 3 else np.r_[value, train[1:]] for i, train in enumerate(trains)]

    must = "cannot be read.*expected a complete HDF5 file"
    range_ = "finite times >= 0 and units from 0 to 699, got the time"
    return {
        "no HDF5": (lambda path: path.write_bytes(b"spikes"), must),
        "empty": (lambda path: path.write_bytes(b""), must),
        "truncated": (truncated, must),
        "broken gzip": (broken_gzip, must),
        "no times": (
            lambda path: write_h5(path, *good, without=["spikes/times"]),
            "must have a list 'spikes/times', got none",
        ),
        "no extra": (lambda path: write_h5(path, *good, without=["extra"]), "'extra/speaker'"),
        "not ragged": (not_ragged, "must have arrays of numbers in 'spikes/times'"),
        "fewer labels": (changed(labels=labels[:-1]), "as many.*got 7, 7, 6 and 7"),
        "no samples": (changed(times=[], units=[], labels=[], speakers=np.zeros(0, int)), "one"),
        "label": (changed(labels=labels + 3), "labels from 0 to 2.*, got uint16 from 3 to"),
        "lengths": (changed(units=[*units[:-1], units[-1][:-1]]), "as many times.* in sample 6"),
        "unit": (changed(units=with_first(units, 700)), f"{range_}.* the unit 700 in sample 3"),
        "time": (changed(times=with_first(times, -1)), f"{range_} -1 s.* in sample 3"),
        "nan": (changed(times=with_first(times, np.nan)), f"{range_} nan s"),
    }


@pytest.mark.parametrize("damage", damaged_files(np.random.default_rng(0)))
def test_damaged_files_are_refused_by_their_name(tmp_path, damage):
    spoil, expected = damaged_files(np.random.default_rng(0))[damage]
    spoil(tmp_path / "shd_train.h5")
    with pytest.raises(ValueError, match=f"shd_train.h5' .*{expected}") as error:
        heidelberg.read("shd", "train", data_dir=tmp_path, max_spikes=3)
    one_line(error)


def test_an_array_larger_than_the_memory_is_one_line(tmp_path, rng, monkeypatch):
    write_h5(tmp_path / "shd_train.h5", *spikes(rng))

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(heidelberg.np, "full", full)
    match = r"shd_train.h5' needs 4\.9e\+05 bytes.*shape \(7, 700, 25\)"
    with pytest.raises(MemoryError, match=match) as error:
        heidelberg.read("shd", "train", data_dir=tmp_path, max_spikes=25)
    one_line(error)


def test_synthetic_words_have_classes_and_speakers():
    sizes = {"n_samples": 90, "n_classes": 3, "n_speakers": 5, "n_channels": 4, "max_spikes": 6}
    data = heidelberg.synthetic(jax.random.key(1), duration=50.0, **sizes)
    assert data.in_times.shape == (90, 4, 6) and np.all(np.diff(data.in_times) >= 0)
    assert data.in_times.min() >= 0 and 50 < data.in_times.max() < 65
    assert np.bincount(data.labels).tolist() == [30] * 3
    assert np.bincount(data.speakers).tolist() == [18] * 5
    flat = data.in_times.reshape(90, -1)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(data.labels[distance.argmin(axis=1)], data.labels)
    # The tempo of a speaker is the same in all classes.
    means = np.array(
        [
            [flat[(data.labels == c) & (data.speakers == s)].mean() for s in range(5)]
            for c in range(3)
        ]
    )
    tempi = means / means.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(tempi, np.broadcast_to(tempi[0], (3, 5)), rtol=0.02)
    assert np.ptp(tempi[0]) > 0.05


# ------------------------------------------------------------------ Japanese Vowels


def is_read(found, series, labels):
    assert len(found.series) == len(series) and found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, np.asarray(labels) - 1)
    for a, b in zip(found.series, series, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("source", ["data_dir", "environment", "aeon"])
def test_the_ts_files_are_read(tmp_path, rng, monkeypatch, source):
    parts = {"TRAIN": (utterances(rng, 4), [1, 9, 3, 1]), "TEST": (utterances(rng, 2), [2, 9])}
    folder = tmp_path / ("datasets/data/JapaneseVowels" if source == "aeon" else "")
    for part, (series, labels) in parts.items():
        write_ts(folder, f"JapaneseVowels_{part}.ts", series, labels)
    if source == "environment":
        monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    if source == "aeon":
        spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    found = japanese_vowels.read(tmp_path if source == "data_dir" else None)
    for split, part in zip(found, parts.values(), strict=True):
        is_read(split, *part)


def test_the_uci_files_are_read(tmp_path, rng):
    sizes = japanese_vowels.SIZES
    series = {split: utterances(rng, sum(sizes[split])) for split in sizes}
    for split in sizes:
        write_uci(tmp_path, f"ae.{split}", series[split])
    for split, found in zip(sizes, japanese_vowels.read(tmp_path), strict=True):
        is_read(found, series[split], np.repeat(range(1, 10), sizes[split]))
    write_uci(tmp_path, "ae.test", series["test"][:-1])
    with pytest.raises(ValueError, match=r"ae.test' must have 370 series, got 369\.") as error:
        japanese_vowels.read(tmp_path)
    one_line(error)


def test_missing_vowels_are_named_with_their_source(tmp_path, rng, monkeypatch):
    named = r"JapaneseVowels_TRAIN.ts and .*, or ae.train and ae.test"
    match = rf"^{named} are missing; .*pip install 'eventsnn\[data\]'"
    for value in ("", str(tmp_path)):  # a folder without such a file
        monkeypatch.setenv(folders.VARIABLE, value)
        with pytest.raises(FileNotFoundError, match=match) as error:
            japanese_vowels.read()
        one_line(error)
    with pytest.raises(FileNotFoundError, match=f"must be a folder with {named}, got '{tmp_path}'"):
        japanese_vowels.read(tmp_path)
    write_uci(tmp_path, "ae.train", utterances(rng, 1))
    match = f"{folders.VARIABLE} must be a folder with {named}"
    with pytest.raises(FileNotFoundError, match=match):
        japanese_vowels.read()


def line(n=12, value="1.5,2", label="1"):
    return ":".join([value] * n + [label])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("@data\n", "at least one series, got none"),
        (line(11), "12 finite coefficients per frame, got others in series 1"),
        (f"{line()}\n{line(value='1,x')}", "12 finite coefficients.* in series 2"),
        (line(value="1,nan"), "12 finite coefficients"),
        (line() + "\n1,2:" + line(11, value="1"), "12 finite coefficients.* in series 2"),
        (line(label="10"), "labels from 1 to 9, got '10' in series 1"),
        (line(label=""), "labels from 1 to 9, got '' in series 1"),
        ("\u00e9", "must be a text file, got bytes that are not ASCII"),
    ],
)
def test_damaged_vowels_are_refused_by_their_name(tmp_path, content, expected):
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"JapaneseVowels_{part}.ts").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"JapaneseVowels_TRAIN.ts' .*{expected}") as error:
        japanese_vowels.read(tmp_path)
    one_line(error)


def test_spikes_are_the_crossings_of_the_integral(rng):
    series = utterances(rng, 5)
    mean, deviation = rng.normal(size=12), rng.uniform(0.5, 2, 12)
    times = japanese_vowels.encode(
        series, mean=mean, deviation=deviation, duration=50.0, n_spikes=20
    )
    assert times.dtype == np.float32 and times.shape[:2] == (5, 24)
    assert np.all(np.any(np.isfinite(times), axis=(0, 1)))
    for x, trains in zip(series, times, strict=True):
        signed = (x - mean) / deviation
        edges = np.linspace(0, 50, len(x) + 1)
        for rates, train in zip(np.concatenate([signed, -signed], axis=1).T, trains, strict=True):
            integral = np.r_[0, np.cumsum(np.maximum(rates, 0))] * 20 / len(x)
            found = train[np.isfinite(train)]
            assert len(found) == np.floor(integral[-1] + 0.5)
            expected = np.arange(len(found)) + 0.5
            np.testing.assert_allclose(np.interp(found, edges, integral), expected, atol=1e-4)
            assert np.all(np.diff(found) > 0)


def test_a_constant_coefficient_fires_regularly():
    for n_frames in (7, 20):  # of the same duration
        series, scales = [np.full((n_frames, 12), 1.0)], {"duration": 8.0, "n_spikes": 4}
        times = japanese_vowels.encode(series, mean=np.zeros(12), deviation=np.ones(12), **scales)
        np.testing.assert_allclose(times[0, :12], [[1.0, 3.0, 5.0, 7.0]] * 12)
        assert np.all(np.isinf(times[0, 12:]))
    silent = japanese_vowels.encode(series, mean=np.ones(12), deviation=np.ones(12))
    assert silent.shape == (1, 24, 1) and np.all(np.isinf(silent))
