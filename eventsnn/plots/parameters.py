"""Plots of parameters during training, and before and after it."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib import colormaps
from matplotlib.figure import Figure

from .style import (
    INK,
    MODEL,
    MUTED,
    TARGET,
    axis_labels,
    headline,
    mapping,
    new_figure,
    numbers,
    picture,
    same_shape,
    whole_ticks,
)


def parameter_history(
    steps: Int[ArrayLike, " times"],
    weights: Float[ArrayLike, "times synapses"],
    biases: Float[ArrayLike, "times neurons"],
) -> Figure:
    """Plot every weight and every bias over training, coloured by initial value.

    **Arguments:**

    - `steps`: training steps of the rows.
    - `weights`, `biases`: values of the parameters, one row per entry of `steps`.

    **Raises:** `ValueError` for arrays that do not have one row per step.
    """
    steps = numbers("steps", steps, "times")
    weights = numbers("weights", weights, "times, synapses")
    biases = numbers("biases", biases, "times, neurons")
    for name, values in (("weights", weights), ("biases", biases)):
        if len(values) != len(steps):
            expected = f"{len(steps)} rows, one per entry of steps"
            raise ValueError(f"{name} must have {expected}, got shape {values.shape}.")
    figure = new_figure(6.4, 6.0)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, values, name in zip(panels, (weights, biases), ("weight", "bias"), strict=True):
        # Drawn in the order of the initial values, so that colours do not depend on the index.
        order = np.argsort(values[0], kind="stable")
        shades = colormaps["viridis"](np.linspace(0.0, 0.92, len(order)))
        for shade, column in zip(shades, values[:, order].T, strict=True):
            axes.plot(steps, column, color=shade, linewidth=0.7, alpha=0.8)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=0)
        axis_labels(axes, "", f"{name} (all {len(order)})")
    panels[-1].set_xlabel("training step")
    return figure


def weights(
    before: Mapping[str, Float[ArrayLike, "..."]], after: Mapping[str, Float[ArrayLike, "..."]]
) -> Figure:
    """Plot the parameters of each layer before and after training, with histograms.

    Matrices are heat maps with a common colour scale, which is white at zero and saturates for the
    largest 0.5 % of the values. It has one colour if no value is negative, otherwise two. Kernels
    with more axes are drawn as matrices (out, all other axes). Vectors, such as biases, are drawn
    as stems.

    **Arguments:**

    - `before`, `after`: arrays by name, with the same names in both.

    **Raises:** `ValueError` for different names or shapes.
    """
    mapping("before", before)
    mapping("after", after)
    if not before or set(before) != set(after):
        raise ValueError(
            "before and after must have the same names, at least one, "
            f"got {sorted(before)} and {sorted(after)}."
        )
    pairs = {
        name: [numbers(f"{side}[{name!r}]", v[name]) for side, v in _sides(before, after)]
        for name in before
    }
    heights = [2.3 if pair[0].ndim > 1 else 1.5 for pair in pairs.values()]
    figure = new_figure(9.0, 0.4 + sum(heights))
    grid = figure.subplots(
        len(before), 3, squeeze=False, width_ratios=(1, 1, 0.8), height_ratios=heights
    )
    for row, (name, pair) in zip(grid, pairs.items(), strict=True):
        same_shape(**{f"before[{name!r}]": pair[0], f"after[{name!r}]": pair[1]})
        if pair[0].ndim > 1:
            _heat_maps(figure, row, [v.reshape(len(v), -1) for v in pair])
        else:
            _stems(row, [np.atleast_1d(v) for v in pair])
        _histograms(row[2], pair)
        row[0].set_ylabel(name, color=INK)
    for axes, text in zip(grid[0], ("before", "after", "values"), strict=True):
        headline(axes, text)
    grid[0, 2].legend(frameon=False, fontsize=8)
    figure.align_ylabels(grid[:, 0])
    return figure


def _sides(before, after):
    return (("before", before), ("after", after))


def _heat_maps(figure, row, pair):
    """Draw both matrices with a common colour scale."""
    both = np.stack(pair)
    both = both[np.isfinite(both)]
    size = np.abs(both)
    top = (np.percentile(size, 99.5) or size.max()) if size.size else 1.0
    signed = both.size > 0 and both.min() < 0
    colours = {"cmap": "RdBu_r", "vmin": -top} if signed else {"cmap": "Reds", "vmin": 0.0}
    # Sharp cells if each cell has its own pixels, otherwise the mean of the cells in a pixel.
    smooth = "nearest" if max(pair[0].shape) <= 256 else "auto"
    for axes, matrix in zip(row, pair, strict=False):
        image = axes.imshow(matrix, vmax=top or 1.0, aspect="auto", interpolation=smooth, **colours)
        axes.set_xlabel("{1} in, {0} out".format(*matrix.shape), color=MUTED, fontsize=8)
        picture(axes)
    bar = figure.colorbar(image, ax=row[1], aspect=15, extend="both" if signed else "max")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, colors=INK)


def _stems(row, pair):
    """Draw both vectors with a common vertical scale."""
    values = np.concatenate([[0.0], *pair])
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.08 * (high - low) or 1.0
    for axes, vector in zip(row, pair, strict=False):
        at = np.arange(len(vector))
        axes.vlines(at, 0, vector, MODEL, linewidth=np.clip(80 / len(vector), 0.6, 4.0))
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.set_ylim(low - margin, high + margin)
        axis_labels(axes, "neuron", "")
        axes.set_xlim(-0.6, len(vector) - 0.4)
        whole_ticks(axes.xaxis, 6)
        axes.tick_params(labelsize=7)


def _histograms(axes, pair):
    before, after = (value[np.isfinite(value)] for value in pair)
    both = np.concatenate([before, after])
    edges = np.histogram_bin_edges(both, bins=min(40, max(5, both.size // 4)))
    axes.hist(before, edges, color=MUTED, alpha=0.6, label="before")
    axes.hist(after, edges, color=TARGET, histtype="step", linewidth=1.4, label="after")
    axis_labels(axes, "", "")
    axes.tick_params(labelsize=7)
