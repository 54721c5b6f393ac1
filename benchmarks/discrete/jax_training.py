"""Code shared by the workers of the JAX peers: losses of the tasks, and chunks of training steps.

Many steps run in one program, a scan, as in the fastest training loops of these libraries; a loop
over single compiled steps would add Python overhead.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .data import Chunk
from .library import Library


def targets(y: jax.Array, on: float, off: float) -> jax.Array:
    return jnp.where(jax.nn.one_hot(y, 10) > 0, on, off)


def ce_membrane(spikes: Any, membranes: Any, y: jax.Array) -> jax.Array:
    labels = jnp.broadcast_to(y, membranes.shape[:2])
    each = optax.softmax_cross_entropy_with_integer_labels(membranes, labels)
    return jnp.sum(jnp.mean(each, axis=1))


def mse_count(spikes: Any, membranes: Any, y: jax.Array) -> jax.Array:
    wanted = targets(y, int(0.8 * len(spikes)), int(0.2 * len(spikes)))
    return jnp.mean((jnp.sum(spikes, axis=0) - wanted) ** 2) / len(spikes)


# Functions of spikes, membrane potentials (both time first) and classes.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "ce_membrane": ce_membrane,
    "mse_count": mse_count,
    "mse_membrane": lambda _, membranes, y: jnp.mean((membranes - targets(y, 1.05, 0.2)) ** 2),
}


class JaxPeer(Library):
    """Hooks of a JAX library; a subclass adds `_open`, `_load` and `_parameters`.

    `self.trained` is a pytree of the trained parameters, with the state of Adam beside it.
    """

    def _prepare(self, outputs: Callable[[Any, jax.Array], Any], loss: str, rate: float) -> None:
        """Compile the training on `outputs(trained, x)`: spikes and membranes, time first."""
        self.optimiser = optax.adam(rate)

        def loss_of(trained: Any, x: Any, y: Any) -> jax.Array:
            return LOSSES[loss](*outputs(trained, x), y)

        def step(state: Any, batch: Chunk) -> Any:
            trained, adam = state
            value, gradient = jax.value_and_grad(loss_of)(trained, batch.x, batch.y)
            updates, adam = self.optimiser.update(gradient, adam, trained)
            trained = optax.apply_updates(trained, updates)
            test = batch.test_x is not None
            of_test = loss_of(trained, batch.test_x, batch.test_y) if test else None
            return (trained, adam), (value, of_test)

        self.steps = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches))
        self.loss_alone = jax.jit(loss_of)
        self.scores = jax.jit(lambda trained, x: jnp.sum(outputs(trained, x)[0], axis=0))

    def _start(self, trained: Any) -> None:
        """Set the parameters, with a new optimiser state."""
        self.trained, self.adam = trained, self.optimiser.init(trained)

    def _place(self, chunk: Chunk) -> Any:
        return jax.block_until_ready(jax.tree.map(jnp.asarray, chunk))

    def _train(self, placed: Any) -> tuple[Any, Any]:
        state, losses = jax.block_until_ready(self.steps((self.trained, self.adam), placed))
        self.trained, self.adam = state
        return losses

    def _loss(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.loss_alone(self.trained, x, y))

    def _predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.scores(self.trained, x))
