"""Which parameters of a model train."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from .base import AbstractCell
from .feedback import Frozen

#: What describes a cell's neurons, as opposed to what connects them.
NEURON_PARAMETERS = (
    "alpha",
    "beta",
    "threshold",
    "graded",
    "resistance",
    "capacitance",
    "time_step",
)


def trainable(model: AbstractCell, *names: str) -> PyTree:
    """A filter for `equinox.partition` and [`eventsnn.train.fit`][]: true for weights and biases,
    feedback among them, and for the neuron parameters named.

    ```python
    trainable(model)                        # snnTorch's default
    trainable(model, "beta", "threshold")   # learn_beta=True, learn_threshold=True
    ```

    All parameters are leaves, and this is only one choice of them: `equinox.tree_at` makes
    another. What is within [`eventsnn.discrete.Frozen`][] stays false.

    **Arguments:**

    - `names`: of `"alpha"`, `"beta"`, `"threshold"`, `"graded"`, `"resistance"`,
        `"capacitance"`, `"time_step"`: these train in every cell that has them.

    **Raises:** `ValueError` for another name.
    """
    unknown = set(names) - set(NEURON_PARAMETERS)
    if unknown:
        raise ValueError(
            f"names must be among {', '.join(NEURON_PARAMETERS)}, got {', '.join(sorted(unknown))}."
        )
    fixed = set(NEURON_PARAMETERS) - set(names) | {"surrogate"}

    def trains(path, leaf):
        if isinstance(leaf, Frozen):
            return jax.tree.map(lambda _: False, leaf)
        attributes = {getattr(entry, "name", None) for entry in path}
        return eqx.is_inexact_array(leaf) and not attributes & fixed

    return jax.tree_util.tree_map_with_path(
        trains, model, is_leaf=lambda node: isinstance(node, Frozen)
    )
