"""Compaction: the indices of the marked lanes of a mask, in chunks of a fixed size.

Few lanes fire between two arrivals. The expensive computations are done for these lanes only.
`jnp.nonzero` takes 20 times as long, because it adds up the mask element by element; here 32 lanes
are packed into one word first.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, UInt32

from ..models import largest

WORD = 32


def pack(mask: Bool[Array, "..."]) -> UInt32[Array, " words"]:
    """Pack a mask into words, in the order of its flattened entries."""
    flat = mask.reshape(-1)
    flat = jnp.pad(flat, (0, -flat.size % WORD)).reshape(-1, WORD)
    bits = jnp.uint32(1) << jnp.arange(WORD, dtype=jnp.uint32)
    return jnp.sum(jnp.where(flat, bits, jnp.uint32(0)), axis=1, dtype=jnp.uint32)


def marked(
    words: UInt32[Array, " words"], first: Int[Array, ""], size: int
) -> tuple[Int[Array, " size"], Bool[Array, " size"]]:
    """Indices of the marked lanes number `first ... first + size - 1`, and a mask of those found.

    The indices of lanes that are not found are valid indices, too.
    """
    count = lax.population_count(words).astype(jnp.int32)
    ends = jnp.cumsum(count, dtype=jnp.int32)
    starts = ends - count - first
    rank = jnp.arange(size, dtype=jnp.int32)
    # The word of each rank: mark the first rank of every word, and fill up from there.
    word = jnp.arange(words.size, dtype=jnp.int32)
    at = jnp.where((count > 0) & (ends > first), jnp.maximum(starts, 0), size)
    word = lax.cummax(jnp.zeros(size, jnp.int32).at[at].set(word, mode="drop"))
    found = rank < ends[-1] - first
    rank = jnp.where(found, rank - starts[word], 0)
    return word * WORD + _position(words[word], rank), found


def total(words: UInt32[Array, " words"]) -> Int[Array, ""]:
    """Number of marked lanes; of several models, the largest."""
    return largest(jnp.sum(lax.population_count(words), dtype=jnp.int32))


def _position(word: UInt32[Array, " size"], rank: Int[Array, " size"]) -> Int[Array, " size"]:
    """Position of the set bit number `rank` of each word, by bisection."""
    position = jnp.zeros_like(rank)
    for width in (16, 8, 4, 2, 1):
        low = (word >> position.astype(jnp.uint32)) & jnp.uint32((1 << width) - 1)
        below = lax.population_count(low).astype(jnp.int32)
        later = rank >= below
        rank = jnp.where(later, rank - below, rank)
        position = jnp.where(later, position + width, position)
    return jnp.minimum(position, WORD - 1)
