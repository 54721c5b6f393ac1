"""What every task offers, and what its settings may name."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import diffrax

if TYPE_CHECKING:
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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What running a task gives."""

    metrics: Mapping[str, float | int | str]
    """Numbers by name; times in ms."""
    figures: Mapping[str, "Figure"]
    """Pictures by file name, without the ending."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """The settings of a task, which runs itself."""

    name: ClassVar[str]
    summary: ClassVar[str]

    seed: int = 0
    """Draws the initial parameters and the training data."""
    steps: int = 1000
    """How many gradient steps to train."""
    solver: str = "exact"
    """A name in `SOLVERS`."""

    def __post_init__(self):
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}.")

    @abc.abstractmethod
    def quick(self) -> Self:
        """The same task at a size that shows that it runs, not what it reaches."""

    @abc.abstractmethod
    def run(self, *, progress: bool = True) -> Outcome:
        """Trains, tests and draws."""
