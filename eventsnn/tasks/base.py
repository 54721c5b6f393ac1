"""Base class of the tasks, their results, and shared parts."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import diffrax
import numpy as np
import optax
from jaxtyping import Array, PyTree

from .. import checks
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
    "check_samples",
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


def check_samples(name: str, value: Any, *shape: int | str) -> np.ndarray | Array:
    """Convert `value` to an array of numbers. Raise unless it has the shape, at least one sample.

    A size that is a word, for example `"n"`, stands for any number >= 1.
    """
    x = checks.numbers(name, value)
    words = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
    sizes = zip(x.shape, shape, strict=False)
    if x.ndim != len(shape) or any(n != m if isinstance(m, int) else n < 1 for n, m in sizes):
        raise ValueError(f"{name} must have shape {words}, got shape {x.shape}.")
    return x


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
    model: PyTree = None
    """Trained network, the one that was tested. None: there is none, and no file of it."""
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Sizes of the network that come from the data, by name: values for JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """Base class of tasks: a dataclass of settings with a method `run`.

    Every field is made by `option` and is an option of the command line. A setting that is None
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
    def untrained(self, sizes: Mapping[str, Any]) -> PyTree:
        """Build a network of the same structure as the trained one, without the data.

        **Arguments:**

        - `sizes`: the sizes in the [`TaskResult`][] of a run with the same settings.
        """

    @abc.abstractmethod
    def predict(self, model: PyTree, inputs: Any, /) -> Any:
        """Predictions of a trained network for new inputs.

        Every task has this method. The table in the section on trained networks has the inputs and
        the predictions of each task.

        **Arguments:**

        - `model`: the trained network of the task, for example that of [`eventsnn.tasks.load`][].
        - `inputs`: array with one row per sample.

        **Returns:** an array with one row per sample.

        **Raises:** `ValueError` for inputs of another shape.
        """

    @abc.abstractmethod
    def run(self, **options: Any) -> TaskResult:
        """Train and test a network.

        **Arguments:**

        - `options`: options of [`eventsnn.train.fit`][] that do not change the result: `progress`,
            `callbacks`, `checkpoint`, `checkpoint_every` and `resume`.

        **Returns:** a [`TaskResult`][], whose figures are drawn at the first access.
        """
