"""Yin-Yang with QIF neurons 5-20-3, eventsnn against a peer: steps/s, compile time and memory.

Method: as in the spike-time regression, each library in its own environment and process,
alternately, from the network trained by eventsnn. The peer computes in float64, and so does
eventsnn; its results in float32 are a third column. The losses of the first batch, and the test
accuracy of the trained network in both libraries, show that both compute the same. The benchmark
`quality` measures the test results of the task over seeds.
"""

from pathlib import Path
from typing import Any

from ..harness import speed
from ..harness.benchmark import Benchmark
from ..harness.report import comparison
from ..harness.worker import Worker, started
from ..workers import files
from . import problem

DTYPES = {"ours": "float64", "ours_float32": "float32", "peer": "float64"}
LABELS = speed.LABELS | {
    "first_loss": "loss of the first batch",
    "test_accuracy": "test accuracy of our network",
}


def first_loss(worker: Worker, initial: Path) -> float:
    """Loss of the first batch, before any training."""
    worker.request("load", path=initial)
    return worker.request("train", first=0, steps=1)["loss"]


def train(ours: Worker, initial: Path, steps: int, end: Path) -> None:
    """Train `steps` from the initial state and save the final state."""
    ours.request("load", path=initial)
    ours.request("train", first=0, steps=steps)
    ours.request("save", path=end)


def run(options: speed.Options) -> dict[str, Any]:
    """Start the workers and measure all quantities."""
    steps = options.steps or problem.STEPS
    start, losses, accuracy = {}, {}, {}
    ours = ("ours", "ours_float32")
    with started("yin_yang", options.peer, ours) as (workers, folder):
        data = files.write(folder / "seed0.npz", problem.make(0, options.n_batches(steps)))
        trained = folder / "trained.npz"
        for name, worker in workers.items():
            worker.request("open", problem=data, setting=problem.SETTING, dtype=DTYPES[name])
            start[name] = speed.at_start(worker, name, data, options)
            losses[f"{name}_first_loss"] = first_loss(worker, data)
        train(workers["ours"], data, steps, trained)
        speeds = speed.compare(workers, start, trained, options)
        for name, worker in workers.items():
            worker.request("load", path=trained)
            accuracy[f"{name}_test_accuracy"] = worker.request("evaluate")["test_accuracy"]
    return {"peer": options.peer, "training_steps": steps} | speeds | losses | accuracy


def describe(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library and precision."""
    others = {"ours_float32": "eventsnn, float32"}
    return comparison(result, LABELS, ours="eventsnn, float64", others=others)


BENCHMARK = Benchmark(
    "steps/s, compile time and memory of Yin-Yang with QIF neurons; also of a peer",
    run,
    describe,
    full=speed.Options(our_block=80, peer_block=4),
    quick=speed.Options(our_block=20, peer_block=1, rounds=2, steps=20),
    choices={"peer": ("eventax",)},
)
