"""Settings of tasks: fields of a dataclass that are also options of the command line."""

import dataclasses
import math
import os
import re
import reprlib
import sys
import types
import typing
from collections.abc import Collection
from typing import Any

import numpy as np

__all__ = [
    "LARGEST",
    "Setting",
    "check",
    "expected",
    "flag",
    "is_valid",
    "kind",
    "limits",
    "option",
    "parse",
]

Setting = dataclasses.Field
LARGEST = 2**31 - 1

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


def option(
    default: Any,
    help: str,
    *,
    unset: str = "",
    choices: Collection[str] | None = None,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> Any:
    """Make a field of a task that is also an option of the command line, with the same name.

    The type of the field is `int`, `float` or `str`, or a union of one of them with None.

    **Arguments:**

    - `default`: the default value. None stands for the value in `Task.defaults`, which may depend
        on other settings.
    - `help`: the help text of the command line: a noun phrase, with the unit.
    - `unset`: description of the default if it is None and `Task.defaults` has no value.
    - `choices`: the allowed strings. Default: None, any string.
    - `least`, `most`: the smallest and the largest number. Default: None, 1 and 2**31 - 1 for an
        integer, and no limits for other numbers.
    - `above`: a number that the value must exceed. Default: None, no such number.
    """
    limits = {"least": least, "most": most, "above": above}
    offered = {"help": help, "unset": unset, "choices": choices and tuple(choices), **limits}
    return dataclasses.field(default=default, metadata=offered)


def flag(name: str) -> str:
    """Option of the command line for a setting, given its name."""
    return f"--{name.replace('_', '-')}"


def kind(setting: Setting) -> Any:
    """Type of the values of a setting: `int`, `float` or `str`."""
    types_ = typing.get_args(setting.type) or (setting.type,)
    return next(type_ for type_ in types_ if type_ is not types.NoneType)


def limits(setting: Setting) -> tuple[float | None, float | None]:
    """Smallest and largest value of a number, None for no limit."""
    least, most = setting.metadata["least"], setting.metadata["most"]
    if kind(setting) is not int:
        return least, most
    return 1 if least is None else least, LARGEST if most is None else most


def expected(setting: Setting) -> str:
    """Describe the allowed values of a setting, for an error message."""
    if choices := setting.metadata["choices"]:
        return f"one of {', '.join(choices)}"
    if kind(setting) is str:
        return "text or a path"
    least, most = limits(setting)
    noun = "an integer" if kind(setting) is int else "a finite number"
    if (above := setting.metadata["above"]) is not None:
        return f"{noun} > {above}"
    if least is not None and most is not None:
        return f"{noun} from {least} to {_shown(most)}"
    return noun if least is None else f"{noun} >= {least}"


def is_valid(setting: Setting, value: Any) -> bool:
    """Return whether a value has the type of a setting and is allowed."""
    if choices := setting.metadata["choices"]:
        return isinstance(value, str) and value in choices
    if kind(setting) is str:
        return isinstance(value, str | os.PathLike)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    real = whole or (kind(setting) is float and isinstance(value, float | np.floating))
    size = float(value) if isinstance(value, np.floating) else value
    if not real or not abs(size) <= sys.float_info.max:
        return False
    least, most = limits(setting)
    above = setting.metadata["above"]
    at_least = -math.inf if least is None else least
    at_most = math.inf if most is None else most
    return bool(at_least <= value <= at_most and (above is None or value > above))


def check(setting: Setting, value: Any) -> None:
    """Raise a `ValueError` unless a value is allowed, or None and the default is None."""
    if value is None and setting.default is None:
        return
    if not is_valid(setting, value):
        raise ValueError(f"{setting.name} must be {expected(setting)}, got {value!r}.")


def parse(setting: Setting, text: str) -> int | float | str:
    """Convert the text of an option to the value of a setting.

    **Raises:** `ValueError` for a value that is not allowed. The message has no name.
    """
    value: int | float | str | None = text or None
    if kind(setting) is int:
        value = int(text) if _INTEGER.fullmatch(text) else None
    elif kind(setting) is float:
        value = float(text) if _NUMBER.fullmatch(text) else None
    if value is None or not is_valid(setting, value):
        raise ValueError(f"must be {expected(setting)}, got {reprlib.repr(text)}")
    return value


def _shown(number: float) -> str:
    """Text of a number, as a power of two minus one if it is large and one of them."""
    power = int(number).bit_length()
    return f"2**{power} - 1" if power > 16 and number == 2**power - 1 else f"{number}"
