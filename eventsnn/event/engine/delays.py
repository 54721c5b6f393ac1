"""Segments with delayed arrivals, at a separate time for each neuron.

With delays every synapse may deliver a spike at a different time. If each arrival ended the
segment of the whole network, there would be as many segments as synapses. Between two spikes,
however, neurons do not interact. Within one segment each neuron may therefore receive its own next
arrival. Only the second arrival at a neuron ends the segment.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..flows import AbstractFlow, Segment, Window
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .queue import Next
from .system import (
    Inbound,
    Network,
    Passage,
    Triggered,
    approach,
    charges,
    passage,
    tie_grain,
    triggered,
)


class Coming(NamedTuple):
    """Delayed arrivals within a proposed segment."""

    following: Next
    inbound: Inbound
    passage: Passage
    overshot: Bool[Array, "n batch"]  # past its threshold before its arrival
    fires: Bool[Array, "n batch"]  # an arrival at the end of the segment makes it fire


def next_segment(
    network: Network,
    state: State,
    horizon: Float[Array, " batch"],
    memory: Any,
    following: Next,
    flows: Bool[Array, " batch"],
    span: Float[Array, "n 1"],
) -> tuple[Segment, Coming]:
    """Propose the next segment, and find the arrivals within it.

    The segment ends no later than the earliest second arrival at any neuron. Each neuron flows,
    receives its arrival, and flows again. The flow is therefore called twice: for the windows
    before and after the arrivals. If an arrival makes its neuron fire at once, the segment ends at
    that arrival. In samples where `flows` is false, a neuron is still due to fire, and
    nothing arrives.
    """
    flow, neuron = network.flow, network.neuron
    wait = following.wait
    horizon = jnp.minimum(horizon, jnp.min(following.later, axis=0))
    charge = charges(network.weights, following.source)

    early = passage(flow, neuron, state, horizon, Inbound(wait <= horizon, wait, charge))
    fires = (wait <= horizon) & triggered(flow, neuron, early.before, early.start).fires()
    first = jnp.where(wait <= horizon, wait, 0.0)
    horizon = jnp.minimum(horizon, jnp.min(jnp.where(fires, wait, jnp.inf), axis=0))
    segment, since = _two_windows(flow, neuron, state, early.start, first, horizon, memory)

    # An arrival at the time of a spike is delivered after the spike, unless the spike follows from
    # it and its time only rounds to that of the arrival.
    dt = segment.dt
    row = lax.broadcasted_iota(jnp.int32, wait.shape, 0)
    caused = since & ((row == segment.who) | (len(wait) == 1))
    takes = flows & jnp.where(segment.spiked & ~caused, wait < dt, wait <= dt)
    inbound = Inbound(takes, wait, charge)
    way = passage(flow, neuron, state, dt, inbound)
    overshot, fires = _crossings(network, state, way, inbound, span)
    return segment._replace(end=way.end), Coming(following, inbound, way, overshot, fires)


def triggered_on_way(
    flow: AbstractFlow, neuron: AbstractNeuron, way: Passage, inbound: Inbound
) -> Triggered:
    """Find the neurons that an arrival at the end of the segment makes fire."""
    last = inbound.takes & (way.dt == 0)
    found = triggered(flow, neuron, way.before, way.start)
    return Triggered(last & found.at_once, last & found.carried)


def _crossings(network, state, way, inbound, span):
    """Masks of the neurons past threshold before their arrival, and of those that it makes fire.

    The second mask contains only arrivals at the end of the segment.
    """
    first = jnp.where(inbound.takes, inbound.wait, 0.0)
    velocity = network.flow.velocity(network.neuron, state, first, way.before)
    gap, speed = approach(network.neuron, way.before, velocity)
    past = network.flow.passes(network.neuron, way.before) & (gap < -tie_grain(first, speed, span))
    return inbound.takes & past, triggered_on_way(
        network.flow, network.neuron, way, inbound
    ).fires()


def _two_windows(
    flow, neuron, state, after, first, horizon, memory
) -> tuple[Segment, Bool[Array, " batch"]]:
    """Find the earliest crossing, before or after each neuron's own arrival time `first`.

    Also returns a mask of the samples in which it is after the arrival. At equal times the crossing
    before an arrival has precedence.
    """
    early = flow.next_spike(neuron, state, horizon, memory, Window(jnp.zeros_like(first), first))
    # Keep the memory of the first call, such as a step size, only where that call ended early.
    short = early.dt < horizon
    memory = jax.tree.map(lambda x, y: jnp.where(short, x, y), early.memory, memory)
    never = jnp.full_like(first, jnp.inf)
    late = flow.next_spike(neuron, after, early.dt, memory, Window(first, never))
    sooner = (late.dt < early.dt) | ~early.spiked
    since = late.spiked & sooner
    segment = late._replace(
        who=jnp.where(since, late.who, early.who),
        spiked=since | (early.spiked & (late.dt >= early.dt)),
        low=jnp.where(sooner, late.remainder(), early.remainder()),
    )
    return segment, since
