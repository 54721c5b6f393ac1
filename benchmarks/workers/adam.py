"""Parameters and Adam's moments as one .npz file, the common initial state of both libraries.

The file holds `weights` and `bias`, and may hold `count`, `mu_weights`, `mu_bias`, `nu_weights`,
`nu_bias`; without these the optimiser starts with a new state. `where(model)` returns the two
trained leaves of a library's model.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax.tree_utils as otu

from . import files

Where = Callable[[Any], tuple[Any, Any]]


def read(path: str, model: Any, fresh: Any, where: Where) -> tuple[Any, Any]:
    """Return `model` and its Adam state with the values of the file; `fresh` is a new state."""
    values = files.read(path)

    def fill(tree: Any, prefix: str) -> Any:
        pairs = zip(("weights", "bias"), where(tree), strict=True)
        new = [jnp.asarray(values[prefix + name], old.dtype) for name, old in pairs]
        return eqx.tree_at(where, tree, tuple(new))

    model = fill(model, "")
    if "count" not in values:
        return model, fresh
    moments = {name: fill(otu.tree_get(fresh, name), name + "_") for name in ("mu", "nu")}
    return model, otu.tree_set(fresh, count=jnp.asarray(values["count"]), **moments)


def write(path: str, model: Any, state: Any, where: Where) -> None:
    """Save the trained leaves and Adam's moments; the counterpart of `read`."""
    values = {"count": otu.tree_get(state, "count")}
    trees = {"": model, "mu_": otu.tree_get(state, "mu"), "nu_": otu.tree_get(state, "nu")}
    for prefix, tree in trees.items():
        weights, bias = where(tree)
        values |= {prefix + "weights": weights, prefix + "bias": bias}
    files.write(path, jax.device_get(values))
