"""Transport with delays: spikes in transit, and segments with arrivals at each neuron."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..flows import Segment, Window
from ..neurons.base import State
from ..state import in_transit
from .instants import Instant
from .queue import Next, Queue, Schedule, channel_of, empty, peek, push, schedule, take
from .segments import Inbound, SplitSegment, triggered
from .system import Network, Plan, gap_and_speed, tie_tolerance, weight_rows
from .transport import Immediate, Inside


class _Transit(NamedTuple):
    """Arrivals within a proposed segment."""

    upcoming: Next
    inside: Inside


class Delayed(NamedTuple):
    """Transport with axonal or synaptic delays; the methods are described in `Immediate`.

    Within one segment each neuron advances to its own next arrival, receives it, and advances to
    the end.
    """

    plan: Plan
    delays: Float[Array, "rows receivers"]
    schedule: Schedule
    inputs: Float[Array, "inputs batch"]  # times at which input spikes are sent
    columns: int  # number of columns of the weights
    scale: Float[Array, "n 1"]  # scale of each gap

    def init(self, batch, start):
        receivers = self.delays.shape[1]
        queue = empty(receivers, self.plan.capacity, batch, self.delays.dtype)
        if start is None:
            return queue
        number = len(self.inputs) + self.plan.max_steps + jnp.arange(len(start.sources))
        messages = jnp.broadcast_to(number.astype(jnp.int32)[:, None], start.sources.shape)
        return Queue(queue.cursor, start.waits, messages, start.sources)

    def no_transit(self, state, zero):
        receivers, n = self.delays.shape[1], self.plan.n
        zeros = jnp.broadcast_to(zero, (receivers, zero.size))
        index = zeros.astype(jnp.int32)
        never = zeros + jnp.inf
        mask = jnp.zeros((n, zero.size), bool)
        inbound = Inbound(never, jnp.zeros((self.columns, zero.size), zero.dtype))
        inside = Inside(inbound, SplitSegment(state, state, zeros, state), mask, mask)
        return _Transit(Next(never, never, index, index, index), inside)

    def upcoming(self, queue, time):
        following = peek(queue, self.schedule, time, self.plan.n, self.plan.n_sources)
        return following, jnp.min(following.wait, axis=0)

    def propose(self, network, state, horizon, flow_state, upcoming, moves):
        """Propose the next segment, and find the arrivals within it.

        The segment ends no later than the earliest second arrival at any neuron. The flow is called
        twice: for the windows before and after the arrivals. If an arrival makes its neuron fire at
        once, the segment ends at that arrival.
        """
        wait = upcoming.wait
        horizon = jnp.minimum(horizon, jnp.min(upcoming.later, axis=0))
        weights = delayed_weights(network.weights, upcoming.source)

        early = Inbound(jnp.where(wait <= horizon, wait, jnp.inf), weights)
        split = early.split(network, state, horizon)
        pushed = triggered(network.flow, network.neuron, split.before, split.start)
        fires = early.arrives() & pushed.fires()
        horizon = jnp.minimum(horizon, jnp.min(jnp.where(fires, wait, jnp.inf), axis=0))
        segment, after = _two_windows(
            network, state, split.start, early.first(), horizon, flow_state
        )

        # An arrival at the time of a spike is delivered after the spike, unless it caused the spike
        # and the two times are equal only by rounding.
        dt = segment.dt
        row = lax.broadcasted_iota(jnp.int32, wait.shape, 0)
        caused = after & ((row == segment.source) | (len(wait) == 1))
        arrives = moves & jnp.where(segment.spiked & ~caused, wait < dt, wait <= dt)
        inbound = Inbound(jnp.where(arrives, wait, jnp.inf), weights)
        split = inbound.split(network, state, dt)
        fires = inbound.triggered(network, split).fires()
        overshot = arrives & self._overshot(network, state, split.before, inbound.first())
        inside = Inside(inbound, split, fires, overshot)
        return segment._replace(end=split.end), _Transit(upcoming, inside)

    def inside(self, transit, state, segment):
        return transit.inside

    def send(self, queue, accepted, proposal, source, row):
        segment, _, time, transit = proposal
        passed = jnp.where(accepted, segment.dt, 0.0)
        queue = take(queue, transit.upcoming, accepted & transit.inside.inbound.arrives(), passed)
        waits, left = weight_rows(self.delays, source), time.until(self.plan.t_end)
        # Arrivals after t_end are dropped, unless the state at the end is needed. In a row without
        # an event all delays are inf.
        kept = self.plan.keep_end | (waits <= left)
        waits = jnp.where(kept & accepted, waits, jnp.inf)
        return push(queue, waits, row + self.schedule.messages.shape[1] - 2, source)

    def left(self, queue, start):
        """Spikes in transit at the end: input spikes, and those in the queue."""
        plan, sent = self.plan, self.inputs
        source = channel_of(jnp.arange(len(sent)), plan.n, plan.n_sources, len(sent))
        arrival = Instant.sum(sent[None], self.delays[source].T[:, :, None])
        left = Instant.at(jnp.asarray(plan.t_end, sent.dtype)).until(arrival)
        left = jnp.where((sent <= plan.t_end) & (left > 0), left, jnp.inf)
        source = jnp.broadcast_to(source.astype(jnp.int32)[:, None], sent.shape)
        waits = jnp.concatenate([left, queue.waits], axis=1)
        return in_transit(waits, jnp.concatenate([source, queue.sources]), plan.capacity)

    def recorded(self, transit, accepted):
        inbound = transit.inside.inbound
        taken = accepted & inbound.arrives()
        return jnp.where(taken, transit.upcoming.message, -1), inbound.first()

    def _overshot(self, network: Network, state: State, before: State, dt: Array) -> Array:
        """Mask of the neurons that are past their thresholds after `dt`, in state `before`."""
        velocity = network.flow.velocity(network.neuron, state, dt, before)
        gap, speed = gap_and_speed(network.neuron, before, velocity)
        passes = network.flow.passes(network.neuron, before)
        return passes & (gap < -tie_tolerance(dt, speed, self.scale))


def transport_of(
    plan: Plan, network: Network, inputs: Float[Array, "inputs batch"] | None, scale: Array
) -> Immediate | Delayed:
    """Return the transport of a network, given its delayed input spikes."""
    if network.delays is None or inputs is None:
        return Immediate(plan.n)
    planned = schedule(inputs, network.delays, plan.n, plan.t_end)
    return Delayed(plan, network.delays, planned, inputs, network.weights.shape[1], scale)


def delayed_weights(
    weights: Array, source: Int[Array, "receivers batch"]
) -> Float[Array, "columns batch"]:
    """Weights that each receiver gets from its own source, receptor by receptor.

    With a receiver axis of length 1 (axonal delays) all neurons have the same source.
    """
    receivers, columns = source.shape[0], weights.shape[1]
    if receivers == 1:
        return weight_rows(weights, source[0])
    column = lax.broadcasted_iota(source.dtype, (columns, source.shape[1]), 0)
    flat = jnp.tile(source, (columns // receivers, 1)) * columns + column
    return jnp.take(weights.reshape(-1), flat, mode="clip")


def _two_windows(
    network, state, after, first, horizon, flow_state
) -> tuple[Segment, Bool[Array, " batch"]]:
    """Find the earliest crossing, before or after the arrival at each neuron at time `first`.

    `after` is the state after the arrivals. Also returns a mask of the samples with a crossing
    after an arrival. At equal times the crossing before an arrival takes precedence.
    """
    flow, neuron = network.flow, network.neuron
    early = flow.next_spike(
        neuron, state, horizon, flow_state, Window(jnp.zeros_like(first), first)
    )
    # Keep the flow state of the first call, such as a step size, only where it ended early.
    short = early.dt < horizon
    flow_state = jax.tree.map(lambda x, y: jnp.where(short, x, y), early.flow_state, flow_state)
    never = jnp.full_like(first, jnp.inf)
    late = flow.next_spike(neuron, after, early.dt, flow_state, Window(first, never))
    sooner = (late.dt < early.dt) | ~early.spiked
    since = late.spiked & sooner
    segment = late._replace(
        source=jnp.where(since, late.source, early.source),
        spiked=since | (early.spiked & (late.dt >= early.dt)),
        low=jnp.where(sooner, late.remainder(), early.remainder()),
    )
    return segment, since
