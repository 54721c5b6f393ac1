"""Command line of the benchmarks: `python -m benchmarks <name> [options]`.

Prints a table, then one JSON object on the last line.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NoReturn

from .discrete import benchmark as discrete
from .discrete.problem import TASKS
from .harness import report
from .harness.mnist import VARIABLE, DataError
from .harness.worker import WorkerError
from .parity import benchmark as parity
from .quality import benchmark as quality
from .scaling import benchmark as scaling
from .ttfs_regression import benchmark as ttfs_regression
from .yin_yang import benchmark as yin_yang

NAMES = {
    "ttfs-regression": "steps/s at start and end, compile time, memory, error; also of a peer",
    "scaling": "time and memory of a gradient step over neurons, events and precision",
    "yin-yang": "steps/s, compile time and memory of Yin-Yang with QIF neurons; also of a peer",
    "quality": "what the tasks reach, over seeds",
    "parity": "the same answers and derivatives as eventax, and where it is not right",
} | {name: task.text for name, task in TASKS.items()}
MODULES = {
    "ttfs-regression": ttfs_regression,
    "yin-yang": yin_yang,
    "scaling": scaling,
    "quality": quality,
    "parity": parity,
}


class Parser(argparse.ArgumentParser):
    """Argument parser that reports an error in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(text: str) -> int:
    """Parse a whole number of at least one."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def parser() -> Parser:
    """Build the command-line parser."""
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
    compare(added["ttfs-regression"], list(ttfs_regression.PEERS))
    train_to_end(added["ttfs-regression"])
    compare(added["yin-yang"], list(yin_yang.PEERS))
    added["scaling"].add_argument("--rounds", type=positive, metavar="N", help="timed steps a size")
    seeds_and_data(added["quality"])
    added["quality"].add_argument(
        "--only", nargs="+", metavar="TEXT", help="cases whose name contains one of these"
    )
    added["parity"].add_argument("--only", metavar="TEXT", help="networks whose name contains it")
    added["parity"].add_argument("--seeds", type=positive, metavar="N", help="of each network")
    for name, task in TASKS.items():
        compare(added[name], list(task.peers))
        train_to_end(added[name])
        added[name].add_argument("--loss", choices=task.losses, help="default: the first")
        if task.losses != ("mse",):
            data_folder(added[name])
    return top


def seeds_and_data(sub: Parser) -> None:
    """Add the options of a benchmark without a peer."""
    sub.add_argument("--seeds", type=positive, metavar="N", help="default: each task's own number")
    data_folder(sub)


def data_folder(sub: Parser) -> None:
    """Add the option for the folder of the MNIST files."""
    sub.add_argument(
        "--data-dir", type=Path, metavar="DIR", help=f"MNIST's folder; default: {VARIABLE}"
    )


def compare(sub: Parser, peers: list[str]) -> None:
    """Add the options of a benchmark that a peer can also run."""
    sub.add_argument("--peer", choices=peers, help="the library to compare with")
    sub.add_argument("--rounds", type=positive, metavar="N", help="timed blocks of each library")
    sub.add_argument("--steps", type=positive, metavar="N", help="training steps before 'the end'")


def train_to_end(sub: Parser) -> None:
    """Add the options of a benchmark that compares both errors and speeds."""
    sub.add_argument("--seeds", type=positive, metavar="N", help="seeds of which to take the error")
    sub.add_argument("--full-peer", action="store_true", help="train the peer to its end too")


def options(arguments: argparse.Namespace) -> Any:
    """Return the benchmark's default or quick settings, updated with the given options."""
    if arguments.name in TASKS:
        base = discrete.defaults(arguments.name, arguments.quick)
    else:
        module = MODULES[arguments.name]
        base = module.QUICK if arguments.quick else module.Options()
    given = {k: v for k, v in vars(arguments).items() if hasattr(base, k) and v is not None}
    return replace(base, **given)


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark and return the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.name == "list":
        print("\n".join(f"{name:24}{text}" for name, text in NAMES.items()))
        return 0
    module = MODULES.get(arguments.name, discrete)
    try:
        result = module.run(options(arguments))
    except (DataError, WorkerError, CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(module.describe(result))
    if arguments.save:
        print(f"saved {report.save(result).name}")
    line = report.json_line(result)
    if arguments.out is not None:
        arguments.out.write_text(line + "\n")
    print(line)
    return 0 if result.get("agrees", True) else 1


if __name__ == "__main__":
    sys.exit(main())
