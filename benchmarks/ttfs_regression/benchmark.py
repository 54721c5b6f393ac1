"""Spike-time regression, eventsnn against a peer: speed, compile time, memory and error.

Method: Each library runs in its own environment and process. The two run alternately, so that they
never share the cores. Both get the same initial state and the same batches. Compile time is the
first training call minus the same call repeated. "At the end of training": the network trained by
eventsnn (weights, biases and Adam's moments after the last step) is loaded into both libraries, and
each trains blocks of steps from there, alternately; every block starts from that same state. Speeds
are medians over the rounds.
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
from . import problem


@dataclass(frozen=True, kw_only=True)
class Options(speed.Options):
    """Settings of the benchmark."""

    seeds: int = count(5, "number of seeds of the error")
    full_peer: bool = option(False, "train the peer to its end too", action="store_true")


def train_to_end(worker: Worker, initial: Path, steps: int, end: Path) -> float:
    """Train `steps` from the initial state, save the final state, and return the error in ms."""
    worker.request("load", path=initial)
    worker.request("train", first=0, steps=steps)
    worker.request("save", path=end)
    return worker.request("evaluate")["test_mae"]


def task_runs(ours: Worker, seeds: int, steps: int) -> dict[str, Any]:
    """Run the task as `eventsnn run` does; return the errors and the reported speeds."""
    runs = []
    for seed in range(seeds):
        runs.append(ours.request("run_task", seed=seed, steps=steps))
        log(f"eventsnn run, seed {seed}: test error {runs[-1]['test_mae']:.3f} ms")
    errors = [run["test_mae"] for run in runs]
    return {
        "ours_test_mae": errors,
        "ours_test_mae_median": median(errors),
        "ours_run_steps_per_second": median(run["steps_per_second"] for run in runs),
    }


def full_peer(worker: Worker, data: Path, steps: int, end: Path, options: Options) -> Any:
    """Train the peer from the initial state; return its error, and its speed at its own end."""
    error = train_to_end(worker, data, steps, end)
    rates = [speed.block_rate(worker, end, options.peer_block) for _ in range(options.rounds)]
    return {"peer_test_mae": error, "peer_own_end_steps_per_second": median(rates)}


def run(options: Options) -> dict[str, Any]:
    """Start the workers and measure all quantities."""
    steps, start = options.steps or problem.STEPS, {}
    with started("ttfs_regression", options.peer) as (workers, folder):
        data = files.write(folder / "seed0.npz", problem.make(0, options.n_batches(steps)))
        trained = folder / "trained.npz"
        for name, worker in workers.items():
            worker.request("open", problem=data, setting=problem.SETTING)
            start[name] = speed.at_start(worker, name, data, options)
        error = train_to_end(workers["ours"], data, steps, trained)
        log(f"ours: test error {error:.3f} ms after {steps} steps")
        result = {"peer": options.peer, "training_steps": steps}
        result |= speed.compare(workers, start, trained, options)
        result |= task_runs(workers["ours"], options.seeds, steps)
        if options.full_peer and "peer" in workers:
            result |= full_peer(workers["peer"], data, steps, folder / "peer.npz", options)
    return result


def describe(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library."""
    shown = result | {"ours_test_mae": result["ours_test_mae_median"]}
    return comparison(shown, speed.LABELS | {"test_mae": "test error, ms"})


BENCHMARK = Benchmark(
    "steps/s at start and end, compile time, memory, error; also of a peer",
    run,
    describe,
    full=Options(our_block=100, peer_block=10),
    quick=Options(our_block=20, peer_block=2, rounds=2, steps=40, seeds=1),
    choices={"peer": ("eventax",)},
)
