"""Worker of eventsnn for the tasks of the event mode: its own tasks and training step."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import trainable
from eventsnn.cpu import prepare_cpu
from eventsnn.data import spike_time_regression
from eventsnn.data.yin_yang import Samples
from eventsnn.losses import mae_time
from eventsnn.tasks import TTFSRegression, YinYang

from ..workers import files
from ..workers.dispatch import Training
from ..workers.protocol import methods, serve
from . import state

CHUNK = 20


class Trainer:
    """Worker commands: `open` once, then `load`, `train`, `evaluate`, `save`; also `run_task`."""

    _task: Any

    def open(self, problem: str, task: str, setting: dict[str, Any], dtype: str) -> None:
        jax.config.update("jax_enable_x64", dtype == "float64")
        p = self._problem = files.read(problem)
        x = p["x"].astype(dtype)
        if task == "ttfs-regression":
            self._task, self._score = TTFSRegression(**setting), self._error
            weights, bias = jnp.asarray(p["weights"]), jnp.asarray(p["bias"])
            self._model = self._task.network(weights, bias, outputs=(bias.size - 1,))
            in_times = np.stack([np.zeros_like(x), x], axis=-1)[..., None, :]
            self._batches = in_times, p["y"][..., None]
        else:
            limits = setting.pop("t_max"), setting.pop("max_events")
            self._task = YinYang(neuron="qif", drive=0.0, **setting)
            self._model, self._score = self._task.build(jax.random.key(0)), self._accuracy
            assert (self._task.t_max, self._task.max_events) == limits
            self._batches = Samples(x, p["y"])
        assert np.array_equal(np.asarray(self._model.mask), p["mask"])
        rate, size = setting["learning_rate"], setting["batch_size"]
        spec = trainable(self._model, "weights", "bias")
        self._training = Training(self._task.loss, self._model, spec, rate, size)

    def load(self, path: str) -> None:
        loaded = state.read(path, self._model, self._training.fresh, parameters)
        self._training.reset(*loaded)

    def save(self, path: str) -> None:
        state.write(path, self._training.state, parameters)

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

    def evaluate(self) -> dict[str, float]:
        """Test error or accuracy."""
        return self._score(self._training.model)

    def run_task(self, seed: int, steps: int) -> dict[str, float]:
        """Run the regression as `eventsnn run` does, with its own initial state and data."""
        task = TTFSRegression(seed=seed, steps=steps)
        fitted = task.train(progress=False)
        x = spike_time_regression.grid(task.n_test)
        error = test_mae(task, fitted.average, x, spike_time_regression.target(x))
        return {"test_mae": error, "steps_per_second": fitted.steps_per_second}

    def _place(self, first: int, end: int) -> Any:
        """One chunk of batches on the devices; empty at the end."""
        chunk = slice(first, min(first + CHUNK, end))
        return self._training.place(jax.tree.map(lambda a: a[chunk], self._batches))

    def _error(self, model: Any) -> dict[str, float]:
        """Mean absolute error in ms on the test grid; silent outputs count as t_max."""
        p = self._problem
        return {"test_mae": test_mae(self._task, model, p["x_test"], p["y_test"])}

    def _accuracy(self, model: Any) -> dict[str, float]:
        """Fraction of test points whose class fires first."""
        test = Samples(self._problem["x_test"], self._problem["y_test"])
        return {"test_accuracy": self._task.accuracy(model, test)}


def parameters(model: Any) -> tuple[jax.Array, jax.Array]:
    """Trained leaves of a network."""
    return model.weights, model.neuron.bias


def test_mae(task: Any, model: Any, x: Any, y: Any) -> float:
    times = task.predict(model, jnp.asarray(x))
    return float(mae_time(times, jnp.asarray(y)[:, None], t_max=task.t_max))


if __name__ == "__main__":
    prepare_cpu()
    serve(methods(Trainer()))
