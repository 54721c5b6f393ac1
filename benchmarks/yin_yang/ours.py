"""Worker of eventsnn for Yin-Yang with QIF neurons: its own task, in float64 or float32."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from eventsnn.cpu import prepare_cpu
from eventsnn.data.yin_yang import Samples
from eventsnn.tasks.yin_yang import YinYang

from ..ttfs_regression.ours import Trainer, sharing
from ..workers.protocol import serve


class YinYangTrainer(Trainer):
    """Worker commands of the spike-time regression, without `run_task`."""

    def open(self, problem: str, dtype: str) -> dict[str, Any]:
        jax.config.update("jax_enable_x64", dtype == "float64")
        with np.load(problem) as file:
            self.problem = {name: file[name] for name in file.files}
        p = self.problem
        size = int(p["batch"])
        self.task = YinYang(
            neuron="qif",
            batch_size=size,
            learning_rate=float(p["learning_rate"]),
            drive=0.0,
            tau_mem=float(p["tau_mem"]),
            tau_syn=float(p["tau_syn"]),
            tau0=float(p["tau0"]),
            tau1=float(p["tau1"]),
            alpha=float(p["alpha"]),
        )
        assert self.task.setup.t_max == p["t_max"]
        net = self.task.build(jax.random.key(0))
        assert np.array_equal(np.asarray(net.mask), p["mask"])
        self.model = eqx.tree_at(
            self.where, net, (jnp.asarray(p["weights"]), jnp.asarray(p["bias"]))
        )
        x, y = np.asarray(p["x"], dtype), p["y"]
        self.batches = x.reshape(-1, size, 2), y.reshape(-1, size)
        devices = sharing(size)
        self.mesh = Mesh(np.array(devices), ("batch",))
        self.steps = self.chunk_of_steps(devices)
        return {"devices": [str(device) for device in devices]}

    def lay_out(self, first: int, end: int) -> Any:
        """Chunk of batches, as in the base class; a batch consists of points and labels."""
        return Samples(*super().lay_out(first, end))

    def evaluate(self) -> dict[str, Any]:
        """Fraction of test points whose class fires first."""
        model = eqx.combine(jax.device_put(self.arrays, self.mesh.devices[0]), self.static)[0]
        test = Samples(self.problem["x_test"], self.problem["y_test"])
        return {"test_accuracy": self.task.accuracy(model, test)}


if __name__ == "__main__":
    prepare_cpu()
    trainer = YinYangTrainer()
    names = ("open", "load", "save", "train", "evaluate", "memory")
    serve({name: getattr(trainer, name) for name in names})
