"""Figures of a network of excitatory and inhibitory neurons."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import plots
from ...plots import style

__all__ = ["distributions", "raster"]

# Number of neurons that a raster shows, and longest time that it shows (ms).
_N_SHOWN = 100
_T_SHOWN = 500.0
# Number of bins of a histogram.
_N_BINS = 25
_COLOURS = {"excitatory": plots.MODEL, "inhibitory": plots.TARGET}


def raster(
    times: Float[np.ndarray, " spikes"],
    sources: Int[np.ndarray, " spikes"],
    n: int,
    n_excitatory: int,
    edges: Float[np.ndarray, " bins+1"],
    counts: Int[np.ndarray, " bins"],
    end: float,
) -> Figure:
    """Draw the spikes of some neurons, and the mean rate of all neurons over time below.

    **Arguments:**

    - `times`, `sources`: times (ms) and neurons of the spikes.
    - `n`, `n_excitatory`: number of neurons, and of excitatory neurons, which come first.
    - `edges`: edges of the bins (ms).
    - `counts`: number of spikes of all neurons in each bin.
    - `end`: end of the simulation (ms).
    """
    figure = style.new_figure(6.4, 5.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    shown = np.unique(np.linspace(0, n - 1, min(n, _N_SHOWN)).round().astype(int))
    place = np.full(n, -1)
    place[shown] = np.arange(len(shown))
    rows, excites = place[sources], sources < n_excitatory
    drawn = (rows >= 0) & (times <= edges[0] + _T_SHOWN)
    for (name, colour), kind in zip(_COLOURS.items(), (excites, ~excites), strict=True):
        own = drawn & kind
        low, high = rows[own] - 0.45, rows[own] + 0.45
        above.vlines(times[own], low, high, colour, linewidth=0.9, label=name)
    above.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    above.set_ylim(-0.7, len(shown) - 0.3)
    style.axis_labels(above, "", f"neuron ({len(shown)} of {n})")
    within = edges[1:] <= edges[0] + _T_SHOWN * (1 + 1e-9)
    edges = edges[np.append(True, within)]
    rate = 1e3 * counts[within] / (n * np.diff(edges))
    below.stairs(rate, edges, color=style.INK, linewidth=1.0)
    below.set_ylim(bottom=0)
    below.set_xlim(edges[0], min(end, edges[0] + _T_SHOWN))
    style.axis_labels(below, "time (ms)", "mean rate (Hz)")
    figure.align_ylabels()
    return figure


def distributions(
    rates: Float[np.ndarray, "trials n"],
    cvs: Float[np.ndarray, "trials n"],
    n_excitatory: int,
    resolution: float,
) -> Figure:
    """Draw the distributions of the firing rates and of the irregularity over the neurons.

    **Arguments:**

    - `rates`: firing rate of each neuron in each trial (Hz).
    - `cvs`: coefficient of variation of its intervals between spikes; NaN values are left out.
    - `n_excitatory`: number of excitatory neurons, which come first.
    - `resolution`: rate of a neuron that fires once (Hz). Rates are multiples of it, and so are the
        widths of their bins.
    """
    figure = style.new_figure(6.4, 3.2)
    left, right = figure.subplots(1, 2)
    width = resolution * max(1.0, np.ceil(np.max(rates) / (_N_BINS * resolution)))
    bins = -resolution / 2 + width * np.arange(np.max(rates) // width + 2)
    _histograms(left, rates, n_excitatory, bins)
    style.axis_labels(left, "firing rate (Hz)", "share of the neurons")
    left.legend(frameon=False, fontsize=8)
    finite = cvs[np.isfinite(cvs)]
    bins = np.linspace(0, max(np.max(finite, initial=0.0), 1.5), _N_BINS + 1)
    _histograms(right, cvs, n_excitatory, bins)
    right.axvline(1.0, color=style.MUTED, linewidth=1.0, linestyle="--")
    right.text(
        1.0,
        1.01,
        "Poisson process",
        color=style.MUTED,
        fontsize=8,
        ha="center",
        va="bottom",
        transform=right.get_xaxis_transform(),
    )
    style.axis_labels(right, "CV of the intervals", "share of the neurons")
    return figure


def _histograms(
    axes: Axes,
    values: Float[np.ndarray, "trials n"],
    n_excitatory: int,
    bins: Float[np.ndarray, " edges"],
):
    """Draw one histogram of the finite values for each kind of neuron."""
    kinds = values[:, :n_excitatory], values[:, n_excitatory:]
    for (name, colour), own in zip(_COLOURS.items(), kinds, strict=True):
        own = own[np.isfinite(own)]
        if own.size:
            share = np.histogram(own, bins)[0] / own.size
            axes.stairs(share, bins, color=colour, linewidth=1.6, label=name)
    axes.set_ylim(bottom=0)
