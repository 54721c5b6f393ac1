"""Discrete-time tasks, eventsnn against a peer: speed, compile time, memory and quality.

Method: Each library runs in its own environment and process. The two run alternately, so that they
never share the cores. Both get the same images, initial parameters and batches, already in memory
and in their own array type when timing starts. Compile time is the first training call minus the
same call repeated. Speeds are medians over the rounds; each round is a block of training steps from
the same initial state. Then each seed is trained in full and evaluated. Two checks show that both
libraries compute the same: the losses of the first batches before any training, and the score that
the peer assigns to the network trained by eventsnn.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..harness import environments as peers
from ..harness import machine
from ..harness import mnist as images
from ..harness.report import ratio, table
from ..harness.worker import Worker
from ..ttfs_regression.benchmark import measure_start, say, summarise, take_turns
from . import problem as problems

OURS = "benchmarks.discrete.ours"
PEERS = {name: f"benchmarks.discrete.{name}" for name in problems.ALL}
COMPARED = 5
LABELS = {
    "accuracy": "test accuracy",
    "relative_error": "relative error",
    "l1": "mean absolute error",
    "accuracy_of_mean": "test accuracy, mean network",
    "relative_error_of_mean": "relative error, mean network",
}
# Fraction of a full training over which the mean network is averaged.
MEAN_OF_LAST = 0.2


@dataclass(frozen=True)
class Options:
    """Measurement options; blocks are numbers of training steps that are timed together."""

    task: str
    seeds: int
    our_block: int
    peer_block: int
    peer: str | None = None
    loss: str | None = None
    rounds: int = 5
    steps: int | None = None
    full_peer: bool = False
    data_dir: Path | None = None
    quick: bool = False

    def block(self, name: str) -> int:
        return self.our_block if name == "ours" else self.peer_block


def defaults(task: str, quick: bool = False) -> Options:
    """Return the settings of the task, or a short run that only checks that everything works."""
    if quick:
        return Options(task, seeds=1, our_block=4, peer_block=2, rounds=2, steps=8, quick=True)
    own = problems.TASKS[task]
    return Options(task, own.seeds, own.our_block, own.peer_block)


@dataclass(frozen=True)
class Files:
    """Paths of the problem, of the initial state of each seed, and of the trained parameters."""

    problem: Path
    starts: list[Path]
    trained: Path


def load_images(options: Options) -> images.Images | None:
    """Load the images of the task: none for the regression, MNIST, or a stand-in for a quick
    run."""
    if problems.TASKS[options.task].losses == ("mse",):
        return None
    if options.quick:
        return images.synthetic()
    return images.mnist(images.folder_of(options.data_dir))


def write(options: Options, shown: images.Images | None, folder: Path) -> tuple[Files, int]:
    """Write the files and return the number of steps of a full training."""
    task = problems.TASKS[options.task]
    setting, steps = task.with_loss(options.loss), options.steps or task.steps(shown)
    drawn = max(steps, options.our_block, options.peer_block, COMPARED)
    starts = [
        problems.write_start(folder / f"start{seed}.npz", setting, shown, seed, drawn)
        for seed in range(options.seeds)
    ]
    problem = problems.write(folder / "problem.npz", setting, shown)
    return Files(problem, starts, folder / "trained.npz"), steps


def first_losses(worker: Worker, start: Path) -> list[float]:
    """Return the losses of the first batches, before any training."""
    worker.ask("load", path=str(start))
    return worker.ask("losses", first=0, steps=COMPARED)["losses"]


def difference(ours: list[float], peer: list[float]) -> float:
    """Return the largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, peer, strict=True))


def train_in_full(worker: Worker, start: Path, steps: int, trained: Path) -> dict[str, float]:
    """Train from one initial state to the end; return the seconds of training and the
    evaluation."""
    worker.ask("load", path=str(start))
    last = max(1, round(MEAN_OF_LAST * steps))
    seconds = worker.ask("train", first=0, steps=steps, mean_last=last)["seconds"]
    worker.ask("save", path=str(trained))
    figures = {"train_seconds": seconds} | worker.ask("evaluate")
    return figures | worker.ask("evaluate_mean")


