"""State of a network between two simulations: its neurons, and the spikes in transit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .neurons import AbstractNeuron
from .neurons.base import State


class NetworkState(eqx.Module):
    """State of a network at the start or the end of a simulation.

    [`eventsnn.EventNetwork.simulate`][] continues from it.

    It is returned by [`eventsnn.EventNetwork.initial_state`][] and, as `Solution.state`, by a
    simulation that starts from a state. Its structure and shapes depend only on the network and on
    the batch, so that it can be the carry of a `jax.lax.scan`. It is a constant in derivatives.

    - `neurons`: state of all neurons, with arrays of shape `(*batch, n)`; for [`eventsnn.LIF`][],
        the potential `v` and the synaptic `current`, for [`eventsnn.Populations`][], one state per
        population.
    - `due`: mask of the neurons that fire at once, because they start at or above threshold.
    - `waits`: time until each spike in transit arrives; inf for unused entries, and for neurons
        that have received the spike or have no synapse. With axonal delays there is one receiver,
        with synaptic delays one per neuron, and without delays there are no entries. For a
        simulation in rounds with synaptic delays, there are two values per spike instead: the time
        at which it was sent, <= 0, and the delay of the last synapse that it has reached, or -1.
    - `sources`: source of each spike in transit: index of the neuron or, after them, of the input
        channel; -1 for unused entries.
    """

    neurons: State
    due: Bool[Array, "*batch n"]
    waits: Float[Array, "*batch capacity receivers"]
    sources: Int[Array, "*batch capacity"]


def initial_state(
    neuron: AbstractNeuron, shape: tuple[int, int, int], batch: tuple[int, ...], dtype: Any
) -> NetworkState:
    """State of a batch at time 0. `shape` is `(n, capacity, receivers)`."""
    n, capacity, receivers = shape
    neurons = neuron.normalise(neuron.init_state(n))
    state = NetworkState(
        neurons=neurons,
        due=neuron.threshold_gap(neurons) <= 0,
        waits=jnp.full((capacity, receivers), jnp.inf, dtype),
        sources=jnp.full(capacity, -1, jnp.int32),
    )
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*batch, *x.shape)), state)


def in_transit(
    waits: Float[Array, "receivers spikes batch"],
    sources: Int[Array, "spikes batch"],
    capacity: int,
) -> tuple[Array, Array, Bool[Array, " batch"]]:
    """Return the spikes with arrivals, sorted by their first arrival, in `capacity` entries.

    Also returns a mask of the samples with more spikes than entries.
    """
    missing = max(capacity - sources.shape[0], 0)
    waits = jnp.pad(waits, ((0, 0), (0, missing), (0, 0)), constant_values=jnp.inf)
    sources = jnp.pad(sources, ((0, missing), (0, 0)))
    first = jnp.min(waits, axis=0)
    order = jnp.argsort(first, axis=0, stable=True)
    waits = jnp.take_along_axis(waits, order[None], axis=1)[:, :capacity]
    sources = jnp.take_along_axis(sources, order, axis=0)[:capacity]
    sources = jnp.where(jnp.min(waits, axis=0) < jnp.inf, sources, -1)
    many = jnp.sum(first < jnp.inf, axis=0)
    return waits, sources.astype(jnp.int32), many > capacity
