"""Spikes of every layer of a model on a batch of input spikes."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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
    outputs: Bool[np.ndarray, " outputs"] | None
    """Mask of those outputs of the model that have a column here, in order; None for a hidden
    layer."""
    received: Bool[np.ndarray, "#samples"] = dataclasses.field(
        default_factory=lambda: np.ones(1, bool)
    )
    """Mask of the samples that reached the layer: they failed in none of the layers before it."""

    @property
    def good(self) -> Bool[np.ndarray, " samples"]:
        """Mask of the samples that did not fail, neither here nor in the layers before."""
        return self.received & np.asarray(is_success(jnp.asarray(self.status)))

    def failures(self) -> dict[str, float]:
        """Fraction of the samples that failed in this layer, by the name of their status."""
        failed = self.received & ~self.good
        codes = np.unique(self.status[failed])
        return {MEMBERS[code]: float(np.mean(failed & (self.status == code))) for code in codes}


def batch_for(model: Any, in_times: InTimes) -> Array:
    """Return the input spikes of a batch or of one sample.

    **Raises:** `ValueError` for a model without layers, or invalid times.
    """
    kinds = AbstractLayer | EventSequential | EventNetwork
    checks.instance("model", model, kinds, "a layer, an EventSequential or an EventNetwork")
    expected = "spike times >= 0, padded with inf, of shape (..., channels, k)"
    times = jnp.asarray(checks.numbers("in_times", in_times, expected))
    if times.ndim < 2 or not bool(jnp.all(times >= 0)):
        raise checks.value_error("in_times", in_times, expected)
    return times


def responses(model: Any, in_times: Array) -> Iterator[tuple[str, Responses]]:
    """Simulate a model layer by layer. Yield the name and the responses of each layer."""
    if isinstance(model, EventSequential):
        trains, received = in_times, np.ones(1, bool)
        for i, layer in enumerate(model.layers):
            last = i == len(model) - 1
            if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
                for name, found in responses(layer, trains):
                    outputs = found.outputs if last else None
                    known = {"received": found.received & received}
                    found = dataclasses.replace(found, outputs=outputs, **known)
                    yield _joined(f"layers[{i}]", name), found
                    received = found.good
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
        outputs=np.ones(flat.shape[1], bool),
    )


@eqx.filter_jit
def _outcome(layer: AbstractLayer, in_times: Array, count: int) -> tuple[Array, Array, Array]:
    """First spikes, numbers of spikes until t_max, and status codes."""
    out = layer._outcome(in_times, count)
    return out.times, out.counts, out.status


def _of_network(net: EventNetwork, in_times: Array) -> Iterator[tuple[str, Responses]]:
    times, sources, code = (np.asarray(x) for x in events(net, in_times))
    width, n = times.shape[-1], net.n_neurons
    times, sources = times.reshape(-1, width), sources.reshape(-1, width)
    first, counts = np.full((len(times), n), np.inf), np.zeros((len(times), n), int)
    sample, event = np.nonzero((sources >= 0) & (sources < n))
    neurons = sources[sample, event]
    np.minimum.at(first, (sample, neurons), times[sample, event])
    np.add.at(counts, (sample, neurons), 1)
    fires, outputs = ~net.neuron.never_reset(n), np.asarray(net.outputs)
    hidden = np.setdiff1d(np.flatnonzero(fires), outputs)
    if hidden.size:
        yield "hidden", Responses(first[:, hidden], counts[:, hidden], code.reshape(-1), None, None)
    if fires[outputs].any():
        firing = outputs[fires[outputs]]
        spikes = first[:, firing], counts[:, firing], code.reshape(-1)
        yield "outputs", Responses(*spikes, net.max_spikes, fires[outputs])


@eqx.filter_jit
def events(net: EventNetwork, in_times: Array) -> tuple[Array, Array, Array]:
    """Times, sources and status codes."""
    solution = net.simulate(in_times, throw=False)
    codes = [solution.status == getattr(Status, name) for name in MEMBERS]
    return solution.times, solution.sources, jnp.argmax(jnp.stack(codes), axis=0)


def _joined(outer: str, inner: str) -> str:
    return outer if inner == "layer" else f"{outer}.{inner}"
