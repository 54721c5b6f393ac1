"""What every task offers, and what its settings may name."""

import abc
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import diffrax
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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What running a task gives."""

    metrics: Mapping[str, float | int | str]
    """Numbers by name; times in ms."""
    figures: Mapping[str, "Figure"]
    """Pictures by file name, without the ending."""
    animations: Mapping[str, "FuncAnimation"] = dataclasses.field(default_factory=dict)
    """Moving pictures by file name, without the ending."""


def option(
    default: Any,
    help: str,
    *,
    kind: Literal["count", "seed", "text"] = "text",
    choices: Collection[str] | None = None,
) -> Any:
    """A setting of a task that the command line offers by its name.

    **Arguments:**

    - `kind`: what it is: a whole number >= 1, a seed, or text.
    - `choices`: the values there are; None: any.
    """
    offered = {"help": help, "kind": kind, "choices": choices and tuple(choices)}
    return dataclasses.field(default=default, metadata=offered)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """The settings of a task, which runs itself."""

    name: ClassVar[str]
    summary: ClassVar[str]

    seed: int = option(0, "of the parameters and the data", kind="seed")

    def __post_init__(self):
        for name, field in self.options().items():
            choices, value = field.metadata["choices"], getattr(self, name)
            if choices is not None and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")

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
