"""Segments in which each neuron receives something at a time of its own.

With delays every synapse may deliver at another moment. To stop the whole network for each of them
would cost as many segments as there are synapses. But between two spikes neurons do not depend on
each other, so within one segment each of them may receive its own next arrival; only the second
one that a neuron expects ends the segment.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows import AbstractFlow, Segment, Window
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .queue import Next
from .system import Inbound, Network, Passage, approach, charges, lifts, passage, tie_grain


class Coming(NamedTuple):
    """What the neurons receive within a segment."""

    following: Next
    inbound: Inbound
    passage: Passage
    overshot: Bool[Array, "n batch"]  # past its threshold already when it received
    lifted: Bool[Array, "n batch"]  # by what it received, over its threshold, at the segment's end


def next_segment(
    network: Network,
    state: State,
    horizon: Float[Array, " batch"],
    memory: Any,
    following: Next,
    flows: Bool[Array, " batch"],
    span: Float[Array, "n 1"],
) -> tuple[Segment, Coming]:
    """The next segment, at most up to the second arrival at a neuron, and what comes within it.

    A neuron flows, receives, and flows again: the flow is asked twice, for the windows before and
    after. Who is lifted over its threshold by what it receives ends the segment there.
    Where nothing `flows`, because a neuron is yet to fire, nothing comes either.
    """
    flow, neuron = network.flow, network.neuron
    wait = following.wait
    horizon = jnp.minimum(horizon, jnp.min(following.later, axis=0))
    charge = charges(network.weights, following.source)

    early = passage(flow, neuron, state, horizon, Inbound(wait <= horizon, wait, charge))
    lifted = (wait <= horizon) & lifts(flow, neuron, early.before, early.start)
    first = jnp.where(wait <= horizon, wait, 0.0)
    horizon = jnp.minimum(horizon, jnp.min(jnp.where(lifted, wait, jnp.inf), axis=0))
    segment = _two_windows(flow, neuron, state, early.start, first, horizon, memory)

    # At the instant of a spike, what arrives comes after it.
    dt = segment.dt
    takes = flows & jnp.where(segment.spiked, wait < dt, wait <= dt)
    inbound = Inbound(takes, wait, charge)
    way = passage(flow, neuron, state, dt, inbound)
    overshot, lifted = _crossings(network, state, way, inbound, span)
    return segment._replace(end=way.end), Coming(following, inbound, way, overshot, lifted)


def lifted_on_way(
    flow: AbstractFlow, neuron: AbstractNeuron, way: Passage, inbound: Inbound
) -> Bool[Array, "n batch"]:
    """Who was lifted over its threshold by what it received at the end of the segment."""
    return inbound.takes & (way.dt == 0) & lifts(flow, neuron, way.before, way.start)


def _crossings(network, state, way, inbound, span):
    """Who had crossed before it received, and who is lifted by what it received."""
    first = jnp.where(inbound.takes, inbound.wait, 0.0)
    velocity = network.flow.velocity(network.neuron, state, first, way.before)
    gap, speed = approach(network.neuron, way.before, velocity)
    past = network.flow.passes(network.neuron, way.before) & (gap < -tie_grain(first, speed, span))
    return inbound.takes & past, lifted_on_way(network.flow, network.neuron, way, inbound)


def _two_windows(flow, neuron, state, after, first, horizon, memory) -> Segment:
    """The earliest crossing before, or after, each neuron's own time `first`."""
    early = flow.next_spike(neuron, state, horizon, memory, Window(jnp.zeros_like(first), first))
    # What a flow learns about its step size counts where that was what ended the segment.
    short = early.dt < horizon
    memory = jax.tree.map(lambda x, y: jnp.where(short, x, y), early.memory, memory)
    never = jnp.full_like(first, jnp.inf)
    late = flow.next_spike(neuron, after, early.dt, memory, Window(first, never))
    sooner = late.spiked | (late.dt < early.dt)
    return late._replace(
        who=jnp.where(late.spiked, late.who, early.who),
        spiked=jnp.where(sooner, late.spiked, early.spiked),
        low=jnp.where(sooner, late.remainder(), early.remainder()),
    )
