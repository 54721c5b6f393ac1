"""Transport of spikes to their receivers without delays; see `delays` for that with delays."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows import Segment
from ..neurons.base import State
from ..state import NetworkState
from .instants import Instant
from .segments import Inbound, NoInbound, SplitSegment
from .system import Network


class Inside(NamedTuple):
    """Arrivals within a proposed segment, and the neurons that they affect."""

    inbound: NoInbound | Inbound
    split: SplitSegment
    fires: Bool[Array, "n batch"]  # an arrival at the end of the segment makes it fire
    overshot: Bool[Array, "n batch"]  # past its threshold before its arrival


class Immediate(NamedTuple):
    """Transport without delays: a spike arrives at once.

    The loop carries a `queue` of the spikes in transit, and with each proposed segment its
    `transit`: the arrivals within it. Both are pytrees that only the transport uses; here they are
    empty.
    """

    n: int

    def init(self, batch: int, start: NetworkState | None) -> Any:
        """Return the queue at time 0; `start` has the spikes in transit."""
        return ()

    def no_transit(self, state: State, zero: Float[Array, " batch"]) -> Any:
        """Return the transit of a segment of length 0; `zero` is 0 in each sample."""
        return ()

    def upcoming(self, queue: Any, time: Instant) -> tuple[Any, Array | float]:
        """Return the next arrivals, and the time until the first of them."""
        return (), jnp.inf

    def propose(
        self,
        network: Network,
        state: State,
        horizon: Array,
        flow_state: Any,
        upcoming: Any,
        moves: Any,
    ) -> tuple[Segment, Any]:
        """Propose the next segment, with its transit.

        `moves` is false where the sample has ended or a neuron is due to fire: nothing arrives.
        """
        return network.flow.next_spike(network.neuron, state, horizon, flow_state), ()

    def inside(self, transit: Any, state: State, segment: Segment) -> Inside:
        """Return the arrivals within a proposed segment that starts in `state`."""
        none = jnp.zeros((self.n, segment.dt.size), bool)
        split = SplitSegment(state, state, segment.dt, segment.end)
        return Inside(NoInbound(), split, fires=none, overshot=none)

    def send(self, queue: Any, accepted: Array, proposal: Any, source: Array, row: Array):
        """Remove the delivered arrivals from the queue, and add the spike of this event, if any.

        `source` is the source of the event, and `row` the row of the record. Returns the queue, and
        a mask of the samples in which it overflows.
        """
        return (), jnp.zeros_like(accepted)

    def left(self, queue: Any, start: NetworkState) -> tuple[Array, Array, Array | bool]:
        """Spikes in transit at the end: waits, sources, and a mask of samples with too many."""
        return start.waits, start.sources, False

    def recorded(self, transit: Any, accepted: Bool[Array, " batch"]) -> tuple[Any, Any]:
        """Values of `Record.message` and `Record.wait` for a row; None if they are not recorded."""
        return None, None
