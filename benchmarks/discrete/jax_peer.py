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

Outputs = tuple[jax.Array | None, jax.Array | None]


def loss_of(name: str) -> Callable[..., jax.Array]:
    """`(spikes, membranes, classes) -> loss`, both time first."""

    def targets(y: jax.Array, on: float, off: float) -> jax.Array:
        return jnp.where(jax.nn.one_hot(y, 10) > 0, on, off)

    def ce_membrane(spikes: Any, membranes: Any, y: jax.Array) -> jax.Array:
        labels = jnp.broadcast_to(y, membranes.shape[:2])
        each = optax.softmax_cross_entropy_with_integer_labels(membranes, labels)
        return jnp.sum(jnp.mean(each, axis=1))

    def mse_count(spikes: Any, membranes: Any, y: jax.Array) -> jax.Array:
        wanted = targets(y, int(0.8 * len(spikes)), int(0.2 * len(spikes)))
        return jnp.mean((jnp.sum(spikes, axis=0) - wanted) ** 2) / len(spikes)

    def mse_membrane(spikes: Any, membranes: Any, y: jax.Array) -> jax.Array:
        return jnp.mean((membranes - targets(y, 1.05, 0.2)) ** 2)

    return {"ce_membrane": ce_membrane, "mse_count": mse_count, "mse_membrane": mse_membrane}[name]


class Training:
    """Adam on `loss(parameters, x, y)`, optionally with a pass over a test batch after each
    step."""

    def __init__(self, loss: Callable[..., jax.Array], rate: float, test_pass: bool) -> None:
        self.optimiser = optax.adam(rate)

        def step(carry: Any, batch: Any) -> Any:
            parameters, adam = carry
            x, y, test_x, test_y = batch
            value, gradient = jax.value_and_grad(loss)(parameters, x, y)
            updates, adam = self.optimiser.update(gradient, adam, parameters)
            parameters = optax.apply_updates(parameters, updates)
            of_test = loss(parameters, test_x, test_y) if test_pass else None
            return (parameters, adam), (value, of_test)

        self.steps = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches))
        self.loss = jax.jit(loss)

    def start(self, parameters: Any) -> None:
        """Set the parameters, with a new optimiser state."""
        self.carry = (parameters, self.optimiser.init(parameters))

    @property
    def parameters(self) -> Any:
        return self.carry[0]

    def run(self, placed: Any) -> tuple[np.ndarray, np.ndarray]:
        """Run all steps of a chunk, wait for their completion, and return the losses."""
        self.carry, (losses, of_test) = self.steps(self.carry, placed)
        jax.block_until_ready((self.carry, losses, of_test))
        return np.asarray(losses), np.asarray([] if of_test is None else of_test)


def place(chunk: Chunk) -> Any:
    """Copy the batches to JAX arrays."""
    batches = jax.tree.map(lambda a: jnp.asarray(a, a.dtype if a.dtype == "f4" else "i4"), chunk)
    return jax.block_until_ready(tuple(batches))
