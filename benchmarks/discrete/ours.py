"""Worker of eventsnn for the discrete-time tasks: `discrete.run` and `train.make_step`.

As in `eventsnn.train.fit`, a chunk of steps runs in one dispatch, and each batch is split over one
host device per core. Unlike in `fit`, each step can be followed by a test pass, and the state can
be reset without recompilation.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from eventsnn import discrete, losses, surrogates
from eventsnn.cpu import compiler_options, prepare_cpu
from eventsnn.discrete.trainable import trainable
from eventsnn.train import make_step

from .data import Arrays, Chunk, Setting
from .library import serve_library


def linear(weight: np.ndarray, bias: np.ndarray) -> eqx.nn.Linear:
    """Linear layer with the given parameters."""
    layer = eqx.nn.Linear(weight.shape[1], weight.shape[0], key=jax.random.key(0))
    where = lambda layer: (layer.weight, layer.bias)  # noqa: E731
    return eqx.tree_at(where, layer, (jnp.asarray(weight), jnp.asarray(bias)))


def cell(setting: Setting, i: int, parameters: Arrays) -> Any:
    """Neurons of layer `i`."""
    if setting.beta is None:
        beta, threshold = (jnp.asarray(parameters[f"{name}_{i}"]) for name in ("beta", "threshold"))
        if i == len(setting.sizes) - 1:
            return discrete.LeakyIntegrator(beta)
        return discrete.Leaky(beta, threshold=threshold, surrogate=surrogates.FastSigmoid())
    beta, threshold = jnp.float32(setting.beta), jnp.float32(1)
    if not setting.recurrent:
        return discrete.Leaky(beta, threshold=threshold)
    feedback = linear(*(parameters[f"feedback_{kind}_{i}"] for kind in ("weight", "bias")))
    return discrete.RLeaky(beta, feedback, threshold=threshold)


def build(setting: Setting, parameters: Arrays) -> discrete.Sequential:
    """Build linear layers and neurons, with dropout, if any, between the first two layers."""
    layers: list[Any] = []
    for i in range(1, len(setting.sizes)):
        layers.append(linear(parameters[f"weight_{i}"], parameters[f"bias_{i}"]))
        if setting.dropout and i == 1:
            layers.append(eqx.nn.Dropout(setting.dropout))
        layers.append(cell(setting, i, parameters))
    return discrete.Sequential(layers)


def named(setting: Setting, model: discrete.Sequential) -> Arrays:
    """Parameters by their names in the start file."""
    layers = [layer for layer in model.layers if not isinstance(layer, eqx.nn.Dropout)]
    found: dict[str, Any] = {}
    for i in range(1, len(setting.sizes)):
        layer, neurons = layers[2 * i - 2 : 2 * i]
        found |= {f"weight_{i}": layer.weight, f"bias_{i}": layer.bias}
        if setting.recurrent:
            feedback = neurons.feedback
            found |= {f"feedback_weight_{i}": feedback.weight, f"feedback_bias_{i}": feedback.bias}
        if setting.beta is None:
            # An integrator has no threshold; the start file contains one.
            ones = np.ones(setting.sizes[i], np.float32)
            found[f"beta_{i}"] = neurons.beta
            found[f"threshold_{i}"] = getattr(neurons, "threshold", ones)
    return {name: np.asarray(value) for name, value in found.items()}


def simulate(
    setting: Setting, model: Any, x: jax.Array, keys: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Output spikes and membrane potentials, (time, batch, outputs), for `x` with samples first."""
    num_steps = setting.num_steps if x.ndim == 2 else None

    def one(x: jax.Array, key: jax.Array | None) -> Any:
        return discrete.run(model, x, num_steps=num_steps, key=key)[:2]

    return jax.vmap(one, in_axes=(0, None if keys is None else 0), out_axes=1)(x, keys)


def loss_of(setting: Setting, model: Any, batch: Any) -> jax.Array:
    """Task loss of a batch (x, y, keys); keys are None without dropout."""
    x, y, keys = batch
    model = eqx.nn.inference_mode(model, keys is None)
    spikes, membranes = simulate(setting, model, x, keys)
    if setting.loss == "ce_membrane":
        return losses.ce_membrane_sum(membranes, y)
    if setting.loss == "mse_count":
        return losses.mse_count(spikes, y, correct_rate=0.8, incorrect_rate=0.2)
    if setting.loss == "mse_membrane":
        return losses.mse_membrane(membranes, y, on_target=1.05, off_target=0.2)
    return jnp.mean((membranes - jnp.swapaxes(y, 0, 1)) ** 2)


def sharing(batch_size: int) -> list[jax.Device]:
    """Sharding over the largest number of devices that divides the batch evenly."""
    devices = jax.devices()
    return devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]


