"""Groups of samples with similar numbers of arrivals.

A sweep ends with the longest sample of its batch, and its arrays should fit into the cache of a
processor. A large batch, such as the positions of a convolution, is therefore sorted by the number
of arrivals and divided into groups, which are simulated one after the other.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

#: Approximate number of lanes in a group.
_LANES = 8192


def in_groups(
    fn: Callable[[Any], Any], times: Float[Array, "batch arrivals"], batch: Any, n: int
) -> Any:
    """Apply `fn` to groups of a batch of samples with `n` neurons each.

    `times` are the times of their arrivals, and `batch` is a pytree of arrays whose first axis is
    the sample. `fn` returns a pair: a pytree of such arrays, and a pytree of sums over the samples.
    """
    size = len(times)
    number = _number(size, n)
    if number == 1:
        return fn(batch)
    order = jnp.argsort(jnp.sum((times < jnp.inf).astype(jnp.int32), axis=1))
    parts = jax.tree.map(lambda x: x[order].reshape(number, size // number, *x.shape[1:]), batch)
    of_samples, sums = lax.map(fn, parts)
    back = jnp.argsort(order)
    whole = jax.tree.map(lambda x: x.reshape(size, *x.shape[2:])[back], of_samples)
    return whole, jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)


def _number(size: int, n: int) -> int:
    """Number of groups of equal size: the largest divisor of the batch, up to a limit."""
    most = max(size * n // _LANES, 1)
    return max(k for k in range(1, min(most, size) + 1) if size % k == 0)
