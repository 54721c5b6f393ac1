"""`python -m benchmarks <name> [options]`: a table, then one JSON object on the last line."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NoReturn

from . import peers, report, scaling, ttfs_regression
from .client import WorkerError

NAMES = {
    "ttfs-regression": "steps/s at start and end, compile time, memory, error; also of a peer",
    "scaling": "time and memory of a gradient step over neurons, events and precision",
}


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(text: str) -> int:
    """A whole number of at least one."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="benchmarks", description=__doc__, allow_abbrev=False)
    names = top.add_subparsers(dest="name", required=True, metavar="NAME")
    names.add_parser("list", help="the benchmarks there are")
    added = {
        name: names.add_parser(name, help=text, allow_abbrev=False) for name, text in NAMES.items()
    }
    for sub in added.values():
        sub.add_argument(
            "--quick", action="store_true", help="a small run that only shows that all works"
        )
        sub.add_argument(
            "--out", type=Path, metavar="FILE", help="also write the JSON object there"
        )
        sub.add_argument(
            "--save", action="store_true", help="also write it into benchmarks/results"
        )
    task = added["ttfs-regression"]
    task.add_argument("--peer", choices=peers.available(), help="the library to compare with")
    task.add_argument("--rounds", type=positive, metavar="N", help="timed blocks of each library")
    task.add_argument("--steps", type=positive, metavar="N", help="training steps before 'the end'")
    task.add_argument(
        "--seeds", type=positive, metavar="N", help="seeds of which to take the error"
    )
    task.add_argument("--full-peer", action="store_true", help="train the peer to its end too")
    added["scaling"].add_argument("--rounds", type=positive, metavar="N", help="timed steps a size")
    return top


def options(arguments: argparse.Namespace) -> Any:
    """The benchmark's defaults, or its quick setting, with what was asked for in place."""
    module = ttfs_regression if arguments.name == "ttfs-regression" else scaling
    base = module.QUICK if arguments.quick else module.Options()
    given = {k: v for k, v in vars(arguments).items() if hasattr(base, k) and v is not None}
    return replace(base, **given)


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark; the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.name == "list":
        print("\n".join(f"{name:18}{text}" for name, text in NAMES.items()))
        return 0
    module = ttfs_regression if arguments.name == "ttfs-regression" else scaling
    try:
        result = module.run(options(arguments))
    except (WorkerError, CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(module.describe(result))
    if arguments.save:
        print(f"saved {report.save(result).name}")
    line = report.json_line(result)
    if arguments.out is not None:
        arguments.out.write_text(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
