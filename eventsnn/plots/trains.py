"""Plots of discrete-time networks: dense spike trains of one sample, shape (time, neurons)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import checks
from .style import (
    INK,
    MODEL,
    MUTED,
    TARGET,
    against_target,
    axis_labels,
    headline,
    names,
    new_figure,
    numbers,
    optional,
    same_shape,
    slanted,
    texts,
    whole_ticks,
)


def spike_raster(
    spikes: Float[ArrayLike, "time neurons"] | Mapping[str, Float[ArrayLike, "time neurons"]],
    *,
    title: str = "",
    target: int | None = None,
) -> Figure:
    """Plot the spikes of one sample, with time steps on the x axis and neurons on the y axis.

    **Arguments:**

    - `spikes`: a spike train, or several by layer name. Layers are drawn from top to bottom with a
        common time axis. Entries below zero, such as the off-spikes of a delta code, get another
        colour.
    - `title`: title of the figure. Default: empty.
    - `target`: index of the target neuron of the last layer, whose row is marked. Default: None, no
        mark.

    **Raises:** `ValueError` for trains that do not have shape (time, neurons), such as a whole
    batch, or trains of different lengths.
    """
    texts(title=title)
    layers = spikes if isinstance(spikes, Mapping) else {"neuron": spikes}
    trains = {
        name: numbers(f"spikes of {name!r}", s, "time, neurons") for name, s in layers.items()
    }
    if len({len(train) for train in trains.values()}) != 1:
        shapes = ", ".join(f"{name} {train.shape}" for name, train in trains.items())
        expected = "at least one layer, and the same number of steps in each"
        raise ValueError(f"spikes must have {expected}, got {shapes or 'no layer'}.")
    heights = [np.clip(0.4 + 0.1 * train.shape[1], 1.0, 3.6) for train in trains.values()]
    figure = new_figure(6.4, 0.7 + sum(heights))
    panels = figure.subplots(
        len(trains), 1, sharex=True, height_ratios=heights, squeeze=False
    ).ravel()
    for axes, (name, train), height in zip(panels, trains.items(), heights, strict=True):
        draw_spikes(axes, train, height)
        axis_labels(axes, "", name)
    if target is not None:
        target = checks.index("target", target, train.shape[1])
        axes.axhspan(target - 0.5, target + 0.5, color=TARGET, alpha=0.2, linewidth=0)
        axes.text(
            1.005, target, "target", color=TARGET, va="center", transform=axes.get_yaxis_transform()
        )
    axes.set_xlabel("time step", color=INK)
    figure.align_ylabels(panels)
    headline(panels[0], title)
    return figure


def draw_spikes(axes: Axes, train: np.ndarray, height: float, width: float = 6.0):
    """Draw every spike as a short line. Return the lines and their steps, in temporal order.

    `height` and `width` are the size of the axes in inches, and set the width of the lines.
    """
    steps, n = train.shape
    half = max(0.4, 0.75 * n / (72 * height))  # a line of 1.5 points at least
    thick = np.clip(0.55 * 72 * width / steps, 0.6, 2.5)
    times, neurons = np.nonzero(train)
    colours = [INK if value > 0 else TARGET for value in train[times, neurons]]
    lines = axes.vlines(times, neurons - half, neurons + half, colours, linewidth=thick)
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(-0.5 - 0.1 * (n < 30), n - 0.5 + 0.1 * (n < 30)))
    whole_ticks(axes.xaxis)
    whole_ticks(axes.yaxis, max(3, int(height * 2.5)))
    return lines, times


def membrane_traces(
    membranes: Float[ArrayLike, "time neurons"],
    spikes: Float[ArrayLike, "time neurons"] | None = None,
    *,
    threshold: float | Float[ArrayLike, " neurons"] | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Plot the membrane potentials of a few neurons, one panel per neuron with a common scale.

    **Arguments:**

    - `membranes`: membrane potentials, time axis first, of at most 30 neurons.
    - `spikes`: spikes, marked above the traces. Default: None, no marks.
    - `threshold`: drawn as a dashed line, one value for all neurons or one per neuron. Default:
        None, no line.
    - `labels`: one name per neuron. Default: None, the numbers of the neurons.
    - `title`: title of the figure. Default: empty.

    **Raises:** `ValueError` for other shapes, or more than 30 neurons.
    """
    texts(title=title)
    traces = numbers("membranes", membranes, "time, neurons")
    steps, n = traces.shape
    if n > 30:
        raise ValueError(f"membranes must have at most 30 neurons, got {n}.")
    labels = names("labels", labels, n)
    fired = np.zeros_like(traces)
    if spikes is not None:
        fired = numbers("spikes", spikes, "time, neurons")
        same_shape(membranes=traces, spikes=fired)
    levels = np.array(np.nan) if threshold is None else numbers("threshold", threshold)
    if levels.shape not in ((), (n,)):
        expected = f"be a number or have shape ({n},)"
        raise ValueError(f"threshold must {expected}, got shape {levels.shape}.")
    levels = np.broadcast_to(levels, n)
    drawn = np.concatenate([traces.ravel(), levels[np.isfinite(levels)]])
    low, high = np.min(drawn, initial=0), np.max(drawn)
    room = (high - low) or 1.0
    figure = new_figure(6.4, 0.9 + 0.62 * n)
    panels = figure.subplots(n, 1, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, trace, spike, level, name in zip(
        panels, traces.T, fired.T, levels, labels, strict=True
    ):
        axes.axhline(level, color=MUTED, linewidth=0.9, linestyle="--")
        axes.plot(np.arange(steps), trace, color=MODEL, linewidth=1.2)
        at = np.nonzero(spike)[0]
        axes.plot(at, np.full(len(at), high + 0.12 * room), "|", color=TARGET, markersize=6)
        axis_labels(axes, "", "")
        axes.set_ylabel(name, color=INK, rotation=0, ha="right", va="center")
        axes.tick_params(labelsize=7)
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(low - 0.08 * room, high + 0.3 * room))
    whole_ticks(axes.xaxis)
    axes.set_xlabel("time step", color=INK)
    headline(panels[0], title)
    return figure


