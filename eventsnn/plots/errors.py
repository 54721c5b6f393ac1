"""Plots of convergence."""

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from .. import checks
from .style import INK, MODEL, TARGET, axis_labels, headline, new_figure, numbers, texts


def convergence(
    dts: Float[ArrayLike, " steps"],
    errors: Float[ArrayLike, " steps"] | Float[ArrayLike, "networks steps"],
    *,
    order: float = 1,
    x_label: str = "step (ms)",
    y_label: str = "error (ms)",
    title: str = "",
) -> Figure:
    r"""Plot errors against step sizes on logarithmic axes, with a reference line of given order.

    The broad line is $c\,\Delta^p$. It passes through the geometric mean of the errors.

    **Arguments:**

    - `dts`: the step sizes $\Delta$, at least two, distinct, in any order.
    - `errors`: errors of one network at each step size, or of several networks with one row per
        network. For several networks the line is the median, and the band reaches from the smallest
        to the largest error.
    - `order`: $p$, the order of the reference line. Default: 1.
    - `x_label`, `y_label`, `title`: texts of the figure.

    **Raises:** `ValueError` if the shapes do not match, and for steps or errors that are not finite
    and > 0, since a logarithmic axis cannot show them.
    """
    order = checks.number("order", order)
    texts(x_label=x_label, y_label=y_label, title=title)
    dts = _positive("dts", numbers("dts", dts, "steps"))
    errors = _positive("errors", numbers("errors", errors, "steps", "networks, steps"))
    if len(dts) < 2 or len(np.unique(dts)) < len(dts):
        raise ValueError(f"dts must be at least two distinct steps, got {dts.tolist()}.")
    if errors.shape[-1] != len(dts):
        raise ValueError(
            f"errors must have one entry per step size, {len(dts)} along the last axis, "
            f"got shape {errors.shape}."
        )
    rank = np.argsort(dts)
    dts, errors = dts[rank], np.atleast_2d(errors)[:, rank]
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    _draw_errors(axes, dts, errors, order)
    _logarithmic(axes, dts)
    axis_labels(axes, x_label, y_label)
    axes.legend(frameon=False, reverse=True, labelcolor=INK)
    headline(axes, title)
    return figure


def _draw_errors(axes, dts, errors, order):
    """Draw the median error and the range of the errors over a line of the given order."""
    middle = np.median(errors, axis=0)
    slope = np.polyfit(np.log(dts), np.log(middle), 1)[0]
    reference = np.exp(np.mean(np.log(middle / dts**order))) * dts**order
    name = "measured"
    if len(errors) > 1:
        name = f"median of {len(errors)} networks"
        low, high = errors.min(axis=0), errors.max(axis=0)
        axes.fill_between(
            dts, low, high, color=MODEL, alpha=0.15, linewidth=0, label="smallest to largest"
        )
    # Broad and pale, so that it is visible where the errors lie on it.
    axes.plot(dts, reference, color=TARGET, linewidth=4, alpha=0.45, label=f"slope {order:g}")
    axes.plot(
        dts,
        middle,
        "o-",
        color=MODEL,
        linewidth=1.6,
        markersize=5,
        label=f"{name}: slope {slope:.2f}",
    )


def _positive(name, values):
    bad = values[~(np.isfinite(values) & (values > 0))]
    if bad.size:
        raise ValueError(f"{name} must be finite and > 0, got {bad.flat[0]:g}.")
    return values


def _logarithmic(axes, dts):
    """Set logarithmic axes, with plain numbers as labels if possible.

    Up to 8 step sizes are the ticks of the x axis.
    """
    axes.set_xscale("log")
    axes.set_yscale("log")
    if len(dts) <= 8:
        axes.set_xticks(dts, [f"{dt:g}" for dt in dts])
        axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    if high / low < 1000 and low > 1e-4:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
