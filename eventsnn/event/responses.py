"""Spikes of every layer of a model on a batch of input spikes."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import checks
from .layers import AbstractLayer, EventSequential
from .layers.base import InTimes
from .network import EventNetwork
from .solution import MEMBERS, Status, is_success

# Number of spikes per neuron that are counted in a layer without `max_spikes`.
_COUNTED = 100


@dataclasses.dataclass(frozen=True)
class Responses:
    """First spikes and numbers of spikes of the neurons of one layer, one row per sample."""

    first: Float[np.ndarray, "samples n"]
    counts: Int[np.ndarray, "samples n"]
    status: Int[np.ndarray, " samples"]
    limit: int | None

    @property
    def good(self) -> np.ndarray:
        """Mask of the samples that did not fail."""
        return np.asarray(is_success(jnp.asarray(self.status)))


def batch_for(model: Any, in_times: InTimes) -> Array:
    """Return the input spikes of a batch. Raise for a model without layers, or invalid times."""
    kinds = AbstractLayer | EventSequential | EventNetwork
    checks.instance("model", model, kinds, "a layer, an EventSequential or an EventNetwork")
    expected = "spike times >= 0, padded with inf, with a batch axis"
    times = jnp.asarray(checks.numbers("in_times", in_times, expected))
    if times.ndim < 3 or not bool(jnp.all(times >= 0)):
        raise checks.value_error("in_times", in_times, expected)
    return times


def responses(model: Any, in_times: Array) -> Iterator[tuple[str, Responses]]:
    """Simulate a model layer by layer. Yield the name and the responses of each layer."""
    if isinstance(model, EventSequential):
        trains = in_times
        for i, layer in enumerate(model.layers):
            last = i == len(model) - 1
            if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
                for name, found in responses(layer, trains):
                    yield _joined(f"layers[{i}]", name), found
            if not last:
                trains = next_trains(layer, trains)
    elif isinstance(model, EventNetwork):
        yield from _of_network(model, in_times)
    elif not model._is_readout():
        yield "layer", _of_layer(model, in_times)


@eqx.filter_jit
def next_trains(layer: Any, in_times: Array) -> Array:
    """Return the spike trains of a layer, or of a function."""
    if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
        return layer(in_times, throw=False)
    return layer(in_times)


def _of_layer(layer: AbstractLayer, in_times: Array) -> Responses:
    count = _COUNTED if layer.max_spikes is None else layer.max_spikes
    times, counts, status = _outcome(layer, in_times, count)
    flat = np.asarray(times[..., 0]).reshape(status.size, -1)
    late = flat > layer.t_max  # a pseudospike
    return Responses(
        first=np.where(late, np.inf, flat),
        counts=np.asarray(counts).reshape(flat.shape),
        status=np.asarray(status).reshape(-1),
        limit=layer.max_spikes,
    )


@eqx.filter_jit
def _outcome(layer: AbstractLayer, in_times: Array, count: int) -> tuple[Array, Array, Array]:
    """First spikes, numbers of spikes until t_max, and status codes."""
    out = layer._outcome(in_times, count)
    return out.times, out.counts, out.status


def _of_network(net: EventNetwork, in_times: Array) -> Iterator[tuple[str, Responses]]:
    times, sources, code = (np.asarray(x) for x in _events(net, in_times))
    width, n = times.shape[-1], net.n_neurons
    times, sources = times.reshape(-1, width), sources.reshape(-1, width)
    first, counts = np.full((len(times), n), np.inf), np.zeros((len(times), n), int)
    sample, event = np.nonzero((sources >= 0) & (sources < n))
    neurons = sources[sample, event]
    np.minimum.at(first, (sample, neurons), times[sample, event])
    np.add.at(counts, (sample, neurons), 1)
    fires = ~net.neuron.never_reset(n)
    outputs = np.isin(np.arange(n), net.outputs)
    for name, mask in (("hidden", fires & ~outputs), ("outputs", fires & outputs)):
        if mask.any():
            limit = net.max_spikes if name == "outputs" else None
            yield name, Responses(first[:, mask], counts[:, mask], code.reshape(-1), limit)


@eqx.filter_jit
def _events(net: EventNetwork, in_times: Array) -> tuple[Array, Array, Array]:
    """Times, sources and status codes."""
    solution = net.simulate(in_times, throw=False)
    codes = [solution.status == getattr(Status, name) for name in MEMBERS]
    return solution.times, solution.sources, jnp.argmax(jnp.stack(codes), axis=0)


def _joined(outer: str, inner: str) -> str:
    return outer if inner == "layer" else f"{outer}.{inner}"
