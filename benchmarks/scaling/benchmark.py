"""Time and memory of a gradient step against the number of neurons, of events, and the precision.

Method: One process per size, sequentially, on one host device: a recurrent QIF network (see
`workers/scaling_worker.py`) with exactly the given number of events in every sample of the batch.
Time is the median of the steps after the first. Memory is the size that XLA plans for the
temporaries of the step, and the peak resident size of the process. Growth is at most linear if time
and memory grow by no more than the number of events, or of neurons (for the weights, its square).
"""

import sys
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..harness import machine
from ..harness.report import ratio, table
from ..harness.worker import Worker

WORKER = "benchmarks.scaling.ours"


@dataclass(frozen=True)
class Options:
    """Sizes to measure, with `rounds` timed steps each."""

    neurons: tuple[int, ...] = (20, 100, 500, 2000)
    events: tuple[int, ...] = (50, 100, 200)
    dtypes: tuple[str, ...] = ("float32", "float64")
    batch: int = 16
    rounds: int = 5


QUICK = Options(neurons=(20, 100), events=(10, 20), dtypes=("float32",), batch=4, rounds=2)


def measure(n: int, events: int, dtype: str, options: Options) -> dict[str, Any]:
    """Measure one size in a separate process."""
    with closing(Worker(sys.executable, WORKER)) as worker:
        row = worker.ask(
            "measure", n=n, events=events, dtype=dtype, batch=options.batch, rounds=options.rounds
        )
    row["us_per_event"] = 1e3 * row["ms"] / (events * options.batch)
    print(f"n {n}, {events} events, {dtype}: {row['ms']:.1f} ms", file=sys.stderr, flush=True)
    return {"n": n, "events": events, "dtype": dtype} | row


def growth(rows: list[dict[str, Any]], along: str) -> list[dict[str, Any]]:
    """Growth of time and temporary memory from the smallest to the largest value of `along`.

    One line for each combination of the other two of `n`, `events` and `dtype`.
    """
    others = [key for key in ("n", "events", "dtype") if key != along]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row[along]):
        groups.setdefault(tuple(row[key] for key in others), []).append(row)
    return [
        dict(zip(others, group, strict=True))
        | {key: ratio(same[-1][key], same[0][key]) for key in (along, "ms", "temporary_mb")}
        for group, same in groups.items()
    ]


def run(options: Options) -> dict[str, Any]:
    """Measure all sizes sequentially."""
    described = machine.describe()
    sizes = [(n, e, d) for d in options.dtypes for n in options.neurons for e in options.events]
    rows = [measure(*size, options) for size in sizes]
    return {
        "benchmark": "scaling",
        "batch": options.batch,
        "rows": rows,
        "growth": {along: growth(rows, along) for along in ("events", "n")},
        "machine": described,
    }


def describe(result: dict[str, Any]) -> str:
    """Format three tables: all sizes, and the growth of time and memory with events and with
    neurons."""
    columns = {
        "n": "n",
        "dtype": "dtype",
        "events": "events",
        "loop_steps": "loop steps",
        "ms": "ms a step",
        "us_per_event": "us an event",
        "temporary_mb": "temporary MB",
        "weights_mb": "weights MB",
        "peak_memory_mb": "peak MB",
        "compile_seconds": "compile s",
    }
    tables = [table(list(columns.values()), [[r[key] for key in columns] for r in result["rows"]])]
    grown = {"ms": "time x", "temporary_mb": "temporary memory x"}
    for along, lines in result["growth"].items():
        keys = [*(key for key in ("n", "events", "dtype") if key != along), along, *grown]
        header = [grown.get(key, f"{key} x" if key == along else key) for key in keys]
        tables.append(table(header, [[line[key] for key in keys] for line in lines]))
    return "\n\n".join(tables)
