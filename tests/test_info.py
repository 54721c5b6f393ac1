"""`eventsnn info`: versions, devices and data sets, for readers and as JSON."""

import importlib.metadata
import json
import os
import platform

import jax
import numpy as np
import pytest

from eventsnn import cli, info
from eventsnn.data import folders, mnist
from helpers.speech_files import utterances, write_ts


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """Empty folder of data, no cache, no package with data, and the devices of the tests."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("eventsnn.info.prepare_cpu", lambda: None)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "aeon" else find_spec(name)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    return tmp_path


def test_the_report_as_json(capsys):
    assert cli.main(["info", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1 and not shown.err
    report = json.loads(shown.out)
    assert report["versions"]["python"] == platform.python_version()
    assert report["versions"]["jax"] == jax.__version__
    assert report["versions"]["diffrax"] == importlib.metadata.version("diffrax")
    assert report["extras"]["h5py"] == importlib.metadata.version("h5py")
    assert set(report["extras"]) == {"aeon", "h5py", "nir", "tensorboardX"}
    assert report["cpus"] == len(os.sched_getaffinity(0))
    assert len(report["devices"]) == jax.device_count() and report["error"] is None
    assert report["dtype"] == "float64"
    places = report["data"]
    assert {place["folder"] for place in places.values()} == {None}
    status = {name: place["status"] for name, place in places.items()}
    assert status.pop("digits") == status.pop("yin-yang") == "bundled"
    assert status == dict.fromkeys(["mnist", "shd", "ssc", "japanese-vowels"], "missing")
    for name, words in {
        "mnist": "the four MNIST files are not in '",
        "shd": "shd_train.h5 from https://zenkelab.org/datasets/ is missing; give its folder",
        "japanese-vowels": "JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts, or ae.train and",
    }.items():
        assert places[name]["reason"].startswith(words)
    assert "None" not in shown.out


def test_data_sets_are_found(places, monkeypatch, capsys, rng):
    monkeypatch.setenv(folders.VARIABLE, str(places))
    (places / "shd").mkdir()
    for name in ("shd_train.h5", "shd_test.h5.gz"):
        (places / "shd" / name).touch()
    for part in ("TRAIN", "TEST"):
        write_ts(places, f"JapaneseVowels_{part}.ts", utterances(rng, 1), np.ones(1, int))
    assert cli.main(["info"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["shd"] == str(places / "shd") and shown["japanese-vowels"] == str(places)
    assert shown[folders.VARIABLE] == str(places)
    assert shown["ssc"].startswith("not found: EVENTSNN_DATA must be a folder with ssc_train.h5")
    assert shown["digits"] == "bundled with scikit-learn"
    assert shown["yin-yang"] == "bundled with eventsnn"
    cache = places / "cache" / "eventsnn" / "mnist"
    cache.mkdir(parents=True)
    for name in mnist.SHA256:
        (cache / f"{name}.gz").touch()
    expected = {"status": "found", "folder": str(cache), "reason": None}
    assert info.facts()["data"]["mnist"] == expected


def test_a_wrong_folder_and_jax_without_devices_are_shown(places, monkeypatch, capsys):
    monkeypatch.setenv(folders.VARIABLE, str(places / "nowhere"))

    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert cli.main(["info"]) == 2
    shown = capsys.readouterr()
    message = "JAX cannot start with JAX_PLATFORMS=cuda: no such device"
    assert shown.out.count("not found: EVENTSNN_DATA must be an existing folder, got") == 4
    assert f"none: {message}" in shown.out
    assert shown.err == f"eventsnn: error: {message}\n"
    assert cli.main(["info", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == message
