"""Time and memory of a gradient step for different numbers of neurons and events, and precisions.

Method: One process per size, sequentially, on one host device: a recurrent QIF network (see
`scaling/ours.py`) with exactly the given number of events in every sample of the batch. Time is the
median of the steps after the first. Memory is the size that XLA plans for the temporaries of the
step, and the peak resident size of the process. Growth is at most linear if time and memory grow by
no larger a factor than the number of events or neurons (the weights: its square).
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..harness.benchmark import Benchmark, count
from ..harness.report import log, ratio, table
from ..harness.worker import started

AXES = ("n", "events", "dtype")
COLUMNS = {
    "n": "n",
    "dtype": "dtype",
    "events": "events",
    "loop_steps": "loop steps",
    "ms": "ms per step",
    "us_per_event": "us per event",
    "temporary_mb": "temporary MB",
    "weights_mb": "weights MB",
    "peak_memory_mb": "peak MB",
    "compile_seconds": "compile s",
}
GROWTH = {"ms": "time x", "temporary_mb": "temporary memory x"}


@dataclass(frozen=True)
class Options:
    """Sizes to measure, with `rounds` timed steps each."""

    neurons: tuple[int, ...] = (20, 100, 500, 2000)
    events: tuple[int, ...] = (50, 100, 200)
    dtypes: tuple[str, ...] = ("float32", "float64")
    batch: int = 16
    rounds: int = count(5, "timed steps per size")


def measure(n: int, events: int, dtype: str, options: Options) -> dict[str, Any]:
    """Measure one size in a separate process."""
    size = {"n": n, "events": events, "dtype": dtype}
    with started("scaling") as (workers, _):
        repeated = {"batch": options.batch, "rounds": options.rounds}
        measured = workers["ours"].request("measure", **size, **repeated)
    log(f"n {n}, {events} events, {dtype}: {measured['ms']:.1f} ms")
    return size | measured | {"us_per_event": 1e3 * measured["ms"] / (events * options.batch)}


def growth(rows: list[dict[str, Any]], along: str) -> list[dict[str, Any]]:
    """Growth from the smallest to the largest value of one axis, for all values of the others."""
    others = [key for key in AXES if key != along]

    def group(row: dict[str, Any]) -> list[Any]:
        return [row[key] for key in others]

    lines = []
    for _, same in groupby(sorted(rows, key=lambda row: (group(row), row[along])), group):
        first, *_, last = same
        grown = {key: ratio(last[key], first[key]) for key in (along, *GROWTH)}
        lines.append({key: first[key] for key in others} | grown)
    return lines


def run(options: Options) -> dict[str, Any]:
    """Measure all sizes sequentially."""
    sizes = [(n, e, d) for d in options.dtypes for n in options.neurons for e in options.events]
    rows = [measure(*size, options) for size in sizes]
    grown = {along: growth(rows, along) for along in ("events", "n")}
    return {"batch": options.batch, "rows": rows, "growth": grown}


def describe(result: dict[str, Any]) -> str:
    """Format three tables: all sizes, and the growth with events and with neurons."""
    rows = [[row[key] for key in COLUMNS] for row in result["rows"]]
    tables = [table(list(COLUMNS.values()), rows)]
    for along, lines in result["growth"].items():
        titles = {key: key for key in AXES if key != along} | {along: f"{along} x"} | GROWTH
        rows = [[line[key] for key in titles] for line in lines]
        tables.append(table(list(titles.values()), rows))
    return "\n\n".join(tables)


BENCHMARK = Benchmark(
    "time and memory of a gradient step, by number of neurons, of events, and precision",
    run,
    describe,
    full=Options(),
    quick=Options(neurons=(20, 100), events=(10, 20), dtypes=("float32",), batch=4, rounds=2),
)
