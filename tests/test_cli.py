"""The command line, run as a user runs it."""

import gzip
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from eventsnn import plots
from eventsnn.cli import main
from eventsnn.tasks import TASKS, Outcome

PICTURES = {"prediction", "loss", "parameters", "raster", "membranes"}
OPTIONS = {  # of each task, none of them the default
    "ttfs-regression": {"steps": 7, "seed": 5, "solver": "tsit5"},
    "yin-yang": {"steps": 7, "seed": 5, "epochs": 2, "neuron": "qif", "points": "fresh"},
    "delays": {
        "steps": 7,
        "seed": 5,
        "epochs": 2,
        "points": "fresh",
        "delays": "fixed",
        "kind": "axonal",
    },
    "membrane-regression": {"steps": 7, "seed": 5, "mode": "linear"},
    "membrane-event": {"steps": 7, "seed": 5, "mode": "linear", "constants": "fixed"},
    "leaky-classification": {"steps": 7, "seed": 5, "epochs": 2},
    "rleaky-classification": {
        "steps": 7,
        "seed": 5,
        "epochs": 2,
        "objective": "membrane",
        "feedback": "conv",
    },
    "moving-mnist": {"steps": 7, "seed": 5, "epochs": 2},
    "mnist-latency": {"steps": 7, "seed": 5, "epochs": 2, "readout": "ttfs"},
}
OF_DIGITS = ("leaky-classification", "rleaky-classification", "moving-mnist", "mnist-latency")
for _name in OF_DIGITS:
    OPTIONS[_name] |= {"dataset": "mnist", "data_dir": "somewhere"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory, pytestconfig):
    """One short run in a process of its own, looked at by several tests."""
    out = tmp_path_factory.mktemp("run") / "new" / "folder"
    command = "import sys; from eventsnn.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["run", "ttfs-regression", "--quick", "--steps", "12", "--seed", "3"]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", command, *arguments, "--out", str(out)],
        cwd=pytestconfig.rootpath,
        env={k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run, out


def test_a_run_ends_with_its_metrics_as_one_json_line(quick):
    run, out = quick
    metrics = json.loads(run.stdout.splitlines()[-1])
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert metrics["seed"] == 3
    assert metrics["steps"] == 12
    assert metrics["solver"] == "exact"
    assert 0 < metrics["test_mae"] < 80
    assert 0 < metrics["final_loss"] < 1
    assert metrics["steps_per_second"] > 0
    assert metrics["compile_seconds"] > 0
    assert metrics["device_count"] >= 1
    assert metrics["dtype"] == "float32"
    assert {"python", "jax", "jaxlib", "equinox", "optax", "diffrax", "eventsnn"} == set(
        metrics["versions"]
    )


def test_a_run_draws_its_pictures(quick):
    _, out = quick
    assert {path.name for path in out.iterdir()} == {"metrics.json"} | {
        f"{n}.png" for n in PICTURES
    }
    for name in PICTURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_shows_its_progress_on_stderr(quick):
    run, _ = quick
    assert "12/12" in run.stderr
    assert "loss" in run.stderr
    assert "step/s" in run.stderr


def test_tasks_are_listed(capsys):
    assert main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)
    for line, task in zip(lines, TASKS.values(), strict=True):
        assert line.endswith(f"  {task.summary}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["walk"], "'walk'"),
        (["run"], "TASK"),
        (["run", "nothing"], "'nothing' (choose from"),
        (["run", "ttfs-regression", "--colour", "red"], "--colour"),
        (["run", "ttfs-regression", "--step", "3"], "--step"),
        (["run", "ttfs-regression", "--steps"], "--steps"),
        (["run", "ttfs-regression", "--steps", "0"], "at least 1, got '0'"),
        (["run", "ttfs-regression", "--steps", "1.5"], "at least 1, got '1.5'"),
        (["run", "ttfs-regression", "--seed", "-1"], "0 to 2**32 - 1, got '-1'"),
        (["run", "ttfs-regression", "--seed", str(2**32)], "0 to 2**32 - 1"),
        (["run", "ttfs-regression", "--solver", "magic"], "'magic' (choose from"),
        (["run", "ttfs-regression", "--mode", "sqrt"], "--mode"),
        (["run", "yin-yang", "--neuron", "eif"], "'eif' (choose from"),
        (["run", "yin-yang", "--points", "mine"], "'mine' (choose from"),
        (["run", "membrane-regression", "--mode", "cubic"], "'cubic' (choose from"),
        (["run", "membrane-regression", "--data-dir", "here"], "--data-dir"),
        (["run", "leaky-classification", "--dataset", "nothing"], "'nothing' (choose from"),
        (["run", "leaky-classification", "--epochs", "0"], "at least 1, got '0'"),
        (["run", "leaky-classification", "--solver", "exact"], "--solver"),
        (["run", "rleaky-classification", "--objective", "x"], "'x' (choose from"),
        (["run", "rleaky-classification", "--feedback", "x"], "'x' (choose from"),
        (["run", "moving-mnist", "--feedback", "linear"], "--feedback"),
        (["run", "mnist-latency", "--readout", "sum"], "'sum' (choose from"),
        (["run", "membrane-event", "--constants", "free"], "'free' (choose from"),
    ],
)
def test_a_wrong_option_or_value_is_one_line_and_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_a_folder_that_cannot_be_written_is_one_line_and_code_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["run", "ttfs-regression", "--out", str(tmp_path / "file" / "run")])
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.count("\n") == 1
    assert "argument --out: cannot write" in shown


