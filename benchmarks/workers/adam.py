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
import numpy as np
import optax.tree_utils as otu

Where = Callable[[Any], tuple[Any, Any]]


def read(path: str, model: Any, fresh: Any, where: Where) -> tuple[Any, Any]:
    """Return `model` and its Adam state with the values of the file; `fresh` is the initial Adam
    state."""
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}

    def fill(tree: Any, prefix: str) -> Any:
        old = where(tree)
        new = tuple(values[prefix + name] for name in ("weights", "bias"))
        return eqx.tree_at(
            where, tree, tuple(jnp.asarray(n, o.dtype) for n, o in zip(new, old, strict=True))
        )

    model = fill(model, "")
    if "count" not in values:
        return model, fresh
    moments = {name: fill(otu.tree_get(fresh, name), name + "_") for name in ("mu", "nu")}
    return model, otu.tree_set(fresh, count=jnp.asarray(values["count"]), **moments)


def write(path: str, model: Any, adam: Any, where: Where) -> None:
    """Save the trained leaves and Adam's moments; the counterpart of `read`."""
    trees = {"": model, "mu_": otu.tree_get(adam, "mu"), "nu_": otu.tree_get(adam, "nu")}
    values = {}
    for prefix, tree in trees.items():
        weights, bias = where(tree)
        values |= {prefix + "weights": weights, prefix + "bias": bias}
    np.savez(path, count=otu.tree_get(adam, "count"), **jax.device_get(values))
