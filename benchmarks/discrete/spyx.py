"""Worker of spyx for the two classification tasks: its `Sequential` of neurons, scanned over steps.

The scan is that of `spyx.nn.run`, but also returns membrane potentials, which the losses need. The
image is the same at every step, so the product of the first layer is computed once, outside the
scan. Surrogate and trained parameters are set to those of the task.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spyx  # pyright: ignore[reportMissingImports]
from flax import nnx  # pyright: ignore[reportMissingImports]

from . import jax_peer
from .data import Arrays, Chunk, Setting
from .library import serve_library

NOTES = [
    "a neuron fires on its membrane of the step before, so each layer adds a step of delay",
    "the gradient passes through the reset",
]
NO_FEEDBACK_BIAS = "the feedback has no bias"


def atan(x: jax.Array) -> jax.Array:
    """Surrogate derivative of the task; spyx's own `arctan` divides it by pi."""
    return 1 / (1 + (jnp.pi * x) ** 2)


class Net(nnx.Module):
    """Linear layer applied to the image, and the remaining layers: neurons, linear, neurons."""

    def __init__(self, setting: Setting) -> None:
        n_in, hidden, n_out = setting.sizes
        rngs, activation = nnx.Rngs(0), spyx.axn.custom(bwd=atan)
        neurons = spyx.nn.RLIF if setting.recurrent else spyx.nn.LIF

        def layer(n: int) -> Any:
            return neurons((n,), beta=setting.beta, activation=activation, rngs=rngs)

        self.num_steps = setting.num_steps
        self.first = nnx.Linear(n_in, hidden, rngs=rngs)
        self.rest = spyx.nn.Sequential(
            layer(hidden), nnx.Linear(hidden, n_out, rngs=rngs), layer(n_out)
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Spikes and membrane potentials of the output, time first."""
        current = self.first(x)

        def step(state: Any, _: None) -> Any:
            spikes, state = self.rest(current, state)
            return state, (spikes, state[-1])

        start = self.rest.initial_state(len(x))
        return jax.lax.scan(step, start, None, self.num_steps)[1]


class Spyx:
    """Implementation of the `Library` interface."""

    def open(self, setting: Setting) -> dict[str, Any]:
        if setting.canvas is not None or setting.beta is None:
            raise ValueError(f"this worker does not do {setting.task}")
        self.setting = setting
        trained = nnx.All(nnx.Param, lambda path, _: "beta" not in path)
        graph, self.state, rest = nnx.split(Net(setting), trained, ...)

        def run(state: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return nnx.merge(graph, state, rest)(x)

        task_loss = jax_peer.loss_of(setting.loss)
        self.training = jax_peer.Training(
            lambda state, x, y: task_loss(*run(state, x), y),
            setting.learning_rate,
            setting.test_pass,
        )
        self.counts = jax.jit(lambda state, x: jnp.sum(run(state, x)[0], axis=0))
        return {
            "compiles": True,
            "threads": None,
            "notes": NOTES + [NO_FEEDBACK_BIAS] * setting.recurrent,
        }

    def named(self, state: Any) -> dict[str, Any]:
        """Parameters by their names in the start file; spyx's matrices are (in, out)."""
        cells = state["rest"]["layers"]
        found = {}
        for i, linear in enumerate((state["first"], cells[1]), 1):
            found |= {f"weight_{i}": linear["kernel"], f"bias_{i}": linear["bias"]}
        if self.setting.recurrent:
            for i, cell in enumerate((cells[0], cells[2]), 1):
                found[f"feedback_weight_{i}"] = cell["recurrent_w"]
        return found

    def load(self, parameters: Arrays) -> None:
        for name, variable in self.named(self.state).items():
            variable.set_value(jnp.asarray(parameters[name].T))
        self.training.start(self.state)

    def parameters(self) -> Arrays:
        """Matrices as in the start file; missing biases are zero."""
        named = self.named(self.training.parameters)
        values = {name: np.asarray(v.get_value()).T for name, v in named.items()}
        if self.setting.recurrent:
            for i, n in enumerate(self.setting.sizes[1:], 1):
                values[f"feedback_bias_{i}"] = np.zeros(n, np.float32)
        return values

    def place(self, chunk: Chunk) -> Any:
        return jax_peer.place(chunk)

    def train(self, placed: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.training.run(placed)

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.training.loss(self.training.parameters, x, y))

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.counts(self.training.parameters, x))


if __name__ == "__main__":
    serve_library(Spyx())
