"""Segments between events, and the delayed spikes that arrive within them.

With delays every synapse may deliver a spike at a different time. If each arrival ended the
segment of the whole network, there would be as many segments as synapses. Between two spikes,
however, neurons do not interact. Within one segment each neuron may therefore receive its own next
arrival. Only the second arrival at a neuron ends the segment.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows import AbstractFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .system import Network, gap_and_speed, receive


class SplitSegment(NamedTuple):
    """A segment that is split, for each neuron, at the arrival of a delayed spike.

    A neuron without an arrival is split at the start of the segment.
    """

    before: State  # immediately before the arrival
    start: State  # immediately after the arrival: start of the second part
    dt: Float[Array, "receivers batch"]  # length of the second part
    end: State  # at the end of the segment


class Triggered(NamedTuple):
    """Masks of the neurons that an arrival makes fire, at the time of the arrival.

    The masks exclude each other. They differ in the derivative of the spike time.
    """

    at_once: Bool[Array, "n batch"]  # pushed over its threshold: the spike time is the arrival's
    carried: Bool[Array, "n batch"]  # was at its threshold, and crosses it with a finite speed

    @classmethod
    def none(cls, n: int, batch: int) -> "Triggered":
        """Return masks without a neuron."""
        return cls(jnp.zeros((n, batch), bool), jnp.zeros((n, batch), bool))

    def without(self, neurons: Bool[Array, "n batch"]) -> "Triggered":
        """Return the masks without these neurons."""
        return Triggered(self.at_once & ~neurons, self.carried & ~neurons)

    def fires(self) -> Bool[Array, "n batch"]:
        """Return the mask of all neurons that fire."""
        return self.at_once | self.carried


def triggered(flow: AbstractFlow, neuron: AbstractNeuron, before: State, after: State) -> Triggered:
    """Find the neurons that the received input makes fire at the time of the event.

    Such a neuron has not crossed its threshold in state `before` and has crossed it in state
    `after`.
    """
    gap, new = neuron.threshold_gap(before), neuron.threshold_gap(after)
    # A neuron may be at its threshold, or past it by rounding, without having crossed it. It
    # crosses if a pulse reduces its gap, or if a current makes its gap close.
    waits = (gap <= 0) & ~flow.passes(neuron, before)
    passes = flow.passes(neuron, after)
    closing = gap_and_speed(neuron, after, neuron.vector_field(after))[1] > 0
    carried = (new <= 0) & waits & ~(new < gap) & passes & closing
    at_once = (new <= 0) & ((gap > 0) | (waits & ((new < gap) | passes))) & ~carried
    return Triggered(at_once, carried)


def triggered_by_event(
    network: Network, before: State, after: State, others: Bool[Array, "n batch"]
) -> Triggered:
    """Find the neurons that an event makes fire; none with delays.

    The neurons in `others` fire for another reason: that whose spike is the event, for example.
    """
    if network.delays is not None:
        return Triggered.none(*others.shape)
    return triggered(network.flow, network.neuron, before, after).without(others)


class NoInbound(NamedTuple):
    """No delayed spike arrives within a segment."""

    def split(self, network: Network, state: State, dt: Array) -> SplitSegment:
        """Advance the state by a segment of length `dt`."""
        return SplitSegment(state, state, dt, network.flow.advance(network.neuron, state, dt))

    def triggered(self, network: Network, split: SplitSegment) -> Triggered:
        """Return the neurons that an arrival at the end of the segment makes fire: none."""
        return Triggered.none(*jax.eval_shape(network.neuron.threshold_gap, split.end).shape)


class Inbound(NamedTuple):
    """Delayed spikes that arrive within a segment: at most one per receiver.

    With axonal delays the receiver axis has length 1.
    """

    wait: Float[Array, "receivers batch"]  # from the start of the segment; inf: no arrival
    weights: Float[Array, "columns batch"]  # delivered weights, receptor by receptor

    def arrives(self) -> Bool[Array, "receivers batch"]:
        """Mask of the receivers that have an arrival."""
        return self.wait < jnp.inf

    def first(self) -> Float[Array, "receivers batch"]:
        """Length of the first part of the segment; 0 without an arrival."""
        return jnp.where(self.arrives(), self.wait, 0.0)

    def split(self, network: Network, state: State, dt: Array) -> SplitSegment:
        """Advance the state by a segment of length `dt`, with its arrivals.

        Differentiable in all arrays of floats.
        """
        flow, neuron = network.flow, network.neuron
        before = flow.advance(neuron, state, self.first())
        receptors = (neuron.receptors, 1) if len(self.wait) > 1 else (1, 1)
        weights = jnp.where(jnp.tile(self.arrives(), receptors), self.weights, 0.0)
        start, rest = neuron.normalise(receive(neuron, before, weights)), dt - self.first()
        return SplitSegment(before, start, rest, flow.advance(neuron, start, rest))

    def triggered(self, network: Network, split: SplitSegment) -> Triggered:
        """Find the neurons that an arrival at the end of the segment makes fire."""
        last = self.arrives() & (split.dt == 0)
        found = triggered(network.flow, network.neuron, split.before, split.start)
        return found.without(~last)
