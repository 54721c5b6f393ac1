"""The simulated hybrid system: its parts, and the effect of one event on it.

The event loop (forward) and the adjoints (backward) share these definitions. Every array has the
batch as its last axis, and the parameters of neurons broadcast against it, see [`lift`][].
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..flows import AbstractFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State

#: Tie tolerance, in units in the last place of the segment's length and of the gap. Crossings
#: closer to each other than this count as simultaneous. Neurons that receive the same inputs in a
#: different order differ by rounding, and must still tie.
TIE_ULPS = 16


#: Checkpoint interval: the state is stored at the first row of each block of this many rows. A
#: backward pass recomputes the other states.
BLOCK = 16


class Plan(NamedTuple):
    """Configuration of a simulation, fixed when the loop is compiled."""

    n: int
    n_sources: int
    outputs: tuple[int, ...]
    t_max: float
    max_events: int
    max_steps: int
    t_end: float  # end of the simulation: t_max, or later with pseudospikes
    stop_after: int | None = None  # spikes per output after which a sample stops; None: no limit
    capacity: int | None = None  # number of slots for spikes in transit; None: no delays
    reading: Literal["state", "integral", "peak"] | None = None  # kind of readout; None: none
    keep_states: bool = False  # record what a backward pass needs


class Network(NamedTuple):
    """The network, shared by all samples of a batch.

    The last two rows of `weights` are zero: one row for rows of the record without an event, one
    for observations. `delays` is inf in these rows and where there is no synapse. Axonal delays
    have one column. In the event loop the neuron's parameters have a batch axis, see [`lift`][].
    """

    flow: AbstractFlow
    neuron: AbstractNeuron
    weights: Float[Array, "sources+2 columns"]
    delays: Float[Array, "sources+2 receivers"] | None = None
    drive: Float[Array, "*neurons"] | None = None  # pseudospikes: constant current after t_max


class Inbound(NamedTuple):
    """Delayed arrivals within a segment: at most one per receiver."""

    takes: Bool[Array, "receivers batch"]  # mask of the receivers that have an arrival
    wait: Float[Array, "receivers batch"]  # time of the arrival, from the start of the segment
    charge: Float[Array, "columns batch"]  # delivered weights, port by port


class Passage(NamedTuple):
    """A segment that is split, for each neuron, at the neuron's own arrival.

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

    def fires(self) -> Bool[Array, "n batch"]:
        return self.at_once | self.carried


def lift(neuron: AbstractNeuron) -> AbstractNeuron:
    """Reshape parameters from (n,) to (n, 1), so that they broadcast against a batch."""
    return jax.tree.map(lambda x: x[:, None] if eqx.is_array(x) and x.ndim == 1 else x, neuron)


def driven(
    neuron: AbstractNeuron, drive: Array | None, on: Bool[Array, " batch"] | None
) -> AbstractNeuron:
    """Add the pseudospike current to the neuron, in the samples where `on` is true.

    The neuron has a batch axis, see [`lift`][]. If `drive` or `on` is None, it is returned
    unchanged. No gradient flows through the current.
    """
    if drive is None or on is None:
        return neuron
    drive = drive[:, None] if drive.ndim else drive[None, None]
    return neuron.driven(lax.stop_gradient(jnp.where(on, drive, 0.0)))


def initial_state(neuron: AbstractNeuron, n: int, batch: int) -> State:
    """State of a batch at time 0; `neuron` has no batch axis."""
    state = neuron.normalise(neuron.init_state(n))
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], batch)), state)


def jump(
    neuron: AbstractNeuron, state: State, current: Array | None, spiked: Bool[Array, "n batch"]
) -> State:
    """Apply an event to the state: deliver its row of weights, then reset the spiking neuron.

    `current` is the row of weights. With delays it is None, since nothing arrives at once.
    """
    if current is not None:
        state = receive(neuron, state, current)
    return neuron.normalise(neuron.reset(state, spiked))


def passage(
    flow: AbstractFlow, neuron: AbstractNeuron, state: State, dt: Array, inbound: Inbound
) -> Passage:
    """Advance the state by a segment of length `dt` with its delayed arrivals.

    Differentiable in all arrays of floats.
    """
    first = jnp.where(inbound.takes, inbound.wait, 0.0)
    before = flow.advance(neuron, state, first)
    start = take_in(neuron, before, inbound)
    return Passage(before, start, dt - first, flow.advance(neuron, start, dt - first))


def take_in(neuron: AbstractNeuron, state: State, inbound: Inbound) -> State:
    """Apply the delayed arrivals to the state."""
    ports = (neuron.ports, 1) if inbound.takes.shape[0] > 1 else (1, 1)
    charge = jnp.where(jnp.tile(inbound.takes, ports), inbound.charge, 0.0)
    return neuron.normalise(receive(neuron, state, charge))


