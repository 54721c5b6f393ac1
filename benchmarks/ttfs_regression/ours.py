"""Worker of eventsnn for the spike-time regression: its own task and training step.

As in `eventsnn.train.fit`, each batch is split over one host device per core, and a chunk of steps
runs in one dispatch. Unlike in `fit`, the state can be reset without recompilation, and Adam's
moments can be saved.
"""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from eventsnn.cpu import compiler_options, prepare_cpu
from eventsnn.data import regression
from eventsnn.losses import time_mae
from eventsnn.tasks import TTFSRegression
from eventsnn.tasks.ttfs_regression import trainable
from eventsnn.train import make_step

from ..workers import adam as state
from ..workers.protocol import peak_memory_mb, serve

CHUNK = 20


class Trainer:
    """Worker commands: `open` once, then `load`, `train`, `evaluate`, `save`; `run_task` at any
    time."""

    def open(self, problem: str) -> dict[str, Any]:
        with np.load(problem) as file:
            self.problem = {name: file[name] for name in file.files}
        self.task = TTFSRegression(
            batch_size=int(self.problem["batch"]),
            learning_rate=float(self.problem["learning_rate"]),
            tau_mem=float(self.problem["tau_mem"]),
            tau_syn=float(self.problem["tau_syn"]),
            t_max=float(self.problem["t_max"]),
            max_events=int(self.problem["max_events"]),
        )
        weights, bias = jnp.asarray(self.problem["weights"]), jnp.asarray(self.problem["bias"])
        assert np.array_equal(self.task.mask(), self.problem["mask"])
        self.model = self.task.network(weights, bias, outputs=(bias.size - 1,))
        self.batches = as_batches(self.problem["x"], self.problem["y"], self.task.batch_size)
        devices = sharing(self.task.batch_size)
        self.mesh = Mesh(np.array(devices), ("batch",))
        self.steps = self.chunk_of_steps(devices)
        return {"devices": [str(device) for device in devices]}

    def chunk_of_steps(self, devices: list[jax.Device]) -> Any:
        """Compile `(arrays of model and Adam state, batches) -> (arrays, losses)` as one
        program."""
        optimiser, spec = optax.adam(self.task.learning_rate), trainable(self.model)
        self.fresh = optimiser.init(eqx.filter(self.model, spec))
        step = make_step(self.task.loss, optimiser, filter_spec=spec, devices=devices)
        static = eqx.filter((self.model, self.fresh), eqx.is_array, inverse=True)

        def one(arrays, batch):
            model, adam = eqx.combine(arrays, static)
            model, adam, loss = step(model, adam, batch)
            return eqx.filter((model, adam), eqx.is_array), loss

        self.static = static
        return jax.jit(
            lambda arrays, batches: jax.lax.scan(one, arrays, batches),
            donate_argnums=0,
            compiler_options=compiler_options(),
        )

    def load(self, path: str) -> dict[str, Any]:
        arrays = eqx.filter(state.read(path, self.model, self.fresh, self.where), eqx.is_array)
        place = NamedSharding(self.mesh, PartitionSpec())
        # Copies with the exact types that a step returns, because their buffers are overwritten.
        self.arrays = jax.tree.map(
            lambda x: jax.device_put(jnp.array(x, x.dtype, copy=True), place), arrays
        )
        return {}

    def save(self, path: str) -> dict[str, Any]:
        model, adam = eqx.combine(self.arrays, self.static)
        state.write(path, model, adam, self.where)
        return {}

    def train(self, first: int, steps: int) -> dict[str, Any]:
        """Train steps `first` to `first + steps` of the data's order; includes the preparation of
        the data.

        As in `fit`, the next chunk is prepared while the devices compute, and launched when they
        have finished: XLA's CPU client stalls when about fifty programs with communication are
        queued.
        """
        start = time.perf_counter()
        end = first + steps
        batches = self.lay_out(first, end)
        for i in range(first, end, CHUNK):
            self.arrays, losses = self.steps(self.arrays, batches)
            batches = self.lay_out(i + CHUNK, end)
            jax.block_until_ready((self.arrays, losses))
        return {"seconds": time.perf_counter() - start, "loss": float(losses[-1])}

    def lay_out(self, first: int, end: int) -> Any:
        """Chunk of batches on the devices, each batch sharded over them; empty at the end."""
        place = NamedSharding(self.mesh, PartitionSpec(None, "batch"))
        chunk = slice(first, min(first + CHUNK, end))
        return jax.device_put(tuple(a[chunk] for a in self.batches), place)

    def evaluate(self) -> dict[str, Any]:
        """Mean absolute error in ms on the test grid; silent outputs count as t_max."""
        model = eqx.combine(jax.device_put(self.arrays, self.mesh.devices[0]), self.static)[0]
        return {
            "test_mae": test_mae(self.task, model, self.problem["x_test"], self.problem["y_test"])
        }

    def run_task(self, seed: int, steps: int) -> dict[str, Any]:
        """Run the task as `eventsnn run` does, with its own initial state and data for this
        seed."""
        task = TTFSRegression(seed=seed, steps=steps)
        fitted = task.train(progress=False)
        x = regression.grid(task.n_test)
        error = test_mae(task, fitted.average, x, regression.target(x))
        return {"test_mae": error, "steps_per_second": fitted.steps_per_second}

    def memory(self) -> dict[str, Any]:
        return {"peak_memory_mb": peak_memory_mb()}

    @staticmethod
    def where(model: Any) -> tuple[jax.Array, jax.Array]:
        return model.weights, model.neuron.bias


def as_batches(x: np.ndarray, y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Input spikes (steps, batch, 1, 2) at 0 and x, and targets (steps, batch, 1)."""
    x, y = x.reshape(-1, size), y.reshape(-1, size)
    return np.stack([np.zeros_like(x), x], axis=-1)[..., None, :], y[..., None]


def sharing(batch_size: int) -> list[jax.Device]:
    """Sharding over the largest number of devices that divides the batch evenly."""
    devices = jax.devices()
    return devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]


def test_mae(task: TTFSRegression, model: Any, x: Any, y: Any) -> float:
    times = task.predict(model, jnp.asarray(x))
    return float(time_mae(times, jnp.asarray(y)[:, None], t_max=task.t_max))


if __name__ == "__main__":
    prepare_cpu()
    trainer = Trainer()
    names = ("open", "load", "save", "train", "evaluate", "run_task", "memory")
    serve({name: getattr(trainer, name) for name in names})
