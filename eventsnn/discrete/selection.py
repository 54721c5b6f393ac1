"""Selection of the trainable parameters of a model."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from .. import checks
from .base import AbstractCell
from .feedback import Frozen

#: Names of the neuron parameters of the cells. All other parameters belong to connections.
NEURON_PARAMETERS = (
    "alpha",
    "beta",
    "threshold",
    "v_reset",
    "graded",
    "resistance",
    "capacitance",
    "time_step",
)


def trainable(model: PyTree, *names: str) -> PyTree:
    """Make a filter of trainable parameters for `equinox.partition` and [`eventsnn.train.fit`][].

    The filter is a pytree of booleans. It is true for weights, biases and delays, including those
    of feedback, for the scale and shift of `BatchNorm`, and for the neuron parameters in `names`. A
    parameter wrapped by [`eventsnn.constrain`][] is selected by its own name. `eventsnn.trainable`,
    the function of the event mode, selects the given names only.

    ```python
    trainable(model)                        # snnTorch's default
    trainable(model, "beta", "threshold")   # learn_beta=True, learn_threshold=True
    ```

    All parameters are leaves. Use `equinox.tree_at` for any other selection. The filter is false
    for everything within [`eventsnn.discrete.Frozen`][].

    **Arguments:**

    - `model`: a cell or a pytree of cells.
    - `names`: neuron parameters that train, in every cell that has them: `"alpha"`, `"beta"`,
        `"threshold"`, `"v_reset"`, `"graded"`, `"resistance"`, `"capacitance"`, `"time_step"`,
        `"rho"` and `"strength"` of `ALIF`, `"width"` of delays, `"running_mean"` and
        `"running_var"`, and the names in `neuron_parameters` of your own cells. Default: no neuron
        parameters.

    **Raises:** `ValueError` for an unknown name, or a model without parameters.
    """
    if not any(map(eqx.is_inexact_array, jax.tree.leaves(model))):
        raise checks.value_error("model", model, "a cell or a tree with floating-point arrays")
    own = {name for cell in _cells(model) for name in cell.neuron_parameters}
    valid = (*NEURON_PARAMETERS, *sorted(own - set(NEURON_PARAMETERS)))
    unknown = [name for name in names if not isinstance(name, str) or name not in valid]
    if unknown:
        found = ", ".join(checks.short_repr(name) for name in unknown)
        raise ValueError(f"names must be among {', '.join(valid)}, got {found}.")
    fixed = set(valid) - set(names) | {"surrogate", "state_quant"}

    def trains(path, leaf):
        if isinstance(leaf, Frozen):
            return jax.tree.map(lambda _: False, leaf)
        attributes = {getattr(entry, "name", None) for entry in path}
        return eqx.is_inexact_array(leaf) and not attributes & fixed

    return jax.tree_util.tree_map_with_path(
        trains, model, is_leaf=lambda node: isinstance(node, Frozen)
    )


def _cells(tree):
    """Yield all cells in a pytree, including cells within cells."""
    if isinstance(tree, AbstractCell):
        yield tree
    inner = jax.tree.leaves(tree, is_leaf=lambda x: x is not tree and isinstance(x, AbstractCell))
    for cell in inner:
        if isinstance(cell, AbstractCell) and cell is not tree:
            yield from _cells(cell)
