"""The command line, run as a user runs it."""

import contextlib
import dataclasses
import errno
import gzip
import json
import os
import re
import resource
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, plots, tasks
from eventsnn.cli import main
from eventsnn.commands import default_text
from eventsnn.data import spike_time_regression
from eventsnn.results import SPACE, Folder
from eventsnn.tasks import TASKS, DataError, LazyFigures, TaskResult, settings

PICTURES = {"prediction", "loss", "parameters", "raster", "membranes"}
CHOSEN = {  # settings of each task with text or choices, none of them the default
    "ttfs-regression": {"steps": 7, "seed": 5, "solver": "tsit5", "schedule": "constant"},
    "yin-yang": {"steps": 7, "seed": 5, "epochs": 2, "neuron": "qif", "points": "fresh"},
    "delays": {
        "steps": 7,
        "seed": 5,
        "epochs": 2,
        "points": "fresh",
        "delays": "fixed",
        "delay_kind": "axonal",
    },
    "membrane-regression": {"steps": 7, "seed": 5, "mode": "linear"},
    "membrane-event": {"steps": 7, "seed": 5, "mode": "linear", "time_constants": "fixed"},
    "spiking-lstm": {"steps": 7, "seed": 5, "objective": "time"},
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
    "mnist-conv": {"steps": 7, "seed": 5, "epochs": 2},
    "japanese-vowels": {
        "steps": 7,
        "seed": 5,
        "epochs": 2,
        "readout": "maximum",
        "data_dir": "somewhere",
        "fold": 3,
    },
    "shd": {
        "steps": 7,
        "seed": 5,
        "epochs": 2,
        "readout": "maximum",
        "dataset": "ssc",
        "data_dir": "somewhere",
    },
    "balanced-network": {},
    "pattern": {},
}
UNTRAINED = {"balanced-network"}  # tasks that only simulate
OF_DIGITS = (
    "leaky-classification",
    "rleaky-classification",
    "moving-mnist",
    "mnist-latency",
    "mnist-conv",
)
for _name in OF_DIGITS:
    CHOSEN[_name] |= {"dataset": "mnist", "data_dir": "somewhere"}


def another(setting):
    """A number that is allowed and is no default."""
    return 17 if settings.kind(setting) is int else 0.875


OPTIONS = {
    name: {key: CHOSEN[name].get(key) or another(of) for key, of in task.options().items()}
    for name, task in TASKS.items()
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory, pytestconfig):
    """One short run in a separate process, used by several tests."""
    out = tmp_path_factory.mktemp("run") / "new" / "folder"
    command = "import sys; from eventsnn.cli import main; sys.exit(main())"
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
    assert run.stdout.count("\n") == 1  # stdout contains nothing else
    metrics = json.loads(run.stdout)
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert metrics["seed"] == 3
    assert metrics["steps"] == 12
    assert metrics["solver"] == "exact"
    assert metrics["batch_size"] == TASKS["ttfs-regression"].quick_settings["batch_size"]
    assert set(TASKS["ttfs-regression"].options()) < set(metrics)
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
    pictures = {f"{n}.png" for n in PICTURES}
    assert {path.name for path in out.iterdir()} == {"metrics.json", "model.eqx"} | pictures
    assert set(TASKS["ttfs-regression"].pictures) == {f"{n}.png" for n in PICTURES}
    for name in PICTURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_leaves_its_trained_network(quick, as_users_do):
    """The network that is loaded in another process has the test error of the metrics."""
    run, out = quick
    task, model = tasks.load(out)
    assert (task.steps, task.seed) == (12, 3)
    x = spike_time_regression.grid(task.n_test)
    found = np.minimum(task.predict(model, x)[:, 0], task.t_max)
    error = np.abs(found - np.asarray(spike_time_regression.target(x))).mean()
    np.testing.assert_allclose(error, json.loads(run.stdout)["test_mae"], rtol=1e-4)


