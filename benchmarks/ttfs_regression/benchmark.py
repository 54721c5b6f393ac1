"""Spike-time regression, eventsnn against a peer: speed, compile time, memory and error.

Method: Each library runs in its own environment and process. The two run alternately, so that they
never share the cores. Both get the same initial state and the same batches. Compile time is the
first training call minus the same call repeated. "At the end of training": the network trained by
eventsnn (weights, biases and Adam's moments after the last step) is loaded into both libraries, and
each trains blocks of steps from there, alternately; every block starts from that same state. Speeds
are medians over the rounds.
"""

import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..harness import environments as peers
from ..harness import machine
from ..harness.report import ratio, table
from ..harness.worker import Worker
from . import problem

OURS = "benchmarks.ttfs_regression.ours"
PEERS = {"eventax": "benchmarks.ttfs_regression.eventax"}


@dataclass(frozen=True)
class Options:
    """Measurement options; blocks are numbers of training steps that are timed together."""

    peer: str | None = None
    rounds: int = 5
    steps: int = problem.STEPS
    seeds: int = 5
    our_block: int = 100
    peer_block: int = 10
    full_peer: bool = False

    def block(self, name: str) -> int:
        return self.our_block if name == "ours" else self.peer_block

    @property
    def data_steps(self) -> int:
        """Number of batches to draw: enough for the training and for a block."""
        return max(self.steps, self.our_block, self.peer_block)


QUICK = Options(rounds=2, steps=40, seeds=1, our_block=20, peer_block=2)


def say(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def measure_start(worker: Worker, initial: Path, steps: int) -> dict[str, float]:
    """Train the first `steps` steps twice: the first call compiles, the second is timed."""
    worker.ask("load", path=str(initial))
    first = worker.ask("train", first=0, steps=steps)["seconds"]
    worker.ask("load", path=str(initial))
    again = worker.ask("train", first=0, steps=steps)["seconds"]
    return {"compile_seconds": first - again, "start_steps_per_second": steps / again}


def measure_block(worker: Worker, trained: Path, steps: int) -> float:
    """Training steps per second over one block, from the trained state."""
    worker.ask("load", path=str(trained))
    return steps / worker.ask("train", first=0, steps=steps)["seconds"]


def take_turns(
    workers: dict[str, Worker], trained: Path, options: Options
) -> dict[str, list[float]]:
    """Training steps per second of each library from the trained state, one block per round,
    alternately."""
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(options.rounds):
        for name, worker in workers.items():
            rates[name].append(measure_block(worker, trained, options.block(name)))
        said = ", ".join(f"{name} {rate[-1]:.1f} steps/s" for name, rate in rates.items())
        say(f"round {turn + 1}/{options.rounds}: {said}")
    return rates


def train_to_end(worker: Worker, initial: Path, steps: int, end: Path) -> float:
    """Train all `steps` from the initial state and save the final state; return the test error in
    ms."""
    worker.ask("load", path=str(initial))
    worker.ask("train", first=0, steps=steps)
    worker.ask("save", path=str(end))
    return worker.ask("evaluate")["test_mae"]


def our_runs(ours: Worker, options: Options) -> dict[str, Any]:
    """Run the task as `eventsnn run` does, for each seed; return the errors and the reported
    speeds."""
    runs = []
    for seed in range(options.seeds):
        runs.append(ours.ask("run_task", seed=seed, steps=options.steps))
        say(f"eventsnn run, seed {seed}: test error {runs[-1]['test_mae']:.3f} ms")
    errors = [run["test_mae"] for run in runs]
    return {
        "ours_test_mae": errors,
        "ours_test_mae_median": median(errors),
        "ours_run_steps_per_second": median(run["steps_per_second"] for run in runs),
    }


def full_peer(worker: Worker, data: Path, options: Options, end: Path) -> dict[str, float]:
    """Train the peer from the initial state to its own end; return its error and its speed
    there."""
    error = train_to_end(worker, data, options.steps, end)
    rates = [measure_block(worker, end, options.peer_block) for _ in range(options.rounds)]
    return {"peer_test_mae": error, "peer_own_end_steps_per_second": median(rates)}


def summarise(
    start: dict[str, dict[str, float]], rates: dict[str, list[float]], memory: dict[str, float]
) -> dict[str, Any]:
    """Collect the values of each library as `ours_*` and `peer_*`, and the two ratios."""
    result: dict[str, Any] = {}
    for name in rates:
        result |= {f"{name}_steps_per_second": median(rates[name])}
        result |= {f"{name}_{key}": value for key, value in start[name].items()}
        result |= {f"{name}_peak_memory_mb": memory[name], f"{name}_rounds": rates[name]}
    for key, figure in (("ratio", "steps_per_second"), ("compile_ratio", "compile_seconds")):
        result[key] = ratio(result[f"ours_{figure}"], result.get(f"peer_{figure}"))
    return result


def measure(workers: dict[str, Worker], options: Options, folder: Path) -> dict[str, Any]:
    """Measure all quantities, with newly started workers."""
    data = problem.write(folder / "seed0.npz", 0, options.data_steps)
    start = {}
    for name, worker in workers.items():
        worker.ask("open", problem=str(data))
        start[name] = measure_start(worker, data, options.block(name))
        say(f"{name}: compiled in {start[name]['compile_seconds']:.1f} s")
    trained = folder / "trained.npz"
    error = train_to_end(workers["ours"], data, options.steps, trained)
    say(f"ours: test error {error:.3f} ms after {options.steps} steps")
    rates = take_turns(workers, trained, options)
    memory = {name: worker.ask("memory")["peak_memory_mb"] for name, worker in workers.items()}
    result = summarise(start, rates, memory) | our_runs(workers["ours"], options)
    if options.full_peer and "peer" in workers:
        result |= full_peer(workers["peer"], data, options, folder / "peer.npz")
    return result


def run(options: Options) -> dict[str, Any]:
    """Start the workers, measure, and describe the machine."""
    described = machine.describe()
    commands = {"ours": (Path(sys.executable), OURS)}
    if options.peer is not None:
        commands["peer"] = (peers.ensure(options.peer), PEERS[options.peer])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = {n: stack.enter_context(closing(Worker(*c))) for n, c in commands.items()}
        figures = measure(workers, options, Path(folder))
    about = {"benchmark": "ttfs-regression", "peer": options.peer, "training_steps": options.steps}
    return about | figures | {"machine": described}


def describe(result: dict[str, Any]) -> str:
    """Format the results as a table with one column per library."""
    rows = [
        ("steps/s at the end of training", "steps_per_second"),
        ("steps/s at the start", "start_steps_per_second"),
        ("compile seconds", "compile_seconds"),
        ("peak memory, MB", "peak_memory_mb"),
    ]
    lines = []
    for label, key in rows:
        ours, peer = result[f"ours_{key}"], result.get(f"peer_{key}")
        lines.append((label, ours, peer, ratio(ours, peer)))
    lines.append(
        ("test error, ms", result["ours_test_mae_median"], result.get("peer_test_mae"), None)
    )
    return table(("", "eventsnn", result["peer"] or "no peer", "ratio"), lines)
