"""Benchmark harness without timing: command line, protocol, tables and ratios."""

import gzip
import json
import math
import os
import sys
from dataclasses import asdict, replace
from subprocess import CalledProcessError

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from benchmarks import __main__ as cli
from benchmarks.balanced import plan
from benchmarks.discrete import data, tasks
from benchmarks.discrete import problem as discrete_problem
from benchmarks.discrete.library import curve_errors
from benchmarks.discrete.ours import Commands as Eventsnn
from benchmarks.event import benchmark as event
from benchmarks.event import tasks as event_tasks
from benchmarks.first_network import benchmark as first_network
from benchmarks.first_network import initialisers
from benchmarks.first_network.training import Case, Spikes
from benchmarks.harness import environments, machine, mnist, report, speed
from benchmarks.harness.worker import Worker, WorkerError, worker_environment
from benchmarks.layers import benchmark as layers
from benchmarks.long_sequences import benchmark as long_sequences
from benchmarks.parity import benchmark as parity
from benchmarks.parity import cases, networks
from benchmarks.quality import benchmark as quality
from benchmarks.scaling import benchmark as scaling
from benchmarks.workers import files, protocol
from benchmarks.workers.files import write
from eventsnn.data import yin_yang as points
from eventsnn.tasks import YinYang


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["no-such-benchmark"],
        ["ttfs-regression", "--no-such-option"],
        ["ttfs-regression", "--peer", "no-such-peer"],
        ["ttfs-regression", "--rounds", "0"],
        ["ttfs-regression", "--steps", "-3"],
        ["ttfs-regression", "--steps", "many"],
        ["scaling", "--peer", "eventax"],
        ["yin-yang", "--peer", "snntorch"],
        ["yin-yang", "--full-peer"],
        ["leaky-classification", "--peer", "eventax"],
        ["leaky-classification", "--loss", "mse_count"],
        ["membrane-regression", "--data-dir", "somewhere"],
        ["validation", "--peers", "eventax"],
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.count("\n") == 1


