"""Worker of eventsnn for networks whose weights and biases train."""

import time
from typing import Any

import jax

from eventsnn.tasks.ttfs_regression import trainable

from . import adam
from .dispatch import Training

CHUNK = 20


class EventTrainer:
    """Worker commands `load`, `train` and `save`; a benchmark adds `open` and `evaluate`."""

    def _prepare(self, task: Any, model: Any, batches: Any) -> None:
        """Set the task, its network, and all batches, stacked along the first axis."""
        self._task, self._model, self._batches = task, model, batches
        spec = trainable(model)
        self._training = Training(task.loss, model, spec, task.learning_rate, task.batch_size)

    def load(self, path: str) -> None:
        state = adam.read(path, self._model, self._training.fresh, parameters)
        self._training.reset(*state)

    def save(self, path: str) -> None:
        adam.write(path, *self._training.state, parameters)

    def train(self, first: int, steps: int) -> dict[str, Any]:
        """Train steps `first` to `first + steps`; includes the preparation of the data.

        As in `fit`, the next chunk is prepared while the devices compute, and launched when they
        have finished: XLA's CPU client stalls when about fifty programs with communication are
        queued.
        """
        start, end = time.perf_counter(), first + steps
        batches = self._place(first, end)
        for i in range(first, end, CHUNK):
            losses, _ = self._training.launch(batches)
            batches = self._place(i + CHUNK, end)
            self._training.wait()
        return {"seconds": time.perf_counter() - start, "loss": float(losses[-1])}

    def _place(self, first: int, end: int) -> Any:
        """One chunk of batches on the devices; empty at the end."""
        chunk = slice(first, min(first + CHUNK, end))
        return self._training.place(jax.tree.map(lambda a: a[chunk], self._batches))


def parameters(model: Any) -> tuple[jax.Array, jax.Array]:
    """Trained leaves of a network."""
    return model.weights, model.neuron.bias
