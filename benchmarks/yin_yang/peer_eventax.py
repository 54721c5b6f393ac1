"""Worker of eventax for Yin-Yang with QIF neurons, in float64 and with steps of 0.05 ms.

Solver (Euler), root finder and adjoint are the defaults. The loss is that of the task: silent
outputs count as the time limit, in the value only.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from eventax.evnn import FFEvNN  # pyright: ignore[reportMissingImports]
from eventax.neuron_models import QIF  # pyright: ignore[reportMissingImports]

from ..workers import files
from ..workers.eventax_trainer import EventaxTrainer
from ..workers.protocol import methods, serve


def build(mask: np.ndarray, setting: dict[str, Any], dtype: str) -> FFEvNN:
    """Build the network; `load` replaces its random weights by those of the problem."""
    rows, n = mask.shape
    return FFEvNN(
        layers=[n - 3, 3],
        in_size=rows - n,
        neuron_model=QIF,
        max_solver_time=setting["t_max"],
        key=jax.random.PRNGKey(0),
        solver_stepsize=0.05,
        max_event_steps=setting["max_events"],
        output_no_spike_value=jnp.inf,
        dtype=jnp.dtype(dtype),
        tsyn=setting["tau_syn"],
        tmem=setting["tau_mem"],
        blim=0.5,
        wlim=40.0,
        wmean=20.0,
    )


class Trainer(EventaxTrainer):
    """Worker commands of the training, and `evaluate`."""

    def open(self, problem: str, setting: dict[str, Any], dtype: str) -> None:
        jax.config.update("jax_enable_x64", dtype == "float64")
        p = self._problem = files.read(problem)
        t_max, tau0, tau1, alpha = (setting[name] for name in ("t_max", "tau0", "tau1", "alpha"))
        self._t_max = t_max

        def loss(model, in_times, labels):
            times = jax.vmap(model.ttfs)(in_times)
            times = jnp.where(times > t_max, t_max, times)
            right = jnp.take_along_axis(times, labels[:, None], axis=1)[:, 0]
            first = right / tau0 + jax.nn.logsumexp(-times / tau0, axis=1)
            return jnp.mean(first + alpha * jnp.expm1(right / tau1))

        model = build(p["mask"], setting, dtype)
        assert np.array_equal(model.get_wmask() > 0, p["mask"])
        self._prepare(model, loss, (p["x"], p["y"]), setting["learning_rate"])

    def _in_times(self, x: jax.Array) -> jax.Array:
        """One spike in each of five channels: (batch, 5, 1)."""
        t = self._t_max * jnp.concatenate([x, 1 - x, jnp.zeros_like(x[:, :1])], axis=1)
        return t[:, :, None]

    def evaluate(self) -> dict[str, float]:
        """Fraction of test points whose class fires first."""
        times = np.asarray(self._first_spikes(self._problem["x_test"]))
        right = times.argmin(axis=1) == self._problem["y_test"]
        return {"test_accuracy": float(np.mean(right & np.isfinite(times).any(axis=1)))}


if __name__ == "__main__":
    serve(methods(Trainer()))
