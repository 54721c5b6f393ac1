"""Worker of eventax for the spike-time regression, configured as in eventax's own notebook.

There is one difference, because the notebook does not run as written: the optimiser is initialised
on the inexact arrays of the model, not on the whole model. Solver (Euler), step (0.1), root finder
and adjoint are those of the notebook or the defaults.
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from eventax.evnn import EvNN  # pyright: ignore[reportMissingImports]
from eventax.neuron_models import QIF  # pyright: ignore[reportMissingImports]

from ..workers import adam as state
from ..workers.protocol import peak_memory_mb, serve


def build(problem: dict[str, np.ndarray]) -> EvNN:
    """Build the notebook's network; `load` replaces its random weights by those of the problem."""
    rows, n = problem["mask"].shape
    return EvNN(
        neuron_model=QIF,
        n_neurons=n,
        in_size=rows - n,
        max_solver_time=float(problem["t_max"]),
        key=jax.random.PRNGKey(0),
        wmask=jnp.asarray(problem["mask"], jnp.float32),
        output_neurons=jnp.arange(n) == n - 1,
        input_neurons=jnp.arange(n) < n - 1,
        solver_stepsize=0.1,
        dtype=jnp.float32,
        tsyn=float(problem["tau_syn"]),
        tmem=float(problem["tau_mem"]),
        blim=0.5,
        wlim=40.0,
        wmean=20.0,
        max_event_steps=int(problem["max_events"]),
    )


def as_events(x: jax.Array) -> jax.Array:
    """Input spikes at 0 and x for each sample: (batch, 1 channel, 2)."""
    return jnp.stack([jnp.zeros_like(x), x], axis=-1)[:, None, :]


@eqx.filter_value_and_grad
def loss_and_grad(model: EvNN, in_times: jax.Array, target_times: jax.Array) -> jax.Array:
    """Loss of the notebook: squared error of times over 80; silent outputs count as 80."""
    first_spikes = jax.vmap(model.ttfs)(in_times)
    return jnp.mean((jnp.minimum(first_spikes, 80) / 80 - target_times[:, None] / 80) ** 2)


class Trainer:
    """Worker commands: `open` once, then `load`, `train`, `evaluate` and `save` in any order."""

    def open(self, problem: str) -> dict[str, Any]:
        with np.load(problem) as file:
            self.problem = {name: file[name] for name in file.files}
        self.x, self.y = jnp.asarray(self.problem["x"]), jnp.asarray(self.problem["y"])
        self.batch = int(self.problem["batch"])
        return self.prepare(build(self.problem), loss_and_grad)

    def prepare(self, model: EvNN, loss_and_grad: Any) -> dict[str, Any]:
        """Training step of this model, and `(model, inputs, targets) -> (loss, gradient)`."""
        self.model = model
        optimiser = optax.adam(float(self.problem["learning_rate"]))
        self.fresh = optimiser.init(eqx.filter(self.model, eqx.is_inexact_array))

        @eqx.filter_jit
        def step(model, adam, in_times, target_times):
            loss, grad = loss_and_grad(model, in_times, target_times)
            updates, adam = optimiser.update(grad, adam, params=eqx.filter(model, eqx.is_array))
            return eqx.apply_updates(model, updates), adam, loss

        self.step = step
        return {"devices": [str(device) for device in jax.devices()]}

    def load(self, path: str) -> dict[str, Any]:
        self.model, self.adam = state.read(path, self.model, self.fresh, self.where)
        return {}

    def save(self, path: str) -> dict[str, Any]:
        state.write(path, self.model, self.adam, self.where)
        return {}

    def events(self, x: jax.Array) -> jax.Array:
        """Input spikes for each of `x`."""
        return as_events(x)

    def train(self, first: int, steps: int) -> dict[str, Any]:
        """Train steps `first` to `first + steps` of the data's order and wait for their
        completion."""
        start = time.perf_counter()
        for i in range(first, first + steps):
            at = slice(i * self.batch, (i + 1) * self.batch)
            self.model, self.adam, loss = self.step(
                self.model, self.adam, self.events(self.x[at]), self.y[at]
            )
        jax.block_until_ready((self.model, self.adam, loss))
        return {"seconds": time.perf_counter() - start, "loss": float(loss)}

    def evaluate(self) -> dict[str, Any]:
        """Mean absolute error in ms on the test grid; silent outputs count as t_max."""
        in_times = as_events(jnp.asarray(self.problem["x_test"]))
        times = eqx.filter_jit(lambda model: jax.vmap(model.ttfs)(in_times))(self.model)[:, 0]
        times = np.minimum(np.asarray(times), self.problem["t_max"])
        return {"test_mae": float(np.mean(np.abs(times - self.problem["y_test"])))}

    def memory(self) -> dict[str, Any]:
        return {"peak_memory_mb": peak_memory_mb()}

    @staticmethod
    def where(model: EvNN) -> tuple[jax.Array, jax.Array]:
        return model.neuron_model.weights, model.neuron_model.ic


if __name__ == "__main__":
    trainer = Trainer()
    serve(
        {
            name: getattr(trainer, name)
            for name in ("open", "load", "save", "train", "evaluate", "memory")
        }
    )