def all_seeds(
    name: str, worker: Worker, files: Files, steps: int, after: Callable[[Path], None]
) -> dict[str, Any]:
    """Train every seed in full; return a list of each quantity per library, and its median.

    `after` is called with the initial state of each seed while the trained parameters are in the
    file.
    """
    runs: list[dict[str, float]] = []
    for start in files.starts:
        runs.append(train_in_full(worker, start, steps, files.trained))
        said = ", ".join(f"{key} {value:.4g}" for key, value in runs[-1].items())
        say(f"{name}, seed {len(runs) - 1}: {said}")
        after(start)
    result: dict[str, Any] = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        result |= {f"{name}_{key}": values, f"{name}_{key}_median": median(values)}
    return result


def measure(
    workers: dict[str, Worker], options: Options, files: Files, steps: int
) -> dict[str, Any]:
    """Measure all quantities, with newly started workers."""
    opened, start, losses = {}, {}, {}
    for name, worker in workers.items():
        opened[name] = worker.ask("open", problem=str(files.problem))
        start[name] = measure_start(worker, files.starts[0], options.block(name))
        if not opened[name]["compiles"]:
            start[name]["compile_seconds"] = None
        losses[name] = first_losses(worker, files.starts[0])
        say(f"{name}: {start[name]['start_steps_per_second']:.1f} steps/s at the start")
    rates = take_turns(workers, files.starts[0], options)  # pyright: ignore[reportArgumentType]
    memory = {name: worker.ask("memory")["peak_memory_mb"] for name, worker in workers.items()}
    result = {"training_steps": steps} | summarise(start, rates, memory)

    scores: list[dict[str, float]] = []

    def judge(start: Path) -> None:
        """Return the peer's evaluation of the network trained by eventsnn, if it computes the same
        model."""
        if "peer" in workers and not opened["peer"]["notes"]:
            for path in (start, files.trained):
                workers["peer"].ask("load", path=str(path))
            scores.append(workers["peer"].ask("evaluate"))

    result |= all_seeds("ours", workers["ours"], files, steps, judge)
    if "peer" in workers:
        result |= {
            "loss_difference": difference(losses["ours"], losses["peer"]),
            "ours_in_peer": scores,
            "peer_threads": opened["peer"]["threads"],
            "peer_notes": opened["peer"]["notes"],
        }
        if options.full_peer:
            result |= all_seeds("peer", workers["peer"], files, steps, lambda start: None)
    return result


def run(options: Options) -> dict[str, Any]:
    """Start the workers, measure, and describe the machine."""
    described = machine.describe()
    if described["load_average_before"] > 1:
        say(f"the machine is busy (load {described['load_average_before']}): timings will mislead")
    shown = load_images(options)
    commands = {"ours": (Path(sys.executable), OURS)}
    if options.peer is not None:
        commands["peer"] = (peers.ensure(options.peer), PEERS[options.peer])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files, steps = write(options, shown, Path(folder))
        workers = {n: stack.enter_context(closing(Worker(*c))) for n, c in commands.items()}
        figures = measure(workers, options, files, steps)
    # Each peer and loss has its own entry in the results.
    parts = (options.task, options.loss, options.peer)
    about = {
        "benchmark": "-".join(part.replace("_", "-") for part in parts if part is not None),
        "task": options.task,
        "loss": options.loss or problems.TASKS[options.task].losses[0],
        "peer": options.peer,
        "quick": options.quick,
    }
    return about | figures | {"machine": described}


def describe(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library, and list deviations of the
    peer."""
    rows = [
        ("training steps/s", "steps_per_second"),
        ("compile seconds", "compile_seconds"),
        ("peak memory, MB", "peak_memory_mb"),
        ("seconds of the full training", "train_seconds_median"),
    ]
    rows += [(text, f"{key}_median") for key, text in LABELS.items() if f"ours_{key}" in result]
    lines = []
    for label, key in rows:
        ours, peer = result[f"ours_{key}"], result.get(f"peer_{key}")
        lines.append((label, ours, peer, ratio(ours, peer)))
    text = [table(("", "eventsnn", result["peer"] or "no peer", "ratio"), lines)]
    if "loss_difference" in result:
        text.append(
            f"losses of the first {COMPARED} batches differ by {result['loss_difference']:.1e}"
        )
    text += [f"{result['peer']}: {note}" for note in result.get("peer_notes", ())]
    return "\n".join(text)
