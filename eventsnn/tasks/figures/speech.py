"""Figures of the classification of speech by spike trains."""

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.figure import Figure

from ... import plots

__all__ = ["membranes", "raster"]

# Maximum number of rows per kind of source in a raster.
_N_ROWS = 25


def raster(
    in_times: Float[ArrayLike, "channels k"],
    hidden: Float[ArrayLike, "neurons spikes"],
    *,
    t_max: float,
    title: str,
) -> Figure:
    """Draw the spikes of some of the input channels and hidden neurons.

    **Arguments:**

    - `in_times`, `hidden`: spike times of the input channels and of the hidden neurons (ms), padded
        with inf.
    - `t_max`: time limit of the simulation (ms).
    - `title`: title of the figure.
    """
    shown = [_some(np.asarray(trains)) for trains in (hidden, in_times)]
    times = np.concatenate([trains.ravel() for trains in shown])
    rows = [np.repeat(np.arange(len(trains)), trains.shape[1]) for trains in shown]
    sources = np.concatenate([rows[0], len(shown[0]) + rows[1]])
    sources = np.where(times <= t_max, sources, -1)
    figure = plots.raster(times, sources, n_neurons=len(shown[0]), outputs=(), t_max=t_max)
    figure.axes[0].set_ylabel("some input channels and hidden neurons", color=plots.INK)
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure


def membranes(
    times: Float[ArrayLike, " times"],
    traces: Float[ArrayLike, "classes times"],
    *,
    target: int,
    title: str,
) -> Figure:
    """Draw the membrane potential of each output, that of the correct class in another colour.

    All outputs have the same scale, from the lowest to the highest value.

    **Arguments:**

    - `times`: times of the potentials (ms).
    - `traces`: membrane potential of each output.
    - `target`: class of the sample.
    - `title`: title of the figure.
    """
    traces = np.asarray(traces)
    low, high = np.min(traces), np.max(traces)
    figure = plots.membranes(times, (traces - low) / ((high - low) or 1.0), outputs=(target,))
    figure.axes[0].set_yticks(range(len(traces)))
    figure.axes[0].set_ylabel(f"output (row height {high - low:.2g})", color=plots.INK)
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure


def _some(trains):
    """Select at most `_N_ROWS` of the trains, evenly spread."""
    n = len(trains)
    return trains[np.linspace(0, n - 1, min(n, _N_ROWS)).round().astype(int)]
