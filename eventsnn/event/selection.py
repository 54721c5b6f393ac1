"""Selection of the parameters of an event network that are trained."""

from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import PyTree

from .. import checks
from .flows import AbstractFlow
from .neurons import AbstractNeuron
from .pseudospikes import Pseudospikes

Model = TypeVar("Model", bound=PyTree)


def trainable(model: Model, *names: str) -> Model:
    """Return a filter of the trained parameters: weights, biases and delays, or the given names.

    Without names, the filter is true for every array except the other parameters of neuron models
    (thresholds, time constants, ...) and the drive of pseudospikes. A name selects every array that
    is stored under it, in the network itself and in its neuron model, including the parts of a
    mixture. A wrapped parameter ([`eventsnn.constrain`][]) is selected by its own name. A scalar
    parameter is one trained number for all neurons: for one bias per neuron, pass
    `bias=jnp.zeros(n)`. The filter is for `equinox.partition` and [`eventsnn.train.fit`][]. For
    cells of the discrete-time mode use [`eventsnn.discrete.trainable`][], the function of the same
    name whose names are added to the weights instead of replacing them.

    ```python
    esn.trainable(net)  # weights, bias, delays
    esn.trainable(net, "weights")
    esn.trainable(net, "weights", "delays", "tau_mem")
    ```

    **Arguments:**

    - `model`: an [`eventsnn.EventNetwork`][], or any tree that contains some.
    - `names`: names of the trained parameters: `"weights"`, `"kernel"`, `"delays"`, and the
        parameters of the neuron model, for example `"tau_mem"` or `"bias"`. Default: none.

    **Returns:** a tree of booleans with the structure of `model`.

    **Raises:** `ValueError` for a name under which `model` stores no floating-point array, or a
    model without such arrays.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(model)
    stored = [_name(path) if eqx.is_inexact_array(leaf) else None for path, leaf in paths]
    known = sorted({name for name in stored if name is not None})
    if not known:
        raise checks.value_error("model", model, "a tree with floating-point arrays")
    if not names:
        return jax.tree.map(_default, model, is_leaf=_is_model)
    for name in names:
        if not isinstance(name, str) or name not in known:
            found = checks.short_repr(name)
            others = [leaf for path, leaf in paths if _name(path) == name]
            if others:  # an integer, for example
                found += f", which is {checks.short_repr(others[0])}"
            raise ValueError(f"names must be among {', '.join(known)}, got {found}.")
    return jax.tree.unflatten(structure, [name in names for name in stored])


def _is_model(node: PyTree) -> bool:
    return isinstance(node, AbstractNeuron | AbstractFlow | Pseudospikes)


def _default(node: PyTree) -> PyTree:
    """Filter of an array, or of a part of an event network that contains no weights."""
    if isinstance(node, AbstractNeuron):
        paths, structure = jax.tree_util.tree_flatten_with_path(node)
        biases = [(_name(path) or "").startswith("bias") for path, _ in paths]
        return jax.tree.unflatten(structure, biases)
    if _is_model(node):
        return jax.tree.map(lambda _: False, node)
    return eqx.is_inexact_array(node)


def _name(path: tuple) -> str | None:
    """Name of the last field on a path, except the field `raw` of a wrapper."""
    fields = [entry.name for entry in path if isinstance(entry, jax.tree_util.GetAttrKey)]
    return next((name for name in reversed(fields) if name != "raw"), None)
