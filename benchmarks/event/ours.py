"""Worker of eventsnn for the tasks of the event mode: its own tasks and training step."""

import time
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import EventSequential
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
        model = of_task.build(jax.random.key(0))
        self._model = Whole.of(model) if isinstance(model, EventSequential) else model
        assert self._model.weights.shape == p["weights"].shape
        self._score = partial(shared.score, task, y=p["y_test"], t_max=setting["t_max"])
        rate, size = setting["learning_rate"], setting["batch_size"]
        spec = eqx.tree_at(parameters, jax.tree.map(lambda _: False, self._model), (True, True))
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
        """Run the regression as `eventsnn run --schedule constant`, from its own random start."""
        task = TTFSRegression(seed=seed, steps=steps, schedule="constant")
        metrics = task.run(progress=False).metrics
        return {name: metrics[name] for name in ("test_mae", "steps_per_second")}

    def _place(self, first: int, end: int) -> Any:
        """One chunk of batches on the devices; empty at the end."""
        chunk = slice(first, min(first + CHUNK, end))
        return self._training.place(jax.tree.map(lambda a: a[chunk], self._batches))


class Whole(eqx.Module):
    """Two layers whose parameters are slices of one weight matrix and one array of biases.

    The rows of the matrix are the neurons and the inputs, its columns the neurons, as in the other
    libraries.
    """

    layers: EventSequential
    neuron: Any  # of all layers
    weights: jax.Array

    @classmethod
    def of(cls, layers: EventSequential) -> "Whole":
        """Return layers with weights of zero."""
        first_weights, second_weights, *biases = _values(layers)
        n = first_weights.shape[1] + second_weights.shape[1]
        weights = jnp.zeros((n + first_weights.shape[0], n), first_weights.dtype)
        neuron = layers.layers[0].neuron
        return cls(layers, eqx.tree_at(lambda q: q.bias, neuron, jnp.concatenate(biases)), weights)

    def ttfs(self, in_times: jax.Array, *, throw: bool) -> jax.Array:
        """First spike times of the last layer."""
        hidden, outputs = (layer.weights.shape[1] for layer in self.layers.layers)
        n, bias = hidden + outputs, self.neuron.bias
        values = (
            self.weights[n:, :hidden],
            self.weights[:hidden, hidden:],
            bias[:hidden],
            bias[hidden:],
        )
        layers = eqx.tree_at(_values, self.layers, values)
        return layers.ttfs(in_times, throw=throw)


def _values(layers: EventSequential) -> tuple[Any, ...]:
    first, second = layers.layers
    return first.weights, second.weights, first.neuron.bias, second.neuron.bias


def parameters(model: Any) -> tuple[jax.Array, jax.Array]:
    """Trained leaves of a network."""
    return model.weights, model.neuron.bias
