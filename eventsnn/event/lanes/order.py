"""Order of the input spikes of a batch in time."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.batching import BatchNative

#: Largest number of bits of an index that is sorted together with 16 bits of a time.
_INDEX_BITS = 16
#: Number of times from which padding is removed before the sort, if at most a fourth is left.
_MANY, _SHARE = 1024, 4


def increasing(times: Float[Array, " times"]) -> Int[Array, " times"]:
    """Indices of the times of one sample in ascending order, for times >= 0 and padding with inf.

    Equal times are in the order of their indices. Further entries are indices of padding.
    """
    return _increasing((), (), lax.stop_gradient(times)[None])[0]


def _order(_: tuple, __: tuple, times: Float[Array, "batch times"]) -> Int[Array, "batch times"]:
    """Order of the times of each sample."""
    many = times.shape[1]
    if many < _MANY:
        return _sorted(times)
    spikes, few = times != jnp.inf, many // _SHARE
    enough = jnp.all(jnp.sum(spikes.astype(jnp.int32), axis=1) <= few)
    return lax.cond(enough, lambda: _without_padding(times, spikes, few), lambda: _sorted(times))


def _sorted(times: Float[Array, "batch times"]) -> Int[Array, "batch times"]:
    """Stable order, as `jnp.argsort`.

    The bit patterns of times >= 0, as integers, have the order of the times. XLA sorts one array of
    integers five times as fast as an array with its indices. In float32, the two halves of the
    pattern are therefore sorted one after the other, each with the index in the same integer.
    """
    bits = max(times.shape[1] - 1, 1).bit_length()
    if times.dtype != jnp.float32 or bits > _INDEX_BITS:
        return jnp.argsort(times, axis=1).astype(jnp.int32)
    pattern = lax.bitcast_convert_type(times, jnp.uint32)
    index, mask = jnp.arange(times.shape[1], dtype=jnp.uint32), jnp.uint32((1 << bits) - 1)
    low = jnp.sort(((pattern & jnp.uint32(0xFFFF)) << bits) | index, axis=1, stable=False) & mask
    high = jnp.take_along_axis(pattern, low.astype(jnp.int32), axis=1) >> 16
    second = jnp.sort((high << bits) | index, axis=1, stable=False) & mask
    return jnp.take_along_axis(low, second.astype(jnp.int32), axis=1).astype(jnp.int32)


def _without_padding(
    times: Float[Array, "batch times"], spikes: Bool[Array, "batch times"], few: int
) -> Int[Array, "batch times"]:
    """Order of samples with at most `few` spikes."""
    batch, many = times.shape
    row = jnp.arange(batch, dtype=jnp.int32)[:, None]
    slot = jnp.where(spikes, jnp.cumsum(spikes.astype(jnp.int32), axis=1) - 1, few)
    padding = jnp.broadcast_to(jnp.argmin(spikes, axis=1).astype(jnp.int32)[:, None], (batch, few))
    index = jnp.broadcast_to(jnp.arange(many, dtype=jnp.int32), times.shape)
    index = padding.at[row, slot].set(index, mode="drop")
    order = _sorted(jnp.take_along_axis(times, index, axis=1))
    rest = jnp.broadcast_to(padding[:, :1], (batch, many - few))
    return jnp.concatenate([jnp.take_along_axis(index, order, axis=1), rest], axis=1)


_increasing = BatchNative("eventsnn_order", _order)
