"""Order of the input spikes of a batch in time.

Trains are padded, often to many times the number of their spikes. If most entries come after the
last spikes of their trains, the others are moved together before they are sorted, so that the cost
of the sort follows the number of spikes.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.batching import BatchNative, reverse_only
from ..models import anywhere, largest

_Out = TypeVar("_Out")

#: Largest number of bits of an index that is sorted together with a time, and number of exchanges
#: of neighbours after it.
_INDEX_BITS, _EXCHANGES = 16, 8
#: Largest number of bits of an integer that float32 represents exactly.
_EXACT_BITS = 24
#: Number of entries n from which padding is removed: the smallest of n / 12, n / 6, n / 3 and n
#: entries that hold all spikes are sorted.
_MANY, _PARTS = 512, (12, 6, 3)


class Order(NamedTuple):
    """Spikes of each sample in ascending order of time, and padding.

    - `times`: times, padded with inf.
    - `entries`: entry of each spike in the flattened trains; for padding, the number of entries.

    Equal times are in the order of their entries.
    """

    times: Float[Array, "*batch entries"]
    entries: Int[Array, "*batch entries"]


def ordered(times: Float[Array, "inputs k"]) -> Order:
    """Sort the spikes of one sample, with times >= 0 and padding with inf at any position.

    A sample with other times need not be sorted, but none of them is lost.
    """
    return jax.tree.map(lambda x: x[0], _ordered((), (), times[None]))


def _order(_: tuple, __: tuple, times: Float[Array, "batch inputs k"]) -> Order:
    """Sort the spikes of each sample."""
    batch, k = len(times), times.shape[2]
    flat = times.reshape(batch, -1)
    many = flat.shape[1]
    number = jnp.arange(1, k + 1, dtype=jnp.int32)
    used = jnp.max(jnp.where(times != jnp.inf, number, 0), axis=2)  # entries until the last spike
    ends = jnp.cumsum(used, axis=1, dtype=jnp.int32)

    def sort(size: int) -> Order:
        if size == many:
            return _padded(flat, _indices(flat), _increasing(flat), many)
        index = _entries(used, ends, k, size)
        found = jnp.take_along_axis(flat, index, axis=1, mode="fill", fill_value=jnp.inf)
        return _padded(found, index, _increasing(found), many)

    return _by_size(largest(ends), many, sort)


def _padded(times: Array, index: Array, order: Array, many: int) -> Order:
    """Return the times and their indices in this order, padded to `many` entries."""
    times, index = (jnp.take_along_axis(x, order, axis=1) for x in (times, index))
    more = (0, 0), (0, many - times.shape[1])
    return Order(
        jnp.pad(times, more, constant_values=jnp.inf),
        jnp.pad(jnp.where(times == jnp.inf, many, index), more, constant_values=many),
    )


def _indices(times: Float[Array, "batch times"]) -> Int[Array, "batch times"]:
    return lax.broadcasted_iota(jnp.int32, times.shape, 1)


def _by_size(entries: Int[Array, ""], many: int, fn: Callable[[int], _Out]) -> _Out:
    """Call `fn` with the smallest of a few sizes that is at least the number of entries."""
    sizes = [] if many < _MANY else [many // part for part in _PARTS]
    which = jnp.sum(entries > jnp.asarray(sizes, jnp.int32), dtype=jnp.int32)
    return lax.switch(which, [lambda size=size: fn(size) for size in (*sizes, many)])


def _entries(
    used: Int[Array, "batch inputs"], ends: Int[Array, "batch inputs"], k: int, size: int
) -> Int[Array, "batch size"]:
    """Indices of the used entries of all trains, padded with the number of entries."""
    (batch, n_in), starts = used.shape, ends - used
    rows = jnp.arange(batch, dtype=jnp.int32)[:, None]
    # The train of each entry: mark the first entry of every train, and fill up from there.
    trains = jnp.broadcast_to(jnp.arange(n_in, dtype=jnp.int32), used.shape)
    at = jnp.where(used > 0, starts, size)
    train = jnp.zeros((batch, size), jnp.int32).at[rows, at].set(trains, mode="drop")
    train = lax.cummax(train, axis=1)
    entry = jnp.arange(size, dtype=jnp.int32)
    index = train * k + entry - jnp.take_along_axis(starts, train, axis=1)
    return jnp.where(entry < ends[:, -1:], index, n_in * k)


def _increasing(times: Float[Array, "batch times"]) -> Int[Array, "batch times"]:
    """Stable order of each row.

    XLA sorts one array of integers five times as fast as an array with its indices. In float32, a
    time rounded to a grid is therefore sorted together with its index, as one integer. Times that
    fall on one point of the grid are then exchanged with their neighbours. If a sample is still not
    in order, the batch is sorted again.
    """
    if times.dtype != jnp.float32 or _index_bits(times) > _INDEX_BITS:
        return _argsort(times)
    order = _on_grid(times)
    start = jnp.take_along_axis(times, order, axis=1), order, jnp.asarray(0, jnp.int32)
    found, order, _ = lax.while_loop(
        lambda carry: (carry[2] < _EXCHANGES) & ~_is_sorted(carry[0]), _exchanged, start
    )
    return lax.cond(_is_sorted(found), lambda: order, lambda: _argsort(times))


def _argsort(times: Float[Array, "batch times"]) -> Int[Array, "batch times"]:
    return jnp.argsort(times, axis=1).astype(jnp.int32)


def _on_grid(times: Float[Array, "batch times"]) -> Int[Array, "batch times"]:
    """Stable order of the times of each row, rounded down to a grid."""
    bits = _index_bits(times)
    last = (1 << min(32 - bits, _EXACT_BITS)) - 1  # of padding
    spikes = times < jnp.inf
    most = jnp.max(jnp.where(spikes, times, 0.0), axis=1, keepdims=True)
    points = jnp.where(spikes, times, 0.0) * ((last - 1) / jnp.where(most > 0, most, 1.0))
    points = jnp.minimum(points, last - 1).astype(jnp.uint32)  # the product may be rounded up
    points = jnp.where(spikes, points, jnp.uint32(last))
    keys = (points << bits) | _indices(times).astype(jnp.uint32)
    keys = jnp.sort(keys, axis=1, stable=False) & jnp.uint32((1 << bits) - 1)
    return keys.astype(jnp.int32)


def _index_bits(times: Float[Array, "batch times"]) -> int:
    return max(times.shape[1] - 1, 1).bit_length()


def _is_sorted(times: Float[Array, "batch times"]) -> Bool[Array, ""]:
    return ~anywhere(times[:, :-1] > times[:, 1:])


def _exchanged(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Exchange pairs of neighbours that are not in order.

    The pairs start at the even positions, and in the next call at the odd ones.
    """
    times, order, count = carry
    swaps = (times[:, :-1] > times[:, 1:]) & ((_indices(times[:, 1:]) + count) % 2 == 0)
    swaps = swaps.astype(jnp.int32)
    at = _indices(times) + jnp.pad(swaps, ((0, 0), (0, 1))) - jnp.pad(swaps, ((0, 0), (1, 0)))
    times, order = (jnp.take_along_axis(x, at, axis=1) for x in (times, order))
    return times, order, count + 1