# ------------------------------------------------------------------ in this process


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """The command line on the devices that the tests have; pictures go to a folder of the test."""
    monkeypatch.setattr("eventsnn.cpu.prepare_cpu", lambda: None)
    monkeypatch.delenv("EVENTSNN_DATA", raising=False)

    def run(*arguments):
        with jax.enable_x64("--x64" in arguments), jax.numpy_dtype_promotion("standard"):
            return main(["run", *arguments, "--out", str(tmp_path / "out")])

    return run


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_its_options_are(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", name, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    for option in (*OPTIONS[name], "out", "quick", "x64"):
        assert f"--{option.replace('_', '-')} " in shown.replace("\n", " ")
    assert set(OPTIONS[name]) == set(TASKS[name].options())
    others = {option for options in OPTIONS.values() for option in options} - set(OPTIONS[name])
    assert not any(f"--{option.replace('_', '-')}" in shown for option in others)


@pytest.mark.parametrize("name", TASKS)
def test_options_reach_the_task_and_the_metrics(name, in_process, monkeypatch, tmp_path, capsys):
    seen = []

    def run(self, *, progress):
        seen.append(self)
        return Outcome({"test_accuracy": 0.5}, {})

    monkeypatch.setattr(TASKS[name], "run", run)
    given = OPTIONS[name]
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    assert in_process(name, *flags) == 0
    assert seen == [TASKS[name](**given)]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["task"] == name and metrics["test_accuracy"] == 0.5
    assert {key: metrics[key] for key in given} == given
    # Unless they are given, a quick run has settings of its own.
    assert in_process(name, "--quick") == 0 and in_process(name, "--quick", "--steps=9") == 0
    assert [task.steps for task in seen[1:]] == [TASKS[name]().quick().steps, 9]


def test_pictures_and_films_are_written(in_process, monkeypatch, tmp_path, capsys):
    frames = np.random.default_rng(0).random((3, 4, 4))
    outcome = Outcome(
        {"test_accuracy": 0.5},
        {"counts": plots.spike_counts(np.arange(3))},
        {"sample": plots.animation(frames)},
    )
    monkeypatch.setattr(TASKS["moving-mnist"], "run", lambda self, progress: outcome)
    assert in_process("moving-mnist") == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"metrics.json", "counts.png", "sample.gif"}
    assert (out / "counts.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "sample.gif").read_bytes().startswith(b"GIF")
    assert "Wrote metrics.json, counts.png, sample.gif to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (FloatingPointError("the loss became nan at step 3"), 1, "error: the loss became nan"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_run_that_fails_is_one_line(error, code, shown, in_process, monkeypatch, capsys):
    def run(self, *, progress):
        raise error

    monkeypatch.setattr(TASKS["leaky-classification"], "run", run)
    assert in_process("leaky-classification") == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert shown in captured.err


# ------------------------------------------------------------------ data of one's own


def as_idx(array):
    """The bytes of an IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """The four files, tiny; one of them gzipped."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 36)):
        images, labels = rng.integers(0, 256, (n, 6, 7)), rng.integers(0, 10, n)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(as_idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(as_idx(labels))
    zipped = folder / "t10k-images-idx3-ubyte"
    zipped.with_name(f"{zipped.name}.gz").write_bytes(gzip.compress(zipped.read_bytes()))
    zipped.unlink()
    return folder


def test_a_run_on_files_of_ones_own(mnist, in_process, monkeypatch, tmp_path, capsys):
    arguments = ("leaky-classification", "--dataset=mnist", "--quick", "--steps=2", "--x64")
    monkeypatch.setenv("EVENTSNN_DATA", str(tmp_path / "nowhere"))  # the option comes first
    monkeypatch.setattr("eventsnn.tasks.images.draw", lambda *_: ({}, {}))  # which takes long
    assert in_process(*arguments, f"--data-dir={mnist}") == 0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["dataset"] == "mnist" and metrics["data_dir"] == str(mnist)
    assert metrics["dtype"] == "float64"
    assert metrics["steps_per_epoch"] == 1 and metrics["gradient_steps"] == 2
    assert metrics["test_accuracy"] * 36 == pytest.approx(round(metrics["test_accuracy"] * 36))


def cut_off(folder):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    return path.name


def swapped(folder):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes((folder / "train-labels-idx1-ubyte").read_bytes())
    return path.name


def missing(folder):
    path = folder / "t10k-labels-idx1-ubyte"
    path.unlink()
    return path.name


def broken(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    return path.name


def text(folder):
    path = folder / "train-labels-idx1-ubyte"
    path.write_text("0 1 2 3")
    return path.name


def gone(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return str(folder)


@pytest.mark.parametrize("spoil", [cut_off, swapped, missing, broken, text, gone])
@pytest.mark.parametrize("name", OF_DIGITS)
def test_data_that_cannot_be_read_is_one_line_and_code_2(name, spoil, mnist, in_process, capsys):
    file = spoil(mnist)
    assert in_process(name, "--dataset=mnist", f"--data-dir={mnist}") == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("eventsnn: error: ") and file in shown.err


def test_the_folder_may_be_named_by_the_environment(mnist, in_process, monkeypatch, capsys):
    monkeypatch.setenv("EVENTSNN_DATA", str(mnist))
    file = swapped(mnist)
    assert in_process("leaky-classification", "--dataset=mnist") == 2
    assert file in capsys.readouterr().err
