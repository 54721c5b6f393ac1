"""Base class of the tasks, their results, and shared parts."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import diffrax
import optax

from ..train import FitResult
from .settings import Setting, check, option

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

__all__ = [
    "SOLVERS",
    "DataError",
    "LazyFigures",
    "Task",
    "TaskResult",
    "skip_nonfinite_updates",
    "training_metrics",
]


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


# Maximum number of consecutive updates that are skipped. More of them indicate a systematic
# problem. The next update is then applied, so that training stops with an error.
_MAX_SKIPPED = 10


def skip_nonfinite_updates(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Wrap an optimiser so that it skips updates with gradients that are not finite.

    The derivative of a spike time is large if the membrane potential only just reaches the
    threshold. In long chains of such spikes a gradient can exceed the range of float32.

    **Arguments:**

    - `optimizer`: any Optax optimiser.

    **Returns:** an optimiser that skips at most 10 consecutive updates and then applies the next.
    """
    return optax.apply_if_finite(optimizer, max_consecutive_errors=_MAX_SKIPPED)


def training_metrics(result: FitResult) -> dict[str, float | int]:
    """Metrics of a training run by name: loss, speed, compile time and number of devices."""
    return {
        "final_loss": float(result.losses[-1]),
        "steps_per_second": result.steps_per_second,
        "compile_seconds": result.compile_seconds,
        "devices_used": result.n_devices,
    }


class DataError(Exception):
    """Error in reading the data, with a one-line message that names the file and the reason."""


class LazyFigures(Mapping[str, Any]):
    """Mapping of figures by name, drawn at the first access.

    Metrics can thus be saved before drawing, which takes time and memory and may fail.

    **Arguments:**

    - `make_figures`: function without arguments that returns the figures by name.
    """

    def __init__(self, make_figures: Callable[[], Mapping[str, Any]]):
        self._drawn = functools.cache(make_figures)

    def __getitem__(self, name: str) -> Any:
        return self._drawn()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._drawn())

    def __len__(self) -> int:
        return len(self._drawn())


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """Results of a run of a task."""

    metrics: Mapping[str, float | int | str]
    """Metrics by name. Times are in ms."""
    figures: Mapping[str, "Figure"]
    """Figures by file name, without suffix."""
    animations: Mapping[str, "FuncAnimation"] = dataclasses.field(default_factory=dict)
    """Animations by file name, without suffix."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """Base class of tasks: a dataclass of settings with a method `run`.

    Every field is made by [`option`][] and is an option of the command line. A setting that is None
    gets its value from `defaults` when the task is created. `dataclasses.replace` keeps this value,
    even if it replaces a setting on which the default depends.
    """

    name: ClassVar[str]
    """Name of the task on the command line."""
    summary: ClassVar[str]
    """One-line description of the task."""
    pictures: ClassVar[tuple[str, ...]]
    """File names of all figures that a run may draw, with suffixes."""
    quick_settings: ClassVar[dict[str, Any]]
    """Settings of a short run, to check that the task works."""

    seed: int = option(
        0,
        "seed of all random numbers: initial parameters, data, order of the samples",
        least=0,
        most=2**32 - 1,
    )

    def __post_init__(self):
        for name, setting in self.options().items():
            check(setting, getattr(self, name))
        for name, value in self.defaults().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @classmethod
    def options(cls) -> dict[str, Setting]:
        """Return the settings, by name."""
        return {field.name: field for field in dataclasses.fields(cls)}

    def defaults(self) -> Mapping[str, Any]:
        """Return the values of settings that are None. They may depend on settings with choices."""
        return {}

    @abc.abstractmethod
    def run(self, *, progress: bool = True) -> TaskResult:
        """Train and test a network.

        **Arguments:**

        - `progress`: whether to show a progress bar. Default: True.

        **Returns:** a [`TaskResult`][], whose figures are drawn at the first access.
        """
