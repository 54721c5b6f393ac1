"""Handling of batches: iterate, stack for a dispatch, place on the devices."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .. import checks


def peek(batches: Iterable[Any]) -> tuple[Any, Iterator[Any]]:
    """Return the first batch, and an iterator over all batches including the first."""
    expected = "an iterable of batches, at least one"
    try:
        rest = iter(batches)
    except TypeError:
        raise checks.value_error("batches", batches, expected) from None
    for first in rest:
        _check_numbers(first)
        return first, itertools.chain([first], rest)
    raise checks.value_error("batches", batches, expected)


def stacked_batches(
    batches: Iterator[Any], start: int, steps: int, at_once: int, sharding: Sharding
) -> Iterator[tuple[Any, int]]:
    """Yield stacks of `at_once` batches, placed on the devices, with the number of batches to run.

    The first `start` of the `steps` batches are skipped.

    **Raises:** `ValueError` for a batch whose shapes differ from the first batch, and after the
    last batch if there are fewer than `steps`.
    """
    first, kind, size = None, None, at_once
    for _ in itertools.islice(batches, start):
        pass
    for done in range(start, steps, at_once):
        wanted = min(at_once, steps - done)
        taken = list(itertools.islice(batches, wanted))
        if taken and kind is None:
            first, kind, size = taken[0], _signature(taken[0]), at_once
        for i, batch in enumerate(taken):
            if _signature(batch) != kind:
                _check_like(first, batch, done + i + 1)
        if count := len(taken):
            # The padding is never run. It keeps the shape, and thus the compiled program.
            taken += taken[-1:] * (size - count)
            yield jax.device_put(stack(taken), sharding), count
        if count < wanted:
            raise ValueError(f"batches must have at least {steps} batches, got {done + count}.")


def stack(trees: list[Any]) -> Any:
    """Stack pytrees of arrays along a new first axis in host memory."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _check_numbers(batch):
    for path, x in jax.tree_util.tree_leaves_with_path(batch):
        dtype = np.asarray(x).dtype if not hasattr(x, "dtype") else x.dtype
        if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
            place = f"batch{jax.tree_util.keystr(path)}"
            raise ValueError(f"batches must contain numbers or booleans, got {dtype} in {place}.")


def _check_like(first, batch, step):
    same = jax.tree.structure(batch) == jax.tree.structure(first)
    if not same or _format(batch) != _format(first):
        raise ValueError(
            f"batches must all have the same structure, shapes and dtypes, got {_format(batch)} at "
            f"step {step} and {_format(first)} at step 1; pad or drop a shorter last batch."
        )


def _signature(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(np.shape(x), getattr(x, "dtype", None)) for x in leaves]


def _format(batch):
    leaves = [f"{_dtype(x)}{list(np.shape(x))}" for x in jax.tree.leaves(batch)]
    return f"{type(batch).__name__}({', '.join(leaves)})"


def _dtype(x):
    return jax.dtypes.canonicalize_dtype(x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype)
