"""The command line, run as a user runs it."""

import json
import os
import subprocess
import sys

import pytest

from eventsnn.cli import main

PICTURES = {"prediction", "loss", "parameters", "raster", "membranes"}


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
    assert capsys.readouterr().out.startswith("ttfs-regression  ")


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
