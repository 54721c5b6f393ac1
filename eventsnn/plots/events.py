"""Plots of event-driven networks. Times are in ms."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import checks
from .style import (
    INK,
    INPUT,
    MODEL,
    MUTED,
    against_target,
    axis_labels,
    names,
    new_figure,
    numbers,
    optional,
    same_shape,
    target_line,
    whole_numbers,
)


def prediction(
    x: Float[ArrayLike, " n"], target: Float[ArrayLike, " n"], predicted: Float[ArrayLike, " n"]
) -> Figure:
    """Plot target and first output spike against the input time, and their difference below.

    The curve has a gap if the output is silent.

    **Arguments:**

    - `x`: input spike times (ms).
    - `target`: target times of the output spike (ms).
    - `predicted`: first output spike times (ms). `inf` means no spike.

    **Raises:** `ValueError` unless all three have shape `(n,)`.
    """
    named = {"x": x, "target": target, "predicted": predicted}
    arrays = {name: numbers(name, value, "n") for name, value in named.items()}
    same_shape(**arrays)
    x, target, predicted = arrays.values()
    predicted = np.where(np.isfinite(predicted), predicted, np.nan)
    return against_target(
        x,
        target,
        predicted,
        name="network",
        x_label="input spike (ms)",
        y_label="first output spike",
        unit="ms",
        marker=".",
    )


def raster(
    times: Float[ArrayLike, " events"],
    sources: Int[ArrayLike, " events"],
    *,
    n_neurons: int,
    outputs: Sequence[int],
    t_max: float,
    target: float | None = None,
    shown: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    correct: int | None = None,
) -> Figure:
    """Plot the spikes of one sample, with one row per neuron and input channels below.

    **Arguments:**

    - `times`, `sources`: event times (ms) and sources, as in a `Solution`. Sources from `n_neurons`
        on are input channels. Padding (`inf`, -1) is not shown.
    - `n_neurons`: the number of neurons.
    - `outputs`: indices of the output neurons, drawn in another colour.
    - `t_max`: end of the time axis (ms).
    - `target`: target time of the output spike (ms), drawn as a line. Default: None, no line.
    - `shown`: the sources that get a row, neurons first. Rows are numbered in this order. Default:
        None, all sources.
    - `labels`: names of the outputs, for example of the classes. Default: None, the rows of the
        outputs have no names.
    - `correct`: index of the output of the correct class among the outputs, whose name is
        emphasised. Default: None.

    **Raises:** `ValueError` for times and sources that are not vectors of the same length, and for
    options out of range.
    """
    times, sources = numbers("times", times), whole_numbers("sources", sources)
    same_shape(times=times, sources=sources)
    n_neurons, t_max = checks.count("n_neurons", n_neurons), checks.positive("t_max", t_max)
    outputs = whole_numbers("outputs", outputs).tolist()
    named = dict(zip(outputs, optional(names, "labels", labels, len(outputs)) or (), strict=False))
    if correct is not None:
        correct = outputs[checks.index("correct", correct, len(outputs))]
    if shown is not None:
        place = {source: row for row, source in enumerate(whole_numbers("shown", shown).tolist())}
        sources = np.array([place.get(int(source), -1) for source in sources], int)
        outputs = [place[output] for output in outputs if output in place]
        named = {place[output]: name for output, name in named.items() if output in place}
        correct = place.get(correct)
        n_neurons = sum(source < n_neurons for source in place)
    real = sources >= 0
    times, sources = times[real], sources[real]
    n_inputs = int(max(sources.max(initial=n_neurons) - n_neurons + 1, 1))
    rows = np.where(sources < n_neurons, sources, n_neurons - 1 - sources)
    kinds = {
        "input": (sources >= n_neurons, INPUT),
        "neuron": ((sources < n_neurons) & ~np.isin(sources, outputs), INK),
        "output": (np.isin(sources, outputs), MODEL),
    }
    figure = new_figure(6.4, 1.6 + 0.13 * (n_neurons + n_inputs))
    axes = figure.subplots()
    for name, (chosen, colour) in kinds.items():
        if not chosen.any():
            continue
        axes.vlines(
            times[chosen], rows[chosen] - 0.4, rows[chosen] + 0.4, colour, linewidth=1.4, label=name
        )
    axes.axhline(-0.5, color=MUTED, linewidth=0.6)
    target_line(axes, target)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlim=(-0.01 * t_max, t_max), ylim=(-n_inputs - 0.7, n_neurons))
    _label_rows(axes, range(0, n_neurons, max(1, n_neurons // 5)), named, correct)
    axis_labels(axes, "time (ms)", "neuron")
    return figure


def _label_rows(axes: Axes, numbered: Iterable[int], named: Mapping[int, str], correct: int | None):
    """Label rows by their numbers, and others by their names. Emphasise the correct one."""
    far = [row for row in numbered if all(abs(row - other) > 1 for other in named)]
    ticks = {row: str(row) for row in far} | dict(named)
    axes.set_yticks(list(ticks), list(ticks.values()))
    for row, text in zip(ticks, axes.get_yticklabels(), strict=True):
        if row in named:
            text.set_fontsize(8)
        if row in named and row == correct:
            text.set(color=MODEL, fontweight="bold")


def phase(v: Float[ArrayLike, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""Map the membrane potential of a QIF neuron to a phase in [0, 1]:

    $$\phi = \tfrac1\pi \arctan\left((V - \tfrac12)/\pi\right) + \tfrac12$$

    At a spike the potential diverges to $+\infty$ and restarts from $-\infty$. The phase rises to 1
    and restarts from 0. The resting potential V = 0 has the phase 0.45.

    **Arguments:**

    - `v`: membrane potentials $V$, of any shape.
    """
    v = numbers("v", v)
    return np.arctan((v - 0.5) / np.pi) / np.pi + 0.5