def test_a_run_shows_its_progress_on_stderr(quick):
    run, _ = quick
    assert "12/12" in run.stderr
    assert "loss" in run.stderr
    assert "step/s" in run.stderr
    assert "Wrote metrics.json, model.eqx, " in run.stderr


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
        (
            ["run", "ttfs-regression", "--steps", "0"],
            "from 1 to 2**31 - 1, got '0'",
        ),
        (
            ["run", "ttfs-regression", "--steps", "1.5"],
            "an integer from 1 to 2**31 - 1, got",
        ),
        (["run", "ttfs-regression", "--seed", "-1"], "0 to 2**32 - 1, got '-1'"),
        (["run", "ttfs-regression", "--seed", str(2**32)], "0 to 2**32 - 1"),
        (
            ["run", "ttfs-regression", "--solver", "magic"],
            "must be one of exact, euler, heun, tsit5",
        ),
        (["run", "ttfs-regression", "--mode", "sqrt"], "--mode"),
        (["run", "yin-yang", "--neuron", "eif"], "one of lif, qif, got 'eif'"),
        (["run", "yin-yang", "--points", "mine"], "one of published, fresh, got 'mine'"),
        (["run", "membrane-regression", "--mode", "cubic"], "one of sqrt, linear, got 'cubic'"),
        (["run", "membrane-regression", "--data-dir", "here"], "--data-dir"),
        (
            ["run", "leaky-classification", "--dataset", "nothing"],
            "one of digits, mnist, got",
        ),
        (["run", "leaky-classification", "--epochs", "0"], "an integer from 1 to 1000000, got '0'"),
        (
            ["run", "leaky-classification", "--beta", "1.5"],
            "a finite number from 0 to 1, got",
        ),
        (["run", "ttfs-regression", "--tau-mem", "0"], "must be a finite number > 0, got '0'"),
        (["run", "ttfs-regression", "--learning-rate", "-1"], "a finite number >= 0, got '-1'"),
        (["run", "leaky-classification", "--solver", "exact"], "--solver"),
        (["run", "rleaky-classification", "--objective", "x"], "got 'x'"),
        (["run", "rleaky-classification", "--feedback", "x"], "got 'x'"),
        (["run", "moving-mnist", "--feedback", "linear"], "--feedback"),
        (["run", "mnist-latency", "--readout", "sum"], "got 'sum'"),
        (["run", "membrane-event", "--time-constants", "free"], "got 'free'"),
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


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]])
def test_requested_text_goes_to_stdout(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    shown = capsys.readouterr()
    assert stop.value.code == 0 and shown.err == ""
    assert shown.out.startswith("usage: eventsnn" if "--help" in arguments else "eventsnn ")


class Full:
    """Stream that cannot be written, like /dev/full or a closed pipe."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        pass


@pytest.mark.parametrize("arguments", [["tasks"], ["--version"], ["run", "yin-yang", "--help"]])
def test_stdout_that_cannot_be_written_is_one_line_and_code_1(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(arguments) == 1
    shown = capsys.readouterr().err
    assert shown == "eventsnn: error: cannot write to stdout: No space left on device\n"


# ------------------------------------------------------------------ values of options


def outside(setting):
    """Numbers just outside of the range of a setting."""
    (least, most), above = settings.limits(setting), setting.metadata["above"]
    ends = [(least, -1), (most, 1), (above, 0)]
    return [end + step for end, step in ends if end is not None]


def bad_values(setting):
    """Invalid values of an option, from its declaration."""
    of = setting.metadata
    if of["choices"]:
        return ["nothing", "", "--", of["choices"][0].upper(), f" {of['choices'][0]}", "a\nb"]
    if settings.kind(setting) is str:
        return ["", "--"]
    words = ["nan", "", "--", " 5", "5 ", "0x10", "1_000", "None", "a\nb", "3" * 400]
    words += ["\uff15", "\u0665", "\u00b2"]  # digits, but not ASCII
    least, most = settings.limits(setting)
    if settings.kind(setting) is int:
        return [*words, "+5", "1.5", "1e3", "9" * 5000, str(least - 1), str(most + 1)]
    numbers = [least if least is None else least - 0.5, most if most is None else most + 0.5]
    numbers += [of["above"]]
    return [
        *words,
        "inf",
        "1e999",
        "-1e999",
        ".",
        "1e",
        *(str(x) for x in numbers if x is not None),
    ]


def cases():
    """Options with invalid values: all values for each kind of setting, otherwise one value."""
    seen = set()
    for name, task in TASKS.items():
        for option, of in task.options().items():
            values = bad_values(of)
            yield name, option, values if str(values) not in seen else values[:1]
            seen.add(str(values))
    yield "yin-yang", "out", ["", "--", "a\0b", "x" * 300]


CASES = {(name, option): values for name, option, values in cases()}


@pytest.mark.parametrize(("name", "option"), CASES)
def test_every_bad_value_of_every_option_is_one_line(name, option, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(TASKS[name], "run", lambda *_, **__: pytest.fail("it was accepted"))
    monkeypatch.chdir(tmp_path)
    flag = f"--{option.replace('_', '-')}"
    for value in CASES[name, option]:
        with pytest.raises(SystemExit) as stop:
            main(["run", name, f"{flag}={value}"])
        shown = capsys.readouterr()
        assert stop.value.code == 2 and shown.out == ""
        assert shown.err.startswith(f"eventsnn: error: argument {flag}: ")
        assert shown.err.count("\n") == 1 and shown.err.isprintable() is False
        assert len(shown.err) < 500
        for part in (value[:12], value[-12:]):
            assert part in shown.err or ascii(part)[1:-1] in shown.err


@pytest.mark.parametrize("name", TASKS)
def test_the_ends_of_every_range_are_accepted(name, in_process, monkeypatch):
    seen = []

    def run(self, **_):
        seen.append(self)
        return TaskResult({}, {})

    monkeypatch.setattr(TASKS[name], "run", run)
    ranges = {
        option: settings.limits(of)
        for option, of in TASKS[name].options().items()
        if settings.kind(of) is int
    }
    assert ranges["seed"] == (0, 2**32 - 1)
    assert name in UNTRAINED or ranges["steps"] == (1, 2**31 - 1)
    for end in (0, 1):
        given = {option: ends[end] for option, ends in ranges.items()}
        assert in_process(name, *flags(given)) == 0
        assert seen.pop() == TASKS[name](**given)


def flags(options):
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def wrong(setting):
    """Invalid values of a setting, from its type and range."""
    nothing = [] if setting.default is None else [None]
    if setting.metadata["choices"]:
        return ["nothing", 3, b"exact", [], *nothing]
    if settings.kind(setting) is str:
        return [3, 1.5, b"here", ["here"], *nothing]
    numbers = [float("nan"), float("inf"), "0.1", True, 1j, [0.1], 10**400, *nothing]
    return [*numbers, *outside(setting), *([2.5] if settings.kind(setting) is int else [])]


@pytest.mark.parametrize("name", TASKS)
def test_every_wrong_setting_of_a_task_is_refused_by_its_name(name):
    for field in dataclasses.fields(TASKS[name]):
        for value in wrong(field):
            with pytest.raises(ValueError, match=rf"^{field.name} must be .*, got .*\.$"):
                TASKS[name](**{field.name: value})


# ------------------------------------------------------------------ the folder of results


@pytest.mark.parametrize("spoil", ["below a file", "a picture is a folder", "in use"])
def test_a_folder_that_cannot_be_used_is_one_line_and_code_2(spoil, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TASKS["yin-yang"], "run", lambda *_, **__: pytest.fail("it was accepted"))
    out, held, expected = tmp_path / "out", contextlib.nullcontext(), "cannot write to '{}': "
    if spoil == "below a file":
        (tmp_path / "file").touch()
        out = tmp_path / "file" / "out"
    elif spoil == "in use":
        held, expected = Folder(out), "'{}' is in use by another run"
    else:
        (out / "loss.png").mkdir(parents=True)
        expected += "'loss.png' in it is a folder"
    with held, pytest.raises(SystemExit) as stop:
        main(["run", "yin-yang", "--out", str(out)])
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and shown.count("\n") == 1
    assert f"argument --out: {expected.format(out)}" in shown


@pytest.fixture
def limit():
    """Limit the size of files that this process writes, to emulate a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_without_room_is_refused_before_the_training(limit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TASKS["yin-yang"], "run", lambda *_, **__: pytest.fail("it was accepted"))
    limit(SPACE - 1)
    with pytest.raises(SystemExit) as stop:
        main(["run", "yin-yang", "--out", str(tmp_path)])
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and shown.count("\n") == 1
    assert f"cannot write to '{tmp_path}': {os.strerror(errno.EFBIG)}" in shown
    assert not any(tmp_path.iterdir())


# ------------------------------------------------------------------ in this process


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Command line on the devices of the tests; pictures are written to a temporary folder."""
    monkeypatch.setattr("eventsnn.cpu.prepare_cpu", lambda: None)
    monkeypatch.delenv("EVENTSNN_DATA", raising=False)

    def run(*arguments):
        with jax.enable_x64("--x64" in arguments), jax.numpy_dtype_promotion("standard"):
            return main(["run", *arguments, "--out", str(tmp_path / "out")])

    return run


@pytest.mark.parametrize("name", TASKS)
def test_the_help_of_a_task_lists_its_options(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", name, "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert set(OPTIONS[name]) == {field.name for field in dataclasses.fields(TASKS[name])}
    text = " ".join(shown.split("settings of the task:")[1].split())
    helps = re.findall(r"--([\w-]+) (?:\{[^}]*\}|N|X|PATH) (.*?) \(default: ([^)]+)\)", text)
    assert [flag.replace("-", "_") for flag, _, _ in helps] == list(OPTIONS[name])
    for _, help, default in helps:
        assert len(help) > 10 and default != "None"
    for option in ("out", "quick", "x64"):
        assert f"--{option} " in shown.replace("\n", " ")


def test_a_default_that_depends_on_a_choice_is_shown_for_each():
    for name, option, expected in (
        ("yin-yang", "n_hidden", "200 for lif, 20 for qif"),
        ("yin-yang", "epochs", "100"),
        ("yin-yang", "steps", "the steps of all epochs"),
        ("mnist-latency", "n_hidden", "100 for digits, 350 for mnist"),
        (
            "mnist-latency",
            "learning_rate",
            "0.05 for digits and potential, 0.005 for digits and ttfs, "
            "0.02 for mnist and potential, 0.002 for mnist and ttfs",
        ),
    ):
        assert default_text(TASKS[name], option) == expected


@pytest.mark.parametrize("name", TASKS)
def test_options_reach_the_task_and_the_metrics(name, in_process, monkeypatch, tmp_path, capsys):
    seen = []

    def run(self, **_):
        seen.append(self)
        return TaskResult({"test_accuracy": 0.5}, {})

    monkeypatch.setattr(TASKS[name], "run", run)
    given = OPTIONS[name]
    assert in_process(name, *flags(given)) == 0
    assert seen == [TASKS[name](**given)]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["task"] == name and metrics["test_accuracy"] == 0.5
    assert {key: metrics[key] for key in given} == given
    # Unless they are given, a quick run uses its own settings.
    number = "trials" if name in UNTRAINED else "steps"
    assert in_process(name, "--quick") == 0 and in_process(name, "--quick", f"--{number}=9") == 0
    own = TASKS[name].quick_settings
    assert seen[1:] == [TASKS[name](**own), TASKS[name](**own | {number: 9})]


@pytest.mark.parametrize("name", TASKS)
def test_the_metrics_record_all_settings_with_their_defaults(name, in_process, monkeypatch, capsys):
    monkeypatch.setattr(TASKS[name], "run", lambda self, **_: TaskResult({}, {}))
    assert in_process(name, "--quick", "--x64") == 0
    metrics, task = json.loads(capsys.readouterr().out), TASKS[name](**TASKS[name].quick_settings)
    assert dataclasses.asdict(task).items() <= metrics.items()
    assert metrics["dtype"] == "float64"


OLD_FILES = ("metrics.json", "model.eqx", "loss.png", "regions.png", "sample.gif", "mine.png")


def old_results(out):
    """Results folder of an earlier run of another task."""
    out.mkdir()
    for name in OLD_FILES:
        (out / name).write_text("old")


@pytest.mark.parametrize(("room", "written"), [(10, []), (2000, ["metrics.json"])])
def test_a_disk_that_is_full_at_the_end_loses_no_metrics(
    room, written, limit, in_process, monkeypatch, tmp_path, capsys
):
    old_results(tmp_path / "out")
    pictures = {"counts": plots.spike_counts(np.arange(3))}

    def run(self, **_):
        limit(room)
        return TaskResult({"test_accuracy": 0.5}, pictures)

    monkeypatch.setattr(TASKS["moving-mnist"], "run", run)
    assert in_process("moving-mnist") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["test_accuracy"] == 0.5
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"eventsnn: error: cannot write all results to '{tmp_path / 'out'}")
    assert f"(written: {', '.join(written) or 'nothing'}): {os.strerror(errno.EFBIG)}" in shown.err
    kept = [path for path in (tmp_path / "out").iterdir() if path.name != "checkpoints"]
    left = {path.name: path.read_text() for path in kept}
    if not written:  # all files of the earlier run, and nothing else
        assert left == dict.fromkeys(OLD_FILES, "old")
    else:
        assert set(left) == {"metrics.json", "mine.png"}
        assert json.loads(left["metrics.json"]) == json.loads(shown.out)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_metrics_are_written_before_figures_are_drawn(
    error, in_process, monkeypatch, tmp_path, capsys
):
    out = tmp_path / "out"
    old_results(out)

    def make_figures():
        left = {path.name for path in out.iterdir()}
        # None of the old pictures, and the checkpoints of this run.
        assert left == {"metrics.json", "mine.png", "checkpoints"}
        assert json.loads((out / "metrics.json").read_text())["test_accuracy"] == 0.5
        raise error

    result = TaskResult({"test_accuracy": 0.5}, LazyFigures(make_figures))
    monkeypatch.setattr(TASKS["yin-yang"], "run", lambda self, **_: result)
    assert in_process("yin-yang") == (130 if isinstance(error, KeyboardInterrupt) else 1)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["test_accuracy"] == 0.5
    assert shown.err.count("\n") == 1
    assert re.search("interrupted|out of memory", shown.err)


def test_files_are_written_although_stdout_is_not(in_process, monkeypatch, tmp_path, capsys):
    result = TaskResult({"test_accuracy": 0.5}, {"counts": plots.spike_counts(np.arange(3))})
    monkeypatch.setattr(TASKS["yin-yang"], "run", lambda self, **_: result)
    monkeypatch.setattr(sys, "stdout", Full())
    assert in_process("yin-yang") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"metrics.json", "counts.png"}
    assert capsys.readouterr().err.splitlines()[1:] == [
        "eventsnn: error: cannot write to stdout: No space left on device"
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AssertionError(), "JAX cannot start with JAX_PLATFORMS=cuda: no such device"),
        (
            RuntimeError("Unable to\nstart"),
            "JAX cannot start with JAX_PLATFORMS=cuda: Unable to start",
        ),
    ],
)
def test_jax_without_its_devices_is_one_line(error, expected, in_process, monkeypatch, capsys):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert in_process("yin-yang") == 2
    assert capsys.readouterr().err == f"eventsnn: error: {expected}\n"


def test_pictures_and_animations_are_written(in_process, monkeypatch, tmp_path, capsys):
    frames = np.random.default_rng(0).random((3, 4, 4))
    result = TaskResult(
        {"test_accuracy": 0.5},
        {"counts": plots.spike_counts(np.arange(3))},
        {"sample": plots.animation(frames)},
        model=jnp.ones(3),
    )
    monkeypatch.setattr(TASKS["moving-mnist"], "run", lambda self, **_: result)
    assert in_process("moving-mnist") == 0
    out = tmp_path / "out"
    written = ["metrics.json", "model.eqx", "counts.png", "sample.gif"]
    assert {path.name for path in out.iterdir()} == set(written)
    assert (out / "counts.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "sample.gif").read_bytes().startswith(b"GIF")
    assert f"Wrote {', '.join(written)} to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (FloatingPointError("the loss became nan at step 3"), 1, "error: the loss became nan"),
        (MemoryError(), 1, "error: training failed: out of memory"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GB\nat"), 1, "RESOURCE_EXHAUSTED: 9 GB"),
        (DataError("'a\nb' is cut off"), 2, "error: 'a b' is cut off"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_run_that_fails_is_one_line(error, code, shown, in_process, monkeypatch, capsys):
    def run(self, **_):
        raise error

    monkeypatch.setattr(TASKS["leaky-classification"], "run", run)
    assert in_process("leaky-classification") == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert shown in captured.err


def test_a_value_error_about_a_setting_is_one_line(in_process, monkeypatch, capsys):
    def run(self, **_):
        LIF(-1.0, 5.0)

    monkeypatch.setattr(TASKS["leaky-classification"], "run", run)
    assert in_process("leaky-classification") == 2
    assert capsys.readouterr().err == "eventsnn: error: tau_mem must be > 0, got -1.0.\n"


def test_any_other_value_error_keeps_its_traceback(in_process, monkeypatch):
    def run(self, **_):
        np.zeros(2).reshape(3)

    monkeypatch.setattr(TASKS["leaky-classification"], "run", run)
    with pytest.raises(ValueError, match="cannot reshape"):
        in_process("leaky-classification")


# ------------------------------------------------------------------ local data files


def as_idx(array):
    """Bytes of an IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """The four MNIST files with few images; one of them gzipped."""
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


def test_a_run_on_local_files(mnist, in_process, monkeypatch, tmp_path, capsys):
    arguments = ("leaky-classification", "--dataset=mnist", "--quick", "--steps=2", "--x64")
    monkeypatch.setenv("EVENTSNN_DATA", str(tmp_path / "nowhere"))  # the option has precedence
    drawn = "eventsnn.tasks.discrete_images.DiscreteImageTask.make_figures"
    monkeypatch.setattr(drawn, lambda *_: ({}, {}))  # slow
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


# -------------------------------------------------------------------------------- resuming


def metrics_of(argv, capsys):
    """Metrics of a run, without times."""
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    return {name: x for name, x in found.items() if "seconds" not in name and "per_s" not in name}


REFUSED = {  # options of a second run in the folder of an unfinished one, and the message
    (): "argument --out: '{0}' has an unfinished run with a checkpoint of step 40: add --resume to "
    "continue it, or choose another --out, or delete '{0}/checkpoints'",
    ("--learning-rate=0.5",): "argument --out: '{0}' has an unfinished run",
    ("--resume", "--learning-rate=0.5"): "argument --resume: the unfinished run has "
    "--learning-rate 0.6, got 0.5",
}


def test_an_interrupted_run_is_resumed(tmp_path, capsys, monkeypatch, as_users_do):
    monkeypatch.setattr("eventsnn.commands._prepare", lambda **_: None)
    monkeypatch.setattr("eventsnn.train.checkpoints._SECONDS", 0.0)
    argv = ["run", "ttfs-regression", "--quick", "--steps", "60", "--out"]
    expected = metrics_of([*argv, str(tmp_path / "whole")], capsys)
    assert not (tmp_path / "whole" / "checkpoints").exists()

    def interrupt(self, progress):
        if progress.step >= 40:
            raise KeyboardInterrupt

    out = [*argv, str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr("eventsnn.train.callbacks.Callbacks.call", interrupt)
        assert main(out) == 130
    command = shlex.join(["eventsnn", *out, "--resume"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"eventsnn: interrupted; to continue from step 40: {command}"
    folder = tmp_path / "out" / "checkpoints"
    left = {path: path.read_bytes() for path in folder.iterdir()}
    for options, message in REFUSED.items():
        with pytest.raises(SystemExit, match="2"):
            main([*out, *options])
        shown = capsys.readouterr().err
        assert shown.startswith(f"eventsnn: error: {message.format(tmp_path / 'out')}")
        assert shown.count("\n") == 1
    assert left == {path: path.read_bytes() for path in folder.iterdir()}
    steps = []
    monkeypatch.setattr(
        "eventsnn.train.callbacks.Callbacks.call", lambda self, progress: steps.append(progress)
    )
    assert metrics_of([*out, "--resume"], capsys) == expected
    assert steps[0].step == 40
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_complete_run_is_not_resumed(quick, monkeypatch, capsys, as_users_do):
    monkeypatch.setattr("eventsnn.commands._prepare", lambda: pytest.fail("it was started"))
    run, out = quick
    before = {path: path.read_bytes() for path in out.iterdir()}
    argv = ["run", "ttfs-regression", "--quick", "--steps", "12", "--out", str(out), "--resume"]
    assert main([*argv, "--seed", "3"]) == 0
    shown = capsys.readouterr()
    assert shown.out == run.stdout
    listed = ["metrics.json", "model.eqx", *TASKS["ttfs-regression"].pictures]
    text = f"the run in '{out}' is complete and is left as it is: {', '.join(listed)}"
    assert shown.err == f"eventsnn: {text}\n"
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    message = "argument --resume: the complete run has --seed 3, got 0"
    assert capsys.readouterr().err == f"eventsnn: error: {message}\n"
    assert before == {path: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "argument --resume: '{0}/checkpoints/settings.json' is damaged"),
        ("[1]", "argument --resume: '{0}/checkpoints/settings.json' is damaged"),
        ('{"task": "delays"}', "argument --resume: the unfinished run has task delays, got yin-y"),
        (
            '{"task": "yin-yang", "dtype": "float16"}',
            "argument --resume: the unfinished run has dtype float16, got float64",
        ),
    ],
)
def test_only_the_same_run_is_resumed(content, message, in_process, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(TASKS["yin-yang"], "run", lambda *_, **__: pytest.fail("it was accepted"))
    folder = tmp_path / "out" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        in_process("yin-yang", "--x64", "--resume")
    shown = capsys.readouterr().err
    assert shown.startswith(f"eventsnn: error: {message.format(tmp_path / 'out')}")


def test_a_run_without_checkpoints_may_be_repeated(in_process, monkeypatch, tmp_path):
    """A run that was interrupted before its first step leaves nothing to lose."""
    monkeypatch.setattr(TASKS["yin-yang"], "run", lambda *_, **__: TaskResult({}, {}))
    folder = tmp_path / "out" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text('{"task": "delays"}')
    assert in_process("yin-yang") == 0
    assert not folder.exists()
