"""Worker of eventax for Yin-Yang with QIF neurons, in float64 and with steps of 0.05 ms.

Solver (Euler), root finder and adjoint are the defaults. The loss is that of the task: silent
outputs count as the time limit, in the value only.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from eventax.evnn import FFEvNN  # pyright: ignore[reportMissingImports]
from eventax.neuron_models import QIF  # pyright: ignore[reportMissingImports]

from ..ttfs_regression.eventax import Trainer
from ..workers.protocol import serve


def build(problem: dict[str, np.ndarray], dtype: Any) -> FFEvNN:
    """Build the network; `load` replaces its random weights by those of the problem."""
    rows, n = problem["mask"].shape
    return FFEvNN(
        layers=[n - 3, 3],
        in_size=rows - n,
        neuron_model=QIF,
        max_solver_time=float(problem["t_max"]),
        key=jax.random.PRNGKey(0),
        solver_stepsize=0.05,
        max_event_steps=int(problem["max_events"]),
        output_no_spike_value=jnp.inf,
        dtype=dtype,
        tsyn=float(problem["tau_syn"]),
        tmem=float(problem["tau_mem"]),
        blim=0.5,
        wlim=40.0,
        wmean=20.0,
    )


class YinYangTrainer(Trainer):
    """Worker commands of the spike-time regression, with another network, loss and score."""

    def open(self, problem: str, dtype: str) -> dict[str, Any]:
        jax.config.update("jax_enable_x64", dtype == "float64")
        with np.load(problem) as file:
            self.problem = p = {name: file[name] for name in file.files}
        self.x, self.y, self.batch = jnp.asarray(p["x"]), jnp.asarray(p["y"]), int(p["batch"])
        t_max, tau0, tau1, alpha = (float(p[name]) for name in ("t_max", "tau0", "tau1", "alpha"))

        def loss(model, in_times, labels):
            times = jax.vmap(model.ttfs)(in_times)
            times = jnp.where(times > t_max, t_max, times)
            right = jnp.take_along_axis(times, labels[:, None], axis=1)[:, 0]
            first = right / tau0 + jax.nn.logsumexp(-times / tau0, axis=1)
            return jnp.mean(first + alpha * jnp.expm1(right / tau1))

        model = build(p, jnp.dtype(dtype))
        assert np.array_equal(model.get_wmask() > 0, p["mask"])
        return self.prepare(model, eqx.filter_value_and_grad(loss))

    def events(self, x: jax.Array) -> jax.Array:
        """One spike in each of five channels: (batch, 5, 1)."""
        t = self.problem["t_max"] * jnp.concatenate([x, 1 - x, jnp.zeros_like(x[:, :1])], axis=1)
        return t[:, :, None]

    def evaluate(self) -> dict[str, Any]:
        """Fraction of test points whose class fires first."""
        ttfs = eqx.filter_jit(lambda model, in_times: jax.vmap(model.ttfs)(in_times))
        times = np.asarray(ttfs(self.model, self.events(jnp.asarray(self.problem["x_test"]))))
        right = times.argmin(axis=1) == self.problem["y_test"]
        return {"test_accuracy": float(np.mean(right & np.isfinite(times).any(axis=1)))}


if __name__ == "__main__":
    trainer = YinYangTrainer()
    names = ("open", "load", "save", "train", "evaluate", "memory")
    serve({name: getattr(trainer, name) for name in names})
