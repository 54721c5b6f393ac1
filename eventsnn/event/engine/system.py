"""The hybrid system that is simulated: its parts, and what one event does to it.

The event loop runs it forwards and the adjoint backwards; both read it here. Every array has
the batch as its last axis, and neurons are lifted, see [`lift`][].
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

#: Crossings closer to each other than this many units in the last place of the segment's length
#: (and of the gap) are one instant. Neurons with the same inputs in another order differ by
#: rounding, and must tie all the same.
TIE_ULPS = 16


#: States are recorded once in so many rows: a backward pass makes those between again.
BLOCK = 16


class Plan(NamedTuple):
    """What is fixed when the loop is compiled."""

    n: int
    n_sources: int
    outputs: tuple[int, ...]
    t_max: float
    max_events: int
    max_steps: int
    t_end: float  # beyond t_max, where neurons are driven until they fire
    stop_after: int | None = None  # stop a sample once every output has fired this often
    capacity: int | None = None  # so many spikes may be under way; None: there are no delays
    reading: Literal["state", "integral", "peak"] | None = None  # of the outputs, see `readout`
    keep_states: bool = False  # record the states that a backward pass starts from


class Network(NamedTuple):
    """What is shared by the samples: `weights` has two rows of zeros, for silent sources, and
    `delays` has inf there and where there is no synapse. Axonal delays have one column. In the
    event loop the neuron is lifted, see [`lift`][]."""

    flow: AbstractFlow
    neuron: AbstractNeuron
    weights: Float[Array, "sources+2 columns"]
    delays: Float[Array, "sources+2 receivers"] | None = None
    drive: Float[Array, "*neurons"] | None = None  # a current beyond t_max


class Inbound(NamedTuple):
    """One arrival a receiver within a segment, where `takes` says so."""

    takes: Bool[Array, "receivers batch"]
    wait: Float[Array, "receivers batch"]  # from the start of the segment
    charge: Float[Array, "columns batch"]


class Passage(NamedTuple):
    """A segment in which each neuron may receive something at a time of its own."""

    before: State  # where it receives, before that
    start: State  # the last leg: after that, or the start of the segment,
    dt: Float[Array, "receivers batch"]  # and how long it is
    end: State


def lift(neuron: AbstractNeuron) -> AbstractNeuron:
    """Parameters of shape (n,) as (n, 1), so that they broadcast against a batch."""
    return jax.tree.map(lambda x: x[:, None] if eqx.is_array(x) and x.ndim == 1 else x, neuron)


def driven(
    neuron: AbstractNeuron, drive: Array | None, on: Bool[Array, " batch"] | None
) -> AbstractNeuron:
    """The (lifted) neuron with the current that pseudospikes need, where it is on."""
    if drive is None or on is None:
        return neuron
    drive = drive[:, None] if drive.ndim else drive[None, None]
    return neuron.driven(lax.stop_gradient(jnp.where(on, drive, 0.0)))


def initial_state(neuron: AbstractNeuron, n: int, batch: int) -> State:
    """The state at time 0 of a batch; `neuron` is not lifted."""
    state = neuron.normalise(neuron.init_state(n))
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], batch)), state)


def jump(
    neuron: AbstractNeuron, state: State, current: Array | None, spiked: Bool[Array, "n batch"]
) -> State:
    """What an event does to the state: a weight row is received (None: there are delays, and
    nothing comes at once), a spiking neuron is reset."""
    if current is not None:
        state = receive(neuron, state, current)
    return neuron.normalise(neuron.reset(state, spiked))


def passage(
    flow: AbstractFlow, neuron: AbstractNeuron, state: State, dt: Array, inbound: Inbound
) -> Passage:
    """A segment of length `dt`; differentiable in all that is an array of floats."""
    first = jnp.where(inbound.takes, inbound.wait, 0.0)
    before = flow.advance(neuron, state, first)
    start = take_in(neuron, before, inbound)
    return Passage(before, start, dt - first, flow.advance(neuron, start, dt - first))


def take_in(neuron: AbstractNeuron, state: State, inbound: Inbound) -> State:
    """The state after what comes in."""
    ports = (neuron.ports, 1) if inbound.takes.shape[0] > 1 else (1, 1)
    charge = jnp.where(jnp.tile(inbound.takes, ports), inbound.charge, 0.0)
    return neuron.normalise(receive(neuron, state, charge))


def receive(neuron: AbstractNeuron, state: State, current: Float[Array, "columns batch"]) -> State:
    """The state after these currents have come in, port by port."""
    if neuron.ports > 1:
        current = current.reshape(neuron.ports, -1, current.shape[-1])
    return neuron.receive(state, current)


def lifts(
    flow: AbstractFlow, neuron: AbstractNeuron, before: State, after: State
) -> Bool[Array, "n batch"]:
    """Who had not crossed its threshold, and has because of what was received: it fires at once,
    at the time of the event."""
    gap, new = neuron.threshold_gap(before), neuron.threshold_gap(after)
    # At or past its threshold, but not carried through it: a pulse, or a current, carries it.
    carried = (new < gap) | flow.passes(neuron, after)
    return (new <= 0) & ((gap > 0) | (~flow.passes(neuron, before) & carried))


def tie_grain(dt: Array, speed: Array, span: Array) -> Array:
    """The rounding error of a gap at the end of a segment of length `dt`; `span` is the size of a
    gap."""
    return TIE_ULPS * jnp.finfo(dt.dtype).eps * (dt * jnp.abs(speed) + span)


def approach(neuron: AbstractNeuron, state: State, velocity: State) -> tuple[Array, Array]:
    """The gap to the threshold and the speed at which it closes."""
    gap, rate = jax.jvp(neuron.threshold_gap, (state,), (velocity,))
    return gap, -rate


def reaches(
    neuron: AbstractNeuron, state: State, velocity: State, gap: Array, speed: Array
) -> Bool[Array, "n batch"]:
    r"""Whether a neuron with a small gap is about to cross its threshold, or is past it and rising.

    To second order the gap after a time $t$ is $g - s t + \tfrac12 a t^2$ with the speed $s > 0$
    and the deceleration $a$: it has a zero if and only if $2 a g \le s^2$. A potential that
    approaches its threshold and never reaches it, $g \propto e^{-t/\tau}$, has $a g = s^2$.
    """

    def rate(state):
        return jax.jvp(neuron.threshold_gap, (state,), (neuron.drift(state),))[1]

    deceleration = jax.jvp(rate, (state,), (velocity,))[1]
    rises = speed > 0
    # As a ratio: squares could overflow.
    return rises & ((gap <= 0) | (2 * gap * (deceleration / jnp.where(rises, speed, 1.0)) <= speed))


def weight_rows(weights: Array, source: Int[Array, " batch"]) -> Float[Array, "n batch"]:
    """The row of weights of each sample's source, as a column."""
    return jnp.take(weights.T, source, axis=1, mode="clip")


