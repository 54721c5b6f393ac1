"""Worker of eventax for the spike-time regression, configured as in eventax's own notebook.

There is one difference, because the notebook does not run as written: the optimiser is initialised
on the inexact arrays of the model, not on the whole model. Solver (Euler), step (0.1), root finder
and adjoint are those of the notebook or the defaults.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from eventax.evnn import EvNN  # pyright: ignore[reportMissingImports]
from eventax.neuron_models import QIF  # pyright: ignore[reportMissingImports]

from ..workers import files
from ..workers.eventax_trainer import EventaxTrainer
from ..workers.protocol import methods, serve


def build(mask: np.ndarray, setting: dict[str, Any]) -> EvNN:
    """Build the notebook's network; `load` replaces its random weights by those of the problem."""
    rows, n = mask.shape
    return EvNN(
        neuron_model=QIF,
        n_neurons=n,
        in_size=rows - n,
        max_solver_time=setting["t_max"],
        key=jax.random.PRNGKey(0),
        wmask=jnp.asarray(mask, jnp.float32),
        output_neurons=jnp.arange(n) == n - 1,
        input_neurons=jnp.arange(n) < n - 1,
        solver_stepsize=0.1,
        dtype=jnp.float32,
        tsyn=setting["tau_syn"],
        tmem=setting["tau_mem"],
        blim=0.5,
        wlim=40.0,
        wmean=20.0,
        max_event_steps=setting["max_events"],
    )


def loss(model: EvNN, in_times: jax.Array, target_times: jax.Array) -> jax.Array:
    """Loss of the notebook: squared error of times over 80; silent outputs count as 80."""
    first_spikes = jax.vmap(model.ttfs)(in_times)
    return jnp.mean((jnp.minimum(first_spikes, 80) / 80 - target_times[:, None] / 80) ** 2)


class Trainer(EventaxTrainer):
    """Worker commands of the training, and `evaluate`."""

    def open(self, problem: str, setting: dict[str, Any]) -> None:
        p = self._problem = files.read(problem)
        self._t_max = setting["t_max"]
        model = build(p["mask"], setting)
        self._prepare(model, loss, (p["x"], p["y"]), setting["learning_rate"])

    def _in_times(self, x: jax.Array) -> jax.Array:
        """Input spikes at 0 and x for each sample: (batch, 1 channel, 2)."""
        return jnp.stack([jnp.zeros_like(x), x], axis=-1)[:, None, :]

    def evaluate(self) -> dict[str, float]:
        """Mean absolute error in ms on the test grid; silent outputs count as t_max."""
        times = np.asarray(self._first_spikes(self._problem["x_test"]))[:, 0]
        errors = np.abs(np.minimum(times, self._t_max) - self._problem["y_test"])
        return {"test_mae": float(np.mean(errors))}


if __name__ == "__main__":
    serve(methods(Trainer()))
