"""Entries of sparse connectivity: their order, their values, and those of matrices."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import checks

# ---------------------------------------------------------------------------- order of the entries


def stable_order(sources: np.ndarray, targets: np.ndarray, columns: int) -> np.ndarray | slice:
    """Stable order by source, then target; the whole slice for entries that have it already."""
    places = sources.astype(np.int64)
    places *= columns
    places += targets
    if np.all(places[1:] >= places[:-1]):
        return slice(None)
    # Sorting numbers is several times as fast as an argsort: place and index in one number.
    bits = len(places).bit_length()
    if int(np.max(places)).bit_length() + bits > 63:
        return np.argsort(places, kind="stable")
    places <<= bits
    places |= np.arange(len(places))
    places.sort()
    places &= (1 << bits) - 1
    return places


def row_offsets(sources: np.ndarray, rows: int) -> np.ndarray:
    """Index of the first synapse of each source, in sorted sources, then their number."""
    return np.searchsorted(sources, np.arange(rows + 1, dtype=np.int32)).astype(np.int32)


# --------------------------------------------------------------- values, each an array or a wrapper


def full(value: Any, n: int) -> Any:
    """Repeat a number `n` times; return an array as it is."""
    if np.shape(checks.unwrapped(value)):
        return value
    return _each(value, lambda x: (np if isinstance(x, np.ndarray) else jnp).broadcast_to(x, (n,)))


def taken(value: Any, index: Any) -> Any:
    """Return the values at the given index."""
    return _each(value, lambda x: x[index])


def own(value: Any, dtype: Any = None) -> Any:
    """Copy values to floating-point arrays of their own."""
    if isinstance(value, checks.Wrapped):
        return checks.own_arrays(value, dtype)
    return jnp.array(checks.as_floating(value), dtype)


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to an array, or to those arrays of a wrapped one that have its shape."""
    shape = np.shape(checks.unwrapped(value))
    return jax.tree.map(lambda x: function(x) if np.shape(x) == shape else x, value)


# ------------------------------------------------------------------------------ entries of matrices


class Entries(NamedTuple):
    """Arguments of `Synapses`."""

    sources: np.ndarray
    targets: np.ndarray
    weights: Any
    shape: tuple[int, int]
    delays: Any


def dense_entries(weights: Any, mask: Any, delays: Any) -> Entries:
    """Entries of a dense matrix: those of a mask, or those other than 0."""
    w = checks.dense_weights(weights)
    if mask is None:
        exists = checks.known("weights", w, "real numbers") != 0
    else:
        checks.mask_like(mask, w.shape)
        exists = checks.known("mask", mask, "booleans")
    sources, targets = np.nonzero(exists)
    values = taken(weights if isinstance(weights, checks.Wrapped) else w, (sources, targets))
    kinds = {"axonal": w.shape[:1], "synaptic": w.shape}
    delays = _checked(delays, kinds)
    if np.ndim(checks.unwrapped(delays)) == 2:
        delays = taken(delays, (sources, targets))
    else:
        delays = _axonal(delays, sources)
    return Entries(sources, targets, values, checks.connectivity_shape(w.shape), delays)


def bcoo_entries(matrix: Any, delays: Any) -> Entries:
    """Entries of a sparse matrix of JAX, without its padding."""
    data, indices, shape = _bcoo(matrix)
    inside = np.flatnonzero(np.all((indices >= 0) & (indices < shape), axis=1))
    sources, targets = indices[inside].T
    delays = _checked(delays, {"synaptic": indices.shape[:1], "axonal": shape[:1]})
    if np.shape(checks.unwrapped(delays)) == indices.shape[:1]:
        delays = taken(delays, inside)
    else:
        delays = _axonal(delays, sources)
    return Entries(sources, targets, data[inside], checks.connectivity_shape(shape), delays)


def is_bcoo(value: Any) -> bool:
    """Return whether a value is a sparse matrix of JAX. The module is not imported for it."""
    module = sys.modules.get("jax.experimental.sparse")
    return module is not None and isinstance(value, module.BCOO)


def _bcoo(matrix: Any) -> tuple[Array, np.ndarray, tuple[int, ...]]:
    """Values, indices and shape of a sparse matrix of JAX."""
    from jax.experimental.sparse import BCOO

    expected = "a jax.experimental.sparse.BCOO of shape (n + n_in, n) without batch and dense axes"
    checks.instance("matrix", matrix, BCOO, expected)
    if matrix.ndim != 2 or matrix.n_sparse != 2 or not matrix.shape[0] >= matrix.shape[1] >= 1:
        raise checks.value_error("matrix", matrix, expected)
    return matrix.data, checks.known("matrix", matrix.indices, expected), matrix.shape


def _checked(delays: Any, kinds: dict[str, tuple[int, ...]]) -> Any:
    """Return delays as an array. Raise unless they are None, a number, or of one of the shapes."""
    if delays is None:
        return None
    d = checks.numbers("delays", checks.unwrapped(delays))
    if d.ndim and d.shape not in kinds.values():
        wanted = " or ".join(f"{shape} ({kind})" for kind, shape in kinds.items())
        raise ValueError(f"delays must be a number or have shape {wanted}, got shape {d.shape}.")
    return delays if isinstance(delays, checks.Wrapped) else d


def _axonal(delays: Any, sources: np.ndarray) -> Any:
    """Axonal delays. As synaptic delays, if there are as many: `Synapses` knows them by shape."""
    same = np.shape(checks.unwrapped(delays)) == sources.shape
    return taken(delays, sources) if same else delays
