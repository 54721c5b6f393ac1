"""The hybrid system that is simulated: its parts, and what one event does to it.

The event loop runs it forwards and the adjoint backwards; both read it here. Every array has
the batch as its last axis, and neurons are lifted, see [`lift`][].
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .flows import AbstractFlow
from .neurons import AbstractNeuron
from .neurons.base import State


class Plan(NamedTuple):
    """What is fixed when the loop is compiled."""

    n: int
    n_sources: int
    outputs: tuple[int, ...]
    t_max: float
    max_events: int
    max_steps: int
    stop_after: int | None = None  # stop a sample once every output has fired this often
    observe: bool = False  # record what the outputs show
    keep_states: bool = False  # record the states that a backward pass starts from


class Network(NamedTuple):
    """What is shared by the samples: `weights` has two rows of zeros, for silent sources."""

    flow: AbstractFlow
    neuron: AbstractNeuron
    weights: Float[Array, "sources+2 n"]


def lift(neuron: AbstractNeuron) -> AbstractNeuron:
    """Parameters of shape (n,) as (n, 1), so that they broadcast against a batch."""
    return jax.tree.map(lambda x: x[:, None] if eqx.is_array(x) and x.ndim == 1 else x, neuron)


def initial_state(neuron: AbstractNeuron, n: int, batch: int) -> State:
    """The state at time 0 of a batch; `neuron` is not lifted."""
    state = neuron.normalise(neuron.init_state(n))
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], batch)), state)


def jump(
    neuron: AbstractNeuron, state: State, current: Array, spiked: Bool[Array, "n batch"]
) -> State:
    """What an event does to the state: a weight row is received, a spiking neuron is reset."""
    return neuron.normalise(neuron.reset(receive(neuron, state, current), spiked))


def receive(neuron: AbstractNeuron, state: State, current: Float[Array, "columns batch"]) -> State:
    """The state after these currents have come in, port by port."""
    if neuron.ports > 1:
        current = current.reshape(neuron.ports, -1, current.shape[-1])
    return neuron.receive(state, current)


def lifted_by_jump(
    neuron: AbstractNeuron, before: State, after: State, spiked: Bool[Array, "n batch"]
) -> Bool[Array, "n batch"]:
    """Who was below threshold and is at or over it because of what was received: it fires at
    once, at the time of the event."""
    below, over = neuron.threshold_gap(before) > 0, neuron.threshold_gap(after) <= 0
    return ~spiked & below & over


def approach(neuron: AbstractNeuron, state: State, velocity: State) -> tuple[Array, Array]:
    """The gap to the threshold and the speed at which it closes."""
    gap, rate = jax.jvp(neuron.threshold_gap, (state,), (velocity,))
    return gap, -rate


def weight_rows(weights: Array, source: Int[Array, " batch"]) -> Float[Array, "n batch"]:
    """The row of weights of each sample's source, as a column."""
    return jnp.take(weights.T, source, axis=1, mode="clip")


def state_table(rows: int, state: State) -> Float[Array, "rows components batch"]:
    """Room for that many states: one array, since XLA would fill and copy each of several."""
    leaves = jax.tree.leaves(state)
    width = sum(x.size // x.shape[-1] for x in leaves)
    return jnp.zeros((rows, width, leaves[0].shape[-1]), leaves[0].dtype)


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
