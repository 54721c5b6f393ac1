"""Figures of tasks that classify images."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from ... import plots

__all__ = ["activity", "movie", "moving_samples", "samples", "training"]


def training(
    losses: Mapping[str, Float[np.ndarray, " steps"]],
    accuracies: Sequence[float],
    accuracy_steps: Int[np.ndarray, " snapshots"],
    confusion: Int[np.ndarray, "classes classes"],
) -> dict[str, Figure]:
    """Draw the losses and the test accuracy during training, and the confusion matrix.

    **Arguments:**

    - `losses`: the loss at each step, by name of the batch.
    - `accuracies`: the test accuracy after each number of steps in `accuracy_steps`.
    - `confusion`: in row `i` and column `j`, the number of images of class `i` that were assigned
        to class `j`.
    """
    return {
        "loss": plots.curves(losses),
        "accuracy": plots.curves(
            {"test set": accuracies}, x={"test set": accuracy_steps}, y_label="accuracy"
        ),
        "confusion": plots.confusion(confusion, labels=_names(len(confusion))),
    }


def activity(
    hidden: Float[np.ndarray, "time hidden"],
    output: Float[np.ndarray, "time classes"],
    membranes: Float[np.ndarray, "time classes"],
    *,
    threshold: float,
    target: int,
) -> dict[str, Figure]:
    """Draw the spikes, the output membrane potentials and the spike counts for one image.

    **Arguments:**

    - `hidden`, `output`: spikes of the hidden neurons and of the outputs.
    - `membranes`: membrane potentials of the outputs.
    - `threshold`: threshold of the outputs.
    - `target`: class of the image.
    """
    classes = _names(output.shape[1])
    return {
        "raster": plots.spike_raster(
            {"hidden": hidden, "output": output}, title=f"the first test image, a {target}"
        ),
        "membranes": plots.membrane_traces(
            membranes,
            output,
            threshold=threshold,
            labels=classes,
            title=f"output potentials for the first test image, a {target}",
        ),
        "counts": plots.spike_counts(output, target=target, labels=classes),
    }


def samples(
    images: Float[np.ndarray, "n h w"],
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
) -> Figure:
    """Draw images with their true and predicted classes.

    **Arguments:**

    - `images`: the images.
    - `labels`, `predicted`: true and predicted class of each image.
    """
    return plots.frames(images, _true_and_predicted(labels, predicted))


def moving_samples(
    frames: Float[np.ndarray, "time n h w"],
    labels: Int[np.ndarray, " n"],
    predicted: Int[np.ndarray, " n"],
) -> Figure:
    """Draw the frames of the first four moving images, one image per row.

    **Arguments:**

    - `frames`: frames of the moving images, time axis first.
    - `labels`, `predicted`: true and predicted class of each moving image.
    """
    steps = [f"step {t}" for t in range(1, len(frames) + 1)]
    rows = np.moveaxis(frames[:, :4], 1, 0)
    return plots.frames(rows, steps, row_titles=_true_and_predicted(labels, predicted)[:4])


def movie(
    frames: Float[np.ndarray, "time h w"],
    hidden: Float[np.ndarray, "time hidden"],
    label: int,
    predicted: int,
    title: str,
) -> FuncAnimation:
    """Animate one moving image and the spikes of the hidden neurons.

    **Arguments:**

    - `frames`: frames of the moving image.
    - `hidden`: spikes of the hidden neurons.
    - `label`, `predicted`: true and predicted class.
    - `title`: text before the classes.
    """
    (classes,) = _true_and_predicted([label], [predicted])
    return plots.animation(frames, spikes=hidden, title=f"{title}: {classes}")


def _names(n_classes):
    return [str(c) for c in range(n_classes)]


def _true_and_predicted(labels, predicted):
    return [f"{c} → {p}" for c, p in zip(labels, predicted, strict=True)]
