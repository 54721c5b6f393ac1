"""The simulated sparse network: its parts, and the table of the states of its neurons."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..flows import AbstractLaneFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State
from ..state import NetworkState
from .fan import Fan

#: Number of an event that is not the arrival of a spike, or of a spike sent before time 0.
UNKNOWN = 2**30


class Setting(NamedTuple):
    """Configuration of a simulation, fixed when it is compiled.

    - `width`: number of lanes: neurons that are updated together.
    - `capacity`: maximum number of spikes of neurons in transit.
    - `max_chunks`: maximum number of chunks of a round.
    - `max_rounds`: maximum number of rounds.
    - `predicts`: predict the next spikes of all neurons, because spikes may arrive at once.
    - `window`: maximum length of a round.
    - `most`: largest number of chunks of a source or, with synaptic delays, of its synapses.
    - `max_arrivals`: maximum number of arrivals at single synapses in a round, if the delays are
        synaptic; otherwise None.
    - `keep`: record what a backward pass needs.
    """

    n: int
    n_sources: int
    outputs: tuple[int, ...]
    t_max: float
    max_events: int
    width: int
    capacity: int
    max_chunks: int
    max_rounds: int
    predicts: bool
    window: float
    most: int
    max_arrivals: int | None
    stop_after: int | None = None
    keep: bool = False

    @property
    def max_visits(self) -> int:
        """Maximum number of visits of a round."""
        many = self.max_chunks if self.max_arrivals is None else self.max_arrivals
        return many + self.n_blocks

    @property
    def n_blocks(self) -> int:
        """Number of chunks of all neurons, at the end of a round."""
        return -(-self.n // self.width)


class Network(NamedTuple):
    """The network, shared by all samples. The weights have the order of `Fan.targets`."""

    flow: AbstractLaneFlow
    neuron: AbstractNeuron
    weights: Float[Array, " synapses+width"]
    delays: Float[Array, " delays"]  # of sources or, with synaptic delays, of synapses
    fan: Fan
    gap_scale: Float[Array, " n"]  # to which the rounding error of each gap is relative


class Inputs(NamedTuple):
    """Input spikes of each sample: times at which they are sent, and their sources.

    `start` is the state at time 0; None: that of the neuron model.
    """

    times: Float[Array, "*batch inputs"]
    sources: Int[Array, "*batch inputs"]
    start: NetworkState | None


class Packing(NamedTuple):
    """Conversion between the states of neurons and rows of a table, one row per neuron.

    XLA gathers and scatters whole rows several times as fast as single components.
    """

    tree: Any

    @classmethod
    def of(cls, state: State) -> "Packing":
        """Return the packing of states of this structure."""
        return cls(jax.tree.structure(state))

    @property
    def size(self) -> int:
        """Number of components of a state."""
        return self.tree.num_leaves

    def rows(self, state: State, *more: Array) -> Float[Array, "lanes columns"]:
        """Return rows of all components of the states, followed by more columns."""
        leaves = [*jax.tree.leaves(state), *more]
        shape = jnp.broadcast_shapes(*(x.shape for x in leaves))
        return jnp.stack([jnp.broadcast_to(x, shape) for x in leaves], axis=1)

    def state(self, rows: Float[Array, "lanes columns"]) -> State:
        """Return the states in the first columns of the rows."""
        return jax.tree.unflatten(self.tree, [rows[:, k] for k in range(self.size)])


def parameters(neuron: AbstractNeuron, index: Int[Array, " lanes"]) -> AbstractNeuron:
    """Gather the parameters of the lanes; numbers after the last neuron are unused lanes."""

    def one(x):
        return x.at[index].get(mode="clip") if eqx.is_array(x) and x.ndim else x

    return jax.tree.map(one, neuron)


def rows_of(table: Array, index: Int[Array, " lanes"]) -> Float[Array, "lanes columns"]:
    """Gather the rows of lanes."""
    return table.at[index].get(mode="promise_in_bounds", unique_indices=True)


def with_rows(table: Array, index: Int[Array, " lanes"], rows: Array) -> Array:
    """Return the table with the rows of lanes replaced."""
    return table.at[index].set(rows, mode="promise_in_bounds", unique_indices=True)


def padded_rows(components: Float[Array, "n components"], setting: Setting) -> Array:
    """Table of the states of all neurons at the start of a round, with rows for unused lanes."""
    rows = jnp.pad(components, ((0, setting.width), (0, 0)), mode="edge")
    return jnp.pad(rows, ((0, 0), (0, 1)))


def initial_rows(
    network: Network, setting: Setting, start: NetworkState | None
) -> tuple[Packing, Array]:
    """Packing of the states, and the table at time 0.

    Row `j` has the state of neuron `j` at its last update, and the time of the update, from the
    start of the round. The rows after the last neuron belong to unused lanes of a chunk.
    """
    state = network.neuron.normalise(network.neuron.init_state(setting.n))
    state = state if start is None else start.neurons
    packing = Packing.of(state)
    return packing, padded_rows(packing.rows(state), setting)


def chunks_of(
    network: Network, setting: Setting, source: Int[Array, ""]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """First chunk of an event, and the chunk after its last one.

    After the chunks of the sources follow blocks of all neurons, which are the chunks of the end of
    a round, with the source `n_sources`. A neuron that fires as predicted is a chunk of its own,
    with the source `n_sources + 1` plus the index of the neuron.
    """
    last, many = setting.n_sources, network.fan.starts.size
    offsets = jnp.append(network.fan.offsets, many + setting.n_blocks)
    known = jnp.minimum(source, last)
    first, end = offsets[known], offsets[known + 1]
    if not setting.predicts:
        return first, end
    alone = many + setting.n_blocks + source - last - 1
    return jnp.where(source > last, alone, first), jnp.where(source > last, alone + 1, end)


def chunk_lanes(
    network: Network, setting: Setting, chunk: Int[Array, ""]
) -> tuple[Int[Array, " width"], Bool[Array, " width"], Float[Array, " width"]]:
    """Rows, mask and weights of the lanes of a chunk; weights are 0 unless a spike arrives."""
    fan, n, size = network.fan, setting.n, (setting.width,)
    lane = jnp.arange(setting.width, dtype=jnp.int32)
    start = first_synapse(network, setting, chunk)
    targets = jax.lax.dynamic_slice(fan.targets, (start,), size)
    weights = jax.lax.dynamic_slice(network.weights, (start,), size)
    block = chunk - fan.starts.size
    length = fan.lengths.at[chunk].get(mode="fill", fill_value=0)
    row = jnp.where(block < 0, targets, block * setting.width + lane)
    found = jnp.where(block < 0, lane < length, row < n)
    if setting.predicts:
        neuron = block - setting.n_blocks
        row = jnp.where(neuron < 0, row, neuron)
        found = jnp.where(neuron < 0, found, lane == 0)
    weights = jnp.where(lane < length, weights, 0.0)
    return jnp.where(found, row, n + lane), found, weights


def first_synapse(network: Network, setting: Setting, chunk: Int[Array, ""]) -> Int[Array, ""]:
    """Number of the first synapse of a chunk; of a chunk without synapses, after all of them."""
    none = network.weights.size - setting.width
    return network.fan.starts.at[chunk].get(mode="fill", fill_value=none)
