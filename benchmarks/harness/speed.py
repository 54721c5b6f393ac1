"""Training speeds of libraries that train alternately, so that they never share the cores."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .benchmark import count, option
from .report import log, ratio
from .worker import Worker, Workers

Values = dict[str, Any]
LABELS = {
    "steps_per_second": "steps/s at the end of training",
    "start_steps_per_second": "steps/s at the start",
    "compile_seconds": "compile seconds",
    "peak_memory_mb": "peak memory, MB",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of a comparison; a block is a number of training steps that are timed together."""

    our_block: int
    peer_block: int
    peer: str | None = option(None, "library to compare with; default: none")
    rounds: int = count(5, "number of timed blocks per library")
    steps: int | None = count(
        None, "number of training steps before the speed at the end is measured"
    )

    def block(self, name: str) -> int:
        """Number of steps per block of a worker."""
        return self.peer_block if name == "peer" else self.our_block

    def n_batches(self, steps: int) -> int:
        """Number of batches to draw: enough for `steps` of training and for a block."""
        return max(steps, self.our_block, self.peer_block)


@dataclass(frozen=True, kw_only=True)
class SeedOptions(Options):
    """Settings of a comparison with full trainings of several seeds."""

    seeds: int = count(1, "number of full trainings, one per seed")
    full_peer: bool = option(False, "train the peer in full, too", action="store_true")


def at_start(worker: Worker, name: str, initial: Path, options: Options) -> Values:
    """Train the first block twice: the first call compiles, the second is timed."""
    steps = options.block(name)
    first, again = (steps / block_rate(worker, initial, steps) for _ in range(2))
    log(f"{name}: first {steps} steps in {first:.2f} s, again in {again:.2f} s")
    return {"compile_seconds": first - again, "start_steps_per_second": steps / again}


def block_rate(worker: Worker, initial: Path, steps: int) -> float:
    """Training steps per second over one block, from a saved state."""
    worker.request("load", path=initial)
    return steps / worker.request("train", first=0, steps=steps)["seconds"]


def train_to_end(worker: Worker, initial: Path, trained: Path, **training: int) -> Values:
    """Train from the initial state, save the final state, and evaluate it."""
    worker.request("load", path=initial)
    seconds = worker.request("train", first=0, **training)["seconds"]
    worker.request("save", path=trained)
    return {"train_seconds": seconds} | worker.request("evaluate")


def compare(workers: Workers, start: Values, initial: Path, options: Options) -> Values:
    """Measure the speeds from a saved state, one block per round, then the memory."""
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(options.rounds):
        for name, worker in workers.items():
            rates[name].append(block_rate(worker, initial, options.block(name)))
        shown = ", ".join(f"{name} {rate[-1]:.1f} steps/s" for name, rate in rates.items())
        log(f"round {turn + 1}: {shown}")
    memory = {name: worker.request("memory")["peak_memory_mb"] for name, worker in workers.items()}
    return summary(start, rates, memory)


def summary(start: Values, rates: dict[str, list[float]], memory: dict[str, float]) -> Values:
    """Collect the values of each library as `ours_*` and `peer_*`, and the two ratios."""
    result: Values = {}
    for name in rates:
        result |= {f"{name}_steps_per_second": median(rates[name])}
        result |= {f"{name}_{key}": value for key, value in start[name].items()}
        result |= {f"{name}_peak_memory_mb": memory[name], f"{name}_rounds": rates[name]}
    for key, figure in (("ratio", "steps_per_second"), ("compile_ratio", "compile_seconds")):
        result[key] = ratio(result[f"ours_{figure}"], result.get(f"peer_{figure}"))
    return result
