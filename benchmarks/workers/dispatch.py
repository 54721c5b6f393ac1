"""Training of eventsnn in dispatches of many steps, as in `eventsnn.train.fit`.

Each batch is split over one host device per core. Unlike in `fit`, each step can be followed by the
loss of a test batch, and the state can be reset without recompilation.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from eventsnn.cpu import compiler_options
from eventsnn.train import make_step
from eventsnn.train.step import AXIS, LossFn, data_parallel, mesh_for


class Training:
    """Adam on `loss(model, batch)`, with a state that is set by `reset`."""

    def __init__(self, loss: LossFn, model: Any, spec: Any, rate: float, batch_size: int) -> None:
        optimiser = optax.adam(rate)
        self.mesh = mesh_for(batch_size, None)
        self.fresh = optimiser.init(eqx.filter(model, spec))
        devices = list(self.mesh.devices)
        step = make_step(loss, optimiser, filter_spec=spec, devices=devices)
        test_loss = data_parallel(lambda model, batch, key: loss(model, batch), devices)

        def one(arrays: Any, batches: Any) -> Any:
            batch, test = batches
            model, adam = eqx.combine(arrays, self.static)
            model, adam, value = step(model, adam, batch)
            of_test = None if test is None else test_loss(model, test, None)
            return eqx.filter((model, adam), eqx.is_array), (value, of_test)

        self.steps = jax.jit(
            lambda arrays, batches: jax.lax.scan(one, arrays, batches),
            donate_argnums=0,
            compiler_options=compiler_options(),
        )

    def reset(self, model: Any, adam: Any) -> None:
        """Set the model and the state of Adam."""
        arrays, self.static = eqx.partition((model, adam), eqx.is_array)
        # Copies with the exact types that a step returns, because their buffers are overwritten.
        copies = jax.tree.map(lambda x: jnp.array(x, x.dtype, copy=True), arrays)
        self.arrays = jax.device_put(copies, NamedSharding(self.mesh, PartitionSpec()))

    def place(self, batches: Any, test_batches: Any = None) -> Any:
        """Copy stacked batches to the devices, each batch sharded over them."""
        sharding = NamedSharding(self.mesh, PartitionSpec(None, AXIS))
        return jax.device_put((batches, test_batches), sharding)

    def launch(self, placed: Any) -> Any:
        """Start one step per batch; return the losses before each step, and those of the tests."""
        self.arrays, losses = self.steps(self.arrays, placed)
        return losses

    def wait(self) -> None:
        """Wait for the launched steps."""
        jax.block_until_ready(self.arrays)

    @property
    def state(self) -> tuple[Any, Any]:
        """Model and state of Adam, on the first device."""
        return eqx.combine(jax.device_put(self.arrays, self.mesh.devices[0]), self.static)

    @property
    def model(self) -> Any:
        """Model on the first device."""
        return self.state[0]
