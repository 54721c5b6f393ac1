"""Figures of a network that learns given spike times."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from ... import plots
from ...plots import style

__all__ = ["errors", "trains"]


def trains(
    found: Float[np.ndarray, "outputs spikes"],
    targets: Float[np.ndarray, "outputs targets"],
    t_max: float,
) -> Figure:
    """Draw the spikes of the outputs over the wanted spikes, one row per output.

    **Arguments:**

    - `found`: spike times of the outputs (ms), padded with inf.
    - `targets`: wanted spike times (ms).
    - `t_max`: end of the time axis (ms).
    """
    n = len(targets)
    figure = style.new_figure(6.4, 1.4 + 0.16 * n)
    axes = figure.subplots()
    rows = np.repeat(np.arange(n), targets.shape[1])
    axes.scatter(
        targets.ravel(), rows, s=42, color=plots.TARGET, alpha=0.45, linewidths=0, label="wanted"
    )
    output, spike = np.nonzero(np.isfinite(found))
    axes.vlines(
        found[output, spike],
        output - 0.38,
        output + 0.38,
        plots.MODEL,
        linewidth=1.6,
        label="network",
    )
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlim=(0, t_max), ylim=(-0.7, n - 0.3))
    style.whole_ticks(axes.yaxis)
    style.axis_labels(axes, "time (ms)", "output")
    return figure


def errors(
    steps: Int[np.ndarray, " n"],
    mae: list[float],
    right: list[float],
) -> Figure:
    """Draw the error of the spike times and the share of right numbers of spikes in training.

    **Arguments:**

    - `steps`: numbers of training steps.
    - `mae`: mean absolute error of the spike times after these steps (ms).
    - `right`: share of the outputs with the wanted number of spikes.
    """
    figure = style.new_figure(6.4, 4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(steps, mae, color=plots.MODEL, marker="o", markersize=3, linewidth=1.2)
    above.set_yscale("log")
    style.axis_labels(above, "", "mean error of\nspike times (ms)")
    below.plot(
        steps, 100 * np.asarray(right), color=plots.MODEL, marker="o", markersize=3, linewidth=1.2
    )
    below.set_ylim(-3, 103)
    style.axis_labels(below, "training step", "outputs with the right\nnumber of spikes (%)")
    figure.align_ylabels()
    return figure
