"""Worker of jaxpike for the two classification tasks, with `unroll`, its own loop over time.

The image is the same at every step, so the product of the first layer is computed once, in advance.
jaxpike's neurons multiply their input by 1 - beta. Weights and biases are therefore divided by this
factor when they are loaded and multiplied by it when they are saved. The learning rate is also
divided by it, so that Adam takes the steps of the task. Time constants correspond to the decay
rates and are fixed.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxpike as jp  # pyright: ignore[reportMissingImports]
import numpy as np

from ..workers.files import Arrays
from .data import Setting
from .jax_training import JaxPeer

RESET = "a spike resets its neuron in the same step, and the gradient passes through the reset"
READOUT = (
    "`unroll` does not return the membrane potentials of spiking neurons: the outputs are leaky"
    " integrators, and the predicted class has the largest mean membrane potential"
)
FIRST_STEP = "the bias of the feedback is missing in the first step"


class Net(eqx.Module):
    """Dense layer applied to the image, and the remaining layers: neurons, dense, neurons."""

    first: Any
    rest: Any

    def __init__(self, setting: Setting, tau: float) -> None:
        n_in, hidden, n_out = setting.sizes
        keys = jax.random.split(jax.random.key(0), 4)
        self.first = jp.Dense(n_in, hidden, key=keys[0])
        last = jp.Dense(hidden, n_out, key=keys[1])
        if not setting.recurrent:
            spiking = jp.LIF(tau, surrogate=jp.ATan())
            self.rest = jp.Sequential(spiking, last, jp.LeakyIntegrator(tau))
            return
        nodes, edges = {"dense": last}, [("input", "lif_1"), ("lif_1", "dense"), ("dense", "lif_2")]
        for i, n in enumerate((hidden, n_out), 1):
            nodes[f"lif_{i}"] = jp.LIF(tau, surrogate=jp.ATan())
            nodes[f"feedback_{i}"] = jp.Dense(n, n, key=keys[i + 1])
            edges += [(f"lif_{i}", f"feedback_{i}"), (f"feedback_{i}", f"lif_{i}")]
        self.rest = jp.Graph(nodes, edges, "lif_2")

    def __call__(self, x: jax.Array, num_steps: int) -> jax.Array:
        """Spikes, or membrane potentials of the readout, time first."""
        _, current = self.first(None, x)
        return jp.unroll(self.rest, jnp.broadcast_to(current, (num_steps, *current.shape)))[0]

    def named(self) -> dict[str, Any]:
        """Trained parameters by their names in the start file."""
        if isinstance(self.rest, jp.Sequential):
            layers = {"{}_1": self.first, "{}_2": self.rest.layers[1]}
        else:
            nodes = self.rest.nodes
            layers = {"{}_1": self.first, "{}_2": nodes["dense"]}
            layers |= {f"feedback_{{}}_{i}": nodes[f"feedback_{i}"] for i in (1, 2)}
        kinds = ("weight", "bias")
        return {name.format(k): getattr(layer, k) for name, layer in layers.items() for k in kinds}

    def weights(self) -> list[Any]:
        return list(self.named().values())


class Commands(JaxPeer):
    """Hooks of jaxpike."""

    def _open(self, setting: Setting) -> dict[str, Any]:
        if setting.loss not in ("ce_membrane", "mse_count") or setting.beta is None:
            raise ValueError(f"loss must be ce_membrane or mse_count, got {setting.loss}.")
        self.gain, self.model = 1 - setting.beta, Net(setting, -1 / math.log(setting.beta))
        nothing = jax.tree.map(lambda _: False, self.model)
        self.spec = eqx.tree_at(Net.weights, nothing, replace_fn=lambda _: True)
        _, fixed = eqx.partition(self.model, self.spec)

        def outputs(trained: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = eqx.combine(trained, fixed)(x, setting.num_steps)
            return out, out

        self._prepare(outputs, setting.loss, setting.learning_rate / self.gain)
        return {"notes": [RESET, FIRST_STEP if setting.recurrent else READOUT]}

    def _load(self, values: Arrays) -> None:
        new = [jnp.asarray(values[n] / self.gain, jnp.float32) for n in self.model.named()]
        self._start(eqx.filter(eqx.tree_at(Net.weights, self.model, new), self.spec))

    def _parameters(self) -> Arrays:
        gain = np.float32(self.gain)
        return {name: np.asarray(value) * gain for name, value in self.trained.named().items()}
