"""Tasks of the event mode, eventsnn against a peer: speed, compile time, memory and error.

Method: Each library runs in its own environment and process. They run alternately, so that they
never share the cores. All get the same initial state and the same batches. Compile time is the
first training call minus the same call repeated. "At the end of training": the network trained by
eventsnn (weights, biases and Adam's moments after the last step) is loaded into all libraries, and
each trains blocks of steps from there, alternately; every block starts from that same state. Speeds
are medians over the rounds.

The regression runs in float32. In Yin-Yang, the peer computes in float64, and so does eventsnn; its
results in float32 are a third column. There, the losses of the first batch, and the test accuracy
of the trained network in both libraries, show that both compute the same.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..harness import speed
from ..harness.benchmark import Benchmark, count, option
from ..harness.report import comparison, log
from ..harness.worker import Worker, started
from ..workers import files
from .tasks import TASKS

DTYPES = {"ours": "float64", "ours_float32": "float32", "peer": "float64"}
YIN_YANG_LABELS = {
    "first_loss": "loss of the first batch",
    "test_accuracy": "test accuracy of our network",
}


@dataclass(frozen=True, kw_only=True)
class RegressionOptions(speed.Options):
    """Settings of the regression."""

    seeds: int = count(5, "number of seeds of the error")
    full_peer: bool = option(False, "train the peer to its end too", action="store_true")


def train_to_end(worker: Worker, initial: Path, steps: int, end: Path) -> dict[str, float]:
    """Train `steps` from the initial state, save the final state, and evaluate it."""
    worker.request("load", path=initial)
    worker.request("train", first=0, steps=steps)
    worker.request("save", path=end)
    return worker.request("evaluate")


def run_regression(options: RegressionOptions) -> dict[str, Any]:
    """Measure all quantities of the regression."""
    task, start = TASKS["ttfs-regression"], {}
    steps = options.steps or task.steps
    with started("event", options.peer) as (workers, folder):
        data = files.write(folder / "seed0.npz", task.draw(0, options.n_batches(steps)))
        for name, worker in workers.items():
            opening = {"task": "ttfs-regression", "setting": task.setting, "dtype": "float32"}
            worker.request("open", problem=data, **opening)
            start[name] = speed.at_start(worker, name, data, options)
        trained = folder / "trained.npz"
        error = train_to_end(workers["ours"], data, steps, trained)["test_mae"]
        log(f"ours: test error {error:.3f} ms after {steps} steps")
        result = speed.compare(workers, start, trained, options)
        result |= task_runs(workers["ours"], options.seeds, steps)
        if options.full_peer and "peer" in workers:
            peer, end = workers["peer"], folder / "peer.npz"
            result["peer_test_mae"] = train_to_end(peer, data, steps, end)["test_mae"]
            rates = [speed.block_rate(peer, end, options.peer_block) for _ in range(options.rounds)]
            result["peer_own_end_steps_per_second"] = median(rates)
    return {"peer": options.peer, "training_steps": steps} | result


def task_runs(ours: Worker, seeds: int, steps: int) -> dict[str, Any]:
    """Run the task as `eventsnn run` does; return the errors and the reported speeds."""
    runs = []
    for seed in range(seeds):
        runs.append(ours.request("run_task", seed=seed, steps=steps))
        log(f"eventsnn run, seed {seed}: test error {runs[-1]['test_mae']:.3f} ms")
    errors = [run["test_mae"] for run in runs]
    speeds = [run["steps_per_second"] for run in runs]
    medians = {"ours_test_mae_median": median(errors), "ours_run_steps_per_second": median(speeds)}
    return {"ours_test_mae": errors} | medians


def describe_regression(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library."""
    shown = result | {"ours_test_mae": result["ours_test_mae_median"]}
    return comparison(shown, speed.LABELS | {"test_mae": "test error, ms"})


def run_yin_yang(options: speed.Options) -> dict[str, Any]:
    """Measure all quantities of Yin-Yang."""
    task, start, losses, accuracy = TASKS["yin-yang"], {}, {}, {}
    steps = options.steps or task.steps
    with started("event", options.peer, ours=("ours", "ours_float32")) as (workers, folder):
        data = files.write(folder / "seed0.npz", task.draw(0, options.n_batches(steps)))
        for name, worker in workers.items():
            opening = {"task": "yin-yang", "setting": task.setting, "dtype": DTYPES[name]}
            worker.request("open", problem=data, **opening)
            start[name] = speed.at_start(worker, name, data, options)
            worker.request("load", path=data)
            losses[f"{name}_first_loss"] = worker.request("train", first=0, steps=1)["loss"]
        trained = folder / "trained.npz"
        train_to_end(workers["ours"], data, steps, trained)
        result = speed.compare(workers, start, trained, options)
        for name, worker in workers.items():
            worker.request("load", path=trained)
            accuracy[f"{name}_test_accuracy"] = worker.request("evaluate")["test_accuracy"]
    return {"peer": options.peer, "training_steps": steps} | result | losses | accuracy


def describe_yin_yang(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library and precision."""
    others = {"ours_float32": "eventsnn, float32"}
    return comparison(result, speed.LABELS | YIN_YANG_LABELS, "eventsnn, float64", others)


BENCHMARKS = {
    "ttfs-regression": Benchmark(
        "steps/s at start and end, compile time, memory, error; also of a peer",
        run_regression,
        describe_regression,
        full=RegressionOptions(our_block=100, peer_block=10),
        quick=RegressionOptions(our_block=20, peer_block=2, rounds=2, steps=40, seeds=1),
        choices={"peer": ("eventax",)},
    ),
    "yin-yang": Benchmark(
        "steps/s, compile time and memory of Yin-Yang with QIF neurons; also of a peer",
        run_yin_yang,
        describe_yin_yang,
        full=speed.Options(our_block=80, peer_block=4),
        quick=speed.Options(our_block=20, peer_block=1, rounds=2, steps=20),
        choices={"peer": ("eventax",)},
    ),
}