def test_list_names_every_benchmark(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(
        name in out
        for name in (
            "ttfs-regression",
            "yin-yang",
            "first-network",
            "layers",
            "balanced",
            "scaling",
            "long-sequences",
            "validation",
            *tasks.TASKS,
        )
    )


@pytest.mark.parametrize(
    ("argv", "quick", "given"),
    [
        (["ttfs-regression", "--peer", "eventax"], False, {"peer": "eventax"}),
        (["ttfs-regression", "--quick", "--steps", "5"], True, {"steps": 5}),
        (["yin-yang", "--rounds", "7"], False, {"rounds": 7}),
        (["rleaky-classification", "--loss", "mse_membrane"], False, {"loss": "mse_membrane"}),
        (["moving-mnist", "--quick", "--full-peer"], True, {"full_peer": True}),
        (["quality", "--only", "delays", "yin"], False, {"only": ["delays", "yin"]}),
        (["parity", "--only", "LIF"], False, {"only": "LIF"}),
        (["validation", "--peers", "nest", "scipy"], False, {"peers": ["nest", "scipy"]}),
    ],
)
def test_options_keep_the_defaults_that_were_not_named(argv, quick, given):
    benchmark = cli.BENCHMARKS[argv[0]]
    base = benchmark.quick if quick else benchmark.full
    assert cli.settings(benchmark, cli.parser().parse_args(argv)) == replace(base, **given)


def run_as(monkeypatch, name, run):
    """Replace what a benchmark runs and prints."""
    fake = replace(cli.BENCHMARKS[name], run=run, describe=lambda result: "a table")
    monkeypatch.setitem(cli.BENCHMARKS, name, fake)


def test_main_ends_with_one_line_of_strict_json(monkeypatch, capsys, tmp_path):
    result = {"a": 1.23456789, "b": [math.inf, math.nan], "c": {"d": None}}
    run_as(monkeypatch, "scaling", lambda options: result)
    assert cli.main(["scaling", "--out", str(tmp_path / "result.json")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    printed = json.loads(last)
    assert printed.pop("benchmark") == "scaling"
    assert printed.pop("machine")["cores"] >= 1
    assert printed == {"a": 1.23457, "b": [None, None], "c": {"d": None}}
    assert (tmp_path / "result.json").read_text() == last + "\n"


@pytest.mark.parametrize("agrees", [True, False])
def test_the_parity_check_fails_if_an_agreement_does_not_hold(agrees, monkeypatch, capsys):
    run_as(monkeypatch, "parity", lambda options: {"agrees": agrees})
    assert cli.main(["parity", "--seeds", "2"]) == (0 if agrees else 1)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["agrees"] is agrees


@pytest.mark.parametrize("error", [WorkerError("it died"), CalledProcessError(1, ["pip"])])
def test_an_external_failure_ends_the_run_in_one_line(error, monkeypatch, capsys):
    def fail(options):
        raise error

    run_as(monkeypatch, "scaling", fail)
    assert cli.main(["scaling"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"benchmarks: {error}"


def test_answers_are_replies_and_failures_are_too():
    def double(x):
        return {"y": 2 * x}

    commands = {"double": double}
    assert protocol.answer('{"command": "double", "x": 4}', commands) == {"ok": True, "y": 8}
    for line in ("not json", "{}", '{"command": "triple"}', '{"command": "double"}'):
        reply = protocol.answer(line, commands)
        assert reply["ok"] is False
        assert "Error" in reply["error"]


def test_a_worker_keeps_its_protocol_when_a_library_prints():
    worker = Worker(sys.executable, "tests.test_benchmarks")
    try:
        assert worker.request("echo", text="a") == {"text": "a"}
        with pytest.raises(WorkerError, match="got 'nothing'"):
            worker.request("nothing")
        assert worker.request("echo", text="b") == {"text": "b"}
        with pytest.raises(WorkerError, match="ended during 'leave'"):
            worker.request("leave")
    finally:
        worker.close()


def test_a_worker_does_not_inherit_jax_settings(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--some-flag")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    environment = worker_environment()
    assert "XLA_FLAGS" not in environment
    assert "JAX_ENABLE_X64" not in environment
    assert environment["JAX_PLATFORMS"] == "cpu"


def test_the_summary_takes_medians_and_their_ratio():
    start = {
        "ours": {"compile_seconds": 2.0, "start_steps_per_second": 300.0},
        "peer": {"compile_seconds": 10.0, "start_steps_per_second": 30.0},
    }
    rates = {"ours": [100.0, 400.0, 200.0], "peer": [5.0, 1.0, 4.0]}
    result = speed.summary(start, rates, {"ours": 500.0, "peer": 900.0})
    assert result["ours_steps_per_second"] == 200.0
    assert result["peer_steps_per_second"] == 4.0
    assert result["ratio"] == 50.0
    assert result["compile_ratio"] == 0.2
    assert result["peer_peak_memory_mb"] == 900.0


def test_without_a_peer_there_is_no_ratio():
    start = {"ours": {"compile_seconds": 2.0, "start_steps_per_second": 300.0}}
    result = speed.summary(start, {"ours": [1.0]}, {"ours": 500.0})
    assert result["ratio"] is None
    result |= {"peer": None, "ours_test_mae_median": 0.1}
    assert "no peer" in event.describe_regression(result)


def test_growth_compares_the_smallest_size_with_the_largest():
    rows = [
        {"n": n, "dtype": "float32", "events": e, "ms": 2.0 * e * n, "temporary_mb": 1.0 + e}
        for e in (100, 50, 200)
        for n in (20, 30)
    ]
    few, many = scaling.growth(rows, "events")
    assert (few["n"], few["events"], few["ms"]) == (20, 4.0, 4.0)
    assert many["temporary_mb"] == pytest.approx(201 / 51)
    by_events = {line["events"]: line["ms"] for line in scaling.growth(rows, "n")}
    assert by_events == {50: 1.5, 100: 1.5, 200: 1.5}


def test_a_long_sequence_is_compared_with_the_run_that_stores_all_steps():
    whole = {"cell": "leaky", "every": None, "temporary_mb": 8.0, "ms": 3.0, "compile_seconds": 1.0}
    found = whole | {"every": 7, "temporary_mb": 2.0, "ms": 6.0}
    rows = [row | long_sequences.relative(row, whole) for row in (whole, found)]
    assert (rows[1]["memory"], rows[1]["time"]) == (0.25, 2.0)
    *_, last = long_sequences.describe({"rows": rows}).splitlines()
    assert last.split() == ["leaky", "7", "2", "0.25", "6", "2", "1"]


def test_layers_are_measured_in_turns_with_the_earlier_revision(monkeypatch, tmp_path):
    """Tasks, growth of each size, and the report, with invented speeds."""
    runs, sizes = [], []

    def rate(tree, folder, arguments):
        runs.append((tree.name, arguments[0]))
        return 30.0 if tree == layers.ROOT else 3.0

    class Machine:
        def request(self, command, problem, rounds):
            arrays = files.read(problem)
            shape = arrays["in_times"].shape
            if command == "delays":
                assert arrays["delays"].shape == arrays["weights"].shape == (shape[1], 25)
                return {"synaptic": {"forward_ms": 1.5, "gradient_ms": 2.5, "output_spikes": 7.0}}
            sizes.append(shape)
            return {"forward_ms": float(np.prod(shape)), "gradient_ms": 2.0, "output_spikes": 9.0}

    monkeypatch.setattr(layers, "rate", rate)
    monkeypatch.setattr(layers, "earlier", lambda folder: folder / layers.REVISION)
    options = layers.Options(rounds=2, factors=(1, 3), quick=True)
    tasks = layers.speeds(options, tmp_path)
    turns = [layers.ROOT.name, layers.REVISION] * 2
    assert runs == [(name, task) for task in ("mnist-latency", "yin-yang") for name in turns]
    assert all(found["ratio"] == 10.0 for found in tasks.values())

    rows = layers.growth(Machine(), options, tmp_path)
    assert sizes == [
        (32, 100, 1),
        (32, 300, 1),
        (32, 100, 1),
        (32, 100, 1),
        (32, 100, 1),
        (96, 100, 1),
    ]
    assert [row["growth"]["forward_ms"] for row in rows] == [1, 3, 1, 1, 1, 3]

    layer = {"ours_forward_ms": 4.0, "peer_forward_ms": 2.0, "times_slower": 2.0}
    layer |= {"spikes": 7, "unequal_spikes": 0, "largest_difference_ms": 1e-3}
    delays = layers.with_delays(Machine(), options, tmp_path)
    result = {"revision": layers.REVISION, "tasks": tasks, "layer": layer, "growth": rows}
    text = layers.describe(result | {"delays": delays})
    assert "synaptic" in text and "2.5" in text
    assert "yin-yang" in text and "batch x 3" in text and "1.0e-03 ms" in text


def test_parity_takes_the_largest_difference_of_each_quantity():
    inf = np.inf
    ours = {"ttfs": np.array([20.0, inf]), "spikes": np.array([[0.5, inf]]), "states": np.zeros(1)}
    ours |= {"d ttfs / d weights": np.array([4.0, 0.0]), "d spikes / d weights": np.array([0.5])}
    same = parity.compare(ours, ours)
    assert same == {"ttfs": 0.0, "spikes": 0.0, "states": 0.0, "d / d weights": 0.0}
    theirs = ours | {"ttfs": np.array([20.2, inf]), "d spikes / d weights": np.array([0.4])}
    apart = parity.compare(ours, theirs)
    assert apart["ttfs"] == pytest.approx(0.01)
    assert apart["d / d weights"] == pytest.approx(0.2)
    for wrong in (np.array([20.0, 30.0]), np.array([20.0, np.nan, inf])):
        assert parity.compare(ours, ours | {"ttfs": wrong})["ttfs"] == inf


@pytest.mark.parametrize(
    ("ours", "peer", "holds"),
    [
        ([0.0, 0.0], [0.0, math.inf], True),
        ([0.0, 0.0], [0.0, 0.0], False),
        ([0.0, 1e-6], [-1.0, 0.0], False),
        ([math.nan, 0.0], [-1.0, 0.0], False),
    ],
)
def test_a_case_holds_if_eventsnn_is_right_and_the_peer_is_not(ours, peer, holds):
    """The answers differ from the truth by these numbers."""
    case = cases.CASES[0]
    answers = {"ours": np.add(case.truth, ours).tolist(), "peer": np.add(case.truth, peer).tolist()}
    assert parity.case_row(case, answers)["holds"] is holds


def test_the_closed_form_of_the_parity_cases_and_its_derivatives():
    weights, times = [3.0, -0.5, 4.0], [1.0, 2.5, 3.0]
    first, by_weights, by_times = cases.crossing(weights, times)
    v = sum(
        w * (math.exp((s - first) / 10) - math.exp((s - first) / 5))
        for w, s in zip(weights, times, strict=True)
    )
    assert first > 3.0
    assert v == pytest.approx(1.0, abs=1e-13)
    for k in range(3):
        unit = 1e-5 * np.eye(3)[k]

        def at(way, unit=unit):
            return (
                cases.crossing(list(weights + way * unit), times)[0],
                cases.crossing(weights, list(times + way * unit))[0],
            )

        slopes = (np.array(at(1)) - np.array(at(-1))) / 2e-5
        assert slopes == pytest.approx([by_weights[k], by_times[k]], rel=1e-7)


def test_a_parity_network_has_its_layers_and_is_drawn_again():
    made, again = (networks.make("LIF feed-forward", 1) for _ in range(2))
    assert all(np.array_equal(made[key], again[key]) for key in made)
    assert np.count_nonzero(made["weights"]) == 2 * 3 + 3 * 2
    assert made["of_spikes"].shape == (2, networks.COUNT)
    of, rest = networks.split("LIF recurrent, EventProp", made)
    assert sorted(of) == ["neuron_bias", "weights"]
    assert {"in_times", "neuron_tau_mem", "at"} < set(rest)


def test_the_problem_is_the_task():
    made, again = (event_tasks.regression(seed=3, steps=2) for _ in range(2))
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert made["x"].shape == (2, 64)
    assert made["mask"].sum() == 20 * 19 + 20 + 20
    assert np.all(made["weights"][~made["mask"]] == 0)
    assert made["weights"].dtype == np.float32
    assert 0 <= made["weights"].min() < made["weights"].max() <= 40
    assert np.abs(made["bias"]).max() <= 0.25


def test_the_yin_yang_problem_is_the_task():
    made, again = (event_tasks.yin_yang_points(seed=3, steps=20) for _ in range(2))
    assert all(np.array_equal(made[name], again[name]) for name in made)
    net = YinYang(neuron="qif").build(jax.random.key(0)).as_network()
    assert np.array_equal(made["mask"], np.asarray(net.mask))
    assert np.all(made["weights"][~made["mask"]] == 0)
    assert made["weights"].shape == net.weights.shape
    assert 0 <= made["weights"].min() < made["weights"].max() <= 40
    assert np.abs(made["bias"]).max() <= 0.5
    # An epoch has 19 batches, in which no point occurs twice.
    epoch = made["x"][:19].reshape(-1, 2)
    assert made["x"].shape == (20, 256, 2)
    assert len(np.unique(epoch, axis=0)) == len(epoch)
    assert np.array_equal(points.classify(made["x"]), made["y"])


def test_yin_yang_compares_in_float64_and_shows_float32_beside_it():
    start = {"compile_seconds": 2.0, "start_steps_per_second": 30.0}
    rates = {"ours": [200.0], "ours_float32": [700.0], "peer": [2.0]}
    result = speed.summary(dict.fromkeys(rates, start), rates, dict.fromkeys(rates, 500.0))
    lines = event.describe_yin_yang(result | {"peer": "eventax"}).splitlines()
    assert result["ratio"] == 100.0
    assert lines[2].split()[-4:] == ["200", "2", "100", "700"]
    assert [event.BENCHMARKS["yin-yang"].full.block(name) for name in rates] == [80, 80, 4]


FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def test_images_come_from_idx_files_or_the_run_ends_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("EVENTSNN_DATA", raising=False)
    made = mnist.digits(n_train=6, n_test=3)
    for key, name in FILES.items():
        array = made[key]
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / name).write_bytes(gzip.compress(header + array.tobytes()))
    read = mnist.read(str(tmp_path))
    assert all(np.array_equal(read[key], made[key]) for key in FILES)

    (tmp_path / FILES["test_labels"]).write_bytes(gzip.compress(bytes([0, 0, 8, 1])))
    (tmp_path / "empty").mkdir()
    for where, message in (
        (["--data-dir", str(tmp_path)], "broken IDX header"),
        (["--data-dir", str(tmp_path / "empty")], "without train-images-idx3-ubyte"),
        ([], "--data-dir or EVENTSNN_DATA"),
    ):
        assert cli.main(["leaky-classification", *where]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_start_is_what_the_task_says(name):
    setting = tasks.TASKS[name].setting
    shown = None if setting.loss == "mse" else mnist.digits()
    made, again = (discrete_problem.start(setting, shown, seed=3, steps=9) for _ in range(2))
    assert all(np.array_equal(made[key], again[key]) for key in made)
    for i, (n_in, n_out) in enumerate(zip(setting.sizes, setting.sizes[1:], strict=False), 1):
        assert made[f"weight_{i}"].shape == (n_out, n_in)
        assert np.abs(made[f"weight_{i}"]).max() <= n_in**-0.5
        assert (f"feedback_weight_{i}" in made) == setting.recurrent
    if shown is None:
        assert np.allclose(made["x"], made["x"].max() * ramp(50), rtol=1e-6)
        assert np.allclose(made["y"] ** 2, made["y"].max() ** 2 * ramp(50), rtol=1e-6)
        return
    # 512 images are four batches: no image occurs twice in an epoch.
    epochs = np.sort(made["order"][:8].reshape(2, -1))
    assert np.array_equal(epochs, np.broadcast_to(np.arange(512), (2, 512)))
    assert ("test_order" in made) == setting.test_pass


def ramp(n):
    return np.linspace(0, 1, n).reshape(1, n, 1)


def test_moving_digits_stay_on_the_canvas_and_are_reflected():
    setting = replace(tasks.TASKS["moving-mnist"].setting, num_steps=40)
    corners = discrete_problem.corners(setting, (50,), seed=0)
    steps = np.diff(corners.astype(int), axis=1)
    assert corners.min() == 0
    assert corners.max() == 36
    # At most 3.6 pixels per frame, plus rounding; each path changes direction.
    assert np.hypot(*np.moveaxis(steps, -1, 0)).max() <= 3.6 + 2**0.5
    assert np.all((steps.max(axis=(1, 2)) > 0) & (steps.min(axis=(1, 2)) < 0))
    image = np.arange(1, 5, dtype=np.uint8).reshape(1, 2, 2)
    frames = data.frames(image, np.array([[[0, 1], [2, 0]]]), side=4).reshape(2, 4, 4)
    assert frames.sum() == 2 * image.sum()
    assert np.array_equal(frames[0, :2, 1:3], image[0])
    assert np.array_equal(frames[1, 2:, :2], image[0])


def test_errors_of_a_curve_leave_out_its_first_step():
    target = np.array([[[0.0], [2.0], [4.0]]])
    errors = curve_errors(np.array([[[3.0], [1.0], [4.0]]]), target)
    assert errors == {"relative_error": 0.25, "l1": pytest.approx(4 / 3)}


@pytest.mark.parametrize("name", tasks.TASKS)
@pytest.mark.filterwarnings("ignore:prepare_cpu has no effect")  # in this process
@jax.enable_x64(False)
@jax.numpy_dtype_promotion("standard")  # for Adam's bias correction, inside Optax
def test_our_worker_trains_each_task(name, tmp_path):
    """Small layers; losses decrease, and the trained parameters are saved and loaded again."""
    shown = None if name == "membrane-regression" else mnist.digits()
    task = tasks.TASKS[name]
    sizes = (task.setting.sizes[0], *[20] * (len(task.setting.sizes) - 2), task.setting.sizes[-1])
    loss = (task.setting.loss, *task.other_losses)[-1]
    setting = replace(task.setting, loss=loss, sizes=sizes, num_steps=6)
    shared = discrete_problem.shared(setting, shown)
    start = write(tmp_path / "start.npz", discrete_problem.start(setting, shown, 0, 4))
    worker = Eventsnn()
    problem = write(tmp_path / "problem.npz", shared)
    assert worker.open(str(problem), asdict(setting))["notes"] == []
    worker.load(str(start))
    before = worker.losses(0, 1)["losses"]
    trained = worker.train(0, 4)
    assert len(trained["losses"]) == 4
    assert len(trained["test_losses"]) == (4 if setting.test_pass else 0)
    worker.save(str(tmp_path / "trained.npz"))
    after, figures = worker.losses(0, 1)["losses"], worker.evaluate()
    assert after < before
    if not setting.dropout:
        assert trained["losses"][0] == pytest.approx(before[0], rel=1e-6)
    worker.load(str(start))
    assert worker.losses(0, 1)["losses"] == before
    worker.load(str(tmp_path / "trained.npz"))
    assert worker.losses(0, 1)["losses"] == after
    assert worker.evaluate() == figures


def test_an_environment_is_kept_unless_its_requirements_changed(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(environments.subprocess, "run", lambda command, **kw: calls.append(command))
    python = tmp_path / "eventax" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert environments.ensure("eventax", tmp_path) == python
    assert [command[2] for command in calls] == ["pip"]
    assert environments.ensure("eventax", tmp_path) == python
    assert len(calls) == 1
    (tmp_path / "eventax" / "installed-requirements.txt").write_text("older")
    environments.ensure("eventax", tmp_path)
    assert len(calls) == 2


def test_requirements_are_names_and_versions_only():
    choices = [b.choices for b in cli.BENCHMARKS.values()]
    peers = {peer for own in choices for name in ("peer", "peers") for peer in own.get(name, ())}
    files = sorted(environments.REQUIREMENTS.glob("*.txt"))
    assert {file.stem for file in files} == peers
    for line in "".join(file.read_text() for file in files).splitlines():
        name, version = line.split("==")
        assert name.replace("-", "_").isidentifier()
        assert version.replace(".", "").isdigit()


def test_the_machine_is_described_without_its_name():
    described = machine.describe()
    assert described["cores"] >= 1
    assert machine.slug({"cpu": "Some CPU (R) @ 3GHz", "cores": 4}) == "some-cpu-r-3ghz-4-cores"
    assert json.loads(report.as_json(described))["jax"]


def test_a_run_over_seeds_names_the_task_its_options_and_the_data():
    line = quality.command(quality.CASES["yin-yang, QIF"], 1, quality.Options(), "out")
    assert " ".join(line) == "run yin-yang --neuron qif --seed 1 --out out"
    case = quality.CASES["rleaky-classification, membranes"]
    line = quality.command(case, 2, quality.Options(data_dir="mnist"), "out")
    start = "run rleaky-classification --objective membrane --seed 2 --out out"
    assert " ".join(line) == f"{start} --dataset mnist --data-dir mnist"
    assert quality.command(case, 0, quality.BENCHMARK.quick, "out")[-1] == "--quick"


def test_the_figures_of_all_seeds():
    case = quality.CASES["moving-mnist"]
    runs = [
        {
            "test_accuracy": a,
            "test_accuracy_last_step": a / 2,
            "steps_per_second": 3.0,
            "seconds": s,
        }
        for a, s in ((0.5, 1.0), (0.7, 2.0), (0.9, 9.0))
    ]
    found = quality.summary(case, runs)
    assert found["mean"] == pytest.approx(0.7)
    assert found["sd"] == pytest.approx(0.2)
    assert found["seconds"] == 2.0
    (name, other), *rest = found["others"].items()
    assert (name, rest) == ("test_accuracy_last_step", [])
    assert (other["mean"], other["sd"]) == (pytest.approx(0.35), pytest.approx(0.1))
    lines = quality.describe({"cases": {"moving-mnist": found}}).splitlines()[2:]
    assert [line.split()[1:4] for line in lines] == [
        ["test_accuracy", "3", "0.7"],
        ["test_accuracy_last_step", "3", "0.35"],
    ]


@pytest.mark.parametrize("recurrent", [False, True])
def test_first_networks_start_fully_active_or_silent(recurrent, monkeypatch, rng):
    times = rng.uniform(0.0, 20.0, (40, 6, 1)).astype(np.float32)
    labels = np.arange(40, dtype=np.int32) % 3
    spikes = Spikes(times, labels, times[:20], labels[:20])
    case = Case(esn.LIF, "digits", 8, 1, recurrent=recurrent, batch_size=10)
    found = {}
    for start in first_network.STARTS + first_network.MORE_STARTS:
        model = first_network.build(case, spikes, 0, start)
        found[start] = esn.activity(model, jnp.asarray(times))[0]
    silent, normal = {start for start, own in found.items() if own.silent == 1}, found["default"]
    assert silent == {"silent"}
    half = found["half silent"].counts
    assert half[:, ::2].any() and not half[:, 1::2].any()
    assert found["bursting"].spikes > 2 * normal.spikes
    monkeypatch.setattr(first_network, "CASES", {"tiny": case, "other": case})
    monkeypatch.setattr(first_network, "load", lambda case, folder: spikes)
    monkeypatch.setattr(first_network, "prepare_cpu", lambda: None)
    options = first_network.Options(seeds=2, steps=3, only=("tiny",), starts=("default",))
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        found = first_network.run(options)
    (row,) = found["results"]
    assert (row["case"], row["start"], len(row["runs"])) == ("tiny", "default", 2)
    line = first_network.describe(found).splitlines()[-1].split()
    assert line[:3] == ["tiny", "default", "2"]


def test_initialisers_of_first_networks(monkeypatch, rng):
    times = rng.uniform(0.0, 20.0, (40, 6, 1)).astype(np.float32)
    labels = np.arange(40, dtype=np.int32) % 3
    spikes = Spikes(times, labels, times[:20], labels[:20])
    case = Case(esn.LIF, "digits", 8, 1, batch_size=10)
    kinds = {name: initialisers.INITIALISERS[name] for name in ("glorot", "glorot, calibrated")}
    monkeypatch.setattr(initialisers, "INITIALISERS", kinds)
    monkeypatch.setattr(first_network, "INITIALISERS", kinds)
    monkeypatch.setattr(first_network, "CASES", {"tiny": case})
    monkeypatch.setattr(first_network, "load", lambda case, folder: spikes)
    monkeypatch.setattr(first_network, "prepare_cpu", lambda: None)
    options = first_network.Options(seeds=1, steps=2, initialisers=True)
    silent = pytest.warns(UserWarning, match="no gradient for any output")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), silent:
        found = first_network.run(options)
    glorot, calibrated = found["results"]
    assert glorot["runs"][0]["silent"] > calibrated["runs"][0]["silent"]
    assert 0 <= calibrated["runs"][0]["accuracy"] <= 1
    glorot["runs"][0]["accuracy"] = None
    lines = first_network.describe(found).splitlines()[2:]
    assert [line.split()[-1] for line in lines] == ["1", "0"]


class Commands:
    """Commands of the worker of the test above."""

    def echo(self, text):
        print("noise, such as a library may print")
        return {"text": text}

    def leave(self):
        os._exit(3)


def test_the_plan_of_larger_networks_has_the_measured_terms(tmp_path, capsys):
    """Terms of made-up results: 2 s per spike and 3 s per event, 40 bytes per synapse."""

    def row(neurons, inputs, **more):
        return {
            "neurons": neurons,
            "inputs": inputs,
            "spikes": neurons,
            "synaptic_events": neurons * inputs,
            "ours_seconds": neurons * (2.0 + 3.0 * inputs),
            "simulation_memory_mb": 500.0 + 40e-6 * neurons * inputs,
            "rate": 5.0,
            **more,
        }

    found = tmp_path / "results.json"
    rows = [row(100, 10, gradient_ratio=4.0), row(1000, 100, gradient_ratio=3.0), row(2000, 100)]
    found.write_text(json.dumps({"rows": rows}))
    sizes = ["--neurons", "4000", "--inputs", "50", "--devices", "1", "10", "--t-max", "100"]
    assert plan.main([str(found), *sizes]) == 0
    assert (
        "seconds per spike 2, per synaptic event 3, bytes per synapse 40" in capsys.readouterr().out
    )
    measured = plan.terms({"rows": rows})
    spikes = 5e-3 * 100 * 4000
    for devices in (1, 10):
        seconds = spikes * (2.0 + 3.0 * 50 / devices)
        expected = [devices, 40 * 4000 * 50 / devices / 1e9, seconds, 2.0 * spikes / seconds]
        expected += [3.0 * seconds, 100 * 4000 * 24 / devices / 1e9, spikes / 100 * 12 / 1e6]
        np.testing.assert_allclose(plan.plan(measured, 4000, 50, devices, 100.0), expected)
