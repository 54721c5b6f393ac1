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
    AbstractNeuron,
    EventNetwork,
    LeakyIntegrator,
    Populations,
    Pseudospikes,
    Refractory,
    trainable,
)
from ..losses import ce_ttfs
from .base import skip_nonfinite_updates
from .epochs import snapshot_models
from .images import N_SHOWN, Batch, ImageTask
from .settings import option

__all__ = ["Layers", "MNISTLatency"]

# Approximate number of hidden neurons, and of samples, that share an event loop.
_NEURONS_PER_LOOP = 35
_SAMPLES_PER_LOOP = 32
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


class Layers(eqx.Module):
    """Weights of two feed-forward layers, and the dropout of the inputs."""

    hidden: Float[Array, "pixels hidden"]
    output: Float[Array, "hidden classes"]
    dropout: eqx.nn.Dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class MNISTLatency(ImageTask[Layers, Float[Array, "batch classes"]]):
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

    Neurons within a feed-forward layer do not interact. The hidden neurons are therefore simulated
    in groups, and each group has only its own events and the input events. Samples with similar
    numbers of inputs share an event loop, since a loop ends with its longest sample. The outputs
    receive the first `max_spikes` spikes of each hidden neuron. If no hidden neuron fires more
    often, [`network`][] is an equivalent single network. The figures show [`network`][], in which
    the outputs receive all spikes.
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
    max_spikes: int = option(
        5, "maximum number of spikes per hidden neuron that the outputs receive"
    )
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

    def build(self, key: PRNGKeyArray, shape: tuple[int, int]) -> Layers:
        key_hidden, key_output = jax.random.split(key)
        pixels, n = shape[0] * shape[1], self.n_hidden
        initial = _WEIGHTS[self.dataset, self.readout]
        return Layers(
            _normal(key_hidden, (pixels, n), *initial.hidden),
            _normal(key_output, (n, 10), *initial.output),
            eqx.nn.Dropout(self.dropout),
        )

    def trainable(self, model: Layers) -> Layers:
        return trainable(model, "hidden", "output")

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.learning_rate, steps, self.final_rate_fraction)
        return skip_nonfinite_updates(optax.adam(rate))

    def simulate(
        self,
        model: Layers,
        images: Float[Array, "batch h w"],
        keys: PRNGKeyArray,
    ) -> Float[Array, "batch classes"]:
        """Compute the maximal potentials, or the first spike times (ms), of the outputs."""
        in_times = jax.vmap(lambda x, key: self.encode(model, x, key))(jnp.asarray(images), keys)
        outputs = self.output_network(model)
        hidden = self.hidden_spikes(model, in_times)
        query = outputs.maxima if self.readout == "potential" else outputs.ttfs
        return query(hidden, throw=False)

    def loss(self, model: Layers, batch: Batch) -> Float[Array, ""]:
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
        self, model: Layers, image: Float[Array, "h w"], key: PRNGKeyArray
    ) -> Float[Array, "pixels 1"]:
        """Spike time of each pixel (ms), `inf` for the background and for dropped pixels."""
        kept = model.dropout((image > _BACKGROUND).astype(image.dtype), key=key)
        return jnp.where(kept > 0, (1 - image) * self.input_t_max, jnp.inf).reshape(-1, 1)

    def hidden_spikes(
        self, model: Layers, in_times: Float[Array, "batch pixels 1"]
    ) -> Float[Array, "batch hidden max_spikes"]:
        """Compute the spike times of each hidden neuron (ms), padded with `inf`."""
        (pixels, n), batch = model.hidden.shape, len(in_times)
        groups, parts = _pieces(n, _NEURONS_PER_LOOP), _pieces(batch, _SAMPLES_PER_LOOP)
        order = jnp.argsort(jnp.sum(in_times < jnp.inf, axis=(1, 2)))
        sorted_times = in_times[order].reshape(parts, batch // parts, pixels, 1)
        weights = jnp.moveaxis(model.hidden.reshape(pixels, groups, n // groups), 1, 0)

        def spikes(weights, times):
            return self.hidden_network(weights).spikes(times, self.max_spikes, throw=False)

        found = jax.lax.map(
            lambda times: jax.lax.map(lambda group: spikes(group, times), weights), sorted_times
        )
        found = jnp.swapaxes(found, 1, 2).reshape(batch, n, self.max_spikes)
        return found[jnp.argsort(order)]

    def hidden_network(self, weights: Float[Array, "pixels group"]) -> EventNetwork:
        """Network of a group of hidden neurons."""
        group = weights.shape[1]
        return EventNetwork(
            LIF(self.tau_mem, self.tau_syn),
            jnp.pad(weights, ((group, 0), (0, 0))),
            outputs=range(group),
            t_max=self.t_max,
            max_events=_MAX_INPUTS[self.dataset] + group * (self.max_spikes + 1),
        )

    @property
    def output_neuron(self) -> AbstractNeuron:
        """Output neuron model. With `readout="ttfs"` it is refractory after its first spike."""
        if self.readout == "potential":
            return LeakyIntegrator(self.tau_mem, self.tau_syn)
        return Refractory(LIF(self.tau_mem, self.tau_syn), 2 * self.t_max)

    def output_network(self, model: Layers) -> EventNetwork:
        """Network of the outputs, with the hidden neurons as input channels."""
        n, classes = model.output.shape
        return EventNetwork(
            self.output_neuron,
            jnp.pad(model.output, ((classes, 0), (0, 0))),
            outputs=range(classes),
            t_max=self.t_max,
            pseudospikes=None if self.readout == "potential" else Pseudospikes(2.0, self.t_max),
            max_events=n * self.max_spikes + classes,
        )

    def network(self, model: Layers) -> EventNetwork:
        """Network of both layers, hidden neurons first. The outputs receive all hidden spikes."""
        (pixels, n), classes = model.hidden.shape, model.output.shape[1]
        drive = jnp.zeros(n + classes).at[n:].set(2.0)
        integrators = self.readout == "potential"
        return EventNetwork(
            Populations([(LIF(self.tau_mem, self.tau_syn), n), (self.output_neuron, classes)]),
            jnp.zeros((n + classes + pixels, n + classes))
            .at[:n, n:]
            .set(model.output)
            .at[n + classes :, :n]
            .set(model.hidden),
            outputs=range(n, n + classes),
            t_max=self.t_max,
            pseudospikes=None if integrators else Pseudospikes(drive, self.t_max),
            max_events=_MAX_INPUTS[self.dataset] + (n + classes) * (self.max_spikes + 1),
        )

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
    return {"hidden": np.asarray(model.hidden.T), "output": np.asarray(model.output.T)}


def _pieces(n: int, size: int) -> int:
    """Number of equal pieces of `n` items: the largest divisor of `n` up to ceil(n / size)."""
    return max(k for k in range(1, -(-n // size) + 1) if n % k == 0)


def _normal(key, shape, mean, deviation):
    return mean + deviation * jax.random.normal(key, shape)
