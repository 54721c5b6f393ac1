"""Worker of eventax for networks whose weights and biases train."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from . import adam


class EventaxTrainer:
    """Worker commands `load`, `train` and `save`; a benchmark adds `open` and `evaluate`."""

    def _prepare(self, model: Any, loss: Any, batches: Any, learning_rate: float) -> None:
        """Set the model, `loss(model, in_times, targets)`, and all batches, stacked."""
        optimiser = optax.adam(learning_rate)
        self._model, self._batches = model, tuple(map(jnp.asarray, batches))
        self._fresh = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
        value_and_grad = eqx.filter_value_and_grad(loss)

        @eqx.filter_jit
        def step(model, adam, in_times, targets):
            loss, grad = value_and_grad(model, in_times, targets)
            updates, adam = optimiser.update(grad, adam, params=eqx.filter(model, eqx.is_array))
            return eqx.apply_updates(model, updates), adam, loss

        self._step = step

    def load(self, path: str) -> None:
        self._model, self._adam = adam.read(path, self._model, self._fresh, parameters)

    def save(self, path: str) -> None:
        adam.write(path, self._model, self._adam, parameters)

    def train(self, first: int, steps: int) -> dict[str, Any]:
        """Train steps `first` to `first + steps` and wait for their completion."""
        start, (x, targets) = time.perf_counter(), self._batches
        for i in range(first, first + steps):
            in_times = self._in_times(x[i])
            self._model, self._adam, loss = self._step(
                self._model, self._adam, in_times, targets[i]
            )
        jax.block_until_ready((self._model, self._adam, loss))
        return {"seconds": time.perf_counter() - start, "loss": float(loss)}

    def _in_times(self, x: jax.Array) -> jax.Array:
        """Input spike times of one batch, (batch, channels, spikes)."""
        raise NotImplementedError

    def _first_spikes(self, x: Any) -> jax.Array:
        """First output spikes of the current model, (batch, outputs)."""
        in_times = self._in_times(jnp.asarray(x))
        return eqx.filter_jit(lambda model, x: jax.vmap(model.ttfs)(x))(self._model, in_times)


def parameters(model: Any) -> tuple[jax.Array, jax.Array]:
    """Trained leaves of a network."""
    return model.neuron_model.weights, model.neuron_model.ic
