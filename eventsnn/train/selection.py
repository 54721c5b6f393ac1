"""Selection of the parameters of a model that are trained."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .. import checks, discrete, event
from .evidence import has_network
from .wording import path_name


def resolved_filter(model: Any, filter_spec: PyTree) -> PyTree:
    """Return the filter, or the default one for None."""
    return _default(model) if filter_spec is None else filter_spec


def _default(model):
    """Filter of weights, biases and delays; of a model without neurons, of all arrays."""
    filters = [event.trainable(model)] if has_network(model) else []
    filters += [discrete.trainable(model)] if _has_cell(model) else []
    return jax.tree.map(lambda *x: all(x), *filters) if filters else eqx.is_inexact_array


def _has_cell(model):
    def is_cell(node):
        return isinstance(node, discrete.AbstractCell)

    return any(map(is_cell, jax.tree.leaves(model, is_leaf=is_cell)))


def trained_part(model: Any, filter_spec: PyTree) -> PyTree:
    """Trained parameters: the model with None in place of everything else."""
    spec = resolved_filter(model, filter_spec)
    try:
        trained = eqx.filter(model, spec)
    except (TypeError, ValueError) as error:
        expected = "a function of a leaf, or booleans in a pytree that fits model"
        raise checks.value_error("filter_spec", filter_spec, expected) from error
    leaves = jax.tree_util.tree_leaves_with_path(trained)
    if not leaves:
        found = checks.short_repr(filter_spec)
        if filter_spec is None and spec is not eqx.is_inexact_array:
            found += ": neuron parameters train only if a filter selects them"
        raise ValueError(f"filter_spec must select at least one array of model, got {found}.")
    for path, x in leaves:
        if not (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)):
            found = x.dtype if hasattr(x, "dtype") else type(x).__name__
            kind = "a NumPy array of " if isinstance(x, np.ndarray) else ""
            place = f" at {path_name(path)}" if path else ""
            raise ValueError(
                f"filter_spec must select JAX arrays in floating point, got {kind}{found}{place}."
            )
    return trained