class Eventsnn:
    """Implementation of the `Library` interface."""

    def open(self, setting: Setting) -> dict[str, Any]:
        self.setting = setting
        devices = sharing(setting.batch)
        self.mesh = Mesh(np.array(devices), ("batch",))
        self.key = jax.random.key(0)
        self.steps = None
        self.loss_alone = eqx.filter_jit(lambda model, batch: loss_of(setting, model, batch))
        self.outputs = eqx.filter_jit(self.scores)
        return {"compiles": True, "threads": len(devices), "notes": []}

    def scores(self, model: Any, x: jax.Array) -> jax.Array:
        spikes, membranes = simulate(self.setting, eqx.nn.inference_mode(model), x, None)
        if self.setting.loss == "mse":
            return jnp.swapaxes(membranes, 0, 1)
        return jnp.sum(spikes, axis=0)

    def load(self, parameters: Arrays) -> None:
        model = build(self.setting, parameters)
        names = ("beta",) if self.setting.beta is None else ()
        spec, optimiser = trainable(model, *names), optax.adam(self.setting.learning_rate)
        state = (model, optimiser.init(eqx.filter(model, spec)))
        arrays, static = eqx.partition(state, eqx.is_array)
        if self.steps is None:
            self.steps = self.chunk_of_steps(static, spec, optimiser)
        place = NamedSharding(self.mesh, PartitionSpec())
        # Copies with the exact types that a step returns, because their buffers are overwritten.
        self.arrays = jax.tree.map(
            lambda x: jax.device_put(jnp.array(x, x.dtype, copy=True), place), arrays
        )
        self.static = static

    def chunk_of_steps(self, static: Any, spec: Any, optimiser: Any) -> Any:
        """Compile `(arrays of model and Adam state, batches) -> (arrays, losses)` as one
        program."""

        def loss(model: Any, batch: Any) -> jax.Array:
            return loss_of(self.setting, model, batch)

        devices = list(self.mesh.devices)
        step = make_step(loss, optimiser, filter_spec=spec, devices=devices)

        def one(arrays: Any, batches: Any) -> Any:
            batch, test = batches
            model, adam = eqx.combine(arrays, static)
            model, adam, value = step(model, adam, batch)
            of_test = None if test is None else self.test_loss(model, test)
            return eqx.filter((model, adam), eqx.is_array), (value, of_test)

        return jax.jit(
            lambda arrays, batches: jax.lax.scan(one, arrays, batches),
            donate_argnums=0,
            compiler_options=compiler_options(),
        )

    def test_loss(self, model: Any, batch: Any) -> jax.Array:
        """Loss of a batch that is sharded over the devices, as in `make_step`."""
        arrays, static = eqx.partition(model, eqx.is_array)

        def part(arrays: Any, batch: Any) -> jax.Array:
            loss = loss_of(self.setting, eqx.combine(arrays, static), batch)
            return jax.lax.pmean(loss, "batch")

        specs = (PartitionSpec(), PartitionSpec("batch"))
        mapped = jax.shard_map(
            part, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
        )
        return mapped(arrays, batch)

    @property
    def model(self) -> Any:
        return eqx.combine(jax.device_put(self.arrays, self.mesh.devices[0]), self.static)[0]

    def parameters(self) -> Arrays:
        return named(self.setting, self.model)

    def place(self, chunk: Chunk) -> Any:
        """Copy the batches to the devices, each batch sharded over them."""
        keys = None
        if self.setting.dropout:
            self.key, now = jax.random.split(self.key)
            keys = jax.random.split(now, chunk.y.shape[:2])
        test = None if chunk.test_x is None else (chunk.test_x, as_int(chunk.test_y), None)
        batches = ((chunk.x, as_int(chunk.y), keys), test)
        over = NamedSharding(self.mesh, PartitionSpec(None, "batch"))
        return jax.block_until_ready(jax.device_put(batches, over))

    def train(self, placed: Any) -> tuple[np.ndarray, np.ndarray]:
        assert self.steps is not None
        self.arrays, (values, of_test) = self.steps(self.arrays, placed)
        jax.block_until_ready((self.arrays, values, of_test))
        return np.asarray(values), np.asarray([] if of_test is None else of_test)

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        batch = (jnp.asarray(x), jnp.asarray(as_int(y)), None)
        return float(self.loss_alone(self.model, batch))

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.outputs(self.model, jnp.asarray(x)))


def as_int(y: Any) -> np.ndarray:
    """Convert classes to 32-bit integers; leave curves unchanged."""
    return y.astype(np.int32) if np.issubdtype(y.dtype, np.integer) else y


if __name__ == "__main__":
    prepare_cpu()
    serve_library(Eventsnn())