def _differentiated(_: tuple, shared: tuple, times: Float[Array, "batch inputs k"]) -> Order:
    run = jax.custom_vjp(lambda times: _found((), shared, times))

    def forward(times):
        order = _found((), shared, times)
        return order, order.entries

    def backward(index, cotangent):
        return (_transposed(times.shape[1:], shared, (index, cotangent.times)),)

    run.defvjp(forward, backward)
    return run(*reverse_only((times,)))


def _transpose(shape: tuple[int, int], _: tuple, batch: tuple) -> Float[Array, "batch inputs k"]:
    """Return the cotangents of the sorted times to the trains."""
    index, d_times = batch
    many = index.shape[1]
    rows = jnp.arange(len(index), dtype=jnp.int32)[:, None]

    def scatter(size: int) -> Array:
        at = jnp.zeros_like(d_times).at[rows, index[:, :size]]
        return at.set(d_times[:, :size], mode="drop", unique_indices=True)

    entries = largest(jnp.sum(index < many, axis=1, dtype=jnp.int32))
    return _by_size(entries, many, scatter).reshape(-1, *shape)


_found = BatchNative("eventsnn_order_found", _order)
_transposed = BatchNative("eventsnn_order_transpose", _transpose)
_ordered = BatchNative("eventsnn_order", _order, derivative=_differentiated)
