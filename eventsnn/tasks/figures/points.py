"""The pictures of the tasks on points."""

from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np

from ...data import yin_yang
from ...data.yin_yang import YinYangData
from ...network import EventNetwork
from ...train import FitResult

if TYPE_CHECKING:
    from ..points import PointsTask

_N_SHOWN = 40
_GRID = 100


def draw(task: "PointsTask", fitted: FitResult, data: YinYangData, accuracies: list[float]) -> dict:
    """Figures by name."""
    from ... import plots  # matplotlib is slow to import, and training does not need it

    net, (xy, labels) = fitted.model, map(np.asarray, data.test)
    epochs = fitted.snapshot_steps / task.n_steps()[1]
    axis = (np.arange(_GRID, dtype=xy.dtype) + 0.5) / _GRID
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    inside = np.asarray(yin_yang.classify(grid)) >= 0
    regions = np.full(inside.shape, np.nan)
    regions[inside] = task.predict(net, grid[inside])
    title = f"the first test point, {yin_yang.CLASSES[labels[0]]}"
    return {
        "regions": _map(xy, labels, task.predict(net, xy), regions),
        "loss": plots.loss_curve(fitted.losses),
        "accuracy": plots.curves(
            {"validation set": accuracies},
            x={"validation set": epochs},
            x_label="epoch",
            y_label="accuracy",
        ),
        "raster": _raster(net, task.event_inputs(xy[0]), title),
    }


def _raster(net: EventNetwork, in_times, title):
    """The events of one sample: inputs, hidden neurons that fire, and the outputs."""
    from ... import plots

    events = eqx.filter_jit(lambda net, x: net.simulate(x, throw=False))(net, in_times)
    sources, first = np.asarray(events.sources), net.outputs[0]
    hidden = np.unique(sources[(sources >= 0) & (sources < first)])[:_N_SHOWN]
    figure = plots.raster(
        events.times,
        sources,
        n_neurons=net.n_neurons,
        outputs=net.outputs,
        t_max=net.t_max,
        shown=[*hidden, *net.outputs, *range(net.n_neurons, len(net.weights))],
    )
    figure.axes[0].set_ylabel("hidden neurons that fire, outputs", color=plots.INK)
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure


def _map(xy, labels, predicted, regions):
    """The classes of the plane by colour, and the test points; the wrong ones are marked."""
    from matplotlib.colors import ListedColormap

    from ...plots import style

    colours = [style.MODEL, style.GOAL, style.INPUT]
    figure = style.new_figure(5.4, 5.0)
    axes = figure.subplots()
    axes.imshow(
        regions,
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap=ListedColormap([style.MUTED, *colours]),
        vmin=-1,
        vmax=2,
        alpha=0.3,
    )
    for label, name in enumerate(yin_yang.CLASSES):
        own = labels == label
        axes.scatter(*xy[own].T, s=7, color=colours[label], linewidths=0, label=name)
    wrong = predicted != labels
    axes.scatter(*xy[wrong].T, s=28, color=style.INK, marker="x", linewidths=1, label="wrong")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    style.axis_labels(axes, "x", "y")
    axes.grid(False)
    return figure
