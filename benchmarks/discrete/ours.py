"""Worker of eventsnn for the discrete-time tasks: `discrete.run` and `train.make_step`."""

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
from ..workers.protocol import methods, serve
from .data import Chunk, Setting
from .library import Library


def linear(values: Arrays, name: str) -> eqx.nn.Linear:
    """Linear layer with the given parameters; `name` is a template of their names."""
    weight, bias = (jnp.asarray(values[name.format(kind)]) for kind in ("weight", "bias"))
    layer = eqx.nn.Linear(weight.shape[1], weight.shape[0], key=jax.random.key(0))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, bias))


def cell(setting: Setting, i: int, values: Arrays) -> Any:
    """Neurons of layer `i`."""
    if setting.beta is None:
        beta, threshold = (jnp.asarray(values[f"{name}_{i}"]) for name in ("beta", "threshold"))
        if i == len(setting.sizes) - 1:
            return discrete.LeakyIntegrator(beta)
        return discrete.Leaky(beta, threshold=threshold, surrogate=surrogates.FastSigmoid())
    beta, threshold = jnp.float32(setting.beta), jnp.float32(1)
    if not setting.recurrent:
        return discrete.Leaky(beta, threshold=threshold)
    return discrete.RLeaky(beta, linear(values, f"feedback_{{}}_{i}"), threshold=threshold)


def build(setting: Setting, values: Arrays) -> discrete.Sequential:
    """Build linear layers and neurons, with dropout, if any, between the first two layers."""
    layers: list[Any] = []
    for i in range(1, len(setting.sizes)):
        dropout = [eqx.nn.Dropout(setting.dropout)] if setting.dropout and i == 1 else []
        layers += [linear(values, f"{{}}_{i}"), *dropout, cell(setting, i, values)]
    return discrete.Sequential(layers)


def named(setting: Setting, model: discrete.Sequential) -> Arrays:
    """Parameters by their names in the start file."""
    layers = [layer for layer in model.layers if not isinstance(layer, eqx.nn.Dropout)]
    found: dict[str, Any] = {}
    for i in range(1, len(setting.sizes)):
        layer, neurons = layers[2 * i - 2 : 2 * i]
        found |= {f"weight_{i}": layer.weight, f"bias_{i}": layer.bias}
        if setting.recurrent:
            feedback = neurons.feedback
            found |= {f"feedback_weight_{i}": feedback.weight, f"feedback_bias_{i}": feedback.bias}
        if setting.beta is None:
            # An integrator has no threshold; the start file contains one.
            ones = np.ones(setting.sizes[i], np.float32)
            found[f"beta_{i}"] = neurons.beta
            found[f"threshold_{i}"] = getattr(neurons, "threshold", ones)
    return {name: np.asarray(value) for name, value in found.items()}


class Eventsnn(Library):
    """Hooks of eventsnn."""

    def _open(self) -> dict[str, Any]:
        self.key, self.training = jax.random.key(0), None
        self.loss_alone = eqx.filter_jit(self._task_loss)
        self.scores = eqx.filter_jit(self._scores)
        return {}

    def _simulate(self, model: Any, x: jax.Array, keys: jax.Array | None) -> Any:
        """Output spikes and membrane potentials, (time, batch, outputs); `x` has samples first."""
        num_steps = self.setting.num_steps if x.ndim == 2 else None

        def one(x: jax.Array, key: jax.Array | None) -> Any:
            return discrete.run(model, x, num_steps=num_steps, key=key)[:2]

        return jax.vmap(one, in_axes=(0, None if keys is None else 0), out_axes=1)(x, keys)

    def _task_loss(self, model: Any, batch: Any) -> jax.Array:
        """Loss of a batch (x, y, keys); keys are None without dropout."""
        x, y, keys = batch
        spikes, membranes = self._simulate(eqx.nn.inference_mode(model, keys is None), x, keys)
        match self.setting.loss:
            case "ce_membrane":
                return losses.ce_membrane_sum(membranes, y)
            case "mse_count":
                return losses.mse_count(spikes, y, correct_rate=0.8, incorrect_rate=0.2)
            case "mse_membrane":
                return losses.mse_membrane(membranes, y, on_target=1.05, off_target=0.2)
        return jnp.mean((membranes - jnp.swapaxes(y, 0, 1)) ** 2)

    def _scores(self, model: Any, x: jax.Array) -> jax.Array:
        spikes, membranes = self._simulate(eqx.nn.inference_mode(model), x, None)
        return jnp.swapaxes(membranes, 0, 1) if self.setting.beta is None else jnp.sum(spikes, 0)

    def _load(self, values: Arrays) -> None:
        setting, model = self.setting, build(self.setting, values)
        if self.training is None:
            spec = trainable(model, *(("beta",) if setting.beta is None else ()))
            rate, batch = setting.learning_rate, setting.batch
            self.training = Training(self._task_loss, model, spec, rate, batch)
        self.training.reset(model, self.training.fresh)

    @property
    def _model(self) -> Any:
        assert self.training is not None
        return self.training.state[0]

    def _parameters(self) -> Arrays:
        return named(self.setting, self._model)

    def _place(self, chunk: Chunk) -> Any:
        assert self.training is not None
        keys = None
        if self.setting.dropout:
            self.key, now = jax.random.split(self.key)
            keys = jax.random.split(now, chunk.y.shape[:2])
        test = None if chunk.test_x is None else (chunk.test_x, chunk.test_y, None)
        return jax.block_until_ready(self.training.place((chunk.x, chunk.y, keys), test))

    def _train(self, placed: Any) -> tuple[np.ndarray, np.ndarray]:
        assert self.training is not None
        values, of_test = self.training.launch(placed)
        self.training.wait()
        return np.asarray(values), np.asarray([] if of_test is None else of_test)

    def _loss(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.loss_alone(self._model, (jnp.asarray(x), jnp.asarray(y), None)))

    def _predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.scores(self._model, jnp.asarray(x)))


if __name__ == "__main__":
    prepare_cpu()
    serve(methods(Eventsnn()))
