"""Yin-Yang with QIF neurons 5-20-3, eventsnn against a peer: steps/s, compile time and memory.

Method: as in the spike-time regression (see `ttfs_regression`), each library in its own environment
and process, alternately, from the network trained by eventsnn. The peer computes in float64, and so
does eventsnn; its results in float32 are a third column. The losses of the first batch, and the
test accuracy of the trained network in both libraries, show that both compute the same. `quality`
measures the test results of the task over seeds.
"""

import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness import environments as peers
from ..harness import machine
from ..harness.report import ratio, table
from ..harness.worker import Worker
from ..ttfs_regression.benchmark import measure_start, say, summarise, take_turns
from . import problem

OURS = "benchmarks.yin_yang.ours"
PEERS = {"eventax": "benchmarks.yin_yang.eventax"}
DTYPES = {"ours": "float64", "ours_float32": "float32", "peer": "float64"}


@dataclass(frozen=True)
class Options:
    """Measurement options; blocks are numbers of training steps that are timed together."""

    peer: str | None = None
    rounds: int = 5
    steps: int = problem.STEPS
    our_block: int = 80
    peer_block: int = 4

    def block(self, name: str) -> int:
        return self.peer_block if name == "peer" else self.our_block

    @property
    def data_steps(self) -> int:
        """Number of batches to draw: enough for the training and for a block."""
        return max(self.steps, self.our_block, self.peer_block)


QUICK = Options(rounds=2, steps=20, our_block=20, peer_block=1)


def first_loss(worker: Worker, initial: Path) -> float:
    """Loss of the first batch, before any training."""
    worker.ask("load", path=str(initial))
    return worker.ask("train", first=0, steps=1)["loss"]


def measure(workers: dict[str, Worker], options: Options, folder: Path) -> dict[str, Any]:
    """Measure all quantities, with newly started workers."""
    data = problem.write(folder / "seed0.npz", 0, options.data_steps)
    start, losses, accuracy = {}, {}, {}
    for name, worker in workers.items():
        worker.ask("open", problem=str(data), dtype=DTYPES[name])
        start[name] = measure_start(worker, data, options.block(name))
        losses[f"{name}_first_loss"] = first_loss(worker, data)
        say(f"{name}: compiled in {start[name]['compile_seconds']:.1f} s")
    trained, ours = folder / "trained.npz", workers["ours"]
    ours.ask("load", path=str(data))
    ours.ask("train", first=0, steps=options.steps)
    ours.ask("save", path=str(trained))
    rates = take_turns(workers, trained, options)  # pyright: ignore[reportArgumentType]
    for name, worker in workers.items():
        worker.ask("load", path=str(trained))
        accuracy[f"{name}_test_accuracy"] = worker.ask("evaluate")["test_accuracy"]
    memory = {name: worker.ask("memory")["peak_memory_mb"] for name, worker in workers.items()}
    return summarise(start, rates, memory) | losses | accuracy


def run(options: Options) -> dict[str, Any]:
    """Start the workers, measure, and describe the machine."""
    described = machine.describe()
    ours = (Path(sys.executable), OURS)
    commands: dict[str, tuple[Path, str]] = {"ours": ours, "ours_float32": ours}
    if options.peer is not None:
        commands["peer"] = (peers.ensure(options.peer), PEERS[options.peer])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = {n: stack.enter_context(closing(Worker(*c))) for n, c in commands.items()}
        figures = measure(workers, options, Path(folder))
    about = {"benchmark": "yin-yang", "peer": options.peer, "training_steps": options.steps}
    return about | figures | {"machine": described}


def describe(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library and precision."""
    rows = [
        ("steps/s at the end of training", "steps_per_second"),
        ("steps/s at the start", "start_steps_per_second"),
        ("compile seconds", "compile_seconds"),
        ("peak memory, MB", "peak_memory_mb"),
        ("loss of the first batch", "first_loss"),
        ("test accuracy of our network", "test_accuracy"),
    ]
    lines = []
    for label, key in rows:
        ours, single, peer = (result.get(f"{name}_{key}") for name in DTYPES)
        lines.append((label, ours, peer, ratio(ours, peer), single))
    peer = result["peer"] or "no peer"
    return table(("", "eventsnn, float64", peer, "ratio", "eventsnn, float32"), lines)
