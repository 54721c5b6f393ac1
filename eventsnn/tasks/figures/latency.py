"""The pictures of digits by the times of spikes."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...data.images import ImageData
from ...train import FitResult
from .images import accuracies, losses

if TYPE_CHECKING:
    from ..images import Test
    from ..mnist_latency import Layers, MNISTLatency

_N_SHOWN = 10
# Rows of each kind in a raster.
_N_ROWS = 25
_N_TIMES = 401


def draw(
    task: "MNISTLatency", data: ImageData, before: "Layers", fitted: FitResult, test: "Test"
) -> dict[str, Any]:
    """Figures by name."""
    from ... import plots  # matplotlib is slow to import, and training does not need it

    model = eqx.nn.inference_mode(fitted.average)
    shown, labels = data.test_images[:_N_SHOWN], data.test_labels[:_N_SHOWN]
    network = task.network(model)
    in_times = task.encode(model, jnp.asarray(shown[0]), jax.random.key(0))
    times = jnp.linspace(0.0, task.t_max, _N_TIMES)
    events, traces = eqx.filter_jit(_look)(network, in_times, times)
    classes, target = [str(c) for c in range(data.n_classes)], int(labels[0])
    pairs = zip(labels, test.predicted[:_N_SHOWN], strict=True)
    return {
        "loss": plots.curves(losses(fitted)),
        "accuracy": plots.curves(
            {"test set": accuracies(task, data, before, fitted)},
            x={"test set": fitted.snapshot_steps},
            y_label="accuracy",
        ),
        "confusion": plots.confusion(test.confusion(data.n_classes), labels=classes),
        "raster": _raster(network, events, f"the first test image, a {target}"),
        "membranes": _membranes(
            times, traces, target, f"output membranes for the first test image, a {target}"
        ),
        "weights": plots.weights(_weights(before), _weights(model)),
        "samples": plots.frames(shown, [f"{c} → {p}" for c, p in pairs]),
    }


def _look(network, in_times, times):
    events = network.simulate(in_times, throw=False)
    return events, network.states_at(in_times, times, throw=False)


def _weights(model):
    return {"hidden": np.asarray(model.hidden.T), "output": np.asarray(model.output.T)}


def _raster(network, events, title):
    """Some of the hidden neurons that fire, of the outputs, and of the pixels that spike."""
    from ... import plots

    sources = np.asarray(events.sources)
    there, first = np.unique(sources[sources >= 0]), network.outputs[0]
    last = network.n_neurons
    hidden, pixels = (_some(there[there < first]), _some(there[there >= last]))
    outputs = there[(there >= first) & (there < last)]
    figure = plots.raster(
        events.times,
        sources,
        n_neurons=last,
        outputs=outputs.tolist(),
        t_max=network.t_max,
        shown=np.concatenate([hidden, outputs, pixels]).tolist(),
    )
    figure.axes[0].set_ylabel("some pixels, hidden neurons and outputs", color=plots.INK)
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure


def _some(sources):
    """A few, evenly spread."""
    chosen = np.linspace(0, max(len(sources) - 1, 0), min(_N_ROWS, len(sources)))
    return sources[np.unique(np.round(chosen).astype(int))]


def _membranes(times, traces, target, title):
    """All on one scale, from the lowest to the highest value there is; the target in colour."""
    from ... import plots

    traces = np.asarray(traces)
    low, high = np.nanmin(traces), np.nanmax(traces)
    figure = plots.membranes(times, (traces - low) / ((high - low) or 1.0), outputs=(target,))
    figure.axes[0].set_yticks(range(len(traces)))
    figure.axes[0].set_ylabel(f"output (a row is {high - low:.2g} high)", color=plots.INK)
    figure.suptitle(title, fontsize=10, color=plots.INK)
    return figure
