"""Sort of the first entries of a table with unused entries at its end."""

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

#: Ratio of the sizes between which a sort chooses, and a small size.
_RATIO, _LEAST = 8, 64


def sized(
    count: Int[Array, ""],
    sizes: tuple[int, int, int],
    change: Callable[[int, Any, Any], Any],
    tables: Any,
    constants: Any = None,
) -> Any:
    """Return `change(m, tables, constants)` for the smallest of a few `m` that is at least `count`.

    `sizes` are the largest `m`, which is also that for a larger `count`, the ratio of the others,
    and a small size: the first one that is not larger is the smallest.
    """
    size, ratio, least = sizes
    choices = [size]
    while choices[0] > least:
        choices.insert(0, -(-choices[0] // ratio))
    which = sum(((count > m).astype(jnp.int32) for m in choices[:-1]), start=count * 0)

    def changed(m: int, k: Array, tables: Any) -> Any:
        # Without the barrier, XLA moves computations with the constants before the loop.
        return change(m, tables, lax.optimization_barrier((k, constants))[1])

    # XLA changes the tables of a loop in place, and would copy those of `switch`.
    for number, m in enumerate(choices):
        once = (which == number).astype(jnp.int32)
        tables = lax.fori_loop(0, once, ft.partial(changed, m), tables)
    return tables


def sort_first(count: Int[Array, ""], columns: Sequence[Array], keys: int = 3) -> tuple[Array, ...]:
    """Sort the rows of the columns; the first columns are the keys.

    Rows from number `count` on must be at the end already. The time depends on `count`: only the
    first rows are sorted.
    """

    def sort(m: int, columns: tuple[Array, ...], _: None) -> tuple[Array, ...]:
        new = lax.sort(tuple(x[:m] for x in columns), num_keys=keys)
        return replaced(columns, new)

    return sized(count, (columns[0].size, _RATIO, _LEAST), sort, tuple(columns))


def replaced(columns: Sequence[Array], new: Sequence[Array]) -> tuple[Array, ...]:
    """Replace the first entries of the columns."""
    pairs = zip(columns, new, strict=True)
    return tuple(lax.dynamic_update_slice(x, y, (0,)) for x, y in pairs)


def order_of(keys: Int[Array, " rows"], largest: int) -> Int[Array, " rows"]:
    """Stable order of integers in 0 ... `largest`.

    XLA sorts single integers about ten times as fast as pairs.
    """
    place = jnp.arange(keys.size, dtype=jnp.int32)
    bits = (keys.size - 1).bit_length()
    wide = _integers(largest.bit_length() + bits)
    if wide is None:
        return lax.sort((keys, place), num_keys=1)[1]
    packed = lax.sort((keys.astype(wide) << bits) | place.astype(wide))
    return (packed & (2**bits - 1)).astype(jnp.int32)


def order_by_time(
    groups: Int[Array, " rows"], largest: int, times: Float[Array, " rows"], longest: Array
) -> Int[Array, " rows"]:
    """Stable order by group, in 0 ... `largest`, and then by time, in 0 ... `longest` or inf.

    If possible, single integers with rounded times are sorted. Neighbours in the wrong order are
    then exchanged.
    """
    place = jnp.arange(groups.size, dtype=jnp.int32)
    bits = (groups.size - 1).bit_length()
    free = 63 - largest.bit_length() - bits
    wide = _integers(63)
    if wide is None or free < 1:
        return lax.sort((groups, times, place), num_keys=2)[2]
    steps = 2**free - 1
    part = jnp.where(longest > 0, times / jnp.where(longest > 0, longest, 1.0), 0.0)
    rounded = (jnp.clip(part, 0.0, 1.0) * (steps // 2)).astype(wide)
    packed = (((groups.astype(wide) << free) | rounded) << bits) | place.astype(wide)
    order = (lax.sort(packed) & (2**bits - 1)).astype(jnp.int32)

    def wrong(order):
        """Mask of the rows that belong after the following one."""
        group, time, following = groups[order], times[order], jnp.roll(order, -1)
        later = (group == groups[following]) & (time > times[following])
        return later & (place < place.size - 1)

    def exchanged(order):
        now = wrong(order)
        now = now & ~jnp.roll(now, 1)  # pairs that do not overlap
        order = jnp.where(
            jnp.roll(now, 1), jnp.roll(order, 1), jnp.where(now, jnp.roll(order, -1), order)
        )
        return order

    return lax.while_loop(lambda order: jnp.any(wrong(order)), exchanged, order)


def _integers(bits: int) -> Any:
    """Type of integers of this number of bits; None if JAX has none in its present mode."""
    if bits < 32:
        return jnp.int32
    wide = jax.dtypes.canonicalize_dtype(jnp.int64)
    return wide if bits < 64 and wide == jnp.int64 else None
