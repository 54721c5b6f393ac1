"""Test results of the tasks over several seeds.

Each run is `eventsnn run TASK ...` in a separate process, which prints the values.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from ..harness import mnist
from ..harness.benchmark import Benchmark, count, option
from ..harness.environments import ROOT
from ..harness.report import log, table
from ..harness.worker import WorkerError, worker_environment


@dataclass(frozen=True)
class Case:
    """Arguments of `eventsnn run`, number of seeds, and whether the images are those of MNIST."""

    arguments: str
    seeds: int
    mnist: bool = False

    @property
    def metric(self) -> str:
        """Name of the main metric. The names of the other metrics begin with it."""
        if self.arguments.startswith(("ttfs", "spiking")):
            return "test_mae"
        return "relative_error" if self.arguments.startswith("membrane") else "test_accuracy"


CASES = {
    "ttfs-regression": Case("ttfs-regression", 10),
    "yin-yang, LIF": Case("yin-yang", 10),
    "yin-yang, QIF": Case("yin-yang --neuron qif", 5),
    "delays, learnt": Case("delays", 5),
    "delays, none": Case("delays --delays none", 5),
    "membrane-event": Case("membrane-event", 5),
    "mnist-latency, potential": Case("mnist-latency", 5, mnist=True),
    "mnist-latency, first spikes": Case("mnist-latency --readout ttfs", 1, mnist=True),
    "mnist-conv": Case("mnist-conv", 3, mnist=True),
    "leaky-classification": Case("leaky-classification", 3, mnist=True),
    "rleaky-classification, counts": Case("rleaky-classification", 3, mnist=True),
    "rleaky-classification, membranes": Case("rleaky-classification --objective membrane", 3, True),
    "moving-mnist": Case("moving-mnist", 3, mnist=True),
    "membrane-regression": Case("membrane-regression", 10),
    "spiking-lstm": Case("spiking-lstm", 3),
    "membrane-regression, 100 steps": Case("membrane-regression --steps 100", 10),
}


@dataclass(frozen=True)
class Options:
    """Selection of cases, by parts of their names, and the number of seeds."""

    seeds: int | None = count(None, "number of seeds; default: a different number for each case")
    data_dir: str | None = option(None, mnist.HELP, metavar="DIR")
    only: tuple[str, ...] = option(
        (), "run only cases whose names contain one of these texts", nargs="+", metavar="TEXT"
    )
    quick: bool = False


def command(case: Case, seed: int, options: Options, out: str) -> list[str]:
    """Command line of one run."""
    line = ["run", *case.arguments.split(), "--seed", str(seed), "--out", out]
    if options.quick:
        return [*line, "--quick"]
    if case.mnist:
        line += ["--dataset", "mnist", "--data-dir", mnist.folder_of(options.data_dir)]
    return line


def one_run(case: Case, seed: int, options: Options) -> dict[str, Any]:
    """Metrics of one run, and its wall time in seconds."""
    start, environment = time.perf_counter(), worker_environment()
    with tempfile.TemporaryDirectory() as out:
        line = [sys.executable, "-m", "eventsnn", *command(case, seed, options, out)]
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        message = (done.stderr.splitlines() or ["no message"])[-1]
        raise WorkerError(f"{case.arguments} failed: {message}")
    metrics = json.loads(done.stdout.splitlines()[-1])
    return metrics | {"seconds": time.perf_counter() - start}


def summary(case: Case, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over all seeds."""
    names = sorted(key for key in runs[0] if key.startswith(case.metric))
    metrics = {name: of_seeds([run[name] for run in runs]) for name in names}
    return {
        "metric": case.metric,
        **metrics.pop(case.metric),
        "seconds": median(run["seconds"] for run in runs),
        "steps_per_second": median(run["steps_per_second"] for run in runs),
        "others": metrics,
    }


def of_seeds(values: list[float]) -> dict[str, Any]:
    """Statistics of one metric over all seeds."""
    sd = stdev(values) if len(values) > 1 else None
    return {"values": values, "mean": mean(values), "sd": sd, "median": median(values)}


def run(options: Options) -> dict[str, Any]:
    """Run all selected cases sequentially."""
    found = {}
    for name, case in CASES.items():
        if options.only and not any(part in name for part in options.only):
            continue
        runs = []
        for seed in range(options.seeds or case.seeds):
            runs.append(one_run(case, seed, options))
            log(f"{name}, seed {seed}: {case.metric} {runs[-1][case.metric]:.4f}")
        found[name] = summary(case, runs)
    return {"quick": options.quick, "cases": found}


def describe(result: dict[str, Any]) -> str:
    """Format one line per case, and one per additional metric."""
    statistics, rows = ("mean", "sd", "median", "steps_per_second", "seconds"), []
    for name, case in result["cases"].items():
        for metric, values in {case["metric"]: case, **case["others"]}.items():
            rows.append((name, metric, len(values["values"]), *map(values.get, statistics)))
    header = ("task", "metric", "seeds", "mean", "sd", "median", "steps/s", "seconds per run")
    return table(header, rows)


TEXT = "test results of the tasks, over seeds"
BENCHMARK = Benchmark(TEXT, run, describe, full=Options(), quick=Options(seeds=1, quick=True))
