"""Commands of a discrete-time worker, implemented on the `Library` interface."""

import time
from typing import Any, Protocol

import numpy as np

from ..workers.protocol import peak_memory_mb, serve
from .data import Arrays, Chunk, Data, Setting


class Library(Protocol):
    """Interface of a library. Batches are NumPy arrays, samples first; see `Chunk`."""

    def open(self, setting: Setting) -> dict[str, Any]:
        """Set up the task. The reply states whether the library `compiles`, its number of `threads`
        if known, and in `notes` any deviation from the task."""
        ...

    def load(self, parameters: Arrays) -> None:
        """Set the parameters, with a new optimiser state."""
        ...

    def parameters(self) -> Arrays:
        """Current parameters, in the format of `load`, without the optimiser state."""
        ...

    def place(self, chunk: Chunk) -> Any:
        """Copy the batches to the library's memory; not timed."""
        ...

    def train(self, placed: Any) -> tuple[np.ndarray, np.ndarray]:
        """Train one step per batch, synchronously; return the losses, and those of the test
        batches."""
        ...

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """Loss of one batch, without training and without dropout."""
        ...

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Scores (batch, classes) or, for the regression, membrane potentials (batch, time, 1)."""
        ...


class Commands:
    """Worker commands: `open` once, then `load`, `train`, `losses`, `evaluate` and `save` in any
    order."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def open(self, problem: str) -> dict[str, Any]:
        self.data = Data(problem)
        return self.library.open(self.data.setting)

    def load(self, path: str) -> dict[str, Any]:
        self.library.load(self.data.load(path))
        return {}

    def save(self, path: str) -> dict[str, Any]:
        np.savez(path, allow_pickle=False, **self.library.parameters())
        return {}

    def train(self, first: int, steps: int, mean_last: int = 0) -> dict[str, Any]:
        """Train steps `first` to `first + steps`; the preparation of the data is not timed.

        The mean of the parameters after each dispatch of the last `mean_last` steps is kept for
        `evaluate_mean`.
        """
        seconds, losses, test_losses = 0.0, [], []
        self.seen: list[Arrays] = []
        for chunk in self.data.chunks(first, steps):
            placed = self.library.place(chunk)
            start = time.perf_counter()
            these, of_test = self.library.train(placed)
            seconds += time.perf_counter() - start
            losses += np.asarray(these).tolist()
            test_losses += np.asarray(of_test).tolist()
            if len(losses) > steps - mean_last:
                self.seen.append(self.library.parameters())
        return {"seconds": seconds, "losses": losses, "test_losses": test_losses}

    def losses(self, first: int, steps: int) -> dict[str, Any]:
        """Losses of several batches with the current parameters."""
        chunks = self.data.chunks(first, steps, largest=1)
        return {"losses": [self.library.loss(chunk.x[0], chunk.y[0]) for chunk in chunks]}

    def evaluate(self) -> dict[str, Any]:
        """Accuracy on all test images, or the errors of the membrane potential on the curve."""
        if self.data.setting.loss == "mse":
            return curve_errors(self.library.predict(self.data.order["x"]), self.data.order["y"])
        correct = total = 0
        for x, y in self.data.tests():
            correct += int(np.sum(np.argmax(self.library.predict(x), axis=-1) == y))
            total += len(y)
        return {"accuracy": correct / total}

    def evaluate_mean(self) -> dict[str, Any]:
        """Evaluation of the mean network or, without one, of the current network."""
        if self.seen:
            names = self.seen[0]
            mean = {name: np.mean([p[name] for p in self.seen], axis=0) for name in names}
            self.library.load({name: np.asarray(x, np.float32) for name, x in mean.items()})
        return {f"{key}_of_mean": value for key, value in self.evaluate().items()}

    def memory(self) -> dict[str, Any]:
        return {"peak_memory_mb": peak_memory_mb()}


def curve_errors(membrane: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Mean relative error from the second step on (the target starts at zero), and mean error."""
    error = np.abs(np.asarray(membrane, np.float64) - target)
    relative = error[:, 1:] / np.abs(target[:, 1:])
    return {"relative_error": float(np.mean(relative)), "l1": float(np.mean(error))}


def serve_library(library: Library) -> None:
    """Answer requests of the harness until its input ends."""
    commands = Commands(library)
    names = ("open", "load", "save", "train", "losses", "evaluate", "evaluate_mean", "memory")
    serve({name: getattr(commands, name) for name in names})
