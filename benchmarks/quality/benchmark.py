"""Test results of the tasks over several seeds.

Each run is `eventsnn run TASK ...` in a separate process; the values are those of its last output
line.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness import machine
from ..harness import mnist as images
from ..harness.report import table
from ..harness.worker import ROOT, WorkerError, worker_environment
from ..ttfs_regression.benchmark import say


@dataclass(frozen=True)
class Case:
    """Task with its options, its main metric, and the number of seeds."""

    task: str
    options: tuple[str, ...]
    metric: str
    seeds: int
    mnist: bool = True


CASES = {
    "yin-yang, LIF": Case("yin-yang", (), "test_accuracy", 10, False),
    "yin-yang, QIF": Case("yin-yang", ("--neuron", "qif"), "test_accuracy", 5, False),
    "delays, learnt": Case("delays", (), "test_accuracy", 5, False),
    "delays, none": Case("delays", ("--delays", "none"), "test_accuracy", 5, False),
    "membrane-event": Case("membrane-event", (), "relative_error", 5, False),
    "mnist-latency, voltage": Case("mnist-latency", (), "test_accuracy", 1),
    "mnist-latency, first spikes": Case("mnist-latency", ("--readout", "ttfs"), "test_accuracy", 1),
    "leaky-classification": Case("leaky-classification", (), "test_accuracy", 3),
    "rleaky-classification, counts": Case("rleaky-classification", (), "test_accuracy", 3),
    "rleaky-classification, membranes": Case(
        "rleaky-classification", ("--objective", "membrane"), "test_accuracy", 3
    ),
    "moving-mnist": Case("moving-mnist", (), "test_accuracy", 3),
    "membrane-regression, 100 steps": Case("membrane-regression", (), "relative_error", 10, False),
    "membrane-regression, 10000 steps": Case(
        "membrane-regression", ("--steps", "10000"), "relative_error", 10, False
    ),
}


@dataclass(frozen=True)
class Options:
    """Selection of cases, by parts of their names, and the number of seeds (default: one per
    case)."""

    only: tuple[str, ...] = ()
    seeds: int | None = None
    data_dir: Path | None = None
    quick: bool = False


QUICK = Options(seeds=1, quick=True)


def command(case: Case, seed: int, options: Options, out: str) -> list[str]:
    """Command line of one run."""
    line = ["run", case.task, *case.options, "--seed", str(seed), "--out", out]
    if options.quick:
        return [*line, "--quick"]
    if case.mnist:
        line += ["--dataset", "mnist", "--data-dir", str(images.folder_of(options.data_dir))]
    return line


def one_run(case: Case, seed: int, options: Options) -> dict[str, Any]:
    """Metrics of one run, and its wall time in seconds."""
    program = "import sys; from eventsnn.cli import main; sys.exit(main())"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-c", program, *command(case, seed, options, out)],
            cwd=ROOT,
            env=worker_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise WorkerError(f"{case.task} failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
    metrics = json.loads(done.stdout.splitlines()[-1])
    return metrics | {"seconds": time.perf_counter() - start}


def summary(case: Case, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over all seeds."""
    others = {k for k in runs[0] if k.startswith(case.metric) and k != case.metric}
    return {
        "metric": case.metric,
        **of_seeds([run[case.metric] for run in runs]),
        "seconds": statistics.median(run["seconds"] for run in runs),
        "steps_per_second": statistics.median(run["steps_per_second"] for run in runs),
        "others": {k: of_seeds([run[k] for run in runs]) for k in sorted(others)},
    }


def of_seeds(values: list[float]) -> dict[str, Any]:
    """Statistics of one metric over all seeds."""
    return {
        "values": values,
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "median": statistics.median(values),
    }


def run(options: Options) -> dict[str, Any]:
    """Run all cases sequentially."""
    described, found = machine.describe(), {}
    for name, case in CASES.items():
        if options.only and not any(part in name for part in options.only):
            continue
        runs = []
        for seed in range(options.seeds or case.seeds):
            runs.append(one_run(case, seed, options))
            say(f"{name}, seed {seed}: {case.metric} {runs[-1][case.metric]:.4f}")
        found[name] = summary(case, runs)
    return {
        "benchmark": "quality",
        "quick": options.quick,
        "cases": found,
        "machine": described,
    }


def describe(result: dict[str, Any]) -> str:
    """Format one line per case, and one per additional metric."""
    shown = ("mean", "sd", "median", "steps_per_second", "seconds")
    rows = []
    for name, case in result["cases"].items():
        for metric, figures in {case["metric"]: case, **case["others"]}.items():
            rows.append((name, metric, len(figures["values"]), *map(figures.get, shown)))
    header = ("task", "metric", "seeds", "mean", "sd", "median", "steps/s", "seconds a run")
    return table(header, rows)
