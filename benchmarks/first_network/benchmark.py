"""Accuracy of a first network: default weights, a readout of potentials, and Adam.

Each model also starts with its weights divided by 100, so that all neurons are silent: once after
`eventsnn.calibrate`, and once with pseudospikes, without calibration. It can also start with half
of the hidden neurons silent, or with bursts.
"""

import time
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import jax.numpy as jnp

import eventsnn as esn
from eventsnn.cpu import prepare_cpu

from ..harness import mnist
from ..harness.benchmark import Benchmark, count, option
from ..harness.report import log, table
from .initialisers import INITIALISERS, measure
from .training import Case, Spikes, build, load, train


def _refractory(tau_mem: float, tau_syn: float) -> esn.Refractory:
    """LIF neurons with a refractory period of 1 ms, which bounds the rates of recurrent networks.

    Without it, some runs end with `max_events`, since all neurons excite each other.
    """
    return esn.Refractory(esn.LIF(tau_mem, tau_syn), 1.0)


# With few inputs, silent networks learn better if pseudospikes act on the readout.
CASES = {
    "digits, LIF": Case(esn.LIF, "digits", 100, 20, learning_rate=0.05),
    "digits, QIF": Case(esn.QIF, "digits", 100, 20, t_max=40.0, learning_rate=0.3),
    "digits, recurrent LIF": Case(_refractory, "digits", 100, 20, recurrent=True),
    "yin-yang, LIF": Case(
        esn.LIF, "yin-yang", 100, 60, learning_rate=0.05, late=3.0, late_rate=0.01
    ),
    "mnist, LIF": Case(esn.LIF, "mnist", 100, 3, batch_size=64),
}
STARTS = ("default", "silent, calibrated", "silent")
MORE_STARTS = ("half silent", "bursting")
#: Number of training samples on which the initial activity is counted.
SAMPLES = 200


@dataclass(frozen=True)
class Options:
    """Selection of cases and starts, and the number of seeds."""

    seeds: int = count(3, "number of seeds; default: 3")
    steps: int | None = count(None, "number of gradient steps; default: as for each case")
    data_dir: str | None = option(None, mnist.HELP, metavar="DIR")
    only: tuple[str, ...] = option(
        (), "run only cases whose names contain one of these texts", nargs="+", metavar="TEXT"
    )
    starts: tuple[str, ...] = option(STARTS, "initial weights", nargs="+")
    initialisers: bool = option(
        False, "compare initialisers instead, with 5 epochs of each model", action="store_true"
    )


def run(options: Options) -> dict[str, Any]:
    """Train all selected models sequentially."""
    prepare_cpu()
    found = []
    for name, case in CASES.items():
        if options.only and not any(part in name for part in options.only):
            continue
        folder = mnist.folder_of(options.data_dir) if case.data == "mnist" else None
        spikes = load(case, folder)
        if options.initialisers:
            found += _initialisers(name, case, spikes, options)
            continue
        for start in options.starts:
            runs = []
            for seed in range(options.seeds):
                begin = time.perf_counter()
                model = build(case, spikes, seed, start)
                hidden = esn.activity(model, jnp.asarray(spikes.train[:SAMPLES]))[0]
                _, reached = train(case, start, spikes, model, seed, steps=options.steps)
                seconds = time.perf_counter() - begin
                runs.append({"accuracy": reached, "seconds": seconds, **_initial(hidden)})
                log(f"{name}, {start}, seed {seed}: {reached:.4f}")
            found.append({"case": name, "start": start, "runs": runs})
    return {"results": found}


def _initial(hidden: Any) -> dict[str, float]:
    """Activity of the hidden neurons before training."""
    return {"silent": hidden.silent, "spikes": hidden.spikes}


def _initialisers(name: str, case: Case, spikes: Spikes, options: Options) -> list[dict[str, Any]]:
    """Measure all initialisers with one model."""
    found = []
    for which in INITIALISERS:
        seeds = range(options.seeds)
        runs = [measure(case, spikes, which, seed, options.steps) for seed in seeds]
        found.append({"case": name, "initialiser": which, "runs": runs})
        log(f"{name}, {which}: {runs}")
    return found


def _describe_initialisers(result: dict[str, Any]) -> str:
    rows = []
    for row in result["results"]:
        reached = [run["accuracy"] for run in row["runs"] if run["accuracy"] is not None]
        silent, stopped = (
            mean(run["silent"] for run in row["runs"]),
            len(row["runs"]) - len(reached),
        )
        accuracy = (mean(reached), min(reached)) if reached else (None, None)
        rows.append((row["case"], row["initialiser"], len(row["runs"]), silent, *accuracy, stopped))
    header = ("model", "initialiser", "seeds", "silent", "accuracy", "lowest", "loss not finite")
    return table(header, rows)


def describe(result: dict[str, Any]) -> str:
    """Format one line per model and start."""
    if "initialiser" in result["results"][0]:
        return _describe_initialisers(result)
    rows = []
    for row in result["results"]:
        values = [run["accuracy"] for run in row["runs"]]
        accuracy = mean(values), stdev(values) if len(values) > 1 else None, min(values)
        others = [
            mean(run[name] for run in row["runs"]) for name in ("silent", "spikes", "seconds")
        ]
        rows.append((row["case"], row["start"], len(values), *accuracy, *others))
    results, initial = ("accuracy", "sd", "lowest"), ("silent at start", "spikes at start")
    header = ("model", "initial weights", "seeds", *results, *initial, "seconds per run")
    return table(header, rows)


BENCHMARK = Benchmark(
    "accuracy of a first network, with default weights and with silent ones",
    run,
    describe,
    full=Options(),
    quick=Options(seeds=1, steps=20, only=("digits",)),
    choices={"starts": STARTS + MORE_STARTS},
)
