"""Worker of eventsnn for Yin-Yang with QIF neurons: its own task, in float64 or float32."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eventsnn.cpu import prepare_cpu
from eventsnn.data.yin_yang import Samples
from eventsnn.tasks import YinYang

from ..workers import files
from ..workers.event_trainer import EventTrainer, parameters
from ..workers.protocol import methods, serve


class Trainer(EventTrainer):
    """Worker commands of the training, and `evaluate`."""

    def open(self, problem: str, setting: dict[str, Any], dtype: str) -> None:
        jax.config.update("jax_enable_x64", dtype == "float64")
        p = files.read(problem)
        self._test = Samples(p["x_test"], p["y_test"])
        limits = setting.pop("t_max"), setting.pop("max_events")
        task = YinYang(neuron="qif", drive=0.0, **setting)
        assert (task.setup.t_max, task.setup.max_events) == limits
        net = task.build(jax.random.key(0))
        assert np.array_equal(np.asarray(net.mask), p["mask"])
        values = (jnp.asarray(p["weights"]), jnp.asarray(p["bias"]))
        model = eqx.tree_at(parameters, net, values)
        self._prepare(task, model, Samples(p["x"].astype(dtype), p["y"]))

    def evaluate(self) -> dict[str, float]:
        """Fraction of test points whose class fires first."""
        model, _ = self._training.state
        return {"test_accuracy": self._task.accuracy(model, self._test)}


if __name__ == "__main__":
    prepare_cpu()
    serve(methods(Trainer()))
