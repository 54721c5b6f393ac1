"""Outgoing synapses of every source, in chunks of different targets."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

#: Smallest and largest number of lanes of a chunk. A visit of a chunk takes at least as long as the
#: computations for about 200 lanes. The states of a chunk should fit into a cache.
MIN_WIDTH, MAX_WIDTH = 224, 2048


class Fan(NamedTuple):
    """Outgoing synapses of every source, sorted by source, in chunks of different targets.

    Source `j` has the chunks `offsets[j] ... offsets[j + 1] - 1`. Chunk `k` has the synapses
    `starts[k] ... starts[k] + lengths[k] - 1`. `targets` is padded by one chunk.
    """

    offsets: Int[Array, " sources+1"]
    starts: Int[Array, " chunks"]
    lengths: Int[Array, " chunks"]
    targets: Int[Array, " synapses+width"]


def fan_out(
    source: Int[np.ndarray, " synapses"],
    target: Int[np.ndarray, " synapses"],
    n_sources: int,
    n_targets: int,
) -> tuple[Fan, Int[np.ndarray, " synapses"] | None, int, int]:
    """Divide synapses, sorted by source and then by target, into chunks.

    Returns the chunks, the order of the synapses in them (None: as they are), the width of a chunk,
    and the largest number of chunks of a source. Synapses with the same source and target are in
    different chunks, because the lanes of a chunk are updated at once.
    """
    repeats, order = _repeats(source, target), None
    if repeats.any():
        order = np.lexsort((target, repeats, source))
        source, target, repeats = (x[order] for x in (source, target, repeats))
    group = source.astype(np.int64) * (int(repeats.max(initial=0)) + 1) + repeats
    first = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(first, append=len(group))
    width = _width(sizes, n_targets)
    per_group = -(-sizes // width)
    number = np.arange(per_group.sum()) - np.repeat(np.cumsum(per_group) - per_group, per_group)
    starts = np.repeat(first, per_group) + number * width
    lengths = np.minimum(np.repeat(sizes, per_group) - number * width, width)
    per_source = np.bincount(source[first], per_group, minlength=n_sources).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(per_source)])
    padded = np.concatenate([target, np.zeros(width, target.dtype)])
    arrays = (offsets, starts, lengths, padded)
    fan = Fan(*(jnp.asarray(x, jnp.int32) for x in arrays))
    return fan, order, width, int(per_source.max(initial=0))


def by_delay(
    source: Int[np.ndarray, " synapses"],
    target: Int[np.ndarray, " synapses"],
    delays: Float[np.ndarray, " synapses"],
    n_sources: int,
    n_targets: int,
) -> tuple[Fan, Int[np.ndarray, " synapses"], int, int]:
    """Order synapses, sorted by source and then by target, by source and then by delay.

    Returns the targets and the first synapse of each source in place of chunks, the order, the
    number of lanes of a visit, and the largest number of synapses of a source.
    """
    order = np.lexsort((delays, source))
    target = target[order]
    offsets = np.searchsorted(source, np.arange(n_sources + 1))
    # Most visits of a round are those of second and later arrivals, at a part of the neurons.
    width = min(max(n_targets // 2, MIN_WIDTH), MAX_WIDTH // 2, n_targets)
    none = np.zeros(0, np.int32)
    fan = Fan(*(jnp.asarray(x, jnp.int32) for x in (offsets, none, none, target)))
    return fan, order, -(-width // 8) * 8, int(np.max(np.diff(offsets), initial=0))


def _repeats(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Number of earlier synapses with the same source and target; sorted by both."""
    new = np.ones(len(source), bool)
    new[1:] = (np.diff(source) != 0) | (np.diff(target) != 0)
    first = np.maximum.accumulate(np.where(new, np.arange(len(source)), 0))
    return np.arange(len(source)) - first


def _width(sizes: np.ndarray, n_targets: int) -> int:
    """Width of a chunk: wide enough for most sources, at most the population or `MAX_WIDTH`.

    It is rounded up to a multiple of 8.
    """
    most, typical = int(sizes.max(initial=1)), int(2 * np.mean(sizes)) if len(sizes) else 1
    width = min(max(min(most, typical), MIN_WIDTH), MAX_WIDTH, n_targets)
    return -(-width // 8) * 8
