"""Worker of spyx for the two classification tasks: its `Sequential` of neurons, scanned over steps.

The scan is that of `spyx.nn.run`, but also returns membrane potentials, which the losses need. The
image is the same at every step, so the product of the first layer is computed once, outside the
scan. Surrogate and trained parameters are set to those of the task.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spyx  # pyright: ignore[reportMissingImports]
from flax import nnx  # pyright: ignore[reportMissingImports]

from ..workers.files import Arrays
from .data import Setting
from .jax_training import JaxPeer

NOTES = [
    "a neuron fires if its membrane potential of the step before exceeds the threshold, so each"
    " layer adds a delay of one step",
    "the gradient passes through the reset",
]
NO_FEEDBACK_BIAS = "the feedback has no bias"


def atan(x: jax.Array) -> jax.Array:
    """Surrogate derivative of the task; spyx's own `arctan` divides it by pi."""
    return 1 / (1 + (jnp.pi * x) ** 2)


class Net(nnx.Module):
    """Linear layer applied to the image, and the remaining layers: neurons, linear, neurons."""

    def __init__(self, setting: Setting) -> None:
        n_in, hidden, n_out = setting.sizes
        rngs, activation = nnx.Rngs(0), spyx.axn.custom(bwd=atan)
        neurons = spyx.nn.RLIF if setting.recurrent else spyx.nn.LIF

        def layer(n: int) -> Any:
            return neurons((n,), beta=setting.beta, activation=activation, rngs=rngs)

        self.num_steps = setting.num_steps
        self.first = nnx.Linear(n_in, hidden, rngs=rngs)
        self.rest = spyx.nn.Sequential(
            layer(hidden), nnx.Linear(hidden, n_out, rngs=rngs), layer(n_out)
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Spikes and membrane potentials of the output, time first."""
        current = self.first(x)

        def step(state: Any, _: None) -> Any:
            spikes, state = self.rest(current, state)
            return state, (spikes, state[-1])

        start = self.rest.initial_state(len(x))
        return jax.lax.scan(step, start, None, self.num_steps)[1]


class Commands(JaxPeer):
    """Hooks of spyx."""

    def _open(self, setting: Setting) -> dict[str, Any]:
        self.recurrent = setting.recurrent
        trained = nnx.All(nnx.Param, lambda path, _: "beta" not in path)
        graph, self.state, rest = nnx.split(Net(setting), trained, ...)

        def outputs(state: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return nnx.merge(graph, state, rest)(x)

        self._prepare(outputs, setting.loss, setting.learning_rate)
        return {"notes": NOTES + [NO_FEEDBACK_BIAS] * setting.recurrent}

    def _named(self, state: Any) -> dict[str, Any]:
        """Parameters by their names in the start file; spyx's matrices are (in, out)."""
        cells = state["rest"]["layers"]
        found = {}
        for i, linear in enumerate((state["first"], cells[1]), 1):
            found |= {f"weight_{i}": linear["kernel"], f"bias_{i}": linear["bias"]}
        if self.recurrent:
            found |= {f"feedback_weight_{i + 1}": cells[2 * i]["recurrent_w"] for i in range(2)}
        return found

    def _load(self, values: Arrays) -> None:
        for name, variable in self._named(self.state).items():
            variable.set_value(jnp.asarray(values[name].T))
        self._start(self.state)

    def _parameters(self) -> Arrays:
        found = self._named(self.trained)
        return {name: np.asarray(value.get_value()).T for name, value in found.items()}
