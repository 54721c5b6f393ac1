"""Worker of eventsnn for the tasks of the event mode: its own tasks and training step."""

import time
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import trainable
from eventsnn.cpu import prepare_cpu
from eventsnn.data.yin_yang import Samples
from eventsnn.tasks import TTFSRegression, YinYang

from ..workers import files
from ..workers.dispatch import Training
from . import shared

CHUNK = 20


class Commands:
    """Commands: `open` once, then `load`, `train`, `evaluate`, `save`; also `run_task`."""

    def open(self, problem: str, task: str, setting: dict[str, Any], dtype: str) -> None:
        prepare_cpu()
        jax.config.update("jax_enable_x64", dtype == "float64")
        p = self._problem = files.read(problem)
        x = p["x"].astype(dtype)
        if task == "ttfs-regression":
            of_task = TTFSRegression(**setting)
            in_times = np.stack([np.zeros_like(x), x], axis=-1)[..., None, :]
            self._batches, self._predict = (in_times, p["y"][..., None]), of_task.predict
        else:
            of_task = YinYang(neuron="qif", drive=0.0, **setting)
            self._batches = Samples(x, p["y"])
            self._predict = eqx.filter_jit(of_task.first_spikes)
        # `load` replaces the random weights by those of the problem.
        self._model = of_task.build(jax.random.key(0))
        assert np.array_equal(np.asarray(self._model.mask), p["mask"])
        self._score = partial(shared.score, task, y=p["y_test"], t_max=setting["t_max"])
        rate, size = setting["learning_rate"], setting["batch_size"]
        spec = trainable(self._model, "weights", "bias")
        self._training = Training(of_task.loss, self._model, spec, rate, size)

    def load(self, path: str) -> None:
        state = shared.read(path, self._model, self._training.fresh, parameters)
        self._training.reset(*state)

    def save(self, path: str) -> None:
        shared.write(path, self._training.state, parameters)

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
        times = self._predict(self._training.model, jnp.asarray(self._problem["x_test"]))
        return self._score(np.asarray(times))

    def run_task(self, seed: int, steps: int) -> dict[str, Any]:
        """Run the regression as `eventsnn run` does, with its own initial state and data."""
        metrics = TTFSRegression(seed=seed, steps=steps).run(progress=False).metrics
        return {name: metrics[name] for name in ("test_mae", "steps_per_second")}

    def _place(self, first: int, end: int) -> Any:
        """One chunk of batches on the devices; empty at the end."""
        chunk = slice(first, min(first + CHUNK, end))
        return self._training.place(jax.tree.map(lambda a: a[chunk], self._batches))


def parameters(model: Any) -> tuple[jax.Array, jax.Array]:
    """Trained leaves of a network."""
    return model.weights, model.neuron.bias
