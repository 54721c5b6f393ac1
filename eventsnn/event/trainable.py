"""Selection of the parameters of an event network that are trained."""

from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import PyTree

from .. import checks

Model = TypeVar("Model", bound=PyTree)


def trainable(model: Model, *names: str) -> Model:
    """Return a filter that is true for the parameters with the given names.

    The filter is for `equinox.partition` and [`eventsnn.train.fit`][]. A name selects every array
    that is stored under it, in the network itself and in its neuron model, including the parts of a
    mixture. A wrapped parameter ([`eventsnn.constrain`][]) is selected by its own name.

    ```python
    esn.trainable(net, "weights")
    esn.trainable(net, "weights", "delays", "tau_mem")
    ```

    **Arguments:**

    - `model`: an [`eventsnn.EventNetwork`][], or any tree that contains some.
    - `names`: at least one of `"weights"`, `"delays"` and the parameters of the neuron model, for
        example `"tau_mem"` or `"bias"`.

    **Returns:** a tree of booleans with the structure of `model`.

    **Raises:** `ValueError` for no name, or for a name under which `model` stores no floating-point
    array.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(model)
    stored = [_name(path) if eqx.is_inexact_array(leaf) else None for path, leaf in paths]
    known = sorted({name for name in stored if name is not None})
    if not names:
        raise ValueError(f"names must be at least one of {', '.join(known)}, got none.")
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ValueError(
                f"names must be among {', '.join(known)}, got {checks.short_repr(name)}."
            )
    return jax.tree.unflatten(structure, [name in names for name in stored])


def _name(path: tuple) -> str | None:
    """Name of the last field on a path, except the field `raw` of a wrapper."""
    fields = [entry.name for entry in path if isinstance(entry, jax.tree_util.GetAttrKey)]
    return next((name for name in reversed(fields) if name != "raw"), None)
