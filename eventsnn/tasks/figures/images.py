"""The pictures of the tasks on digits."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...data.images import ImageData
from ...discrete import AbstractCell, OneToOne, Sequential
from ...train import FitResult

if TYPE_CHECKING:
    from ..images import ImageTask, Test

_N_SHOWN = 10


def draw(
    task: "ImageTask", data: ImageData, before: Sequential, fitted: FitResult, test: "Test"
) -> tuple[dict, dict]:
    """Figures and animations by name."""
    from ... import plots  # matplotlib is slow to import, and training does not need it

    model = eqx.nn.inference_mode(fitted.average)
    shown, labels = data.test_images[:_N_SHOWN], data.test_labels[:_N_SHOWN]
    predicted = test.predicted[:_N_SHOWN]
    cells = [i for i, layer in enumerate(model.layers) if isinstance(layer, AbstractCell)]
    seeds = np.arange(_N_SHOWN, dtype=np.int32)
    run = eqx.filter_jit(lambda m, x, s: task.simulate(m, x, s, layers=cells))(model, shown, seeds)
    hidden, output = (np.asarray(spikes[:, 0]) for spikes in run.spikes)
    hidden = hidden.reshape(len(hidden), -1)  # maps, for a convolution
    target = int(labels[0])
    classes = [str(c) for c in range(data.n_classes)]
    titles = [f"{c} → {p}" for c, p in zip(labels, predicted, strict=True)]
    figures = {
        "loss": plots.curves(losses(fitted)),
        "accuracy": plots.curves(
            {"test set": accuracies(task, data, before, fitted)},
            x={"test set": fitted.snapshot_steps},
            y_label="accuracy",
        ),
        "confusion": plots.confusion(test.confusion(data.n_classes), labels=classes),
        "raster": plots.spike_raster(
            {"hidden": hidden, "output": output}, title=f"the first test image, a {target}"
        ),
        "membranes": plots.membrane_traces(
            np.asarray(run.membranes[-1][:, 0]),
            output,
            threshold=float(model.layers[cells[-1]].threshold),
            labels=classes,
            title=f"output membranes for the first test image, a {target}",
        ),
        "counts": plots.spike_counts(output, target=target, labels=classes),
        "weights": plots.weights(parameters(before), parameters(model)),
    }
    film = getattr(task, "frames", None)
    if film is None:
        figures["samples"] = plots.frames(shown, titles)
        return figures, {}
    frames = np.asarray(jax.jit(film)(shown, seeds))
    steps = [f"step {t}" for t in range(1, len(frames) + 1)]
    rows = np.moveaxis(frames[:, :4], 1, 0)
    figures["samples"] = plots.frames(rows, steps, row_titles=titles[:4])
    return figures, {"sample": plots.animation(frames[:, 0], spikes=hidden, title=titles[0])}


def losses(fitted):
    """Of every step, by the name of the batch."""
    found = {"training batch": fitted.losses}
    return found if fitted.monitored is None else {**found, "test batch": fitted.monitored}


def accuracies(task, data, before, fitted):
    """The accuracy over the test set after each epoch."""
    static = eqx.filter(before, eqx.is_array, inverse=True)
    models = (
        eqx.combine(jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), fitted.snapshots), static)
        for i in range(len(fitted.snapshot_steps))
    )
    return [task.test(model, data).accuracies()[""] for model in models]


def parameters(model: Sequential) -> dict[str, np.ndarray]:
    """Weights and biases of every layer by name; V is the feedback."""
    named = {}
    for i, layer in enumerate(model.layers):
        for name, part in (
            (f"layer {i}", layer),
            (f"layer {i} V", getattr(layer, "feedback", None)),
        ):
            if isinstance(part, OneToOne):
                named[name] = part.v
            elif isinstance(part, eqx.nn.Linear | eqx.nn.Conv2d):
                named[name] = part.weight.reshape(len(part.weight), -1)
                if part.bias is not None:
                    named[f"{name} bias"] = part.bias.reshape(-1)
    # Not as one tree: that would sort the names.
    return {name: np.asarray(value) for name, value in named.items()}
