"""Functions that `fit` calls during training, and the state that it shows them."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import numpy as np

from .. import checks
from .checkpoints import packed, unpacked


@dataclasses.dataclass(frozen=True)
class Progress:
    """State of a training run after a dispatch, as [`fit`][] shows it to a callback."""

    start: int
    """Number of completed steps before the dispatch."""
    step: int
    """Number of completed steps."""
    steps: int
    """Number of steps of the whole run."""
    losses: np.ndarray
    """Loss of each step of the dispatch."""
    monitored: np.ndarray | None
    """Values of `monitor` in these steps. None without `monitor`."""
    gradient_norms: np.ndarray | None
    """Norm of the gradient in these steps. None unless `fit` records it."""
    learning_rates: np.ndarray | None
    """Learning rate in these steps. None unless the state of the optimiser contains it."""
    _model: Callable[[], Any] = dataclasses.field(repr=False)

    @property
    def model(self) -> Any:
        """The model, on the first of the devices."""
        return self._model()

    def is_due(self, every: int) -> bool:
        """True if the dispatch completed a multiple of `every` steps, or the last step."""
        return self.step // every > self.start // every or self.step == self.steps


@runtime_checkable
class Resumable(Protocol):
    """Callback with a state that is part of the checkpoints."""

    def pack(self) -> dict[str, np.ndarray]:
        """Return the state as arrays."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray], model: Any) -> None:
        """Restore the state. `model` has the structure of the trained model."""
        ...


#: Function that is called after each dispatch. It stops the training by returning True.
Callback = Callable[[Progress], bool | None]


class Callbacks:
    """Callbacks of a run, and the last step for which each of them has been called.

    `stopped` is true if one of them has stopped the run.
    """

    def __init__(self, callbacks: Sequence[Callback]):
        self._all = list(callbacks)
        self._called = np.zeros(len(self._all), int)
        self.stopped = False

    def call(self, progress: Progress) -> None:
        """Call those that have not been called for this step."""
        for i in np.flatnonzero(self._called < progress.step):
            self.stopped |= bool(self._all[i](progress))
            self._called[i] = progress.step

    def close(self) -> None:
        """Call the method `close` of those that have one, at the end of the run."""
        for callback in self._all:
            getattr(callback, "close", lambda: None)()

    def pack(self) -> dict[str, np.ndarray]:
        """Return the states of those that have one, for a checkpoint."""
        state = {"called": self._called.copy(), "stopped": np.asarray(self.stopped)}
        for i, callback in enumerate(self._all):
            if isinstance(callback, Resumable):
                state |= {f"callback-{i}-{name}": x for name, x in callback.pack().items()}
        return state

    def restore(self, arrays: Mapping[str, np.ndarray], model: Any) -> None:
        """Restore the states. `model` has the structure of the trained model."""
        self._called, self.stopped = arrays["called"].astype(int), bool(arrays["stopped"])
        for i, callback in enumerate(self._all):
            if isinstance(callback, Resumable):
                start = f"callback-{i}-"
                own = {n.removeprefix(start): x for n, x in arrays.items() if n.startswith(start)}
                callback.restore(own, model)


class Evaluation:
    """Callback that evaluates the model, keeps the best one, and stops a run that does not improve.

    **Arguments:**

    - `fn`: function of the model that returns a number, for example its validation accuracy.
    - `every`: number of steps between evaluations. There is also one after the last step. [`fit`][]
        calls the function between dispatches only. A multiple of `every` that lies within a
        dispatch is therefore evaluated at the end of that dispatch. With `steps_per_dispatch` a
        divisor of `every`, all evaluations are exactly at the multiples.
    - `patience`: number of evaluations without a better value after which the training stops.
        Default: None, it does not stop.
    - `larger_is_better`: whether the best value is the largest. Default: True.

    **Attributes:** `steps` and `values` of all evaluations, and `best_step`, `best_value` and
    `best_model` of the best one, None before the first. NaN is never the best value.

    **Raises:** `ValueError` for an invalid argument, or a result that is not a number.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        every: int,
        *,
        patience: int | None = None,
        larger_is_better: bool = True,
    ):
        self._fn = checks.function("fn", fn, "a function of the model")
        self._every = checks.count("every", every)
        self._patience = checks.count_or_none("patience", patience)
        self._sign = 1.0 if checks.flag("larger_is_better", larger_is_better) else -1.0
        self.steps: list[int] = []
        self.values: list[float] = []
        self.best_step: int | None = None
        self.best_model: Any = None

    @property
    def best_value(self) -> float | None:
        """Value of the best model."""
        return None if self.best_step is None else self.values[self.steps.index(self.best_step)]

    def __call__(self, progress: Progress) -> bool:
        """Evaluate if this is due after `progress`. Return True if the training should stop."""
        if not progress.is_due(self._every):
            return False
        model = progress.model
        value = self._fn(model)
        if np.shape(value) != () or not np.isrealobj(value):
            raise checks.value_error("fn", value, "a function that returns a number")
        value = float(value)
        best = self.best_value
        better = not np.isnan(value) and (best is None or self._sign * (value - best) > 0)
        self.steps, self.values = [*self.steps, progress.step], [*self.values, value]
        if better:
            self.best_step, self.best_model = progress.step, model
        if self._patience is None:
            return False
        return sum(step > (self.best_step or 0) for step in self.steps) >= self._patience

    def pack(self) -> dict[str, np.ndarray]:
        """Return the state, for a checkpoint."""
        state = {"steps": np.asarray(self.steps, int), "values": np.asarray(self.values, float)}
        if self.best_step is not None:
            best = {"best_step": np.asarray(self.best_step)}
            state |= best | packed("best_model", eqx.filter(self.best_model, eqx.is_array))
        return state

    def restore(self, arrays: Mapping[str, np.ndarray], model: Any) -> None:
        """Restore the state from `arrays`. `model` has the structure of the best model."""
        self.steps, self.values = arrays["steps"].tolist(), arrays["values"].tolist()
        if "best_step" in arrays:
            dynamic, static = eqx.partition(model, eqx.is_array)
            self.best_step = int(arrays["best_step"])
            self.best_model = eqx.combine(unpacked("best_model", arrays, dynamic), static)


class TensorBoard:
    """Callback that writes losses and norms for TensorBoard.

    Its curves are `loss` and, as far as [`fit`][] records them, `monitored`, `gradient_norm` and
    `learning_rate`. It needs the package `tensorboardX`: `pip install 'eventsnn[tensorboard]'`.

    **Arguments:**

    - `folder`: folder of the event files.

    **Raises:** `ImportError` without the package, and `TypeError` for an invalid path.
    """

    def __init__(self, folder: str | os.PathLike):
        self._folder = checks.path("folder", folder)
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ImportError(
                "TensorBoard needs tensorboardX: pip install 'eventsnn[tensorboard]'"
            ) from None
        self._make, self._writer = SummaryWriter, None

    def __call__(self, progress: Progress) -> None:
        """Write the values of the dispatch in `progress`."""
        if self._writer is None:  # values of an interrupted run after this step are removed
            start = progress.start
            options = {"purge_step": start + 1, "filename_suffix": f".{start}"}
            self._writer = self._make(str(self._folder), **options)
        curves = {
            "loss": progress.losses,
            "monitored": progress.monitored,
            "gradient_norm": progress.gradient_norms,
            "learning_rate": progress.learning_rates,
        }
        for name, values in curves.items():
            for i, value in enumerate([] if values is None else values):
                self._writer.add_scalar(name, float(value), progress.start + i + 1)

    def close(self) -> None:
        """Write all values to the file. [`fit`][] calls it at the end."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
