"""Feed-forward layers: tasks against an earlier revision, one layer against C++, growth, delays.

Method: The tasks run as `eventsnn run TASK` from the source trees of this revision and of the
earlier one, which simulates a feed-forward network as one event loop. They run in turns, with the
same packages. `mnist-latency` runs with the settings of the earlier revision, where the outputs
receive the first five spikes of each hidden neuron, except that its initial weights are those of
today. Speeds are those that the runs report, at the end of their training, medians over the rounds.

The C++ code (`layer.cpp`, -O3, all vector instructions of the machine) simulates the hidden layer
of `mnist-latency`, 784-350, on 64 images. Both run on the same core in turns, in float32.

Growth: one layer on one core, with one spike per input channel at a random time. Each line
multiplies one size, and the others stay as they are.

Delays: the same layer with random delays of channels or of synapses, in turns with the event loop
of its equivalent network with the same synaptic delays.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..harness import mnist
from ..harness.benchmark import Benchmark, count, option
from ..harness.environments import ROOT
from ..harness.report import log, ratio, table
from ..harness.worker import Worker, WorkerError, started, worker_environment
from ..workers import files

#: Last revision without layers.
REVISION = "fd10090"
#: Settings of the tasks in the earlier revision that differ from today's. Those of `mnist-latency`
#: apply to `--dataset mnist`.
EARLIER = {
    "mnist-latency": [
        "--tau-syn=5",
        "--t-max=40",
        "--learning-rate=0.02",
        "--final-rate-fraction=0.05",
        "--dropout=0.2",
        "--rotation=0",
        "--scaling=0",
        "--shift=0",
        "--v-reset=0",
        "--max-spikes=5",
    ],
    "yin-yang": ["--min-speed=0"],
}
#: Command line of `eventsnn`, in both revisions.
PROGRAM = "import sys; from eventsnn.cli import main; sys.exit(main(sys.argv[1:]))"
BATCH, HIDDEN, INPUT_T_MAX = 64, 350, 20.0
LONGEST_DELAY = 10.0
#: Smallest sizes, and the factors by which they grow.
SIZES = {"inputs": 100, "neurons": 100, "batch": 32}


@dataclass(frozen=True)
class Options:
    """Settings: steps of each task, and the factors of the growth."""

    rounds: int = count(5, "number of runs and of timed calls")
    data_dir: str | None = option(None, mnist.HELP, metavar="DIR")
    mnist_steps: int = 300
    yin_yang_steps: int = 1500
    factors: tuple[int, ...] = (1, 2, 4, 8)
    quick: bool = False


def speeds(options: Options, folder: Path) -> dict[str, Any]:
    """Measure the training speeds of the tasks in both source trees, in turns."""
    trees, found = {"ours": ROOT, "peer": earlier(folder)}, {}
    images = []
    if not options.quick:  # the tasks run in another folder
        data = Path(mnist.folder_of(options.data_dir)).resolve()
        images = ["mnist", "--data-dir", str(data)]
    tasks = {
        "mnist-latency": [str(options.mnist_steps), "--dataset", *(images or ["digits"])],
        "yin-yang": [str(options.yin_yang_steps)],
    }
    for task, arguments in tasks.items():
        rates: dict[str, list[float]] = {name: [] for name in trees}
        for _ in range(options.rounds):
            for name, tree in trees.items():
                same = name == "ours" and (images or task != "mnist-latency")
                settings = EARLIER[task] if same else []
                rates[name].append(rate(tree, folder, [task, "--steps", *arguments, *settings]))
                log(f"{task}, {name}: {rates[name][-1]:.1f} steps/s")
        ours, peer = (median(rates[name]) for name in ("ours", "peer"))
        rounds = {f"{name}_rounds": values for name, values in rates.items()}
        speed = {"ours_steps_per_second": ours, "peer_steps_per_second": peer}
        found[task] = {**speed, "ratio": ratio(ours, peer), **rounds}
    return found


def earlier(folder: Path) -> Path:
    """Extract the source tree of the earlier revision."""
    archive = subprocess.run(
        ["git", "archive", REVISION, "eventsnn"], cwd=ROOT, capture_output=True, check=True
    )
    tree = folder / REVISION
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
        file.extractall(tree, filter="data")
    return tree


def rate(tree: Path, folder: Path, arguments: list[str]) -> float:
    """Run a task from a source tree, and return its training steps per second."""
    environment = worker_environment() | {"PYTHONPATH": str(tree)}
    line = [sys.executable, "-c", PROGRAM, "run", *arguments, "--out", str(folder / "run")]
    done = subprocess.run(line, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        message = (done.stderr.splitlines() or ["no message"])[-1]
        raise WorkerError(f"eventsnn run {arguments[0]} failed in {tree.name}: {message}")
    return json.loads(done.stdout.splitlines()[-1])["steps_per_second"]


def yardstick(worker: Worker, options: Options, folder: Path) -> dict[str, Any]:
    """Measure the hidden layer of `mnist-latency`, and the C++ code."""
    images = mnist.digits() if options.quick else mnist.read(options.data_dir)
    grey = images["train_images"][:BATCH].reshape(BATCH, -1, 1) / 255
    in_times = np.where(grey > 1.5 / 255, (1 - grey) * INPUT_T_MAX, np.inf).astype(np.float32)
    rng = np.random.default_rng(0)
    weights = rng.normal(0.078, 0.045, (grey.shape[1], HIDDEN)).astype(np.float32)
    arrays = {"in_times": in_times, "weights": weights}
    problem, library = files.write(folder / "layer.npz", arrays), folder / "layer.so"
    source = Path(__file__).with_name("layer.cpp")
    compiler = ["g++", "-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"]
    subprocess.run([*compiler, str(source), "-o", str(library)], check=True)
    request = {"problem": problem, "library": library, "rounds": 4 * options.rounds}
    found = worker.request("yardstick", **request)
    log(f"one layer: {found['ours_forward_ms']:.2f} ms, C++ {found['peer_forward_ms']:.2f} ms")
    input_spikes = float(np.isfinite(in_times).sum() / BATCH)
    slower = ratio(found["ours_forward_ms"], found["peer_forward_ms"])
    return {"input_spikes": input_spikes, "times_slower": slower} | found


def growth(worker: Worker, options: Options, folder: Path) -> list[dict[str, Any]]:
    """Measure one layer while one of its sizes grows."""
    rows = []
    for along in SIZES:
        for factor in options.factors:
            size = SIZES | {along: factor * SIZES[along]}
            problem = files.write(folder / "growth.npz", drawn(size))
            measured = worker.request("measure", problem=problem, rounds=2 * options.rounds)
            rows.append({"along": along, "factor": factor, **size, **measured})
            log(f"{along} x {factor}: {measured['gradient_ms']:.2f} ms")
    for row in rows:
        first = next(one for one in rows if one["along"] == row["along"])
        row["growth"] = {key: row[key] / first[key] for key in ("forward_ms", "gradient_ms")}
    return rows


def drawn(size: dict[str, int]) -> dict[str, np.ndarray]:
    """Draw input spikes and weights. The drive of a neuron does not depend on the inputs."""
    rng = np.random.default_rng(0)
    in_times = rng.uniform(0.0, INPUT_T_MAX, (size["batch"], size["inputs"], 1))
    weights = rng.normal(10.0, 6.0, (size["inputs"], size["neurons"])) / size["inputs"]
    return {"in_times": in_times, "weights": weights}


def with_delays(worker: Worker, options: Options, folder: Path) -> dict[str, Any]:
    """Measure a layer with delays, and the event loop."""
    size = {name: value // 4 for name, value in SIZES.items()} if options.quick else SIZES
    arrays, rng = drawn(size), np.random.default_rng(1)
    delays = rng.uniform(0.0, LONGEST_DELAY, arrays["weights"].shape)
    problem = files.write(folder / "delays.npz", arrays | {"delays": delays})
    found = worker.request("delays", problem=problem, rounds=options.rounds)
    log(f"synaptic delays: {found['synaptic']['gradient_ms']:.1f} ms")
    return found


def run(options: Options) -> dict[str, Any]:
    """Measure all parts."""
    with started("layers") as (workers, folder), tempfile.TemporaryDirectory() as runs:
        one_layer = yardstick(workers["ours"], options, folder)
        rows = growth(workers["ours"], options, folder)
        delays = with_delays(workers["ours"], options, folder)
        tasks = speeds(options, Path(runs))
    about = {"quick": options.quick, "revision": REVISION}
    return about | {"tasks": tasks, "layer": one_layer, "growth": rows, "delays": delays}


def describe(result: dict[str, Any]) -> str:
    """Format one table per part."""
    tasks = [
        (name, row["ours_steps_per_second"], row["peer_steps_per_second"], row["ratio"])
        for name, row in result["tasks"].items()
    ]
    layer = result["layer"]
    agreement = (
        f"{layer['spikes']} spikes, {layer['unequal_spikes']} of them in only one of the two; "
        f"largest difference {layer['largest_difference_ms']:.1e} ms"
    )
    times = layer["ours_forward_ms"], layer["peer_forward_ms"], layer["times_slower"]
    sizes = ("inputs", "neurons", "batch", "output_spikes", "forward_ms", "gradient_ms")
    rows = [
        (f"{row['along']} x {row['factor']}", *(row[key] for key in sizes), *row["growth"].values())
        for row in result["growth"]
    ]
    delays = [(name, *row.values()) for name, row in result["delays"].items()]
    return "\n\n".join(
        [
            table(("training steps/s", "eventsnn", result["revision"], "ratio"), tasks),
            table(("one layer, forward, ms", "eventsnn", "C++", "times slower"), [("", *times)]),
            agreement,
            table(("growth", *sizes, "forward x", "gradient x"), rows),
            table(("delays", "forward, ms", "gradient, ms", "output spikes"), delays),
        ]
    )


BENCHMARK = Benchmark(
    "feed-forward layers: against the event loop of an earlier revision, C++, growth, and delays",
    run,
    describe,
    full=Options(),
    quick=Options(rounds=1, mnist_steps=16, yin_yang_steps=40, factors=(1, 2), quick=True),
)
