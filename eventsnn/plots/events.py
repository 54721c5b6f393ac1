"""Pictures of event-driven networks. Times are in ms."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int
from matplotlib.figure import Figure

from .. import checks
from .style import (
    INK,
    INPUT,
    MODEL,
    MUTED,
    against_target,
    axis_labels,
    goal,
    new_figure,
    numbers,
    same_shape,
    whole_numbers,
)


def prediction(
    x: Float[ArrayLike, " n"], target: Float[ArrayLike, " n"], predicted: Float[ArrayLike, " n"]
) -> Figure:
    """Target and first output spike over the input time, and their difference below.

    Where the output is silent (`inf`) the curve has a gap.

    **Raises:** `ValueError` unless all three have the shape `(n,)`.
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
) -> Figure:
    """The spikes of one sample: neurons in rows, input channels below them.

    **Arguments:**

    - `times`, `sources`: as in a `Solution`; sources from `n_neurons` on are input channels, and
        padding (`inf`, -1) is left out.
    - `outputs`: the output neurons, drawn in another colour.
    - `target`: when the output should fire, drawn as a line.
    - `shown`: the sources that get a row, numbered anew in this order, neurons first; by default,
        all.

    **Raises:** `ValueError` for times and sources that are no vectors of one length, and for
    options out of range.
    """
    times, sources = numbers("times", times), whole_numbers("sources", sources)
    same_shape(times=times, sources=sources)
    n_neurons, t_max = checks.count("n_neurons", n_neurons), checks.positive("t_max", t_max)
    outputs = whole_numbers("outputs", outputs).tolist()
    if shown is not None:
        place = {source: row for row, source in enumerate(whole_numbers("shown", shown).tolist())}
        sources = np.array([place.get(int(source), -1) for source in sources], int)
        outputs = [place[output] for output in outputs if output in place]
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
        axes.vlines(
            times[chosen], rows[chosen] - 0.4, rows[chosen] + 0.4, colour, linewidth=1.4, label=name
        )
    axes.axhline(-0.5, color=MUTED, linewidth=0.6)
    goal(axes, target)
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlim=(-0.01 * t_max, t_max), ylim=(-n_inputs - 0.7, n_neurons))
    axes.set_yticks(np.arange(0, n_neurons, max(1, n_neurons // 5)))
    axis_labels(axes, "time (ms)", "neuron")
    return figure


def phase(v: Float[ArrayLike, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""The potential of a QIF neuron on a bounded scale:

    $$\phi = \tfrac1\pi \arctan\left((V - \tfrac12)/\pi\right) + \tfrac12$$

    The potential itself runs to $+\infty$ at a spike and returns from $-\infty$. Its phase rises
    to 1 and returns from 0; the resting potential (V = 0) is at 0.45.
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
    """The membrane of each neuron over time, one above the other.

    **Arguments:**

    - `traces`: a value in [0, 1] for each neuron and time, such as [`phase`][] gives.
    - `outputs`: neurons to draw in another colour.
    - `in_times`: input spikes, drawn as lines, padding left out.
    - `target`: when the output should fire, drawn as a line.

    **Raises:** `ValueError` for traces that are not (neurons, times), and for what is no number.
    """
    times, traces = numbers("times", times, "times"), numbers("traces", traces, "neurons, times")
    if traces.shape[1] != len(times):
        raise ValueError(f"traces must have the {len(times)} times, got shape {traces.shape}.")
    outputs = whole_numbers("outputs", outputs).tolist()
    in_times = numbers("in_times", in_times)
    n = len(traces)
    figure = new_figure(6.4, 1.6 + 0.28 * n)
    axes = figure.subplots()
    for arrival in np.ravel(in_times)[np.isfinite(np.ravel(in_times))]:
        label = "_" if arrival > np.min(in_times) else "input"
        axes.axvline(arrival, color=INPUT, linewidth=1.4, label=label)
    goal(axes, target)
    for row, trace in enumerate(traces):
        colour = MODEL if row in outputs else INK
        axes.plot(times, row + 0.9 * trace, color=colour, linewidth=0.9)
    axes.set(xlim=(times[0] - 0.01 * np.ptp(times), times[-1]), ylim=(-0.2, n + 0.1))
    axes.set_yticks(np.arange(0, n, max(1, n // 5)))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    axis_labels(axes, "time (ms)", "neuron, and the phase of its membrane")
    return figure
