"""Which parameters of a model train."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from .. import checks
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
    feedback among them, and for the neuron parameters named; a wrapped parameter
    ([`eventsnn.constrain`][]) goes by its name.

    ```python
    trainable(model)                        # snnTorch's default
    trainable(model, "beta", "threshold")   # learn_beta=True, learn_threshold=True
    ```

    All parameters are leaves, and this is only one choice of them: `equinox.tree_at` makes
    another. What is within [`eventsnn.discrete.Frozen`][] stays false.

    **Arguments:**

    - `names`: of `"alpha"`, `"beta"`, `"threshold"`, `"graded"`, `"resistance"`,
        `"capacitance"`, `"time_step"`, and what the `neuron_parameters` of the model's own cells
        list: these train in every cell that has them.

    **Raises:** `ValueError` for another name, and a model without parameters.
    """
    if not any(map(eqx.is_inexact_array, jax.tree.leaves(model))):
        raise checks.wrong("model", model, "a cell or a tree with floating-point arrays")
    own = {name for cell in _cells(model) for name in cell.neuron_parameters}
    known = (*NEURON_PARAMETERS, *sorted(own - set(NEURON_PARAMETERS)))
    unknown = [name for name in names if not isinstance(name, str) or name not in known]
    if unknown:
        found = ", ".join(checks.shown(name) for name in unknown)
        raise ValueError(f"names must be among {', '.join(known)}, got {found}.")
    fixed = set(known) - set(names) | {"surrogate"}

    def trains(path, leaf):
        if isinstance(leaf, Frozen):
            return jax.tree.map(lambda _: False, leaf)
        attributes = {getattr(entry, "name", None) for entry in path}
        return eqx.is_inexact_array(leaf) and not attributes & fixed

    return jax.tree_util.tree_map_with_path(
        trains, model, is_leaf=lambda node: isinstance(node, Frozen)
    )


def _cells(tree):
    """All cells in a tree, cells within cells among them."""
    if isinstance(tree, AbstractCell):
        yield tree
    inner = jax.tree.leaves(tree, is_leaf=lambda x: x is not tree and isinstance(x, AbstractCell))
    for cell in inner:
        if isinstance(cell, AbstractCell) and cell is not tree:
            yield from _cells(cell)
