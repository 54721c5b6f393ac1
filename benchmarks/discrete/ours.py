"""Worker of eventsnn for the discrete-time tasks: networks of its own tasks, `train.make_step`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import discrete, losses, tasks
from eventsnn.cpu import prepare_cpu
from eventsnn.discrete import trainable

from ..workers.dispatch import Training
from ..workers.files import Arrays
from .data import Chunk, Setting
from .library import Library

_COUNT: dict[str, Any] = {"correct_rate": 0.8, "incorrect_rate": 0.2}
_MEMBRANE: dict[str, Any] = {"on_target": 1.05, "off_target": 0.2}
# Functions of spikes, membrane potentials (both time first) and targets.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "ce_membrane": lambda spikes, membranes, y: losses.ce_membrane(membranes, y),
    "mse_count": lambda spikes, membranes, y: losses.mse_count(spikes, y, **_COUNT),
    "mse_membrane": lambda spikes, membranes, y: losses.mse_membrane(membranes, y, **_MEMBRANE),
    "mse": lambda spikes, membranes, y: jnp.mean((membranes - jnp.swapaxes(y, 0, 1)) ** 2),
}


def build(setting: Setting) -> discrete.Sequential:
    """Build the network of the task. Loading a start file replaces its random parameters."""
    key, n_hidden = jax.random.key(0), setting.sizes[1]
    if setting.beta is None:
        return tasks.MembraneRegression(n_hidden=n_hidden).build(key)
    still = tasks.RLeakyClassification if setting.recurrent else tasks.LeakyClassification
    task = (tasks.MovingMNIST if setting.canvas else still)(beta=setting.beta, n_hidden=n_hidden)
    return task.build(key, (28, 28))


def named(setting: Setting, model: discrete.Sequential) -> dict[str, Any]:
    """Parameters by their names in the start file."""
    layers = [layer for layer in model.layers if isinstance(layer, eqx.nn.Linear)]
    cells: list[Any] = [layer for layer in model.layers if isinstance(layer, discrete.AbstractCell)]
    found: dict[str, Any] = {}
    for i, (layer, neurons) in enumerate(zip(layers, cells, strict=True), 1):
        found |= {f"weight_{i}": layer.weight, f"bias_{i}": layer.bias}
        if setting.recurrent:
            feedback = neurons.feedback
            found |= {f"feedback_weight_{i}": feedback.weight, f"feedback_bias_{i}": feedback.bias}
        if setting.beta is None:
            found |= {f"beta_{i}": neurons.beta, f"threshold_{i}": neurons.threshold}
    return found


def simulate(num_steps: int, model: Any, x: jax.Array, keys: jax.Array | None) -> Any:
    """Output spikes and membrane potentials, time first, without dropout if `keys` is None."""
    model = eqx.nn.inference_mode(model, keys is None)
    if x.ndim == 2:
        return discrete.run_batch(model, x, num_steps=num_steps, key=keys)[:2]
    return discrete.run_batch(model, jnp.swapaxes(x, 0, 1), key=keys)[:2]


def task_loss(setting: Setting, model: Any, batch: Any) -> jax.Array:
    """Loss of a batch (x, y, keys); keys are None without dropout."""
    x, y, keys = batch
    return LOSSES[setting.loss](*simulate(setting.num_steps, model, x, keys), y)


class Commands(Library):
    """Hooks of eventsnn."""

    def _open(self, setting: Setting) -> dict[str, Any]:
        prepare_cpu()
        self.setting, self.initial, self.named = setting, build(setting), partial(named, setting)
        loss = partial(task_loss, setting)
        self.loss = eqx.filter_jit(loss)
        spec = trainable(self.initial, *(("beta",) if setting.beta is None else ()))
        self.training = Training(loss, self.initial, spec, setting.learning_rate, setting.batch)
        self.key = jax.random.key(0) if setting.dropout else None
        return {}

    def _load(self, values: Arrays) -> None:
        new = [jnp.asarray(values[name]) for name in self.named(self.initial)]
        model = eqx.tree_at(lambda model: list(self.named(model).values()), self.initial, new)
        self.training.reset(model, self.training.fresh)

    def _parameters(self) -> Arrays:
        return {name: np.asarray(value) for name, value in self.named(self.training.model).items()}

    def _place(self, chunk: Chunk) -> Any:
        keys = None
        if self.key is not None:
            self.key, now = jax.random.split(self.key)
            keys = jax.random.split(now, chunk.y.shape[:2])
        test = None if chunk.test_x is None else (chunk.test_x, chunk.test_y, None)
        return jax.block_until_ready(self.training.place((chunk.x, chunk.y, keys), test))

    def _train(self, placed: Any) -> tuple[Any, Any]:
        found = self.training.launch(placed)
        self.training.wait()
        return found

    def _loss(self, x: np.ndarray, y: np.ndarray) -> float:
        batch = jnp.asarray(x), jnp.asarray(y), None
        return float(self.loss(self.training.model, batch))

    def _predict(self, x: np.ndarray) -> np.ndarray:
        model, num_steps = self.training.model, self.setting.num_steps
        spikes, membranes = simulate(num_steps, model, jnp.asarray(x), None)
        out = jnp.swapaxes(membranes, 0, 1) if self.setting.beta is None else spikes.sum(axis=0)
        return np.asarray(out)
