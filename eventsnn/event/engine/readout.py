"""Readout of the outputs: a state, an integral or a maximum per segment, and queries of the record.

The event loop and the adjoints evaluate the readout of each segment. A query extracts its result
from the record of one sample.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..flows import AbstractFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .record import Record, nothing, observation
from .system import Inbound, Passage, passage

Reading = Literal["state", "integral", "peak"]

#: Neutral value, for rows in which nothing is read.
UNREAD = {"state": 0.0, "integral": 0.0, "peak": -np.inf}


def reads(
    kind: Reading, source: Int[Array, " batch"], holds: Bool[Array, " batch"], n_sources: int
) -> Bool[Array, " batch"]:
    """Mask of the samples in which a row is read.

    A state is read at observations only, an integral or a maximum in every accepted segment.
    """
    return source == observation(n_sources) if kind == "state" else holds


def read(
    kind: Reading,
    flow: AbstractFlow,
    neuron: AbstractNeuron,
    outputs: tuple[int, ...],
    start: State,
    dt: Float[Array, " batch"],
    inbound: Inbound | None,
    end: State,
) -> Float[Array, "outputs batch"]:
    """Readout of the outputs in a segment. Differentiable in all arrays of floats."""
    if kind == "state":
        return of(neuron.observe(end), outputs)
    measure = flow.integral if kind == "integral" else flow.peak
    if inbound is None:
        return of(measure(neuron, start, dt), outputs)
    way: Passage = passage(flow, neuron, start, dt, inbound)
    legs = (
        measure(neuron, start, jnp.where(inbound.takes, inbound.wait, 0.0)),
        measure(neuron, way.start, way.dt),
    )
    return of(legs[0] + legs[1] if kind == "integral" else jnp.maximum(*legs), outputs)


def of(x: Float[Array, "n batch"], outputs: tuple[int, ...]) -> Float[Array, "outputs batch"]:
    """Rows of the outputs. Contiguous outputs are a slice, so that XLA computes no other rows."""
    first, count = outputs[0], len(outputs)
    if outputs == tuple(range(first, first + count)):
        return x[first : first + count]
    return x[jnp.asarray(outputs)]


def _events_of(record: Record, outputs: tuple[int, ...]):
    return record.sources == jnp.asarray(outputs, record.sources.dtype)[:, None]


def first_spikes(record: Record, outputs: tuple[int, ...]) -> Float[Array, " outputs"]:
    """First spike time of each output; inf if it did not fire."""
    return jnp.min(jnp.where(_events_of(record, outputs), record.times, jnp.inf), axis=1)


def spikes(record: Record, outputs: tuple[int, ...], count: int) -> Float[Array, "outputs count"]:
    """First `count` spike times of each output, padded with inf."""
    return nth_events(_events_of(record, outputs), record.times, count)


def events(record: Record, n_sources: int, count: int) -> tuple[Array, Array]:
    """Times and sources of the first `count` events, padded with inf and -1."""
    row, found = _nth(record.sources < nothing(n_sources), count)
    times = jnp.where(found, record.times[row], jnp.inf)
    return times, jnp.where(found, record.sources[row], -1)


def at_rows_of(record: Record, source: int, count: int) -> Float[Array, "outputs count"]:
    """Readout at the first `count` rows of this source; NaN for rows that do not exist."""
    assert record.observed is not None, "the plan has to name a reading"
    row, found = _nth(record.sources == source, count)
    return jnp.where(found, record.observed[row].T, jnp.nan)


def counts(record: Record, outputs: tuple[int, ...]) -> Int[Array, " outputs"]:
    """Number of spikes of each output."""
    return jnp.sum(_events_of(record, outputs), axis=1, dtype=jnp.int32)


def total(record: Record) -> Float[Array, " outputs"]:
    """Sum of the readout over all rows."""
    assert record.observed is not None, "the plan has to name a reading"
    return jnp.sum(record.observed, axis=0)


def largest(record: Record) -> Float[Array, " outputs"]:
    """Maximum of the readout over all rows."""
    assert record.observed is not None, "the plan has to name a reading"
    return jnp.max(record.observed, axis=0)


def nth_events(mask: Array, times: Array, count: int) -> Float[Array, "k count"]:
    """First `count` times that each row of `mask` marks, padded with inf."""
    row, found = jax.vmap(lambda m: _nth(m, count))(mask)
    return jnp.where(found, times[row], jnp.inf)


def _nth(mask: Array, count: int) -> tuple[Int[Array, " count"], Array]:
    """Rows of the first `count` true entries, and a mask of the entries that exist."""
    seen = jnp.cumsum(mask.astype(jnp.int32))
    row = jnp.searchsorted(seen, jnp.arange(1, count + 1, dtype=seen.dtype))
    last = mask.shape[0] - 1
    return jnp.minimum(row, last), row <= last
