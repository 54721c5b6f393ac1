"""Figures of tasks that classify points of the plane."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ... import plots
from ...plots import style

__all__ = ["raster", "regions"]

_N_SHOWN = 40


def regions(
    xy: Float[np.ndarray, "n 2"],
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
    plane: Float[np.ndarray, "y x"],
    classes: Sequence[str],
) -> Figure:
    """Draw the predicted class of each part of the plane, and points with their true classes.

    **Arguments:**

    - `xy`: the points, in the unit square. A cross marks those whose prediction is wrong.
    - `labels`, `predicted`: true and predicted class of each point.
    - `plane`: the predicted class on a grid of the unit square. -1 means no class, NaN is not
        drawn.
    - `classes`: the names of the three classes.
    """
    colours = [style.MODEL, style.TARGET, style.INPUT]
    figure = style.new_figure(5.4, 5.0)
    axes = figure.subplots()
    axes.imshow(
        plane,
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap=ListedColormap([style.MUTED, *colours]),
        vmin=-1,
        vmax=2,
        alpha=0.3,
    )
    for label, name in enumerate(classes):
        own = labels == label
        axes.scatter(*xy[own].T, s=7, color=colours[label], linewidths=0, label=name)
    wrong = predicted != labels
    axes.scatter(*xy[wrong].T, s=28, color=style.INK, marker="x", linewidths=1, label="wrong")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    style.axis_labels(axes, "x", "y")
    axes.grid(False)
    return figure


def raster(
    times: Float[ArrayLike, " events"],
    sources: Int[ArrayLike, " events"],
    *,
    n_neurons: int,
    n_inputs: int,
    outputs: tuple[int, ...],
    t_max: float,
    classes: Sequence[str],
    label: int,
) -> Figure:
    """Draw the events of the inputs, of hidden neurons that fire, and of the outputs.

    **Arguments:**

    - `times`: times of the events (ms), padded with inf.
    - `sources`: source of each event, -1 for padding: hidden neurons first, then outputs, then
        inputs.
    - `n_neurons`: number of hidden neurons and outputs.
    - `n_inputs`: number of inputs.
    - `outputs`: indices of the outputs.
    - `t_max`: time limit of the simulation (ms).
    - `classes`: the names of the classes.
    - `label`: class of the point.
    """
    sources, first = np.asarray(sources), outputs[0]
    hidden = np.unique(sources[(sources >= 0) & (sources < first)])[:_N_SHOWN]
    figure = plots.raster(
        times,
        sources,
        n_neurons=n_neurons,
        outputs=outputs,
        t_max=t_max,
        shown=[*hidden, *outputs, *range(n_neurons, n_neurons + n_inputs)],
        labels=classes,
        correct=label,
    )
    figure.axes[0].set_ylabel("hidden neurons that fire; outputs", color=plots.INK)
    title = f"the first test point, {classes[label]}"
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure
