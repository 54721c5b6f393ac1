"""Records of the operations of a model."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from .table import aligned


@dataclasses.dataclass(frozen=True)
class LayerOperations:
    """Spikes and synaptic operations of one layer. Numbers are means over the samples."""

    name: str
    """Place in the model, for example `layers[0]`; `hidden` or `outputs` of a network."""
    type: str
    """Type of the layer, with that of its neurons in the event mode."""
    n_neurons: int
    """Number of spiking neurons; 0 for a layer without neurons, and for a readout."""
    spikes: float
    """Number of spikes of all neurons per sample."""
    sparsity: float
    """Activation sparsity: fraction of the activations that are 0; NaN without neurons. An
    activation is the output of a neuron in one time step or, in the event mode, in one sample."""
    accumulates: float
    """Number of synaptic operations per sample if all inputs are -1, 0 or 1 (ACs), otherwise 0."""
    multiplies: float
    """Number of synaptic operations per sample if there are other inputs (MACs), otherwise 0."""
    dense: float
    """Number of synaptic operations per sample if every input were active in every time step; NaN
    in the event mode, which has no time steps."""
    spike_counts: Int[np.ndarray, " samples"] = dataclasses.field(repr=False, compare=False)
    """Number of spikes of all neurons in each sample."""
    operation_counts: Float[np.ndarray, " samples"] = dataclasses.field(repr=False, compare=False)
    """Number of synaptic operations in each sample."""

    @property
    def operations(self) -> float:
        """Number of synaptic operations per sample, of both kinds."""
        return self.accumulates + self.multiplies


@dataclasses.dataclass(frozen=True)
class Operations:
    """Spikes and synaptic operations of a model: result of [`operations`][]. `print` shows a
    table."""

    layers: tuple[LayerOperations, ...]
    """Layers with neurons or synapses, in order."""
    failed: float
    """Fraction of the samples that failed in a layer. They are left out everywhere."""

    @property
    def spikes(self) -> float:
        """Number of spikes of all neurons per sample."""
        return sum(layer.spikes for layer in self.layers)

    @property
    def operations(self) -> float:
        """Number of synaptic operations per sample."""
        return sum(layer.operations for layer in self.layers)

    @property
    def accumulates(self) -> float:
        """Number of synaptic operations per sample in layers with inputs of -1, 0 or 1 (ACs)."""
        return sum(layer.accumulates for layer in self.layers)

    @property
    def multiplies(self) -> float:
        """Number of synaptic operations per sample in layers with other inputs (MACs)."""
        return sum(layer.multiplies for layer in self.layers)

    @property
    def dense(self) -> float:
        """Number of synaptic operations per sample if every input were active; NaN in the event
        mode."""
        return sum(layer.dense for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Activation sparsity of all neurons; NaN for a model without spiking neurons."""
        neurons = sum(layer.n_neurons for layer in self.layers)
        silent = (layer.n_neurons * layer.sparsity for layer in self.layers if layer.n_neurons)
        return sum(silent) / neurons if neurons else math.nan

    def __str__(self) -> str:
        header = ("layer", "type", "neurons", "spikes", "sparsity", "ACs", "MACs", "dense")
        totals = self.spikes, self.sparsity, self.accumulates, self.multiplies, self.dense
        n = sum(layer.n_neurons for layer in self.layers)
        rows = [header, *map(_row, self.layers), ("total", "", *_numbers(n, *totals))]
        text = aligned(rows, texts=2)
        return f"{text}\n{self.failed:.0%} of the samples failed" if self.failed else text


def _row(layer: LayerOperations) -> tuple[str, ...]:
    found = layer.spikes, layer.sparsity, layer.accumulates, layer.multiplies, layer.dense
    return layer.name, layer.type, *_numbers(layer.n_neurons, *found)


def _numbers(
    n: int, spikes: float, sparsity: float, accumulates: float, multiplies: float, dense: float
) -> tuple[str, ...]:
    share = "-" if math.isnan(sparsity) else f"{sparsity:.1%}"
    counts = (f"{x:,.1f}" for x in (accumulates, multiplies))
    most = "-" if math.isnan(dense) else f"{dense:,.0f}"
    return str(n), f"{spikes:,.1f}", share, *counts, most
