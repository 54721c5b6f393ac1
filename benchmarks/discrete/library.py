"""Commands of a discrete-time worker; a subclass per library implements the hooks."""

import time
from typing import Any, Protocol

import numpy as np

from ..workers.files import Arrays, write
from .data import Chunk, Data, Setting


class Library(Protocol):
    """Worker commands: `open` once, then `load`, `train`, `losses`, `evaluate` and `save`.

    A subclass implements the methods with an underscore. Batches are NumPy arrays, samples first.

    - `_open` sets up the task and returns `compiles`, `threads` and `notes` if not those of `open`.
    - `_load` sets the parameters, with a new optimiser state; `_parameters` returns them.
    - `_place` copies batches to the library's memory; this is not timed.
    - `_train` trains one step per batch and returns the losses, and the test losses or None.
    - `_loss` is the loss of one batch, without training and without dropout.
    - `_predict` returns scores (batch, classes) or membrane potentials (batch, time, 1).
    """

    data: Data
    seen: list[Arrays]

    def _open(self, setting: Setting) -> dict[str, Any]: ...
    def _load(self, values: Arrays) -> None: ...
    def _parameters(self) -> Arrays: ...
    def _place(self, chunk: Chunk) -> Any: ...
    def _train(self, placed: Any) -> tuple[Any, Any]: ...
    def _loss(self, x: np.ndarray, y: np.ndarray) -> float: ...
    def _predict(self, x: np.ndarray) -> np.ndarray: ...

    def open(self, problem: str, setting: dict[str, Any]) -> dict[str, Any]:
        """Set up the task; the reply has the threads, if known, and deviations from the task."""
        self.data = Data(problem, Setting(**setting))
        return {"compiles": True, "threads": None, "notes": []} | self._open(self.data.setting)

    def load(self, path: str) -> None:
        self._load(self.data.load(path))

    def save(self, path: str) -> None:
        write(path, self._parameters())

    def train(self, first: int, steps: int, mean_last: int = 0) -> dict[str, Any]:
        """Train steps `first` to `first + steps`; the preparation of the data is not timed.

        The mean of the parameters after each dispatch of the last `mean_last` steps is kept for
        `evaluate_mean`.
        """
        seconds, losses, test_losses = 0.0, [], []
        self.seen = []
        for chunk in self.data.chunks(first, steps):
            placed = self._place(chunk)
            start = time.perf_counter()
            these, of_test = self._train(placed)
            losses += np.asarray(these).tolist()
            seconds += time.perf_counter() - start
            test_losses += [] if of_test is None else np.asarray(of_test).tolist()
            if len(losses) > steps - mean_last:
                self.seen.append(self._parameters())
        return {"seconds": seconds, "losses": losses, "test_losses": test_losses}

    def losses(self, first: int, steps: int) -> dict[str, Any]:
        """Losses of several batches with the current parameters."""
        chunks = self.data.chunks(first, steps, largest=1)
        return {"losses": [self._loss(chunk.x[0], chunk.y[0]) for chunk in chunks]}

    def evaluate(self) -> dict[str, float]:
        """Accuracy on all test images, or the errors of the membrane potential on the curve."""
        if self.data.setting.loss == "mse":
            return curve_errors(self._predict(self.data.drawn["x"]), self.data.drawn["y"])
        right = [np.argmax(self._predict(x), axis=-1) == y for x, y in self.data.tests()]
        return {"accuracy": float(np.mean(np.concatenate(right)))}

    def evaluate_mean(self) -> dict[str, float]:
        """Evaluation of the mean network or, without one, of the current network."""
        if self.seen:
            means = {name: np.mean([p[name] for p in self.seen], axis=0) for name in self.seen[0]}
            self._load({name: mean.astype(np.float32) for name, mean in means.items()})
        return {f"{key}_of_mean": value for key, value in self.evaluate().items()}


def curve_errors(membrane: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Mean relative error from the second step on (the target starts at zero), and mean error."""
    error = np.abs(np.asarray(membrane, np.float64) - target)
    relative = error[:, 1:] / np.abs(target[:, 1:])
    return {"relative_error": float(np.mean(relative)), "l1": float(np.mean(error))}