def charges(weights: Array, source: Int[Array, "receivers batch"]) -> Float[Array, "cols batch"]:
    """What each receiver gets from a source of its own, port by port; with one receiver for all,
    what all neurons get from it."""
    receivers, columns = source.shape[0], weights.shape[1]
    if receivers == 1:
        return weight_rows(weights, source[0])
    column = lax.broadcasted_iota(source.dtype, (columns, source.shape[1]), 0)
    flat = jnp.tile(source, (columns // receivers, 1)) * columns + column
    return jnp.take(weights.reshape(-1), flat, mode="clip")


def state_table(rows: int, state: State) -> Float[Array, "rows components batch"]:
    """Room for that many states: one array, since XLA would fill and copy each of several."""
    leaves = jax.tree.leaves(state)
    width = sum(x.size // x.shape[-1] for x in leaves)
    return jnp.zeros((rows, width, leaves[0].shape[-1]), leaves[0].dtype)


def blocks(rows: int) -> int:
    """How many states are recorded of so many rows: that at the first row of each block."""
    return 1 + -(-rows // BLOCK)


def write_state(table: Array, row: Int[Array, ""], state: State) -> Array:
    """The table with this state in that row."""
    offset = jnp.zeros_like(row)
    for x in jax.tree.leaves(state):
        flat = x.reshape(1, -1, x.shape[-1])
        table = lax.dynamic_update_slice(table, flat, (row, offset, jnp.zeros_like(row)))
        offset = offset + flat.shape[1]
    return table


def read_state(table: Array, row: Int[Array, ""], like: State) -> State:
    """The state in that row; `like` has its structure and shapes."""
    leaves, tree = jax.tree.flatten(like)
    offset, out = jnp.zeros_like(row), []
    for x in leaves:
        shape = (1, x.size // x.shape[-1], x.shape[-1])
        part = lax.dynamic_slice(table, (row, offset, jnp.zeros_like(row)), shape)
        out.append(part.reshape(x.shape))
        offset = offset + shape[1]
    return jax.tree.unflatten(tree, out)
