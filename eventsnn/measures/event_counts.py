"""Spikes and synaptic operations of the event mode."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from ..event import AbstractLayer, EventConv2d, EventLinear, EventNetwork, EventSequential
from ..event.responses import events, next_trains
from ..event.solution import is_success
from .records import LayerOperations
from .walk import joined, type_of


class _Counts(NamedTuple):
    """Counts of one layer, with one row per sample."""

    name: str
    type: str
    spikes: Int[np.ndarray, "samples neurons"]
    operations: Int[np.ndarray, " samples"]
    good: Bool[np.ndarray, " samples"]
    """False for a sample that fails in this layer."""


def event_operations(model: Any, in_times: Array) -> tuple[tuple[LayerOperations, ...], float]:
    """Operations of each layer, and the fraction of the samples that fail in a layer."""
    found = list(_layers(model, "", in_times))
    good = np.all([counts.good for counts in found], axis=0)
    return tuple(_means(counts, good) for counts in found), float(np.mean(~good))


def _layers(model: Any, name: str, in_times: Array) -> Iterator[_Counts]:
    """Simulate a model layer by layer."""
    if isinstance(model, EventSequential):
        trains = in_times
        for i, layer in enumerate(map(_without_pseudospikes, model.layers)):
            if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
                yield from _layers(layer, joined(name, f".layers[{i}]"), trains)
            if i < len(model) - 1:
                trains = next_trains(layer, trains)
    elif isinstance(model, EventNetwork):
        _check_shape(in_times, (model.n_inputs,), name)
        yield from _of_network(model, name, in_times)
    else:
        _check_shape(in_times, _channels(model), name)
        yield _of_layer(_without_pseudospikes(model), name or "layer", in_times)


def _without_pseudospikes(layer: Any) -> Any:
    """Return a layer without pseudospikes, which are not spikes until `t_max`."""
    if getattr(layer, "pseudospikes", None) is None:
        return layer
    return eqx.tree_at(lambda layer: layer.pseudospikes, layer, None)


def _of_layer(layer: AbstractLayer, name: str, in_times: Array) -> _Counts:
    """Counts of a layer. Its spikes are those that it returns, so at most `max_spikes`."""
    times = np.asarray(in_times)
    n = len(times)
    good = np.asarray(~np.isnan(times).reshape(n, -1).any(axis=1))
    operations = _operations(layer, np.sum(times <= layer.t_max, axis=-1))
    if layer._is_readout():
        spikes = np.zeros((n, 0), int)
    elif layer.max_spikes is not None:
        out = np.asarray(next_trains(layer, in_times)).reshape(n, -1, layer.max_spikes)
        good &= ~np.isnan(out).any(axis=(1, 2))
        spikes = np.sum(out <= layer.t_max, axis=-1)
    else:
        spikes = np.asarray(layer.counts(in_times, throw=False)).reshape(n, -1)
        good &= (spikes >= 0).all(axis=1)
    return _Counts(name, type_of(layer), spikes, operations, good)


def _operations(layer: AbstractLayer, received: Int[np.ndarray, "samples ..."]) -> np.ndarray:
    """Number of synaptic operations, given the number of spikes that each channel receives."""
    if isinstance(layer, EventConv2d):
        mask = np.ones(layer.kernel.shape) if layer.mask is None else np.asarray(layer.mask)
        pads = [(p, p) for p in layer.padding]
        weighted = jnp.asarray(received, float), jnp.asarray(mask, float)
        sums = lax.conv_general_dilated(*weighted, layer.stride, pads)  # in each neuron
        return np.sum(np.asarray(sums, np.int64), axis=(1, 2, 3))
    return received @ _existing(layer).sum(axis=1)


def _of_network(net: EventNetwork, name: str, in_times: Array) -> Iterator[_Counts]:
    """Counts of the neurons that are no outputs, and of the outputs."""
    times, sources, code = (np.asarray(x) for x in events(net, in_times))
    net = net.as_dense()
    n, outputs = net.n_neurons, np.isin(np.arange(net.n_neurons), net.outputs)
    sent = np.zeros((len(times), len(net.matrix)), int)
    sample, event = np.nonzero((sources >= 0) & (sources < len(net.matrix)) & (times <= net.t_max))
    np.add.at(sent, (sample, sources[sample, event]), 1)
    good, fires = np.asarray(is_success(jnp.asarray(code))), ~net.neuron.never_reset(n)
    for part, chosen in (("hidden", ~outputs), ("outputs", outputs)):
        if chosen.any():
            synapses = _existing(net)[:, np.tile(chosen, net.neuron.receptors)].sum(axis=1)
            spikes = sent[:, :n][:, chosen & fires]
            yield _Counts(joined(name, f".{part}"), type_of(net), spikes, sent @ synapses, good)


def _existing(layer: Any) -> Bool[np.ndarray, "sources columns"]:
    """Mask of the existing synapses."""
    shape = layer.weights.shape
    return np.ones(shape, bool) if layer.mask is None else np.asarray(layer.mask)


def _means(counts: _Counts, good: Bool[np.ndarray, " samples"]) -> LayerOperations:
    """Means over the samples that succeed in all layers."""
    spikes, operations = counts.spikes[good], counts.operations[good]
    return LayerOperations(
        name=counts.name,
        type=counts.type,
        n_neurons=spikes.shape[1],
        spikes=float(np.mean(spikes.sum(axis=1))) if good.any() else math.nan,
        sparsity=float(np.mean(spikes == 0)) if spikes.size else math.nan,
        accumulates=float(np.mean(operations)) if good.any() else math.nan,
        multiplies=0.0,
        dense=math.nan,
        spike_counts=spikes.sum(axis=1),
        operation_counts=operations,
    )


def _channels(layer: AbstractLayer) -> tuple[int | None, ...]:
    """Sizes of the axes of the input channels; None for any size."""
    if isinstance(layer, EventLinear):
        return (layer.n_inputs,)
    if isinstance(layer, EventConv2d):
        return layer.kernel.shape[1], None, None
    raise ValueError(f"model must have layers with known synapses, got {type_of(layer)}.")


def _check_shape(in_times: Array, channels: tuple[int | None, ...], name: str) -> None:
    """Raise unless spike trains have one batch axis and these channels."""
    sizes = ("samples", *(n or "any" for n in channels), "k")
    pairs = zip(in_times.shape[1:], channels, strict=False)
    if in_times.ndim != len(sizes) or any(m not in (n, None) for n, m in pairs):
        place = f" of {name}" if name else ""
        expected = f"({', '.join(map(str, sizes))})"
        raise ValueError(f"inputs{place} must have shape {expected}, got shape {in_times.shape}.")
