"""Records of a simulation in rounds: spikes, arrivals, and what a backward pass needs."""

from typing import Any, NamedTuple

import jax
from jax import lax
from jaxtyping import Array, Float, Int

from ..engine.instants import Instant
from ..state import NetworkState


class Found(NamedTuple):
    """Spikes of a round, in the order in which they are found. Times are from its start."""

    time: Instant
    source: Int[Array, " capacity"]
    visit: Int[Array, " capacity"]  # number of the visit in which the spike was found
    before: Float[Array, "capacity components"] | None  # states before the spikes
    n_spikes: Int[Array, ""]


class Pending(NamedTuple):
    """Arrivals of spikes in transit, sorted by time and padded with inf."""

    time: Instant
    source: Int[Array, " capacity"]
    number: Int[Array, " capacity"]  # of the spike, from 0
    n_arrivals: Int[Array, ""]


class Steps(NamedTuple):
    """Record of all events of each round: arrivals, predicted spikes, and the end of the round.

    `source` is the source of the spike that arrives, `n_sources` at the end of a round, and
    `n_sources + 1` plus the index of the neuron for a predicted spike. `time` is the time from the
    start of the round. `number` is the number of the spike that arrives; input spikes are numbered
    from `max_events` on.
    """

    source: Int[Array, " steps"]
    time: Float[Array, " steps"]
    number: Int[Array, " steps"]


class Spans(NamedTuple):
    """Record of the rounds with synaptic delays.

    - `start`, `length`: start and length of each round.
    - `spike`, `input`: first spike of a neuron and first input spike in transit.
    """

    start: Instant
    length: Float[Array, "*batch rounds"]
    spike: Int[Array, "*batch rounds"]
    input: Int[Array, "*batch rounds"]


class Trace(NamedTuple):
    """Record for a backward pass.

    - `offset`: time of each spike from the start of its round.
    - `visit`: number of the visit in which each spike was found, -1 for unused entries. The chunks
        of all deliveries are visited, and all neurons at the end of each round.
    - `before`: state immediately before each spike.
    - `steps`: all steps; None with synaptic delays.
    - `spans`: the rounds with synaptic delays; otherwise None.
    - `first_step`, `first_visit`, `first_spike`: numbers at the start of each round.
    - `tables`: states of all neurons at the start of each round.
    """

    offset: Float[Array, "*batch events"]
    visit: Int[Array, "*batch events"]
    before: Float[Array, "*batch events components"]
    steps: Steps | None
    spans: Spans | None
    first_step: Int[Array, "*batch rounds"]
    first_visit: Int[Array, "*batch rounds"]
    first_spike: Int[Array, "*batch rounds"]
    tables: Float[Array, "*batch rounds n components"]


class Run(NamedTuple):
    """Result of a simulation; the spikes are sorted by time.

    `low` has the rounding errors of the times, with synaptic delays. `trace` is None without a
    backward pass. `end` is the state at the end, if the simulation starts from a given state.
    """

    times: Float[Array, "*batch events"]
    sources: Int[Array, "*batch events"]
    status: Int[Array, " *batch"]
    steps: Int[Array, " *batch"]
    rounds: Int[Array, " *batch"]
    low: Float[Array, "*batch events"] | None
    trace: Trace | None
    end: NetworkState | None = None


def write(table: Any, values: Any, row: Array) -> Any:
    """Write the values to a row of the tables, unless they are None."""
    if table is None:
        return None
    return jax.tree.map(
        lambda t, x: lax.dynamic_update_index_in_dim(t, x.astype(t.dtype), row, 0), table, values
    )
