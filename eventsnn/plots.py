"""Pictures: arrays in, a matplotlib `Figure` out. Nothing is shown or saved here.

Times are in ms. The figures do not pass through pyplot, so they need no display and leave no
state behind.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#22303c"
MUTED = "#8a97a3"
GOAL = "#e4572e"
MODEL = "#17659c"
INPUT = "#2a9d63"


def prediction(
    x: Float[ArrayLike, " n"], target: Float[ArrayLike, " n"], predicted: Float[ArrayLike, " n"]
) -> Figure:
    """Target and first output spike over the input time, and their difference below.

    Where the output is silent (`inf`) the curve has a gap.
    """
    x, target, predicted = (np.asarray(a, float) for a in (x, target, predicted))
    predicted = np.where(np.isfinite(predicted), predicted, np.nan)
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot(x, target, color=GOAL, linewidth=4, alpha=0.45, label="target")
    above.plot(x, predicted, color=MODEL, linewidth=1.5, marker=".", markersize=4, label="network")
    above.legend(frameon=False)
    _label(above, "", "first output spike (ms)")
    below.axhline(0, color=MUTED, linewidth=0.8)
    below.plot(x, predicted - target, color=MODEL, linewidth=1.2)
    _label(below, "input spike (ms)", "error (ms)")
    return figure


def loss_curve(losses: Float[ArrayLike, " steps"]) -> Figure:
    """The loss of every step on a logarithmic axis, and its running median."""
    losses = np.asarray(losses, float)
    steps = np.arange(1, len(losses) + 1)
    figure = Figure(figsize=(6.4, 3.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color=MODEL, linewidth=0.7, alpha=0.45, label="batch")
    width = max(1, len(losses) // 40)
    if width > 1:
        windows = np.lib.stride_tricks.sliding_window_view(losses, width)
        middle = steps[: len(windows)] + (width - 1) / 2
        label = f"median of {width} steps"
        axes.plot(middle, np.median(windows, axis=1), color=INK, linewidth=1.6, label=label)
        axes.legend(frameon=False)
    axes.set_yscale("log")
    _label(axes, "training step", "loss")
    return figure


def parameter_history(
    steps: Int[ArrayLike, " times"],
    weights: Float[ArrayLike, "times synapses"],
    biases: Float[ArrayLike, "times neurons"],
) -> Figure:
    """Every weight and every bias over training, coloured by where it started."""
    figure = Figure(figsize=(6.4, 6.0), dpi=150, layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, values, name in zip(panels, (weights, biases), ("weight", "bias"), strict=True):
        values = np.asarray(values, float)
        # Drawn in the order in which they start, so that the colours do not depend on the index.
        order = np.argsort(values[0], kind="stable")
        shades = colormaps["viridis"](np.linspace(0.0, 0.92, len(order)))
        for shade, column in zip(shades, values[:, order].T, strict=True):
            axes.plot(steps, column, color=shade, linewidth=0.7, alpha=0.8)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=0)
        _label(axes, "", f"{name} (all {len(order)})")
    panels[-1].set_xlabel("training step")
    return figure


def raster(
    times: Float[ArrayLike, " events"],
    sources: Int[ArrayLike, " events"],
    *,
    n_neurons: int,
    outputs: Sequence[int],
    t_max: float,
    target: float | None = None,
) -> Figure:
    """The spikes of one sample: neurons in rows, input channels below them.

    **Arguments:**

    - `times`, `sources`: as in a `Solution`; sources from `n_neurons` on are input channels, and
        padding (`inf`, -1) is left out.
    - `outputs`: the output neurons, drawn in another colour.
    - `target`: when the output should fire, drawn as a line.
    """
    times, sources = np.asarray(times, float), np.asarray(sources)
    real = sources >= 0
    times, sources = times[real], sources[real]
    n_inputs = int(max(sources.max(initial=n_neurons) - n_neurons + 1, 1))
    rows = np.where(sources < n_neurons, sources, n_neurons - 1 - sources)
    kinds = {
        "input": (sources >= n_neurons, INPUT),
        "neuron": ((sources < n_neurons) & ~np.isin(sources, outputs), INK),
        "output": (np.isin(sources, outputs), MODEL),
    }
    figure = Figure(
        figsize=(6.4, 1.6 + 0.13 * (n_neurons + n_inputs)), dpi=150, layout="constrained"
    )
    axes = figure.subplots()
    for name, (chosen, colour) in kinds.items():
        axes.vlines(
            times[chosen], rows[chosen] - 0.4, rows[chosen] + 0.4, colour, linewidth=1.4, label=name
        )
    axes.axhline(-0.5, color=MUTED, linewidth=0.6)
    _goal(axes, target)
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlim=(-0.01 * t_max, t_max), ylim=(-n_inputs - 0.7, n_neurons))
    axes.set_yticks(np.arange(0, n_neurons, max(1, n_neurons // 5)))
    _label(axes, "time (ms)", "neuron")
    return figure


def phase(v: Float[ArrayLike, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""The potential of a QIF neuron on a bounded scale:

    $$\phi = \tfrac1\pi \arctan\left((V - \tfrac12)/\pi\right) + \tfrac12$$

    The potential itself runs to $+\infty$ at a spike and returns from $-\infty$. Its phase rises
    to 1 and returns from 0; the resting potential (V = 0) is at 0.45.
    """
    v = np.asarray(v, float)
    return np.arctan((v - 0.5) / np.pi) / np.pi + 0.5


def membranes(
    times: Float[ArrayLike, " times"],
    traces: Float[ArrayLike, "neurons times"],
    *,
    outputs: Sequence[int] = (),
    in_times: Float[ArrayLike, "..."] | Sequence[float] = (),
    target: float | None = None,
) -> Figure:
    """The membrane of each neuron over time, one above the other.

    **Arguments:**

    - `traces`: a value in [0, 1] for each neuron and time, such as [`phase`][] gives.
    - `outputs`: neurons to draw in another colour.
    - `in_times`: input spikes, drawn as lines, padding left out.
    - `target`: when the output should fire, drawn as a line.
    """
    times, traces = np.asarray(times, float), np.asarray(traces, float)
    n = len(traces)
    figure = Figure(figsize=(6.4, 1.6 + 0.28 * n), dpi=150, layout="constrained")
    axes = figure.subplots()
    for arrival in np.ravel(in_times)[np.isfinite(np.ravel(in_times))]:
        label = "_" if arrival > np.min(in_times) else "input"
        axes.axvline(arrival, color=INPUT, linewidth=1.4, label=label)
    _goal(axes, target)
    for row, trace in enumerate(traces):
        colour = MODEL if row in outputs else INK
        axes.plot(times, row + 0.9 * trace, color=colour, linewidth=0.9)
    axes.set(xlim=(times[0] - 0.01 * np.ptp(times), times[-1]), ylim=(-0.2, n + 0.1))
    axes.set_yticks(np.arange(0, n, max(1, n // 5)))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    _label(axes, "time (ms)", "neuron, and the phase of its membrane")
    return figure


def _goal(axes: Axes, target):
    if target is not None:
        axes.axvline(target, color=GOAL, linewidth=1.4, linestyle="--", label="target")


def _label(axes: Axes, x, y):
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
