"""The record of a simulation: one row an iteration of the event loop."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int


class Record(NamedTuple):
    """What the event loop wrote, one row an iteration. Leading axes are the batch.

    A row is a segment of smooth flow of length `dt` that starts at `state` and ends at time
    `times`, where `sources` acts on the network:

    - `0 ... n-1`: that neuron spikes,
    - `n ... n+n_in-1`: a spike of that input channel arrives,
    - `n+n_in` ([`nothing`][]): nothing; the segment was cut short, or the row is unused,
    - `n+n_in+1` ([`observation`][]): the state is read.

    With delays, `message` says what each receiver got within the segment (see `queue`; -1:
    nothing), and input spikes have no rows of their own.

    `dt`, `message`, `wait` (with delays, how long each receiver waits for what it gets), `driven`
    (is it beyond t_max?) and `state` (all components of all neurons, at the first row of each block
    of rows) are only kept where a backward pass will ask for them, and `observed` (what was read
    of the outputs) only where something is read; else they are None.
    """

    times: Float[Array, "*batch rows"]
    sources: Int[Array, "*batch rows"]
    observed: Float[Array, "*batch rows outputs"] | None
    status: Int[Array, " *batch"]
    steps: Int[Array, " *batch"]
    dt: Float[Array, "*batch rows"] | None
    state: Float[Array, "*batch blocks components"] | None
    message: Int[Array, "*batch rows receivers"] | None
    wait: Float[Array, "*batch rows receivers"] | None
    driven: Bool[Array, "*batch rows"] | None


class Arrivals(NamedTuple):
    """Everything that reaches the network from outside, sorted in time, padded with inf. With
    delays, input spikes are in `inputs` instead, unsorted, channel by channel."""

    times: Float[Array, "*batch arrivals"]
    sources: Int[Array, "*batch arrivals"]
    inputs: Float[Array, "*batch inputs"] | None = None


def nothing(n_sources: int) -> int:
    """The source of a row at which nothing happens."""
    return n_sources


def observation(n_sources: int) -> int:
    """The source of a row at which the state is read."""
    return n_sources + 1
