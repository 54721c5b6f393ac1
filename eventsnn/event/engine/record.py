"""Record of a simulation: one row per iteration of the event loop."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from ..state import NetworkState


class Record(NamedTuple):
    """Output of the event loop, one row per iteration. Leading axes are the batch.

    A row is a segment of smooth flow, of length `dt`. It ends at time `times` with an event, and
    `sources` is the source of the event:

    - `0 ... n-1`: that neuron spikes,
    - `n ... n+n_in-1`: a spike of that input channel arrives,
    - `n+n_in` (`no_event_source`): no event; the segment was cut short, or the row is unused,
    - `n+n_in+1` (`observation_source`): the state is read.

    Rows without an event have the time inf. With delays, input spikes have no rows of their own.

    The other fields are:

    - `observed`: readout of the outputs in each row; empty if the query reads nothing.
    - `status`: status code per sample.
    - `steps`: number of iterations per sample.
    - `state`: checkpoints. All state components of all neurons at the start of the first row of
        each block of rows.
    - `message`: with delays, the number of the spike that each receiver gets within the segment
        (see `queue`), or -1 for none.
    - `wait`: with delays, the time from the start of the segment to that arrival.
    - `past_t_max`: with pseudospikes, whether the segment is after `t_max`.
    - `end`: state at the end, if the simulation starts from a given state; otherwise None.

    `dt`, `state`, `message`, `wait` and `past_t_max` are recorded only for a backward pass.
    Otherwise they are None.
    """

    times: Float[Array, "*batch rows"]
    sources: Int[Array, "*batch rows"]
    observed: Float[Array, "*batch rows outputs"]
    status: Int[Array, " *batch"]
    steps: Int[Array, " *batch"]
    dt: Float[Array, "*batch rows"] | None
    state: Float[Array, "*batch blocks components"] | None
    message: Int[Array, "*batch rows receivers"] | None
    wait: Float[Array, "*batch rows receivers"] | None
    past_t_max: Bool[Array, "*batch rows"] | None
    end: NetworkState | None = None


class Arrivals(NamedTuple):
    """External events (input spikes and observations), sorted by time and padded with inf.

    With delays, the times of the input spikes are in `inputs` instead, ordered by channel. `start`
    is the state at time 0; None: that of the neuron model.
    """

    times: Float[Array, "*batch arrivals"]
    sources: Int[Array, "*batch arrivals"]
    inputs: Float[Array, "*batch inputs"] | None = None
    start: NetworkState | None = None


def no_event_source(n_sources: int) -> int:
    """Source index of a row without an event."""
    return n_sources


def observation_source(n_sources: int) -> int:
    """Source index of a row at which the state is read."""
    return n_sources + 1
