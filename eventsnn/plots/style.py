"""Shared style of all plots: colours, axes, and argument checks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .. import checks

# Colours of text and axes, of secondary lines, of targets, of the model's results, and of inputs.
INK = "#22303c"
MUTED = "#8a97a3"
TARGET = "#e4572e"
MODEL = "#17659c"
INPUT = "#2fa98a"
PALETTE = (MODEL, TARGET, INPUT, "#b07fe0", "#f0b43c", INK)


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of the given size in inches."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def axis_labels(axes: Axes, x: str, y: str):
    """Set axis labels and a faint grid, and remove the frame."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def whole_ticks(axis: Axis, nbins: int = 9):
    """Set ticks at integers, in steps of 1, 2, 5, 10, ..."""
    axis.set_major_locator(
        MaxNLocator(nbins=nbins, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    )


def headline(axes: Axes, text: str):
    """Set a left-aligned title above the axes."""
    if text:
        axes.set_title(text, loc="left", fontsize=10, color=INK)


def slanted(axes: Axes, labels: Sequence[str], longest: int):
    """Rotate the labels of the x axis if one has more than `longest` characters."""
    if max(map(len, labels)) > longest:
        for tick in axes.get_xticklabels():
            tick.set(rotation=40, ha="right", rotation_mode="anchor")


def picture(axes: Axes):
    """Set the style of image axes: no ticks, a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=MUTED, linewidth=0.5)


def target_line(axes: Axes, target: float | None):
    """Draw a vertical line at the target time, unless it is None."""
    if target is not None:
        target = checks.number("target", target)
        axes.axvline(target, color=TARGET, linewidth=1.4, linestyle="--", label="target")


def against_target(
    x, target, value, *, name: str, x_label: str, y_label: str, unit: str = "", marker: str = ""
) -> Figure:
    """Plot target and value in an upper panel, and their difference in a lower panel."""
    figure = new_figure(6.4, 5.2)
    suffix = f" ({unit})" if unit else ""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot(x, target, color=TARGET, linewidth=4, alpha=0.45, label="target")
    above.plot(x, value, color=MODEL, linewidth=1.5, marker=marker, markersize=4, label=name)
    above.legend(frameon=False)
    axis_labels(above, "", y_label + suffix)
    below.axhline(0, color=MUTED, linewidth=0.8)
    below.plot(x, value - target, color=MODEL, linewidth=1.2)
    axis_labels(below, x_label, "error" + suffix)
    return figure


def numbers(name: str, value: Any, *shapes: str) -> np.ndarray:
    """Convert `value` to floats. Raise unless its number of axes matches one of the shapes.

    Shapes are written like `"time, neurons"`. Empty arrays also raise. Without shapes, any shape is
    accepted.
    """
    out = np.asarray(checks.numbers(name, value, boolean=True), float)
    axes = {len(shape.split(",")) for shape in shapes}
    if shapes and (out.ndim not in axes or out.size == 0):
        expected = " or ".join(f"({shape})" for shape in shapes)
        raise ValueError(f"{name} must have shape {expected}, got shape {out.shape}.")
    return out


def same_shape(**named: np.ndarray):
    """Raise if arrays have different shapes."""
    shapes = {name: value.shape for name, value in named.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} must have the same shape, got {listed}.")


def names(argument: str, value: Any, n: int) -> list[str]:
    """Return a list of `n` names. For None, they are the numbers from 0.

    Raise for a wrong number of names.
    """
    if value is None:
        return [str(i) for i in range(n)]
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise checks.value_error(argument, value, f"a sequence of {n} names")
    if len(value) != n:
        raise ValueError(f"{argument} must have length {n}, got {len(value)}.")
    if not all(isinstance(name, str | int | float | np.generic) for name in value):
        raise checks.value_error(argument, value, f"a sequence of {n} names")
    return [str(name) for name in value]


def mapping(argument: str, value: Any) -> Mapping:
    """Return `value`. Raise unless it is a mapping whose keys are strings."""
    expected = "a mapping from names to arrays"
    checks.instance(argument, value, Mapping, expected)
    if not all(isinstance(name, str) for name in value):
        raise checks.value_error(argument, list(value), expected)
    return value


def texts(**named: Any):
    """Raise if one of the values is not a string."""
    for name, value in named.items():
        checks.instance(name, value, str, "a string")


def optional(check: Callable[..., Any], name: str, value: Any, *more: Any) -> Any:
    """Apply a check to the value, unless it is None."""
    return None if value is None else check(name, value, *more)


def whole_numbers(name: str, value: Any) -> np.ndarray:
    """Convert `value` to a vector of integers."""
    expected = "a sequence of integers"
    out = np.asarray(checks.numbers(name, value, expected))
    if out.ndim != 1 or not (checks.is_integer(out) or out.size == 0):
        raise checks.value_error(name, value, expected)
    return out.astype(int)
