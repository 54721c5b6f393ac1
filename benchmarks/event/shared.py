"""Parts that the workers of the event mode share: files of the trained state, and test results.

A file has weights, biases and Adam's moments. Without the moments, the optimiser starts with a new
state. `where(model)` returns the two trained leaves of a library's model.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..workers import files

Where = Callable[[Any], tuple[Any, Any]]
NAMES = ("weights", "bias", "count", "mu_weights", "mu_bias", "nu_weights", "nu_bias")


def read(path: str, model: Any, fresh: Any, where: Where) -> tuple[Any, Any]:
    """Return `model` and its Adam state with the values of the file; `fresh` is a new state."""
    values, state = files.read(path), (model, fresh)
    n = len(NAMES) if "count" in values else 2
    old = leaves(state, where)[:n]
    new = [jnp.asarray(values[name], leaf.dtype) for name, leaf in zip(NAMES, old, strict=False)]
    return eqx.tree_at(lambda state: leaves(state, where)[:n], state, new)


def write(path: str, state: tuple[Any, Any], where: Where) -> None:
    """Save a model and its Adam state; the counterpart of `read`."""
    files.write(path, jax.device_get(dict(zip(NAMES, leaves(state, where), strict=True))))


def leaves(state: tuple[Any, Any], where: Where) -> list[Any]:
    """Values by the order of the names."""
    model, (moments, *_) = state
    return [*where(model), moments.count, *where(moments.mu), *where(moments.nu)]


def score(task: str, times: np.ndarray, y: np.ndarray, t_max: float) -> dict[str, float]:
    """Mean absolute error in ms (silent outputs count as t_max), or fraction of correct classes."""
    if task == "ttfs-regression":
        return {"test_mae": float(np.mean(np.abs(np.minimum(times[:, 0], t_max) - y)))}
    right = (times.argmin(axis=1) == y) & np.isfinite(times).any(axis=1)
    return {"test_accuracy": float(np.mean(right))}
