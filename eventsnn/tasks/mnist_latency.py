"""Digit classification with a latency code: one spike per pixel, earlier for brighter pixels."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..event import (
    LIF,
    EventFlatten,
    EventLinear,
    EventNetwork,
    EventSequential,
    LeakyIntegrator,
    Pseudospikes,
)
from ..losses import ce_ttfs
from .epochs import snapshot_models
from .images import N_SHOWN, Batch, ImageTask
from .latency import DISTORTED, N_TIMES, UNDISTORTED, LatencyModel, LatencyTask, gaussian
from .settings import option

__all__ = ["MNISTLatency"]


class _InitialWeights(NamedTuple):
    """Mean and standard deviation of the initial weights."""

    hidden: tuple[float, float]
    output: tuple[float, float]


# Those of the hidden layer for MNIST with readout "ttfs" are from Wunderlich & Pehle.
_WEIGHTS = {
    ("digits", "potential"): _InitialWeights((0.35, 0.2), (0.4, 0.9)),
    ("digits", "ttfs"): _InitialWeights((0.35, 0.2), (0.4, 0.9)),
    ("mnist", "potential"): _InitialWeights((0.02, 0.15), (0.2, 0.37)),
    ("mnist", "ttfs"): _InitialWeights((0.078, 0.045), (0.2, 0.5)),
}
# Settings of all data sets and readouts that do not choose another value.
_COMMON = {
    "final_rate_fraction": 0.05,
    "dropout": 0.0,
    **UNDISTORTED,
    "tau_syn": 5.0,
    "t_max": 40.0,
    "v_reset": 0.0,
    "max_spikes": 40,
}
_RISING = {"tau_syn": 20.0, "t_max": 15.0}  # potentials rise until t_max
_SETTINGS = {
    ("digits", "potential"): {"n_hidden": 100, "learning_rate": 5e-2, **_RISING},
    ("digits", "ttfs"): {"n_hidden": 100, "learning_rate": 5e-3},
    ("mnist", "potential"): {
        "n_hidden": 350,
        "learning_rate": 2e-2,
        "final_rate_fraction": 0.01,
        "dropout": 0.1,
        **DISTORTED,
        "v_reset": -1.0,
        **_RISING,
    },
    ("mnist", "ttfs"): {"n_hidden": 350, "learning_rate": 2e-3},
}
# Upper limit of the number of pixels that spike in one image.
_MAX_INPUTS = {"digits": 64, "mnist": 400}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MNISTLatency(LatencyTask):
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

    With `readout="potential"`, `t_max` lies before the maximum of the response to an input spike.
    Most hidden spikes then appear or vanish at `t_max`, where they have no effect on the outputs,
    and the loss has no jump there. With a later `t_max` they appear in the middle of the
    simulation, and the loss jumps, which the gradient does not contain. Pixels that fire after
    `t_max`, those with p < 0.25, have no effect.

    The outputs receive the first `max_spikes` spikes of each hidden neuron. The metric
    `hidden_spikes_max` tells whether a neuron reaches this limit.
    """

    name: ClassVar[str] = "mnist-latency"
    summary: ClassVar[str] = "classification of digits, event mode, one spike per pixel"
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 20, "mnist": 12}

    quick_settings: ClassVar[dict[str, Any]] = ImageTask.quick_settings | {"n_hidden": 20}

    readout: str = option(
        "potential",
        "prediction; potential: the output with the largest membrane potential over time; ttfs: "
        "the output that fires first",
        choices=("potential", "ttfs"),
    )
    n_hidden: int = option(None, "number of hidden neurons")
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
        return {**super().defaults(), **_COMMON, **_SETTINGS[self.dataset, self.readout]}

    def layers(self, key: PRNGKeyArray, shape: tuple[int, int]) -> EventSequential:
        key_hidden, key_output = jax.random.split(key)
        pixels, n = shape[0] * shape[1], self.n_hidden
        initial = _WEIGHTS[self.dataset, self.readout]
        constants, fires = (self.tau_mem, self.tau_syn), self.readout == "ttfs"
        hidden = EventLinear(
            LIF(*constants, v_reset=self.v_reset, v_init=0.0),
            gaussian(key_hidden, (pixels, n), *initial.hidden),
            t_max=self.t_max,
            max_spikes=self.max_spikes,
            truncate=True,
        )
        outputs = EventLinear(
            LIF(*constants) if fires else LeakyIntegrator(*constants),
            gaussian(key_output, (n, 10), *initial.output),
            t_max=self.t_max,
            pseudospikes=Pseudospikes(2.0, self.t_max) if fires else None,
        )
        return EventSequential([EventFlatten(), hidden, outputs])

    def query(self, layers: EventSequential) -> Callable[..., Float[Array, "batch classes"]]:
        return layers.maxima if self.readout == "potential" else layers.ttfs

    def loss(self, model: LatencyModel, batch: Batch) -> Float[Array, ""]:
        if self.readout == "potential":
            return super().loss(model, batch)
        found, labels = self.simulate(model, batch.images, batch.keys), batch.labels
        scales = {"tau0": self.tau0, "tau1": self.tau1, "alpha": self.alpha}
        return ce_ttfs(found, labels, t_max=2 * self.t_max, **scales)

    @property
    def main_readout(self) -> str:
        return self.readout

    def scores(self, response: Float[Array, "batch classes"]):
        return {self.readout: response if self.readout == "potential" else -response}

    def network(self, model: LatencyModel) -> EventNetwork:
        """Single network until `t_max`, hidden neurons first.

        It is equivalent if no hidden neuron fires more than `max_spikes` times.
        """
        _, hidden, outputs = model.layers.layers
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
        in_times = self.encode(model, jnp.asarray(shown[0]), jax.random.key(0)).reshape(-1, 1)
        times = jnp.linspace(0.0, self.t_max, N_TIMES)
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
    _, hidden, outputs = model.layers.layers
    return {"hidden": np.asarray(hidden.weights.T), "output": np.asarray(outputs.weights.T)}
