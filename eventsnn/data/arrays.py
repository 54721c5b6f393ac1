"""Batches of samples in arrays of any kind: images, spike trains, labels."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, PRNGKeyArray, Shaped

from .. import checks

__all__ = ["batches", "padded_batches"]

_Batch = tuple[Shaped[np.ndarray, "batch ..."], ...]


def batches(
    key: PRNGKeyArray | int,
    *arrays: Shaped[ArrayLike, "n ..."],
    batch_size: int,
    epochs: int | None = None,
    drop_last: bool = True,
) -> Iterator[_Batch]:
    """Yield batches in a random order that differs in every epoch.

    Each sample occurs at most once per epoch.

    **Arguments:**

    - `key`: a JAX random key or an integer seed >= 0. The order of an epoch depends only on the
        key, the number of the epoch and the number of samples.
    - `arrays`: arrays with one row per sample, of any shape.
    - `batch_size`: number of samples per batch.
    - `epochs`: number of epochs. Default: None, no end.
    - `drop_last`: whether to drop the samples at the end of an epoch that do not fill a batch, so
        that all batches have the same shape. If False, the last batch of an epoch may be smaller.
        Default: True.

    **Returns:** an iterator of tuples with the rows of each array.

    **Raises:** `ValueError` for an invalid key, for arrays without one row per sample, for numbers
    that are not integers >= 1, and with `drop_last` for a batch size larger than the data set.
    """
    found = _check(arrays)
    n, batch_size = len(found[0]), checks.count("batch_size", batch_size)
    epochs = None if epochs is None else checks.count("epochs", epochs)
    if checks.flag("drop_last", drop_last) and batch_size > n:
        raise ValueError(
            f"batch_size must be at most {n}, the number of samples, got {batch_size}."
        )
    end = n - n % batch_size if drop_last else n
    return _shuffled(_seed(key), found, batch_size, epochs, end)


def padded_batches(
    *arrays: Shaped[ArrayLike, "n ..."], batch_size: int
) -> Iterator[tuple[_Batch, Bool[np.ndarray, " batch"]]]:
    """Yield all samples once, in their original order, in batches of the same shape.

    The accuracy on a test set is `sum(correct & valid) / sum(valid)`, with both sums over all
    batches.

    **Arguments:**

    - `arrays`: arrays with one row per sample, of any shape.
    - `batch_size`: number of samples per batch, >= 1. It may exceed the number of samples.

    **Returns:** an iterator of `(batch, valid)`, where `batch` is a tuple with the rows of each
    array. The last batch is padded with copies of the last sample, which are valid inputs of any
    model, and `valid` is false for them.

    **Raises:** `ValueError` for arrays without one row per sample, or `batch_size` < 1.
    """
    found, size = _check(arrays), checks.count("batch_size", batch_size)
    return (_padded(found, start, size) for start in range(0, len(found[0]), size))


def _check(arrays: tuple[Any, ...]) -> list[Any]:
    """Convert to arrays of numbers. Raise unless they have one row per sample."""
    expected = "arrays with one row per sample, at least one"
    found = [checks.numbers("arrays", x, expected, boolean=True) for x in arrays]
    if not found or any(x.ndim == 0 or len(x) != len(found[0]) or len(x) == 0 for x in found):
        raise ValueError(f"arrays must be {expected}, got shapes {[x.shape for x in found]}.")
    return found


def _seed(key):
    if isinstance(key, int | np.integer):
        if isinstance(key, bool) or key < 0:
            raise checks.value_error("key", key, "a jax.random key or a seed >= 0")
        return [int(key)]
    checks.key("key", key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    return [int(word) for word in np.asarray(key)]


def _shuffled(seed, arrays, batch_size, epochs, end):
    epoch = 0
    while epochs is None or epoch < epochs:
        order = np.random.default_rng([epoch, *seed]).permutation(len(arrays[0]))[:end]
        for start in range(0, end, batch_size):
            rows = order[start : start + batch_size]
            yield tuple(x[rows] for x in arrays)
        epoch += 1


def _padded(arrays, start, batch_size):
    parts = [x[start : start + batch_size] for x in arrays]
    valid = np.arange(batch_size) < len(parts[0])
    missing = batch_size - len(parts[0])
    if missing:
        parts = [np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for x in parts]
    return tuple(parts), valid
