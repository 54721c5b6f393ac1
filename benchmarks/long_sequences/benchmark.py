"""Memory and time of a gradient over a long sequence, with and without `checkpoint_every`.

Method: One process compiles the gradient of a discrete-time network once for every block size, and
then runs all of them in turns. Time is the median of the rounds after the first. Memory is the size
that XLA plans for the temporaries.
"""

from dataclasses import dataclass
from typing import Any

from ..harness.benchmark import Benchmark, count
from ..harness.report import log, ratio, table
from ..harness.worker import started

COLUMNS = {
    "cell": "cell",
    "every": "steps per block",
    "temporary_mb": "temporary MB",
    "memory": "memory, relative",
    "ms": "ms per gradient",
    "time": "time, relative",
    "compile_seconds": "compile s",
}


@dataclass(frozen=True)
class Options:
    """Length of the sequence, block sizes, and `rounds` timed gradients each."""

    num_steps: int = count(5000, "time steps of the sequence")
    every: tuple[int, ...] = (10, 25, 50, 70, 250)
    cells: tuple[str, ...] = ("leaky", "rleaky")
    batch: int = 32
    rounds: int = count(7, "timed gradients per block size")


def run(options: Options) -> dict[str, Any]:
    """Measure all cells, one after the other."""
    sizes = {"num_steps": options.num_steps, "batch": options.batch}
    rows: list[dict[str, Any]] = []
    with started("long_sequences") as (workers, _):
        for cell in options.cells:
            asked = {"cell": cell, "every": options.every, "rounds": options.rounds}
            found = workers["ours"].request("measure", **asked, **sizes)["rows"]
            rows += [{"cell": cell} | row | relative(row, found[0]) for row in found]
            log(f"{cell}: " + ", ".join(f"{row['ms']:.0f} ms" for row in found))
    return sizes | {"rows": rows}


def relative(row: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Memory and time, divided by those of the run that stores all steps."""
    keys = {"memory": "temporary_mb", "time": "ms"}
    return {name: ratio(row[key], whole[key]) for name, key in keys.items()}


def describe(result: dict[str, Any]) -> str:
    """Format one table, one row per cell and block size; a dash means no blocks."""
    rows = [[row[key] for key in COLUMNS] for row in result["rows"]]
    return table(list(COLUMNS.values()), rows)


BENCHMARK = Benchmark(
    "memory and time of a gradient over a long sequence, recomputed in blocks",
    run,
    describe,
    full=Options(),
    quick=Options(num_steps=200, every=(20,), cells=("leaky",), batch=4, rounds=2),
)
