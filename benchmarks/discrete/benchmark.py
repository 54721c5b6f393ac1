"""Discrete-time tasks, eventsnn against a peer: speed, compile time, memory and quality.

Method: as in the event mode (see `event.benchmark`), but each round is a block of training steps
from the same initial state, and all batches are in memory, in the library's own array type, when
timing starts. Then each seed is trained in full and evaluated. Two checks show that both libraries
compute the same: the losses of the first batches before any training, and the score that the peer
assigns to the network trained by eventsnn.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..harness import mnist, speed
from ..harness.benchmark import Benchmark, option
from ..harness.report import comparison, log
from ..harness.worker import Worker, Workers, started
from ..workers import files
from . import problem
from .tasks import TASKS

N_COMPARED_BATCHES = 5
# Fraction of a full training over which the mean network is averaged.
MEAN_OF_LAST = 0.2
SPEED_LABELS = {
    "steps_per_second": "training steps/s",
    "compile_seconds": "compile seconds",
    "peak_memory_mb": "peak memory, MB",
    "train_seconds_median": "seconds of the full training",
}
SCORE_LABELS = {
    "accuracy": "test accuracy",
    "relative_error": "relative error",
    "l1": "mean absolute error",
    "accuracy_of_mean": "test accuracy, mean network",
    "relative_error_of_mean": "relative error, mean network",
}


@dataclass(frozen=True, kw_only=True)
class Options(speed.SeedOptions):
    """Settings of the benchmark; `loss` is by default that of the task."""

    task: str
    loss: str | None = option(None, "loss of the task; default: the first of these")
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """Settings for a task with images."""

    data_dir: str | None = option(None, mnist.HELP, metavar="DIR")


def train_in_full(worker: Worker, initial: Path, steps: int, trained: Path) -> dict[str, float]:
    """Train from one initial state to the end, save the result, and evaluate it."""
    last = max(1, round(MEAN_OF_LAST * steps))
    found = speed.train_to_end(worker, initial, trained, steps=steps, mean_last=last)
    found |= worker.request("evaluate_mean")
    log(", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def of_seeds(name: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Values of all seeds of one library, and their medians."""
    found = {f"{name}_{key}": [run[key] for run in runs] for key in runs[0]}
    return found | {f"{key}_median": median(values) for key, values in found.items()}


def measure(
    workers: Workers, opened: dict[str, Any], starts: list[Path], steps: int, options: Options
) -> dict[str, Any]:
    """Measure all quantities; `starts` are the initial states of the seeds."""
    start, losses, runs, in_peer = {}, [], [], []
    for name, worker in workers.items():
        start[name] = speed.at_start(worker, name, starts[0], options)
        if not opened[name]["compiles"]:
            start[name]["compile_seconds"] = None
        worker.request("load", path=starts[0])
        losses.append(worker.request("losses", first=0, steps=N_COMPARED_BATCHES)["losses"])
    result = speed.compare(workers, start, starts[0], options)
    ours, peer = workers["ours"], workers.get("peer")
    trained = starts[0].with_name("trained.npz")
    for initial in starts:
        runs.append(train_in_full(ours, initial, steps, trained))
        if peer is not None and not opened["peer"]["notes"]:
            # The data of the initial state, then the parameters of the network trained by eventsnn.
            for path in (initial, trained):
                peer.request("load", path=path)
            in_peer.append(peer.request("evaluate"))
    result |= of_seeds("ours", runs)
    if peer is not None:
        pairs = zip(*losses, strict=True)
        result["loss_difference"] = max(abs(a - b) / abs(b) for a, b in pairs)
        result["ours_in_peer"] = in_peer
        result |= {f"peer_{key}": opened["peer"][key] for key in ("threads", "notes")}
        if options.full_peer:
            runs = [train_in_full(peer, initial, steps, trained) for initial in starts]
            result |= of_seeds("peer", runs)
    return result


def run(options: Options) -> dict[str, Any]:
    """Start the workers and measure all quantities; each peer and loss has its own results."""
    task, images = TASKS[options.task], None
    if isinstance(options, ImageOptions):
        images = mnist.digits() if options.quick else mnist.read(options.data_dir)
    setting = replace(task.setting, loss=options.loss or task.setting.loss)
    per_epoch = 1 if images is None else len(images["train_labels"]) // setting.batch
    steps = options.steps or task.epochs * per_epoch
    drawn, starts = max(options.n_batches(steps), N_COMPARED_BATCHES), []
    with started("discrete", options.peer) as (workers, folder):
        shared = files.write(folder / "problem.npz", problem.shared(setting, images))
        for seed in range(options.seeds):
            arrays = problem.start(setting, images, seed, drawn)
            starts.append(files.write(folder / f"start{seed}.npz", arrays))
        opening = {"problem": shared, "setting": asdict(setting)}
        opened = {name: worker.request("open", **opening) for name, worker in workers.items()}
        result = measure(workers, opened, starts, steps, options)
    parts = (options.task, options.loss, options.peer)
    name = "-".join(part.replace("_", "-") for part in parts if part is not None)
    about = {"benchmark": name, "task": options.task, "loss": setting.loss, "peer": options.peer}
    return about | {"quick": options.quick, "training_steps": steps} | result


def describe(result: dict[str, Any]) -> str:
    """Format a table with one column per library, and the deviations of the peer."""
    scores = {f"{key}_median": text for key, text in SCORE_LABELS.items()}
    scores = {key: text for key, text in scores.items() if f"ours_{key}" in result}
    text = [comparison(result, SPEED_LABELS | scores)]
    if "loss_difference" in result:
        difference = f"{result['loss_difference']:.1e}"
        text.append(f"losses of the first {N_COMPARED_BATCHES} batches differ by {difference}")
    text += [f"{result['peer']}: {note}" for note in result.get("peer_notes", ())]
    return "\n".join(text)


def benchmark(name: str) -> Benchmark:
    """Benchmark of one task."""
    task = TASKS[name]
    kind = Options if task.setting.loss == "mse" else ImageOptions
    ours, peer = task.blocks
    full = kind(task=name, seeds=task.seeds, our_block=ours, peer_block=peer)
    quick = replace(full, seeds=1, our_block=4, peer_block=2, rounds=2, steps=8, quick=True)
    choices = {"peer": task.peers, "loss": (task.setting.loss, *task.other_losses)}
    return Benchmark(task.text, run, describe, full, quick, choices)


BENCHMARKS = {name: benchmark(name) for name in TASKS}