def membranes(
    times: Float[ArrayLike, " times"],
    traces: Float[ArrayLike, "neurons times"],
    *,
    outputs: Sequence[int] = (),
    in_times: Float[ArrayLike, "..."] | Sequence[float] = (),
    target: float | None = None,
) -> Figure:
    """Plot the membrane potential of each neuron over time, one neuron above the other.

    **Arguments:**

    - `times`: times of the traces (ms).
    - `traces`: one value in [0, 1] per neuron and time, for example from [`phase`][].
    - `outputs`: indices of neurons drawn in another colour. Default: none.
    - `in_times`: input spike times (ms), drawn as lines. Padding is not shown. Default: none.
    - `target`: target time of the output spike (ms), drawn as a line. Default: None, no line.

    **Raises:** `ValueError` for traces that do not have shape (neurons, times), and for values that
    are not numbers.
    """
    times, traces = numbers("times", times, "times"), numbers("traces", traces, "neurons, times")
    if traces.shape[1] != len(times):
        raise ValueError(f"traces must have shape (n, {len(times)}), got shape {traces.shape}.")
    outputs = whole_numbers("outputs", outputs).tolist()
    in_times = numbers("in_times", in_times)
    n = len(traces)
    figure = new_figure(6.4, 1.6 + 0.28 * n)
    axes = figure.subplots()
    for arrival in np.ravel(in_times)[np.isfinite(np.ravel(in_times))]:
        label = "_" if arrival > np.min(in_times) else "input"
        axes.axvline(arrival, color=INPUT, linewidth=1.4, label=label)
    target_line(axes, target)
    for row, trace in enumerate(traces):
        colour = MODEL if row in outputs else INK
        axes.plot(times, row + 0.9 * trace, color=colour, linewidth=0.9)
    axes.set(xlim=(times[0] - 0.01 * np.ptp(times), times[-1]), ylim=(-0.2, n + 0.1))
    axes.set_yticks(np.arange(0, n, max(1, n // 5)))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axis_labels(axes, "time (ms)", "neuron, and the phase of its membrane")
    return figure
