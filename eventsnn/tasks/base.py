"""Base class of the tasks, their results, and shared settings."""

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
"""Solvers between events: keyword arguments of `EventNetwork` by name. `exact` is the closed-form
solution of the neuron. The others integrate its equation numerically, `euler` and `heun` with steps
of 0.1 ms, `tsit5` and `dopri5` with adaptive steps."""


# More consecutive gradients than this that are not finite indicate a systematic problem.
_MAX_BAD = 10


def finite_steps(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Wrap an optimiser so that it skips updates with gradients that are not finite.

    The derivative of a spike time is unbounded if the membrane potential only just reaches the
    threshold. In float32 it is infinite about once in several thousand steps.
    """
    return optax.apply_if_finite(optimizer, max_consecutive_errors=_MAX_BAD)


class DataError(Exception):
    """Error in reading the data, with a one-line message that names the file and the reason."""


class Pictures(Mapping[str, Any]):
    """Mapping of figures by name, drawn at the first access.

    Metrics can thus be saved before drawing, which takes time and memory and may fail.

    **Arguments:**

    - `draw`: function without arguments that returns the figures by name.
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
    """Metrics by name. Times are in ms."""
    figures: Mapping[str, "Figure"]
    """Figures by file name, without suffix."""
    animations: Mapping[str, "FuncAnimation"] = dataclasses.field(default_factory=dict)
    """Animations by file name, without suffix."""


MAX_STEPS = 2**31 - 1
"""Largest number of gradient steps, since they are counted in 32 bits."""
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
    """Make a setting of a task that is also an option of the command line, with the same name.

    **Arguments:**

    - `default`: the default value.
    - `help`: the help text of the command line.
    - `kind`: `"count"` for an integer from 1 to 2**31 - 1, `"seed"` for an integer from 0 to
        2**32 - 1, or `"text"` (the default).
    - `choices`: the allowed values. Default: None, any value.
    - `most`: the largest number. Default: None, the largest number of `kind`.
    """
    least, largest = _RANGES[kind]
    offered = {"help": help, "kind": kind, "choices": choices and tuple(choices)}
    offered |= {"least": least, "most": most or largest}
    return dataclasses.field(default=default, metadata=offered)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """Base class of tasks: a dataclass of settings with a method `run`."""

    name: ClassVar[str]
    summary: ClassVar[str]
    pictures: ClassVar[tuple[str, ...]]
    """File names of all figures that a run may draw, with suffixes."""

    seed: int = option(0, "of the parameters and the data", kind="seed")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field]:
        """Return the settings that are options of the command line, by name."""
        return {field.name: field for field in dataclasses.fields(cls) if "kind" in field.metadata}

    @abc.abstractmethod
    def quick(self) -> Self:
        """Return the same task at a small size, to check that it runs."""

    @abc.abstractmethod
    def run(self, *, progress: bool = True) -> Outcome:
        """Train, test and draw.

        **Arguments:**

        - `progress`: whether to show a progress bar. Default: True.
        """


def _check(field: dataclasses.Field, value: Any) -> None:
    """Raise if a value does not match the type of a setting, or the range of an option."""
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