def receive(neuron: AbstractNeuron, state: State, current: Float[Array, "columns batch"]) -> State:
    """Deliver the weights `current`, ordered port by port, to the state."""
    if neuron.ports > 1:
        current = current.reshape(neuron.ports, -1, current.shape[-1])
    return neuron.receive(state, current)


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
    closing = approach(neuron, after, neuron.drift(after))[1] > 0
    carried = (new <= 0) & waits & ~(new < gap) & passes & closing
    at_once = (new <= 0) & ((gap > 0) | (waits & ((new < gap) | passes))) & ~carried
    return Triggered(at_once, carried)


def tie_grain(dt: Array, speed: Array, span: Array) -> Array:
    """Rounding error of a gap at the end of a segment of length `dt`.

    `speed` is the speed at which the gap closes, and `span` the scale of the gap.
    """
    return TIE_ULPS * jnp.finfo(dt.dtype).eps * (dt * jnp.abs(speed) + span)


def approach(neuron: AbstractNeuron, state: State, velocity: State) -> tuple[Array, Array]:
    """Gap to the threshold, and the speed at which it closes."""
    gap, rate = jax.jvp(neuron.threshold_gap, (state,), (velocity,))
    return gap, -rate


def reaches(
    neuron: AbstractNeuron, state: State, velocity: State, gap: Array, speed: Array
) -> Bool[Array, "n batch"]:
    r"""Mask of the neurons that are about to cross their thresholds, or are past them and rising.

    The gap must be small. To second order, the gap after a time $t$ is
    $g - s t + \tfrac12 a t^2$ with the closing speed $s > 0$ and the deceleration $a$. It has a
    zero if and only if $2 a g \le s^2$. This excludes a potential that approaches its threshold
    and never reaches it, $g \propto e^{-t/\tau}$, for which $a g = s^2$.
    """

    def rate(state):
        return jax.jvp(neuron.threshold_gap, (state,), (neuron.drift(state),))[1]

    deceleration = jax.jvp(rate, (state,), (velocity,))[1]
    rises = speed > 0
    # As a ratio: squares could overflow.
    return rises & ((gap <= 0) | (2 * gap * (deceleration / jnp.where(rises, speed, 1.0)) <= speed))


def weight_rows(weights: Array, source: Int[Array, " batch"]) -> Float[Array, "n batch"]:
    """Row of weights of each sample's source, one column per sample."""
    return jnp.take(weights.T, source, axis=1, mode="clip")


def charges(weights: Array, source: Int[Array, "receivers batch"]) -> Float[Array, "cols batch"]:
    """Weights that each receiver gets from its own source, port by port.

    With a receiver axis of length 1 (axonal delays) all neurons have the same source.
    """
    receivers, columns = source.shape[0], weights.shape[1]
    if receivers == 1:
        return weight_rows(weights, source[0])
    column = lax.broadcasted_iota(source.dtype, (columns, source.shape[1]), 0)
    flat = jnp.tile(source, (columns // receivers, 1)) * columns + column
    return jnp.take(weights.reshape(-1), flat, mode="clip")


def state_table(rows: int, state: State) -> Float[Array, "rows components batch"]:
    """Allocate a table of `rows` states.

    It is one array, since XLA would fill and copy each of several arrays.
    """
    leaves = jax.tree.leaves(state)
    width = sum(x.size // x.shape[-1] for x in leaves)
    return jnp.zeros((rows, width, leaves[0].shape[-1]), leaves[0].dtype)


def blocks(rows: int) -> int:
    """Number of checkpoint slots for a record of `rows` rows.

    There is one slot per block, and one more that rows after the last checkpoint overwrite.
    """
    return 1 + -(-rows // BLOCK)


def write_state(table: Array, row: Int[Array, ""], state: State) -> Array:
    """Return the table with `state` written to row `row`."""
    offset = jnp.zeros_like(row)
    for x in jax.tree.leaves(state):
        flat = x.reshape(1, -1, x.shape[-1])
        table = lax.dynamic_update_slice(table, flat, (row, offset, jnp.zeros_like(row)))
        offset = offset + flat.shape[1]
    return table


def read_state(table: Array, row: Int[Array, ""], like: State) -> State:
    """Return the state stored in row `row`; `like` has its structure and shapes."""
    leaves, tree = jax.tree.flatten(like)
    offset, out = jnp.zeros_like(row), []
    for x in leaves:
        shape = (1, x.size // x.shape[-1], x.shape[-1])
        part = lax.dynamic_slice(table, (row, offset, jnp.zeros_like(row)), shape)
        out.append(part.reshape(x.shape))
        offset = offset + shape[1]
    return jax.tree.unflatten(tree, out)
