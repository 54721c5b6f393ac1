"""Worker of eventsnn for the spike-time regression: its own task and training step."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from eventsnn.cpu import prepare_cpu
from eventsnn.data import regression
from eventsnn.losses import time_mae
from eventsnn.tasks import TTFSRegression

from ..workers import files
from ..workers.event_trainer import EventTrainer
from ..workers.protocol import methods, serve


class Trainer(EventTrainer):
    """Worker commands of the training, `evaluate`, and `run_task`."""

    def open(self, problem: str, setting: dict[str, Any]) -> None:
        p = self._problem = files.read(problem)
        task = TTFSRegression(**setting)
        assert np.array_equal(task.mask(), p["mask"])
        weights, bias = jnp.asarray(p["weights"]), jnp.asarray(p["bias"])
        model = task.network(weights, bias, outputs=(bias.size - 1,))
        in_times = np.stack([np.zeros_like(p["x"]), p["x"]], axis=-1)[..., None, :]
        self._prepare(task, model, (in_times, p["y"][..., None]))

    def evaluate(self) -> dict[str, float]:
        """Mean absolute error in ms on the test grid; silent outputs count as t_max."""
        model, _ = self._training.state
        error = test_mae(self._task, model, self._problem["x_test"], self._problem["y_test"])
        return {"test_mae": error}

    def run_task(self, seed: int, steps: int) -> dict[str, float]:
        """Run the task as `eventsnn run` does, with its own initial state and data for a seed."""
        task = TTFSRegression(seed=seed, steps=steps)
        fitted = task.train(progress=False)
        x = regression.grid(task.n_test)
        error = test_mae(task, fitted.average, x, regression.target(x))
        return {"test_mae": error, "steps_per_second": fitted.steps_per_second}


def test_mae(task: TTFSRegression, model: Any, x: Any, y: Any) -> float:
    times = task.predict(model, jnp.asarray(x))
    return float(time_mae(times, jnp.asarray(y)[:, None], t_max=task.t_max))


if __name__ == "__main__":
    prepare_cpu()
    serve(methods(Trainer()))
