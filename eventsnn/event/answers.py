"""Answers of a network: what its queries return for a simulation, and the status of each sample."""

import math
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from . import queries
from .engine.record import Record
from .inputs import with_inputs
from .queries import Query
from .solution import CODE, Solution, complete_or_nan, is_success, status_of, valid_or_nan
from .state import NetworkState

#: Readout of a neuron that has fired, if its observable is infinite at a spike.
_DIVERGED = {"integral": math.nan, "maximum": math.inf}


@runtime_checkable
class Simulated(Protocol):
    """Protocol of a network: what its answers need."""

    outputs: tuple[int, ...]
    t_max: float
    max_events: int

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        ...

    @property
    def n_inputs(self) -> int:
        """Number of input channels."""
        ...

    @property
    def _is_delayed(self) -> bool: ...

    def _simulate(
        self,
        query: Query,
        in_times: Array,
        times: Array | None = None,
        start: NetworkState | None = None,
    ) -> Record: ...

    def _returned(self, times: Array) -> Array: ...

    def _diverges(self) -> Bool[Array, " outputs"]: ...


def recorded_spikes(
    net: Simulated, in_times: Array, count: int, stop_after: int | None
) -> tuple[Array, Array, Array, Array]:
    """First `count` spike times of each output, numbers of spikes until `t_max`, status and steps.

    The simulation of a sample ends when every output has fired `stop_after` times; None: at
    `t_max`. Failed samples do not raise an error.
    """
    query = Query(queries.spikes, (net.outputs, count), stop_after)
    record = net._simulate(query, in_times)
    times = _over_batch(query, record)
    if stop_after is None:
        counts = _over_batch(Query(queries.counts, (net.outputs,)), record)
    else:
        counts = jnp.sum(times <= net.t_max, axis=-1, dtype=jnp.int32)
    return times, counts, record.status, record.steps


def answered(
    net: Simulated, query: Query, in_times: Array, times: Array | None
) -> tuple[Array, Array]:
    """Answer of a query, and status of each sample. Failed samples do not raise an error."""
    record = net._simulate(query, in_times, times)
    out = _over_batch(query, record)
    if times is not None:
        out = out[..., jnp.argsort(jnp.argsort(times))]
    if query.stop_after is not None:
        out = net._returned(out)
    if query.reading in _DIVERGED:
        fired = _over_batch(Query(queries.counts, (net.outputs,)), record) > 0
        out = jnp.where(fired & net._diverges(), _DIVERGED[query.reading], out)
    known = valid_or_nan if query.partial else complete_or_nan
    return known(record.status, out), record.status


def trains(net: Simulated, in_times: Array, max_spikes: int) -> tuple[Array, Array]:
    """Spike trains of the outputs, and status of each sample."""
    more = max_spikes + 1
    times, counts, status, _ = recorded_spikes(net, in_times, more, more)
    over = is_success(status) & jnp.any(counts > max_spikes, axis=-1)
    status = jnp.where(over, CODE["max_spikes"], status)
    return complete_or_nan(status, net._returned(times[..., :max_spikes])), status


def solution(net: Simulated, in_times: Array, start: NetworkState | None) -> tuple[Solution, Array]:
    """All events, and status code of each sample. `start` is the state at time 0, if given."""
    n, n_sources = net.n_neurons, net.n_neurons + net.n_inputs
    query = Query(queries.events, (n_sources, net.max_events))
    record = net._simulate(query, in_times, start=start)
    times, sources = _over_batch(query, record)
    end = _end(record)
    if net._is_delayed:
        whole = is_success(record.status)[..., None]
        last = jnp.max(jnp.where(sources >= 0, times, -jnp.inf), axis=-1, keepdims=True)
        until = jnp.where(whole, jnp.asarray(net.t_max, times.dtype), last)
        times, sources = with_inputs(in_times, times, sources, until, n)
    stats = {
        "events": jnp.sum(sources >= 0, -1, dtype=jnp.int32),
        "spikes": jnp.sum((sources >= 0) & (sources < n), -1, dtype=jnp.int32),
        "steps": record.steps,
    }
    return Solution(times, sources, status_of(record.status), stats, end), record.status


def _end(record: Record) -> NetworkState | None:
    """State at the end, which is a constant in derivatives; NaN for failed samples."""
    if record.end is None:
        return None
    floats, rest = eqx.partition(jax.lax.stop_gradient(record.end), eqx.is_inexact_array)
    floats = jax.tree.map(lambda x: complete_or_nan(record.status, x), floats)
    return eqx.combine(floats, rest)


def _over_batch(query: Query, record: Record) -> PyTree:
    """Apply a query over all batch axes of the record."""

    def one(record):
        return query.read(record, *query.args)

    record = record._replace(end=None)
    for _ in record.status.shape:
        one = jax.vmap(one)
    return one(record)
