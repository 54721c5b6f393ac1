"""Plots of the course and the result of training."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from .. import checks
from .style import (
    INK,
    MODEL,
    MUTED,
    PALETTE,
    axis_labels,
    headline,
    mapping,
    names,
    new_figure,
    numbers,
    optional,
    slanted,
    texts,
    whole_ticks,
)


def loss_curve(losses: Float[ArrayLike, " steps"]) -> Figure:
    """Plot the loss of every step on a logarithmic axis, and its running median.

    **Arguments:**

    - `losses`: one loss per step.

    **Raises:** `ValueError` for losses that are not a vector of numbers.
    """
    losses = numbers("losses", losses, "steps")
    steps = np.arange(1, len(losses) + 1)
    figure = new_figure(6.4, 3.8)
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
    axis_labels(axes, "training step", "loss")
    return figure


def curves(
    named: Mapping[str, Sequence[float] | Float[ArrayLike, " n"]],
    *,
    x: Mapping[str, Sequence[float] | Float[ArrayLike, " n"]] | None = None,
    x_label: str = "training step",
    y_label: str = "loss",
    log: bool = False,
    window: int | None = None,
    title: str = "",
) -> Figure:
    """Plot several curves, such as training and test loss, with running means of long curves.

    **Arguments:**

    - `named`: the values of each curve by name.
    - `x`: the x values of curves by name, for example the steps of a test loss that is computed
        once per epoch. Default: None. Curves without x values are at 1, 2, ...
    - `x_label`, `y_label`, `title`: texts of the figure.
    - `log`: whether the y axis is logarithmic. Values <= 0 then leave gaps. Default: False.
    - `window`: number of values in the running mean. The curve itself is then drawn faintly. 1
        means no running mean. Default: None, a fortieth of the length of each curve.

    **Raises:** `ValueError` for curves that are not one-dimensional, or different lengths of a
    curve and its x values.
    """
    if not mapping("named", named):
        raise checks.value_error("named", named, "a mapping with at least one curve")
    x = {} if x is None else mapping("x", x)
    if not set(x) <= set(named):
        raise checks.value_error("x", sorted(x), "a mapping from names of the curves")
    texts(x_label=x_label, y_label=y_label, title=title)
    window = optional(checks.count, "window", window)
    checks.flag("log", log)
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    places = []
    for i, (name, values) in enumerate(named.items()):
        values = numbers(f"named, the curve {name!r},", values, "n")
        at = numbers(f"x of the curve {name!r}", x.get(name, np.arange(1, len(values) + 1)), "n")
        if at.shape != values.shape:
            raise ValueError(
                f"x of the curve {name!r} must have length {len(values)}, got {len(at)}."
            )
        places.append(at)
        _curve(axes, at, values, name, PALETTE[i % len(PALETTE)], window)
    if all(np.all(at == np.round(at)) for at in places):
        whole_ticks(axes.xaxis)
    if log:
        axes.set_yscale("log", nonpositive="mask")
    axes.legend(frameon=False)
    axis_labels(axes, x_label, y_label)
    headline(axes, title)
    return figure


def _curve(axes, at, values, name, colour, window):
    width = len(values) // 40 if window is None else min(window, len(values))
    if width < 2:
        marker = "o" if len(values) <= 40 else ""
        axes.plot(
            at, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name
        )
        return
    axes.plot(at, values, color=colour, linewidth=0.6, alpha=0.3)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    text = f"{name} (mean of {width})"
    middle = at[(width - 1) // 2 :][: len(windows)]
    axes.plot(middle, windows.mean(axis=1), color=colour, linewidth=1.6, label=text)


def confusion(
    matrix: Float[ArrayLike, "classes classes"],
    *,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Plot a confusion matrix, with true classes in rows and predicted classes in columns.

    The colour is the fraction of the row. For up to 20 classes the entries are written as numbers.

    **Arguments:**

    - `matrix`: number of samples of each true class (rows) and predicted class (columns).
    - `labels`: one name per class. Default: None, the numbers of the classes.
    - `title`: title of the figure. Default: empty.

    **Raises:** `ValueError` if the matrix is not square, or the number of labels is wrong.
    """
    texts(title=title)
    counts = numbers("matrix", matrix, "classes, classes")
    n = len(counts)
    if counts.shape != (n, n):
        raise ValueError(f"matrix must be square, got shape {counts.shape}.")
    labels = names("labels", labels, n)
    total = counts.sum(axis=1, keepdims=True)
    fraction = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    size = min(3.0 + 0.32 * n, 9.0)
    figure = new_figure(size + 0.8, size)
    axes = figure.subplots()
    # With the square root, one per cent of confusion is visible beside the diagonal.
    image = axes.imshow(fraction, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    if n <= 20:
        for (row, column), value in np.ndenumerate(counts):
            colour = "white" if fraction[row, column] > 0.35 else (INK if value else MUTED)
            text = f"{value:.0f}" if value == round(value) else f"{value:.2f}"
            axes.text(column, row, text, color=colour, ha="center", va="center", fontsize=7)
    shown = range(0, n, -(-n // 25))
    axes.set_xticks(shown, [labels[i] for i in shown])
    axes.set_yticks(shown, [labels[i] for i in shown])
    slanted(axes, labels, 3)
    axis_labels(axes, "predicted", "target")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=25, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.set_label("fraction of the target class", color=INK)
    bar.outline.set_visible(False)
    headline(axes, title)
    return figure
