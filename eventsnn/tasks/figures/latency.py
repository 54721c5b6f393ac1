"""Figures of the classification of images by spike times."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib.figure import Figure

from ... import plots
from ...plots import style

__all__ = ["first_spikes", "membranes", "raster"]

# Maximum number of rows per kind of source in a raster.
_N_ROWS = 25
# Maximum number of channels in a row of images.
_N_COLUMNS = 16


def raster(
    times: Float[ArrayLike, " events"],
    sources: Int[ArrayLike, " events"],
    *,
    n_neurons: int,
    outputs: tuple[int, ...],
    t_max: float,
    target: int,
) -> Figure:
    """Draw the events of the outputs, and of some of the hidden neurons and pixels that fire.

    Outputs are named by their classes. If none of them fires, as readouts do not, they are left
    out.

    **Arguments:**

    - `times`: times of the events (ms), padded with inf.
    - `sources`: source of each event, -1 for padding: hidden neurons first, then outputs, then
        pixels.
    - `n_neurons`: number of hidden neurons and outputs.
    - `outputs`: indices of the outputs.
    - `t_max`: time limit of the simulation (ms).
    - `target`: class of the image.
    """
    sources = np.asarray(sources)
    present, first = np.unique(sources[sources >= 0]), outputs[0]
    hidden, pixels = _some(present[present < first]), _some(present[present >= n_neurons])
    figure = plots.raster(
        times,
        sources,
        n_neurons=n_neurons,
        outputs=outputs,
        t_max=t_max,
        shown=[*hidden, *(outputs if np.isin(present, outputs).any() else ()), *pixels],
        labels=[str(label) for label in range(len(outputs))],
        correct=target,
    )
    figure.axes[0].set_ylabel("some pixels, hidden neurons; outputs", color=plots.INK)
    figure.suptitle(f"the first test image, a {target}", fontsize=10, color=plots.INK)
    return figure


def membranes(
    times: Float[ArrayLike, " times"], traces: Float[ArrayLike, "classes times"], *, target: int
) -> Figure:
    """Draw the membrane potential of each output, that of the target class in another colour.

    All outputs have the same scale, from the lowest to the highest value.

    **Arguments:**

    - `times`: times of the potentials (ms).
    - `traces`: membrane potential of each output. NaN is not drawn.
    - `target`: class of the image.
    """
    traces = np.asarray(traces)
    low, high = np.nanmin(traces), np.nanmax(traces)
    figure = plots.membranes(times, (traces - low) / ((high - low) or 1.0), outputs=(target,))
    figure.axes[0].set_yticks(range(len(traces)))
    figure.axes[0].set_ylabel(f"output (row height {high - low:.2g})", color=plots.INK)
    title = f"output potentials for the first test image, a {target}"
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure


def first_spikes(
    times: Mapping[str, Float[np.ndarray, "channels h w"]], *, t_max: float, target: int
) -> Figure:
    """Draw the time of the first spike of each neuron as images, one per channel.

    Neurons without a spike are white.

    **Arguments:**

    - `times`: times of the first spikes (ms), `inf` for none, by name of the layer.
    - `t_max`: time limit of the simulation (ms).
    - `target`: class of the image.
    """
    most = max(len(channels) for channels in times.values())
    columns = min(most, _N_COLUMNS)
    heights = [-(-len(channels) // columns) for channels in times.values()]
    figure = style.new_figure(0.6 * columns + 1.4, 0.75 * sum(heights) + 0.9)
    grid = figure.subplots(sum(heights), columns, squeeze=False)
    first = 0
    for height, (name, channels) in zip(heights, times.items(), strict=True):
        own = grid[first : first + height].ravel()
        first += height
        style.headline(own[0], name)
        for axes in own[len(channels) :]:
            axes.set_visible(False)
        for axes, channel in zip(own, channels, strict=False):
            fired = np.where(np.isfinite(channel), channel, np.nan)
            image = axes.imshow(fired, cmap="viridis", vmin=0.0, vmax=t_max)
            style.picture(axes)
    bar = figure.colorbar(image, ax=grid, shrink=0.6)
    bar.set_label("first spike (ms)", color=plots.INK)
    figure.suptitle(f"the first test image, a {target}", fontsize=10, color=plots.INK)
    return figure


def _some(sources):
    """Select at most `_N_ROWS` of the sources, evenly spread."""
    chosen = np.linspace(0, max(len(sources) - 1, 0), min(_N_ROWS, len(sources)))
    return sources[np.unique(np.round(chosen).astype(int))]
