"""Digit classification with a latency code: one spike per pixel, earlier for brighter pixels."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..event import (
    LIF,
    EventLinear,
    EventNetwork,
    EventSequential,
    LeakyIntegrator,
    Pseudospikes,
    trainable,
)
from ..losses import ce_ttfs
from .base import skip_nonfinite_updates
from .epochs import snapshot_models
from .images import N_SHOWN, Batch, ImageTask
from .settings import option

__all__ = ["LatencyModel", "MNISTLatency"]

# Pixels with a grey value above this one spike: at least 2 of 255.
_BACKGROUND = 1.5 / 255
# Number of times at which the membrane potentials of the outputs are drawn.
_N_TIMES = 401


class _InitialWeights(NamedTuple):
    """Mean and standard deviation of the initial weights."""

    hidden: tuple[float, float]
    output: tuple[float, float]


# Those of the hidden layer for MNIST are from Wunderlich & Pehle.
_WEIGHTS = {
    ("digits", "potential"): _InitialWeights((0.35, 0.2), (0.4, 0.9)),
    ("digits", "ttfs"): _InitialWeights((0.35, 0.2), (0.4, 0.9)),
    ("mnist", "potential"): _InitialWeights((0.078, 0.045), (0.2, 0.37)),
    ("mnist", "ttfs"): _InitialWeights((0.078, 0.045), (0.2, 0.5)),
}
_SETTINGS = {
    ("digits", "potential"): {"n_hidden": 100, "learning_rate": 5e-2, "dropout": 0.0},
    ("digits", "ttfs"): {"n_hidden": 100, "learning_rate": 5e-3, "dropout": 0.0},
    ("mnist", "potential"): {"n_hidden": 350, "learning_rate": 2e-2, "dropout": 0.2},
    ("mnist", "ttfs"): {"n_hidden": 350, "learning_rate": 2e-3, "dropout": 0.0},
}
# Upper limit of the number of pixels that spike in one image.
_MAX_INPUTS = {"digits": 64, "mnist": 400}


class LatencyModel(eqx.Module):
    """Layers of spiking neurons, and the dropout of their inputs."""

    layers: EventSequential
    dropout: eqx.nn.Dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class MNISTLatency(ImageTask[LatencyModel, Float[Array, "batch classes"]]):
    r"""Digit classification by one hidden layer of LIF neurons and ten outputs, in the event mode.

    Each pixel fires once, at $t = (1 - p)\,20$ ms for a grey value $p$ in (0, 1]. Background pixels
    are silent.

    - `readout="potential"`: the outputs are leaky integrators. The predicted class is the output
        with the largest membrane potential over time, and the loss is the cross entropy of these
        maxima (Wunderlich & Pehle, Scientific Reports 11:12829, 2021, arXiv:2009.08378; batches
        there have 5 samples).
    - `readout="ttfs"`: the outputs are LIF neurons that fire once. The predicted class is the
        output that fires first. Outputs that are silent until `t_max` are driven by a current until
        they fire, see [`eventsnn.Pseudospikes`][].

    A sample in which a hidden neuron fires more than `max_spikes` times has no valid result: its
    gradient step is skipped, and its class is wrong.
    """

    name: ClassVar[str] = "mnist-latency"
    summary: ClassVar[str] = "classification of digits, event mode, one spike per pixel"
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 20, "mnist": 10}

    quick_settings: ClassVar[dict[str, Any]] = ImageTask.quick_settings | {"n_hidden": 20}

    readout: str = option(
        "potential",
        "prediction; potential: the output with the largest membrane potential over time; ttfs: "
        "the output that fires first",
        choices=("potential", "ttfs"),
    )
    final_rate_fraction: float = option(
        0.05, "final learning rate, as a fraction of the initial learning rate", least=0
    )
    dropout: float = option(
        None, "probability that training drops a pixel of an image", least=0, most=1
    )
    n_hidden: int = option(None, "number of hidden neurons")
    tau_mem: float = option(20.0, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(5.0, "time constant of the synapses, in ms", above=0)
    input_t_max: float = option(
        20.0, "spike time of a pixel in the limit of the grey value 0, in ms", above=0
    )
    t_max: float = option(40.0, "time limit of the simulation before pseudospikes, in ms", above=0)
    max_spikes: int = option(40, "maximum number of spikes per hidden neuron")
    tau0: float = option(
        0.25, "softmax temperature of the loss, in ms, with --readout ttfs", above=0
    )
    tau1: float = option(
        20.0, "time scale of the penalty for late spikes, in ms, with --readout ttfs", above=0
    )
    alpha: float = option(
        3e-3, "weight of the penalty for late spikes, with --readout ttfs", least=0
    )

    def defaults(self) -> Mapping[str, Any]:
        chosen = _SETTINGS[self.dataset, self.readout]
        return {**super().defaults(), "batch_size": 64, **chosen}

    def build(self, key: PRNGKeyArray, shape: tuple[int, int]) -> LatencyModel:
        key_hidden, key_output = jax.random.split(key)
        pixels, n = shape[0] * shape[1], self.n_hidden
        initial = _WEIGHTS[self.dataset, self.readout]
        constants, fires = (self.tau_mem, self.tau_syn), self.readout == "ttfs"
        hidden = EventLinear(
            LIF(*constants),
            _normal(key_hidden, (pixels, n), *initial.hidden),
            t_max=self.t_max,
            max_spikes=self.max_spikes,
        )
        outputs = EventLinear(
            LIF(*constants) if fires else LeakyIntegrator(*constants),
            _normal(key_output, (n, 10), *initial.output),
            t_max=self.t_max,
            pseudospikes=Pseudospikes(2.0, self.t_max) if fires else None,
        )
        return LatencyModel(EventSequential([hidden, outputs]), eqx.nn.Dropout(self.dropout))

    def trainable(self, model: LatencyModel) -> LatencyModel:
        return trainable(model, "weights")

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.learning_rate, steps, self.final_rate_fraction)
        return skip_nonfinite_updates(optax.adam(rate))

    def simulate(
        self,
        model: LatencyModel,
        images: Float[Array, "batch h w"],
        keys: PRNGKeyArray,
    ) -> Float[Array, "batch classes"]:
        """Compute the maximal potentials, or the first spike times (ms), of the outputs."""
        in_times = jax.vmap(lambda x, key: self.encode(model, x, key))(jnp.asarray(images), keys)
        query = model.layers.maxima if self.readout == "potential" else model.layers.ttfs
        return query(in_times, throw=False)

    def loss(self, model: LatencyModel, batch: Batch) -> Float[Array, ""]:
        found, labels = self.simulate(model, batch.images, batch.keys), batch.labels
        if self.readout == "potential":
            return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(found, labels))
        scales = {"tau0": self.tau0, "tau1": self.tau1, "alpha": self.alpha}
        return ce_ttfs(found, labels, t_max=2 * self.t_max, **scales)

    @property
    def main_readout(self) -> str:
        return self.readout

    def scores(self, response: Float[Array, "batch classes"]):
        return {self.readout: response if self.readout == "potential" else -response}

    def encode(
        self, model: LatencyModel, image: Float[Array, "h w"], key: PRNGKeyArray
    ) -> Float[Array, "pixels 1"]:
        """Spike time of each pixel (ms), `inf` for the background and for dropped pixels."""
        kept = model.dropout((image > _BACKGROUND).astype(image.dtype), key=key)
        return jnp.where(kept > 0, (1 - image) * self.input_t_max, jnp.inf).reshape(-1, 1)

    def network(self, model: LatencyModel) -> EventNetwork:
        """Equivalent single network until `t_max`, hidden neurons first."""
        hidden, outputs = model.layers.layers
        outputs = eqx.tree_at(
            lambda layer: layer.pseudospikes, outputs, None, is_leaf=lambda x: x is None
        )
        events = _MAX_INPUTS[self.dataset] + (self.n_hidden + 10) * (self.max_spikes + 1)
        return EventSequential([hidden, outputs]).as_network(events)

    def make_figures(self, data, result, test):
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import images, latency

        model = eqx.nn.inference_mode(result.average)
        shown, labels = data.test_images[:N_SHOWN], data.test_labels[:N_SHOWN]
        net, target = self.network(model), int(labels[0])
        in_times = self.encode(model, jnp.asarray(shown[0]), jax.random.key(0))
        times = jnp.linspace(0.0, self.t_max, _N_TIMES)
        events, traces = _events_and_potentials(net, in_times, times)
        drawn = {
            **self.training_figures(data, result, test),
            "raster": latency.raster(
                events.times,
                events.sources,
                n_neurons=net.n_neurons,
                outputs=net.outputs,
                t_max=net.t_max,
                target=target,
            ),
            "membranes": latency.membranes(times, traces, target=target),
            "weights": plots.weights(_weights(next(snapshot_models(result))), _weights(model)),
            "samples": images.samples(shown, labels, test.predicted[:N_SHOWN]),
        }
        return drawn, {}


@eqx.filter_jit
def _events_and_potentials(net, in_times, times):
    events = net.simulate(in_times, throw=False)
    return events, net.potentials_at(in_times, times, throw=False)


def _weights(model):
    hidden, outputs = model.layers.layers
    return {"hidden": np.asarray(hidden.weights.T), "output": np.asarray(outputs.weights.T)}


def _normal(key, shape, mean, deviation):
    return mean + deviation * jax.random.normal(key, shape)
