"""Worker of eventsnn for the discrete-time tasks: `discrete.run` and `train.make_step`."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import discrete, losses, surrogates
from eventsnn.cpu import prepare_cpu
from eventsnn.discrete.trainable import trainable

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


def linear(n_in: int, n_out: int) -> eqx.nn.Linear:
    return eqx.nn.Linear(n_in, n_out, dtype=jnp.float32, key=jax.random.key(0))


def cell(setting: Setting, n: int, last: bool) -> Any:
    """Neurons of a layer; in the regression the last layer only integrates."""
    if setting.beta is None:
        beta, threshold = jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)
        if last:
            return discrete.LeakyIntegrator(beta)
        return discrete.Leaky(beta, threshold=threshold, surrogate=surrogates.FastSigmoid())
    beta, threshold = jnp.float32(setting.beta), jnp.float32(1)
    if not setting.recurrent:
        return discrete.Leaky(beta, threshold=threshold)
    return discrete.RLeaky(beta, linear(n, n), threshold=threshold)


def build(setting: Setting) -> discrete.Sequential:
    """Build the network, with dropout, if any, after the first linear layer."""
    layers: list[Any] = []
    for i, (n_in, n_out) in enumerate(pairwise(setting.sizes), 1):
        layers.append(linear(n_in, n_out))
        if setting.dropout and i == 1:
            layers.append(eqx.nn.Dropout(setting.dropout))
        layers.append(cell(setting, n_out, last=i == len(setting.sizes) - 1))
    return discrete.Sequential(layers)


def named(setting: Setting, model: discrete.Sequential) -> dict[str, Any]:
    """Parameters by their names in the start file."""
    layers = [layer for layer in model.layers if not isinstance(layer, eqx.nn.Dropout)]
    found: dict[str, Any] = {}
    for i, (layer, neurons) in enumerate(zip(layers[::2], layers[1::2], strict=True), 1):
        found |= {f"weight_{i}": layer.weight, f"bias_{i}": layer.bias}
        if setting.recurrent:
            feedback = neurons.feedback
            found |= {f"feedback_weight_{i}": feedback.weight, f"feedback_bias_{i}": feedback.bias}
        if setting.beta is None:
            found[f"beta_{i}"] = neurons.beta
            if isinstance(neurons, discrete.Leaky):
                found[f"threshold_{i}"] = neurons.threshold
    return found


def simulate(num_steps: int, model: Any, x: jax.Array, keys: jax.Array | None) -> Any:
    """Output spikes and membrane potentials, (time, batch, outputs); `x` has samples first."""
    if x.ndim == 2:
        return discrete.run_batch(model, x, num_steps=num_steps, key=keys)[:2]
    return discrete.run_batch(model, jnp.swapaxes(x, 0, 1), key=keys)[:2]


def task_loss(setting: Setting, model: Any, batch: Any) -> jax.Array:
    """Loss of a batch (x, y, keys); keys are None without dropout."""
    x, y, keys = batch
    model = eqx.nn.inference_mode(model, keys is None)
    return LOSSES[setting.loss](*simulate(setting.num_steps, model, x, keys), y)


def predict(setting: Setting, model: Any, x: jax.Array) -> jax.Array:
    """Numbers of spikes or, for the regression, membrane potentials."""
    model = eqx.nn.inference_mode(model)
    spikes, membranes = simulate(setting.num_steps, model, x, None)
    return jnp.swapaxes(membranes, 0, 1) if setting.beta is None else jnp.sum(spikes, axis=0)


class Commands(Library):
    """Hooks of eventsnn."""

    def _open(self, setting: Setting) -> dict[str, Any]:
        prepare_cpu()
        self.initial, loss = build(setting), partial(task_loss, setting)
        self.named = partial(named, setting)
        spec = trainable(self.initial, *(("beta",) if setting.beta is None else ()))
        rate, batch = setting.learning_rate, setting.batch
        self.training = Training(loss, self.initial, spec, rate, batch)
        self.loss_alone = eqx.filter_jit(loss)
        self.scores = eqx.filter_jit(partial(predict, setting))
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
        return float(self.loss_alone(self.training.model, batch))

    def _predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.scores(self.training.model, jnp.asarray(x)))
