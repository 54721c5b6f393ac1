"""Definition of a benchmark, and of the settings that are options of the command line."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """Benchmark with the settings of a full and of a quick run.

    `choices` limits the values of options. `run` returns the results without the machine;
    `describe` formats them.
    """

    text: str
    run: Callable[[Any], dict[str, Any]]
    describe: Callable[[dict[str, Any]], str]
    full: Any
    quick: Any
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)


def option(default: Any, text: str, **arguments: Any) -> Any:
    """Field of the settings that is an option of the command line, with arguments for argparse."""
    return field(default=default, metadata=arguments | {"help": text})


def count(default: int | None, text: str) -> Any:
    """Option that is a whole number of at least 1."""
    return option(default, text, type=positive, metavar="N")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value
