"""Plots of the activity of layers."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import ArrayLike, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import (
    INK,
    MODEL,
    TARGET,
    axis_labels,
    headline,
    mapping,
    new_figure,
    numbers,
    same_shape,
    texts,
    whole_ticks,
)

# Largest number of bars of a histogram.
_BARS = 20


def activity(
    counts: Mapping[str, Real[ArrayLike, "samples neurons"]],
    first_spikes: Mapping[str, Real[ArrayLike, "samples neurons"]],
    *,
    title: str = "",
) -> Figure:
    """Plot the activity of each layer: numbers of spikes, first spikes, and active neurons.

    A response is one neuron in one sample. Each layer has three panels: the share of the responses
    with 0, 1, 2, ... spikes (responses without a spike in another colour); the share of the
    responses per time of the first spike; and, for each neuron, the share of the samples in which
    it fires. Neurons are sorted by this share; at 0 a neuron is dead.

    ```python
    found = esn.activity(model, in_times)
    esn.plots.activity(found.counts, found.first_spikes)
    ```

    **Arguments:**

    - `counts`: number of spikes of each response, by the name of the layer.
    - `first_spikes`: time to first spike of each response (ms), by the same names. `inf` means no
        spike.
    - `title`: title of the figure. Default: none.

    **Raises:** `ValueError` for mappings that are empty or have different names, and for arrays
    that do not have the same shape (samples, neurons).
    """
    mapping("counts", counts)
    mapping("first_spikes", first_spikes)
    texts(title=title)
    if not counts or list(counts) != list(first_spikes):
        raise ValueError(
            "counts and first_spikes must have the same names, and at least one, "
            f"got {list(counts)} and {list(first_spikes)}."
        )
    figure = new_figure(8.4, 0.6 + 2.0 * len(counts))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    rows = figure.subplots(len(counts), 3, squeeze=False)
    for row, (name, value) in zip(rows, counts.items(), strict=True):
        number = numbers(f"counts[{name!r}]", value, "samples, neurons")
        first = numbers(f"first_spikes[{name!r}]", first_spikes[name], "samples, neurons")
        same_shape(**{f"counts[{name!r}]": number, f"first_spikes[{name!r}]": first})
        _numbers_of_spikes(row[0], number)
        _first_spikes(row[1], first)
        _active_samples(row[2], number)
        headline(row[0], f"{name}, {number.shape[1]} neuron{'s' * (number.shape[1] > 1)}")
    for axes, label in zip(rows[-1], ("spikes", "first spike (ms)", "neuron, sorted"), strict=True):
        axes.set_xlabel(label, color=INK)
    return figure


def _numbers_of_spikes(axes: Axes, counts: np.ndarray):
    """Histogram of the numbers of spikes; wide if the numbers are large."""
    width = max(1, int(np.ceil(counts.max() / _BARS)))
    edges = np.append(-0.5, np.arange(0.5, counts.max() + width, width))
    share = np.histogram(counts, edges)[0] / counts.size
    colours = [TARGET] + [MODEL] * (len(share) - 1)
    axes.bar(edges[:-1], share, np.diff(edges), align="edge", color=colours, edgecolor="white")
    if share[0]:
        axes.text(0.6 * width, share[0], "silent", va="top", color=TARGET)
    whole_ticks(axes.xaxis, 6)
    axis_labels(axes, "", "share of responses")


def _first_spikes(axes: Axes, first: np.ndarray):
    """Histogram of the times of the first spikes."""
    fired = first[np.isfinite(first)]
    if fired.size:
        share, edges = np.histogram(fired, _BARS)
        axes.bar(edges[:-1], share / first.size, np.diff(edges), align="edge", color=MODEL)
    else:
        axes.text(0.5, 0.5, "no spikes", transform=axes.transAxes, ha="center", color=INK)
    axis_labels(axes, "", "share of responses")


def _active_samples(axes: Axes, counts: np.ndarray):
    """Share of the samples in which each neuron fires, in ascending order."""
    share = np.sort((counts > 0).mean(axis=0))
    dead = int((share == 0).sum())
    axes.fill_between(
        np.arange(len(share) + 1), np.append(share, share[-1]), step="post", color=MODEL
    )
    if dead:
        axes.axvspan(0, dead, color=TARGET, alpha=0.25, linewidth=0)
        axes.text(0, 0.97, " dead", va="top", color=TARGET)
    axes.set(xlim=(0, len(share)), ylim=(0, 1.02))
    whole_ticks(axes.xaxis, 6)
    axis_labels(axes, "", "share of samples")
