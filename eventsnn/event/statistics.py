"""Activity of each layer of a model on a batch of input spikes."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from .layers import AbstractLayer, EventSequential
from .layers.base import InTimes
from .network import EventNetwork
from .responses import Responses, batch_for, responses


@dataclasses.dataclass(frozen=True)
class LayerActivity:
    """Activity of the neurons of one layer.

    A *response* is one neuron in one sample. Samples that fail do not contribute. If all samples
    fail, the fractions and means are NaN.
    """

    name: str
    """`layers[i]`, or `hidden` and `outputs` of a network."""
    n_neurons: int
    """Number of neurons."""
    silent: float
    """Fraction of the responses without a spike."""
    dead: float
    """Fraction of the neurons that are silent in all samples that do not fail."""
    spikes: float
    """Mean number of spikes of a response."""
    max_spikes: int
    """Largest number of spikes of a response, at most one more than the limit of the layer."""
    saturated: float
    """Fraction of the responses that reach the limit `max_spikes` of the layer; 0 without limit."""
    first_spike: tuple[float, float, float]
    """Quantiles 0.05, 0.5 and 0.95 of the time to first spike; NaN without a spike."""
    failed: dict[str, float]
    """Fraction of the samples that failed in this layer, by the name of their status."""
    counts: Int[np.ndarray, "samples neurons"] = dataclasses.field(repr=False, compare=False)
    """Number of spikes of each response."""
    first_spikes: Float[np.ndarray, "samples neurons"] = dataclasses.field(
        repr=False, compare=False
    )
    """Time to first spike of each response, inf without a spike."""


@dataclasses.dataclass(frozen=True)
class Activity:
    """Activity of a model, layer by layer: result of [`activity`][]. `print` shows a table.

    A row of dashes means that all samples failed in this layer or before it. The lines below the
    table name the status of the failed samples.
    """

    layers: tuple[LayerActivity, ...]
    """Activity of each layer, in order."""

    @property
    def counts(self) -> dict[str, Int[np.ndarray, "samples neurons"]]:
        """Number of spikes of each response, by the name of the layer."""
        return {layer.name: layer.counts for layer in self.layers}

    @property
    def first_spikes(self) -> dict[str, Float[np.ndarray, "samples neurons"]]:
        """Time to first spike of each response, by the name of the layer."""
        return {layer.name: layer.first_spikes for layer in self.layers}

    def __iter__(self) -> Iterator[LayerActivity]:
        return iter(self.layers)

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def __getitem__(self, index: int) -> LayerActivity:
        """Return the activity of one layer."""
        return self.layers[index]

    def __str__(self) -> str:
        header = ("layer", "neurons", "silent", "dead", "spikes", "max", "saturated", "first spike")
        rows = [header, *(_row(layer) for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in rows]
        for layer in self.layers:
            for status, share in layer.failed.items():
                lines.append(f"{layer.name}: {share:.0%} of the samples failed: {status}")
        return "\n".join(lines)


def activity(model: AbstractLayer | EventSequential | EventNetwork, in_times: InTimes) -> Activity:
    """Count the spikes of every layer of a model.

    ```python
    print(esn.activity(model, in_times))
    #     layer  neurons  silent  dead  spikes  max  saturated  first spike
    # layers[0]      100     54%    8%    1.54   10         0%          7.2
    ```

    [`eventsnn.plots.activity`][] shows the same as a figure.

    Of each layer it reports the share of silent neurons, the number of spikes, the times of the
    first spikes, and the samples that fail. Readouts, which never fire, are left out. A failed
    sample is left out of the layers after it.

    **Arguments:**

    - `model`: an [`eventsnn.EventSequential`][], a layer, or an [`eventsnn.EventNetwork`][].
        The neurons of a network form two layers: `hidden` and `outputs`.
    - `in_times`: input spikes of the model, of one sample or with batch axes.

    **Returns:** an [`Activity`][].

    **Raises:** `ValueError` for another model, or `in_times` of another shape.
    """
    found = responses(model, batch_for(model, in_times))
    return Activity(tuple(_activity_of(*each) for each in found))


def _activity_of(name: str, found: Responses) -> LayerActivity:
    """Statistics of the responses of one layer."""
    counts, first = found.counts[found.good], found.first[found.good]
    fired = counts > 0
    times = first[fired] if fired.any() else np.array([np.nan])
    low, middle, high = (float(x) for x in np.quantile(times, (0.05, 0.5, 0.95)))
    full = np.zeros(1, bool) if found.limit is None else counts >= found.limit
    return LayerActivity(
        name=name,
        n_neurons=counts.shape[1],
        silent=_mean(~fired),
        dead=_mean(~fired.any(axis=0)) if len(fired) else math.nan,
        spikes=_mean(counts),
        max_spikes=int(counts.max(initial=0)),
        saturated=_mean(full),
        first_spike=(low, middle, high),
        failed=found.failures(),
        counts=counts,
        first_spikes=first,
    )


def _row(layer: LayerActivity) -> tuple[str, ...]:
    """Cells of the table; dashes if there are no samples that do not fail."""
    if math.isnan(layer.spikes):
        return layer.name, str(layer.n_neurons), *["-"] * 6
    shares = (f"{x:.0%}" for x in (layer.silent, layer.dead))
    spikes = f"{layer.spikes:.3g}", str(layer.max_spikes), f"{layer.saturated:.0%}"
    return layer.name, str(layer.n_neurons), *shares, *spikes, f"{layer.first_spike[1]:.3g}"


def _mean(x: Any) -> float:
    return float(np.mean(x)) if np.size(x) else math.nan
