"""The simulated layer: its parts, and the lanes of its neurons."""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..flows.base import AbstractLaneFlow
from ..inputs import without_subnormals
from ..neurons import AbstractNeuron
from ..neurons.base import State, drivable
from ..solution import CODE, RUNNING
from .order import ordered

#: Number of rows in a block: the state at its first row is stored for a backward pass.
BLOCK = 16
#: Number of lanes that are computed together.
CHUNK = 128


class Setting(NamedTuple):
    """Configuration of a simulation, fixed when it is compiled."""

    n: int
    n_in: int
    t_max: float
    max_spikes: int  # number of spikes of each lane that are returned
    # Spikes after which a lane is not simulated further; None: no limit. With `max_spikes + 1`, a
    # lane that fires more often than `max_spikes` is detected.
    stop_after: int | None
    max_rows: int
    t_end: float  # end of the simulation: t_max, or later with pseudospikes
    keep: Literal["nothing", "spikes", "states"] = "nothing"  # for a backward pass

    @property
    def stops(self) -> bool:
        """True if a sample ends when every lane has fired as often as needed."""
        return self.stop_after == self.max_spikes


class Arrivals(NamedTuple):
    """Input spikes of each sample, sorted by time and padded with inf."""

    times: Float[Array, "*batch arrivals"]
    channels: Int[Array, "*batch arrivals"]


def arrivals_of(in_times: Float[Array, "inputs k"]) -> Arrivals:
    """Sort the input spikes of one sample. There is at least one time, which may be inf."""
    if in_times.shape[1] == 0:
        in_times = jnp.full((len(in_times), 1), jnp.inf, in_times.dtype)
    order = ordered(without_subnormals(in_times))
    return Arrivals(order.times, jnp.minimum(order.entries // in_times.shape[1], len(in_times) - 1))


def initial_status(
    neuron: AbstractNeuron,
    arrays: PyTree[Float[Array, "..."]],
    times: Float[Array, "batch arrivals"],
) -> Int[Array, " batch"]:
    """Status codes at the start of a simulation: `RUNNING`, or a failure.

    `arrays` are the weights and any other arrays that must be finite.
    """
    leaves = [x for x in jax.tree.leaves((neuron, arrays)) if eqx.is_inexact_array(x)]
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
    good = jnp.all((jnp.isfinite(times) & (times >= 0)) | (times == jnp.inf), axis=1)
    status = jnp.where(good, RUNNING, CODE["invalid_input"])
    status = jnp.where(neuron.parameters_valid(), status, CODE["invalid_parameters"])
    return jnp.where(finite, status, CODE["not_finite"]).astype(jnp.int32)


class Layer(NamedTuple):
    """The layer, shared by all samples. The last row of `weights` is zero: no arrival."""

    flow: AbstractLaneFlow
    neuron: AbstractNeuron
    weights: Float[Array, "sources n"]
    gap_scale: Float[Array, " n"]  # to which the rounding error of each gap is relative
    drive: Float[Array, "*n"] | None  # pseudospikes: constant current after t_max

    def scale_of(self, lanes: "Lanes") -> Float[Array, " lanes"]:
        """Gather the scales of the gaps of the lanes."""
        return jnp.broadcast_to(self.gap_scale, self.weights.shape[1:])[lanes.neuron]

    def current(self, past: Bool[Array, " batch"]) -> Float[Array, "batch n"] | None:
        """Return the current of pseudospikes; `past` marks the samples after t_max."""
        if self.drive is None:
            return None
        drive = jnp.broadcast_to(self.drive, self.weights.shape[1:])
        return jnp.where(past[:, None], drive, 0.0)


def driven(neuron: AbstractNeuron, current: Array | None) -> AbstractNeuron:
    """Return the neuron with a constant current, which has no gradient; None: no current."""
    return neuron if current is None else drivable(neuron).with_current(lax.stop_gradient(current))


class Rows(NamedTuple):
    """Rows of a sweep over the arrivals, in each sample. A row ends at an arrival, or without one.

    `dt` is the length of the row, `end` the time of its end, `source` the channel of the arrival
    at its end or, without an arrival, the number of channels, and `number` the number of the
    arrival, from 0. `past` marks the rows after t_max.
    """

    dt: Float[Array, "rows batch"]
    end: Float[Array, "rows batch"]
    source: Int[Array, "rows batch"]
    number: Int[Array, "rows batch"]
    past: Bool[Array, "rows batch"]


class Spikes(NamedTuple):
    """Spikes of all lanes, the first `max_spikes` of each.

    - `times`: times of the spikes, padded with inf.
    - `row`: row in which each spike lies, -1 for none.
    - `before`: state at each spike, before the reset.

    `row` and `before` are empty without a backward pass.
    """

    times: Float[Array, "batch n spikes"]
    row: Int[Array, "batch n recorded"]
    before: State


class Lanes(NamedTuple):
    """Chunk of lanes. Their entries of a table of shape (batch, n, ...) are gathered by `of`."""

    sample: Int[Array, " lanes"]
    neuron: Int[Array, " lanes"]
    found: Bool[Array, " lanes"]  # false for the unused lanes of a chunk

    def of(self, tree: Any) -> Any:
        """Gather the entries of the lanes."""
        return jax.tree.map(lambda x: x[self.sample, self.neuron], tree)

    def of_sample(self, x: Array) -> Array:
        """Gather the values of the lanes' samples."""
        return x[self.sample]

    def parameters(self, neuron: AbstractNeuron) -> AbstractNeuron:
        """Gather the parameters of the lanes, of shape (n,) or (batch, n)."""

        def one(x):
            if not eqx.is_array(x) or x.ndim == 0:
                return x
            return x[self.neuron] if x.ndim == 1 else x[self.sample, self.neuron]

        return jax.tree.map(one, neuron)

    def put(self, table: Any, values: Any) -> Any:
        """Return the table with the values of the lanes."""
        sample = self._rows(table, self.found)

        def one(table, value):
            at = table.at[sample, self.neuron]
            return at.set(value, mode="drop", unique_indices=True)

        return jax.tree.map(one, table, values)

    def put_at(self, table: Any, index: Array, values: Any, where: Array) -> Any:
        """Like `put`, for the lanes in `where`, at the entry `index` of the table's third axis."""
        sample = self._rows(table, self.found & where)

        def one(table, value):
            at = table.at[sample, self.neuron, index]
            return at.set(value, mode="drop", unique_indices=True)

        return jax.tree.map(one, table, values)

    def _rows(self, table: Any, valid: Array) -> Array:
        """First index of each lane in the table; out of bounds for the others."""
        return jnp.where(valid, self.sample, jax.tree.leaves(table)[0].shape[0])


def summed(cotangents: Float[Array, "batch n"], like: Array) -> Array:
    """Sum over the batch and, for a scalar parameter, over the neurons."""
    return jnp.sum(cotangents, axis=None if like.ndim == 0 else 0)
