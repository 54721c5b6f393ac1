"""Digit classification by a convolutional network with a latency code."""

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
    EventConv2d,
    EventFlatten,
    EventLinear,
    EventPool2d,
    EventSequential,
    LeakyIntegrator,
)
from .epochs import snapshot_models
from .images import N_SHOWN, ImageTask
from .latency import DISTORTED, N_TIMES, UNDISTORTED, LatencyModel, LatencyTask, gaussian
from .settings import option

__all__ = ["MNISTConv"]


class _Shape(NamedTuple):
    """Side lengths of the windows of both convolutions and of the pooling, and the last stride."""

    side: int
    pooled: int
    stride: int


# Standard deviation of the initial weights of each layer, times the square root of its inputs.
_GAINS = (5.0, 4.0, 3.0)
_SHAPES = {"digits": _Shape(3, 1, 1), "mnist": _Shape(5, 2, 2)}
# Class score of a mean membrane potential of 1.
_SCORE = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MNISTConv(LatencyTask):
    r"""Digit classification by two convolutional layers of LIF neurons, in the event mode.

    Each pixel fires once, at $t = (1 - p)\,10$ ms for a grey value $p$ in (0, 1]. Background pixels
    are silent. For MNIST, the spikes of the first convolution are pooled in windows of 2 x 2
    neurons, and the second convolution has stride 2. The outputs are leaky integrators, which
    receive all spikes of the second layer. The predicted class is the output with the largest
    membrane potential averaged over time, and the loss is the cross entropy of these averages,
    times 3 (Nowotny, Turner & Knight, arXiv:2212.01232, use the integral). The gradient is exact.

    A neuron of the first layer fires once, a neuron of the second layer at most `max_spikes` times:
    the layers are defined to return the first spikes.
    """

    name: ClassVar[str] = "mnist-conv"
    summary: ClassVar[str] = "classification of digits, event mode, convolutional network"
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 20, "mnist": 8}

    pictures: ClassVar[tuple[str, ...]] = (*ImageTask.pictures, "first_spikes.png")
    quick_settings: ClassVar[dict[str, Any]] = ImageTask.quick_settings | {"channels": 4}

    trained: ClassVar[tuple[str, ...]] = ("weights", "kernel")

    channels: int = option(None, "number of channels of the first layer; the second has twice")

    def defaults(self) -> Mapping[str, Any]:
        chosen = {
            "channels": 16 if self.dataset == "mnist" else 8,
            "learning_rate": 1e-2 if self.dataset == "mnist" else 5e-2,
            "final_rate_fraction": 0.01,
            "dropout": 0.0,
            **(DISTORTED if self.dataset == "mnist" else UNDISTORTED),
            "tau_syn": 20.0,
            "input_t_max": 10.0,
            "t_max": 20.0,
            "v_reset": 0.0,
            "max_spikes": 3,
        }
        return {**super().defaults(), **chosen}

    def layers(self, key: PRNGKeyArray, shape: tuple[int, int]) -> EventSequential:
        keys = jax.random.split(key, 3)
        constants, side, pooled, stride = (self.tau_mem, self.tau_syn), *_SHAPES[self.dataset]

        def convolution(i: int, channels: int, stride: int, max_spikes: int) -> EventConv2d:
            n, inputs = self.channels << i, channels * side**2
            return EventConv2d(
                LIF(*constants, v_reset=self.v_reset, v_init=0.0),
                _initial(keys[i], (n, channels, side, side), inputs, _GAINS[i]),
                stride=stride,
                t_max=self.t_max,
                max_spikes=max_spikes,
                truncate=True,
            )

        first = convolution(0, 1, 1, max_spikes=1)
        second = convolution(1, self.channels, stride, max_spikes=self.max_spikes)
        extent = ((np.asarray(shape) - side + 1) // pooled - side) // stride + 1
        inputs = 2 * self.channels * int(np.prod(extent))
        weights = _initial(keys[2], (inputs, 10), inputs, _GAINS[2])
        outputs = EventLinear(LeakyIntegrator(*constants), weights, t_max=self.t_max)
        return EventSequential([first, EventPool2d(pooled), second, EventFlatten(), outputs])

    def query(self, layers: EventSequential) -> Callable[..., Float[Array, "batch classes"]]:
        def mean_potentials(in_times, *, throw):
            return _SCORE / self.t_max * layers.integrals(in_times, throw=throw)

        return mean_potentials

    def make_figures(self, data, result, test):
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import images, latency

        model = eqx.nn.inference_mode(result.average)
        shown, labels = data.test_images[:N_SHOWN], data.test_labels[:N_SHOWN]
        times, target = np.linspace(0.0, self.t_max, N_TIMES), int(labels[0])
        trains, traces = _trains_and_potentials(self, model, jnp.asarray(shown[:1]), times)
        first = {f"layer {i}": np.asarray(x[0, ..., 0]) for i, x in enumerate(trains[::2], 1)}
        drawn = {
            **self.training_figures(data, result, test),
            "first_spikes": latency.first_spikes(first, t_max=self.t_max, target=target),
            "membranes": latency.membranes(times, traces[0], target=target),
            "weights": plots.weights(_weights(next(snapshot_models(result))), _weights(model)),
            "samples": images.samples(shown, labels, test.predicted[:N_SHOWN]),
        }
        return drawn, {}


@eqx.filter_jit
def _trains_and_potentials(task, model, images, times):
    in_times = task.in_times(model, images, jax.random.split(jax.random.key(0), len(images)))
    layers = model.layers
    trains = layers[:-2].trains(in_times, throw=False)
    return trains, layers.potentials_at(in_times, times, throw=False)


def _weights(model: LatencyModel) -> dict[str, np.ndarray]:
    """Weights of each layer, with one row per output channel."""
    *convolutions, _, outputs = model.layers.layers
    kernels = {f"layer {i}": layer.kernel for i, layer in enumerate(convolutions[::2], 1)}
    named = {name: np.asarray(x).reshape(len(x), -1) for name, x in kernels.items()}
    return named | {"output": np.asarray(outputs.weights.T)}


def _initial(
    key: PRNGKeyArray, shape: tuple[int, ...], inputs: int, gain: float
) -> Float[Array, "..."]:
    """Draw initial weights, whose deviation depends on the number of inputs of a neuron."""
    return gaussian(key, shape, 0.0, gain / inputs**0.5)
