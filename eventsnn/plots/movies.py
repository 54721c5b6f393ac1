"""Frames of a sample, as a strip of images or as an animation."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import ArrayLike, Float
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .. import checks
from .style import INK, TARGET, axis_labels, names, new_figure, numbers, picture, texts
from .trains import draw_counts, draw_spikes


def frames(
    images: Float[ArrayLike, "k height width"] | Float[ArrayLike, "rows k height width"],
    titles: Sequence[str] | None = None,
    *,
    row_titles: Sequence[str] | None = None,
) -> Figure:
    """Plot images side by side, in one or several rows, with a common colour scale.

    **Arguments:**

    - `images`: one row of images, or several rows.
    - `titles`: one title per column. Default: None, no titles.
    - `row_titles`: one title per row. Default: None, no titles.

    **Raises:** `ValueError` for other shapes, or a wrong number of titles.
    """
    images = numbers("images", images, "k, height, width", "rows, k, height, width")
    images = images if images.ndim == 4 else images[None]
    rows, k, height, width = images.shape
    over = names("titles", [""] * k if titles is None else titles, k)
    beside = names("row_titles", [""] * rows if row_titles is None else row_titles, rows)
    inch = min(1.4, 12.0 / k)
    figure = new_figure(k * inch, rows * inch * height / width + 0.3 * any(over) + 0.1)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
    grid = figure.subplots(rows, k, squeeze=False)
    for row, strip, beside_it in zip(grid, images, beside, strict=True):
        for axes, image in zip(row, strip, strict=True):
            axes.imshow(image, **_scale(images))
            picture(axes)
        row[0].set_ylabel(beside_it, color=INK, fontsize=8)
    for axes, text in zip(grid[0], over, strict=True):
        axes.set_title(text, fontsize=8, color=INK)
    return figure


def animation(
    images: Float[ArrayLike, "time height width"] | Float[ArrayLike, "height width"] | None = None,
    *,
    spikes: Float[ArrayLike, "time neurons"] | None = None,
    title: str = "",
    interval: float = 100.0,
) -> FuncAnimation:
    """Animate images, a spike raster that is drawn step by step, or both.

    **Arguments:**

    - `images`: one image per step, or a single constant image. Default: None, no images.
    - `spikes`: a spike train with the same number of steps. Default: None, no raster.
    - `title`: text before the number of the step. Default: empty.
    - `interval`: time per step (ms). Default: 100.

    **Returns:** an animation for [`save_gif`][], or for `to_jshtml()` in a notebook. Keep a
    reference to it until it is drawn.

    **Raises:** `ValueError` for other shapes, different numbers of steps, or a single image without
    spikes.
    """
    texts(title=title)
    interval = checks.positive("interval", interval)
    shown, train, steps = _check(images, spikes)
    panels = []
    if shown is not None:
        panels.append((2.9, partial(_image, images=shown)))
    if train is not None:
        panels.append((4.2, partial(_raster, train=train)))
    widths = [width for width, _ in panels]
    figure = _animated_figure(0.5 + sum(widths), 3.2)
    grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    draws = [draw_on(axes) for axes, (_, draw_on) in zip(grid, panels, strict=True)]
    return _animate(figure, [_step_text(figure, title, steps), *draws], steps, interval)


def count_animation(
    spikes: Float[ArrayLike, "time classes"],
    *,
    target: int | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
    interval: float = 100.0,
) -> FuncAnimation:
    """Animate the bars of [`spike_counts`][], with the counts up to each step.

    **Arguments:**

    - `spikes`: spike trains of the output neurons, time axis first.
    - `target`, `labels`: as for [`spike_counts`][].
    - `title`, `interval`: as for [`animation`][].
    """
    texts(title=title)
    interval = checks.positive("interval", interval)
    counts = np.cumsum(numbers("spikes", spikes, "time, classes"), axis=0)
    figure = _animated_figure(5.6, 3.4)
    bars = draw_counts(figure.subplots(), counts[0], max(counts.max(), 1), target, labels)

    def draw(step):
        for bar, count in zip(bars, counts[step], strict=True):
            bar.set_height(count)

    draws = [_step_text(figure, title, len(counts)), draw]
    return _animate(figure, draws, len(counts), interval)


def save_gif(animation: FuncAnimation, path: str | os.PathLike, *, fps: int = 10) -> None:
    """Write an animation as a GIF file that loops forever.

    **Arguments:**

    - `animation`: the animation.
    - `path`: path of the file.
    - `fps`: frames per second, an integer >= 1. Default: 10.

    **Raises:** `ValueError` for an invalid animation, an invalid path, or `fps` < 1.
    """
    checks.instance("animation", animation, FuncAnimation, "an animation of eventsnn.plots")
    checks.instance("path", path, str | os.PathLike, "a path")
    fps = checks.count("fps", fps)
    animation.save(os.fspath(path), writer=PillowWriter(fps=fps))


def _check(images, spikes):
    """Check images and spikes. Return one image per step, the train, and the number of steps.

    Images or train are None if not given.
    """
    if spikes is None:
        images = numbers("images", images, "time, height, width")
        return images, None, len(images)
    train = numbers("spikes", spikes, "time, neurons")
    if images is None:
        return None, train, len(train)
    images = numbers("images", images, "time, height, width", "height, width")
    if images.ndim == 2:
        images = np.broadcast_to(images, (len(train), *images.shape))
    if len(images) != len(train):
        raise ValueError(f"images must have {len(train)} steps, as spikes, got {len(images)}.")
    return images, train, len(images)


def _animated_figure(width, height):
    figure = new_figure(width, height)
    figure.set_dpi(100)
    return figure


def _step_text(figure, title, steps):
    text = figure.suptitle("", x=0.01, ha="left", fontsize=10, color=INK)
    before = f"{title}, step" if title else "step"
    return lambda step: text.set_text(f"{before} {step + 1} of {steps}")


def _image(axes, images):
    image = axes.imshow(images[0], **_scale(images))
    picture(axes)
    return lambda step: image.set_data(images[step])


def _raster(axes, train):
    lines, times = draw_spikes(axes, train, 2.4, 3.6)
    segments = lines.get_segments()
    now = axes.axvline(0, color=TARGET, linewidth=1.0, alpha=0.6, zorder=0)
    axis_labels(axes, "time step", "neuron")

    def draw(step):
        lines.set_segments(segments[: np.searchsorted(times, step, side="right")])
        now.set_xdata([step, step])

    return draw


def _animate(figure, draws, steps, interval):
    def update(step):
        for draw in draws:
            draw(step)
        return ()

    update(0)
    # Without pyplot the figure has no canvas, and an animation needs one.
    FigureCanvasAgg(figure)
    return FuncAnimation(
        figure,
        update,
        frames=steps,
        interval=interval,
        init_func=lambda: (),
        cache_frame_data=False,
    )


def _scale(images):
    """Common colour scale of all images.

    Grey from zero, or a diverging scale centred at zero if there are negative values.
    """
    low, high = images.min(), images.max()
    if low < 0:
        top = max(-low, high)
        return dict(cmap="RdBu_r", vmin=-top, vmax=top)
    return dict(cmap="gray", vmin=0, vmax=high or 1)
