"""Command line of the benchmarks: `python -m benchmarks <name> [options]`.

Prints a table, then one JSON object on the last line.
"""

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NoReturn

from eventsnn.tasks import DataError

from .balanced import benchmark as balanced
from .discrete import benchmark as discrete
from .event import benchmark as event
from .first_network import benchmark as first_network
from .harness import machine, report
from .harness.benchmark import Benchmark
from .harness.worker import WorkerError
from .layers import benchmark as layers
from .long_sequences import benchmark as long_sequences
from .parity import benchmark as parity
from .quality import benchmark as quality
from .scaling import benchmark as scaling
from .validation import benchmark as validation

BENCHMARKS = {
    **event.BENCHMARKS,
    **discrete.BENCHMARKS,
    "first-network": first_network.BENCHMARK,
    "layers": layers.BENCHMARK,
    "balanced": balanced.BENCHMARK,
    "scaling": scaling.BENCHMARK,
    "long-sequences": long_sequences.BENCHMARK,
    "quality": quality.BENCHMARK,
    "parity": parity.BENCHMARK,
    "validation": validation.BENCHMARK,
}


class Parser(argparse.ArgumentParser):
    """Argument parser that reports an error in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def parser() -> Parser:
    """Build the command-line parser; each benchmark has the options of its settings."""
    top = Parser(prog="benchmarks", description=__doc__, allow_abbrev=False)
    names = top.add_subparsers(dest="name", required=True, metavar="NAME")
    names.add_parser("list", help="list the benchmarks")
    for name, benchmark in BENCHMARKS.items():
        sub = names.add_parser(name, help=benchmark.text, allow_abbrev=False)
        add = sub.add_argument
        add("--quick", action="store_true", help="short run to check that the benchmark works")
        add("--out", type=Path, metavar="FILE", help="also write the JSON object to this file")
        add("--save", action="store_true", help="also write the JSON object to benchmarks/results")
        for field in fields(benchmark.full):
            if field.metadata:
                arguments = dict(field.metadata)
                if field.name in benchmark.choices:
                    arguments["choices"] = benchmark.choices[field.name]
                add(f"--{field.name.replace('_', '-')}", **arguments)
    return top


def settings(benchmark: Benchmark, arguments: argparse.Namespace) -> Any:
    """Return the settings of a full or quick run, updated with the given options."""
    base = benchmark.quick if arguments.quick else benchmark.full
    given = {k: v for k, v in vars(arguments).items() if hasattr(base, k) and v is not None}
    return replace(base, **given)


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark. Return the exit code: 1 if the run or one of its checks fails, else 0."""
    arguments = parser().parse_args(argv)
    if arguments.name == "list":
        print("\n".join(f"{name:24}{b.text}" for name, b in BENCHMARKS.items()))
        return 0
    benchmark, described = BENCHMARKS[arguments.name], machine.describe()
    if described["load_average_before"] > 1:
        report.log(f"the machine is busy (load {described['load_average_before']})")
    try:
        found = benchmark.run(settings(benchmark, arguments))
    except (DataError, WorkerError, CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    result = {"benchmark": arguments.name, **found, "machine": described}
    print(benchmark.describe(result))
    if arguments.save:
        print(f"saved {report.save(result).name}")
    line = report.as_json(result)
    if arguments.out is not None:
        arguments.out.write_text(line)
    print(line, end="")
    return 0 if result.get("agrees", True) else 1


if __name__ == "__main__":
    sys.exit(main())
