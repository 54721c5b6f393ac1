"""Constants of the backward pass of a sparse network, and the record of its spikes by neuron."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..neurons import AbstractNeuron
from .records import Run, Trace
from .synaptic.transit import Lists
from .system import Network, Packing, Setting, parameters


class Learnt(NamedTuple):
    """The neuron, split into the parameters that are differentiated and the others."""

    values: PyTree[Float[Array, " n"]]  # one value per neuron; None for all others
    fixed: AbstractNeuron

    def of(self, index: Int[Array, " lanes"]) -> "Learnt":
        """Gather the parameters of lanes; numbers after the last neuron are unused lanes."""
        return Learnt(parameters(self.values, index), parameters(self.fixed, index))

    def neuron(self, values: PyTree) -> AbstractNeuron:
        """Return the neuron with these values of the differentiated parameters."""
        return eqx.combine(values, self.fixed)


class Order(NamedTuple):
    """Spikes of each neuron: numbers `spikes[first[j] : first[j + 1]]` of neuron `j`."""

    spikes: Int[Array, " events"]
    first: Int[Array, " n+1"]


def order_of(setting: Setting, sources: Int[Array, " events"]) -> Order:
    """Group the spikes by neuron."""
    spikes = jnp.argsort(sources, stable=True).astype(jnp.int32)
    counts = jnp.zeros(setting.n, jnp.int32).at[sources].add(1, mode="drop")
    first = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(counts, dtype=jnp.int32)])
    return Order(spikes, first)


class Context(NamedTuple):
    """Constants of the backward pass."""

    setting: Setting
    network: Network
    packing: Packing
    learnt: Learnt
    min_speed: float
    trace: Trace
    times: Float[Array, " events"]
    sources: Int[Array, " events"]
    order: Order
    n_rounds: Int[Array, ""]
    n_steps: Int[Array, ""]
    n_spikes: Int[Array, ""]
    run: Run
    lists: Lists | None  # with synaptic delays
    # Of the present round: number of its first visit, and whether a spike was found in each visit.
    first_visit: Int[Array, ""]
    fires: Bool[Array, " visits"]


def of_round(context: Context, number: Array) -> Context:
    """Context of a round."""
    first, following = bounds(context, context.trace.first_spike, context.n_spikes, number)
    visit = lax.dynamic_slice(context.trace.visit, (first,), (context.setting.capacity,))
    count = jnp.arange(visit.size, dtype=jnp.int32)
    first_visit = context.trace.first_visit[number]
    marked = jnp.where(count < following - first, visit - first_visit, context.fires.size)
    fires = jnp.zeros_like(context.fires).at[marked].set(True, mode="drop")
    return context._replace(first_visit=first_visit, fires=fires)


def bounds(
    context: Context, first: Int[Array, " rounds"], total: Array, number: Array
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """First entry of a round, and first entry of the next round; `total` is that of all rounds."""
    after = first[jnp.minimum(number + 1, first.size - 1)]
    return first[number], jnp.where(number + 1 == context.n_rounds, total, after)
