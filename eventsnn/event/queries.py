"""Queries of the record of one sample: spike times, events, counts and readouts."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .engine.record import Record, no_event_source


class Query(NamedTuple):
    """Quantity that a simulation returns: `read(record, *args)` of each sample.

    The simulation of a sample ends when every output has fired `stop_after` times; None: at
    `t_max`. `reading` is the kind of the readout; None: no readout. If `partial` is true, a
    sample that failed at a limit keeps the values that it reached; otherwise they are NaN or -1.
    """

    read: Callable[..., Any]
    args: tuple = ()
    stop_after: int | None = None
    reading: Literal["state", "integral", "maximum"] | None = None
    partial: bool = False


#: Largest number of comparisons of a source with an output; above it, the sources are sorted.
_COMPARISONS = 2**22


def _events_of(record: Record, outputs: tuple[int, ...]) -> Bool[Array, "outputs rows"] | None:
    """Mask of the spikes of each output, or None if it would be large."""
    if len(outputs) * record.sources.size > _COMPARISONS:
        return None
    return record.sources == jnp.asarray(outputs, record.sources.dtype)[:, None]


def _bounds_of(
    record: Record, outputs: tuple[int, ...]
) -> tuple[Int[Array, " rows"], Int[Array, " outputs"], Int[Array, " outputs"]]:
    """Rows in the order of their sources, and the part of each output: its start and end."""
    wanted = jnp.asarray(outputs, record.sources.dtype)
    order = jnp.argsort(record.sources, stable=True)
    found = record.sources[order]
    first, end = (jnp.searchsorted(found, wanted, side=side) for side in ("left", "right"))
    return order, first, end


def first_spikes(record: Record, outputs: tuple[int, ...]) -> Float[Array, " outputs"]:
    """First spike time of each output; inf if it did not fire."""
    mask = _events_of(record, outputs)
    if mask is None:
        return spikes(record, outputs, 1)[:, 0]
    return jnp.min(jnp.where(mask, record.times, jnp.inf), axis=1)


def spikes(record: Record, outputs: tuple[int, ...], count: int) -> Float[Array, "outputs count"]:
    """First `count` spike times of each output, padded with inf."""
    mask = _events_of(record, outputs)
    if mask is not None:
        row, found = jax.vmap(lambda one: _nth(one, count))(mask)
        return jnp.where(found, record.times[row], jnp.inf)
    order, first, end = _bounds_of(record, outputs)
    place = first[:, None] + jnp.arange(count, dtype=first.dtype)
    row = order.at[place].get(mode="clip")
    return jnp.where(place < end[:, None], record.times[row], jnp.inf)


def events(record: Record, n_sources: int, count: int) -> tuple[Array, Array]:
    """Times and sources of the first `count` events, padded with inf and -1."""
    row, found = _nth(record.sources < no_event_source(n_sources), count)
    times = jnp.where(found, record.times[row], jnp.inf)
    return times, jnp.where(found, record.sources[row], -1)


def at_rows_of(record: Record, source: int, count: int) -> Float[Array, "outputs count"]:
    """Readout at the first `count` rows of this source; NaN for rows that do not exist."""
    row, found = _nth(record.sources == source, count)
    return jnp.where(found, record.observed[row].T, jnp.nan)


def counts(record: Record, outputs: tuple[int, ...]) -> Int[Array, " outputs"]:
    """Number of spikes of each output."""
    mask = _events_of(record, outputs)
    if mask is not None:
        return jnp.sum(mask, axis=1, dtype=jnp.int32)
    _, first, end = _bounds_of(record, outputs)
    return (end - first).astype(jnp.int32)


def total(record: Record) -> Float[Array, " outputs"]:
    """Sum of the readout over all rows."""
    return jnp.sum(record.observed, axis=0)


def largest(record: Record) -> Float[Array, " outputs"]:
    """Maximum of the readout over all rows.

    A maximum at the boundary of two rows belongs to the later one, at its start, so that its
    gradient does not depend on the reason why the earlier row ended.
    """
    rows = record.observed[::-1]
    return jnp.take_along_axis(rows, jnp.argmax(rows, axis=0)[None], axis=0)[0]


def _nth(mask: Array, count: int) -> tuple[Int[Array, " count"], Array]:
    """Rows of the first `count` true entries, and a mask of the entries that exist."""
    seen = jnp.cumsum(mask.astype(jnp.int32))
    row = jnp.searchsorted(seen, jnp.arange(1, count + 1, dtype=seen.dtype))
    last = mask.shape[0] - 1
    return jnp.minimum(row, last), row <= last