def spike_counts(
    spikes: Float[ArrayLike, " classes"] | Float[ArrayLike, "time classes"],
    *,
    target: int | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Plot the spike counts of the output neurons for one sample.

    **Arguments:**

    - `spikes`: spike counts, or spike trains, which are summed over time.
    - `target`: the target class, drawn in another colour. Default: None, no target.
    - `labels`: one name per class. Default: None, the numbers of the classes.
    - `title`: title of the figure. Default: empty.

    **Raises:** `ValueError` for other shapes, a target out of range, or a wrong number of labels.
    """
    texts(title=title)
    counts = numbers("spikes", spikes, "classes", "time, classes")
    counts = counts if counts.ndim == 1 else counts.sum(axis=0)
    figure = new_figure(5.6, 3.4)
    axes = figure.subplots()
    bars = draw_counts(axes, counts, max(counts.max(), 1), target, labels)
    axes.bar_label(bars, fmt="%g", fontsize=8, color=INK, padding=1)
    headline(axes, title)
    return figure


def draw_counts(axes: Axes, counts: np.ndarray, top: float, target: int | None, labels):
    """Draw the counts as bars, with the target in another colour.

    `top` is the largest count of the axis.
    """
    n = len(counts)
    target = optional(checks.index, "target", target, n)
    labels = names("labels", labels, n)
    colours = [TARGET if i == target else MODEL for i in range(n)]
    bars = axes.bar(np.arange(n), counts, width=0.7, color=colours)
    if target is not None:
        bars[target].set_label("target")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.set_xticks(np.arange(n), labels)
    if target is not None:
        axes.get_xticklabels()[target].set(color=TARGET, fontweight="bold")
    slanted(axes, labels, 4)
    axes.set_ylim(0, 1.1 * top)
    whole_ticks(axes.yaxis)
    axis_labels(axes, "class", "spikes")
    axes.grid(False, axis="x")
    return bars


def target_trace(
    times: Float[ArrayLike, " time"],
    target: Float[ArrayLike, " time"],
    output: Float[ArrayLike, " time"],
    *,
    x_label: str = "time step",
    y_label: str = "membrane",
    title: str = "",
) -> Figure:
    """Plot target and output over time, and their difference below.

    **Arguments:**

    - `times`: the times of the values, for example in steps or in ms.
    - `target`: the target at each time.
    - `output`: the output at each time.
    - `x_label`, `y_label`: labels of the axes. Defaults: "time step" and "membrane".
    - `title`: title of the figure. Default: empty.

    **Raises:** `ValueError` unless all three have shape `(time,)`.
    """
    texts(x_label=x_label, y_label=y_label, title=title)
    named = {"times": times, "target": target, "output": output}
    arrays = {name: numbers(name, value, "time") for name, value in named.items()}
    same_shape(**arrays)
    figure = against_target(*arrays.values(), name="network", x_label=x_label, y_label=y_label)
    headline(figure.axes[0], title)
    return figure
