"""What every task offers, and what its settings may name."""

import abc
import dataclasses
import functools
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import diffrax
import numpy as np
import optax

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure


def _fixed_step(solver: diffrax.AbstractSolver) -> dict[str, Any]:
    return {"solver": solver, "dt0": 0.1}


def _adaptive(solver: diffrax.AbstractSolver) -> dict[str, Any]:
    controller = diffrax.PIDController(rtol=1e-4, atol=1e-5)
    return {"solver": solver, "dt0": 0.1, "stepsize_controller": controller}


SOLVERS: dict[str, Callable[[], dict[str, Any]]] = {
    "exact": dict,
    "euler": lambda: _fixed_step(diffrax.Euler()),
    "heun": lambda: _fixed_step(diffrax.Heun()),
    "tsit5": lambda: _adaptive(diffrax.Tsit5()),
    "dopri5": lambda: _adaptive(diffrax.Dopri5()),
}
"""How a network flows between its events: keywords of `EventNetwork` by name. `exact` is the
neuron's own closed form; the others integrate its equation, with steps of 0.1 ms or adaptively."""


# More gradients than this in a row that are not finite are no accident.
_MAX_BAD = 10


def finite_steps(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer without the steps whose gradient is not finite.

    A membrane that only just reaches its threshold has an unbounded derivative, and once in some
    thousand steps an infinite one (in float32).
    """
    return optax.apply_if_finite(optimizer, max_consecutive_errors=_MAX_BAD)


class DataError(Exception):
    """The data could not be read: one line that says which file, and why."""


class Pictures(Mapping[str, Any]):
    """Pictures by name, drawn at the first look at them.

    What is done with the metrics before is done without the time, memory and faults of drawing.

    **Arguments:**

    - `draw`: returns the pictures by name.
    """

    def __init__(self, draw: Callable[[], Mapping[str, Any]]):
        self._drawn = functools.cache(draw)

    def __getitem__(self, name: str) -> Any:
        return self._drawn()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawn())

    def __len__(self) -> int:
        return len(self._drawn())


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Results of a run of a task."""

    metrics: Mapping[str, float | int | str]
    """Numbers by name; times in ms."""
    figures: Mapping[str, "Figure"]
    """Pictures by file name, without the ending."""
    animations: Mapping[str, "FuncAnimation"] = dataclasses.field(default_factory=dict)
    """Moving pictures by file name, without the ending."""


MAX_STEPS = 2**31 - 1
"""Largest number of gradient steps, which are counted in 32 bits."""
MAX_EPOCHS = 10**6

_RANGES = {"count": (1, MAX_STEPS), "seed": (0, 2**32 - 1), "text": (None, None)}


def option(
    default: Any,
    help: str,
    *,
    kind: Literal["count", "seed", "text"] = "text",
    choices: Collection[str] | None = None,
    most: int | None = None,
) -> Any:
    """A setting of a task that the command line offers by its name.

    **Arguments:**

    - `kind`: a whole number from 1 to 2**31 - 1, a seed from 0 to 2**32 - 1, or text.
    - `choices`: the values there are; None: any.
    - `most`: the largest number; None: that of its kind.
    """
    least, largest = _RANGES[kind]
    offered = {"help": help, "kind": kind, "choices": choices and tuple(choices)}
    offered |= {"least": least, "most": most or largest}
    return dataclasses.field(default=default, metadata=offered)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """The settings of a task, which runs itself."""

    name: ClassVar[str]
    summary: ClassVar[str]
    pictures: ClassVar[tuple[str, ...]]
    """Names of all files that a run may draw, with their endings."""

    seed: int = option(0, "of the parameters and the data", kind="seed")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field]:
        """The settings that the command line offers, by name."""
        return {field.name: field for field in dataclasses.fields(cls) if "kind" in field.metadata}

    @abc.abstractmethod
    def quick(self) -> Self:
        """The same task at a size that shows that it runs, not what it reaches."""

    @abc.abstractmethod
    def run(self, *, progress: bool = True) -> Outcome:
        """Trains, tests and draws."""


def _check(field: dataclasses.Field, value: Any) -> None:
    """Refuse a value that does not fit the type of a setting, or the range of an option."""
    of = field.metadata
    union = isinstance(field.type, types.UnionType)
    kinds = typing.get_args(field.type) if union else (field.type,)
    if value is None and types.NoneType in kinds:
        return
    if of.get("choices"):
        expected, fits = f"one of {', '.join(of['choices'])}", value in list(of["choices"])
    elif int in kinds:
        least, most = of.get("least", 1), of.get("most", MAX_STEPS)
        expected, fits = f"a whole number from {least} to {most}", _is_whole(value, least, most)
    elif float in kinds:
        expected, fits = "a finite number", _is_finite(value)
    elif tuple[float, float] in kinds:
        expected = "a pair of finite numbers"
        fits = isinstance(value, tuple) and len(value) == 2 and all(map(_is_finite, value))
    else:
        expected, fits = "text or a path", isinstance(value, str | os.PathLike)
    if not fits:
        raise ValueError(f"{field.name} must be {expected}, got {value!r}.")


def _is_whole(value, least, most):
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and least <= value <= most


def _is_finite(value):
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return real and bool(abs(value) <= sys.float_info.max)
