"""Base class of the tasks that classify digits by one spike per pixel."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..data.arrays import padded_batches
from ..data.images import ImageData
from ..event import AbstractLayer, EventSequential, trainable
from .base import skip_nonfinite_updates
from .images import Batch, ImageTask
from .settings import option

__all__ = [
    "DISTORTED",
    "N_TIMES",
    "UNDISTORTED",
    "LatencyModel",
    "LatencyTask",
    "RandomAffine",
    "gaussian",
]

#: Distortions of images in training, and no distortions.
DISTORTED = {"rotation": 8.0, "scaling": 0.08, "shift": 1.0}
UNDISTORTED = dict.fromkeys(DISTORTED, 0.0)
#: Number of times at which the membrane potentials of the outputs are drawn.
N_TIMES = 401
# Pixels with a grey value above this one spike: at least 2 of 255.
_BACKGROUND = 1.5 / 255


class RandomAffine(eqx.Module):
    """Random rotation, scaling and shift of an image about its centre, in training only.

    The angle, the logarithms of the scale factors in both directions and the two shifts are
    uniformly distributed between minus and plus their limits. Grey values are interpolated
    linearly.
    """

    rotation: float  # degrees
    scaling: float  # of the logarithms of the two factors
    shift: float  # pixels
    inference: bool = False

    def __call__(self, image: Float[Array, "h w"], key: PRNGKeyArray) -> Float[Array, "h w"]:
        if self.inference or not (self.rotation or self.scaling or self.shift):
            return image
        draws = jax.random.uniform(key, (5,), image.dtype, -1.0, 1.0)
        angle = jnp.deg2rad(self.rotation * draws[0])
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        centre = (jnp.asarray(image.shape, image.dtype) - 1)[:, None, None] / 2
        grid = jnp.stack(jnp.indices(image.shape, image.dtype)) - centre
        stretched = jnp.exp(self.scaling * draws[1:3])[:, None, None] * grid
        at = jnp.tensordot(turn, stretched, 1) + centre + self.shift * draws[3:, None, None]
        return jnp.clip(map_coordinates(image, list(at), order=1), 0.0, 1.0)


class LatencyModel(eqx.Module):
    """Layers of spiking neurons, and the distortion and the dropout of their inputs."""

    layers: EventSequential
    distortion: RandomAffine
    dropout: eqx.nn.Dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyTask(ImageTask[LatencyModel, Float[Array, "batch classes"]]):
    r"""Base class of tasks in which each pixel of an image fires once.

    A pixel of grey value p in (0, 1] fires at $t = (1 - p)\,t_\text{in}$. Background pixels are
    silent.
    """

    trained: ClassVar[tuple[str, ...]] = ("weights",)
    """Names of the trained parameters."""

    final_rate_fraction: float = option(
        None, "final learning rate, as a fraction of the initial learning rate", least=0
    )
    dropout: float = option(
        None, "probability that training drops a pixel of an image", least=0, most=1
    )
    rotation: float = option(
        None, "largest angle by which training rotates an image, in degrees", least=0
    )
    scaling: float = option(
        None, "largest logarithm of the factors by which training scales an image", least=0
    )
    shift: float = option(
        None,
        "largest distance by which training shifts an image in each direction, in pixels",
        least=0,
    )
    tau_mem: float = option(20.0, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(None, "time constant of the synapses, in ms", above=0)
    v_reset: float = option(
        None, "potential of a hidden neuron after a spike, in units of the threshold", most=1
    )
    input_t_max: float = option(
        None, "spike time of a pixel in the limit of the grey value 0, in ms", above=0
    )
    t_max: float = option(
        None, "time limit of the simulation, without pseudospikes, in ms", above=0
    )
    max_spikes: int = option(None, "maximum number of spikes per hidden neuron")

    def defaults(self) -> Mapping[str, Any]:
        return {**super().defaults(), "batch_size": 64, "input_t_max": 20.0}

    @abc.abstractmethod
    def layers(self, key: PRNGKeyArray, shape: tuple[int, int]) -> EventSequential:
        """Build the untrained layers for images of the given shape."""

    def build(self, key: PRNGKeyArray, shape: tuple[int, int]) -> LatencyModel:
        return LatencyModel(
            self.layers(key, shape),
            RandomAffine(self.rotation, self.scaling, self.shift),
            eqx.nn.Dropout(self.dropout),
        )

    def trainable(self, model: LatencyModel) -> LatencyModel:
        return trainable(model, *self.trained)

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.learning_rate, steps, self.final_rate_fraction)
        return skip_nonfinite_updates(optax.adam(rate))

    def encode(
        self, model: LatencyModel, image: Float[Array, "h w"], key: PRNGKeyArray
    ) -> Float[Array, "h w"]:
        """Spike time of each pixel (ms), `inf` for the background and for dropped pixels."""
        key_distortion, key_dropout = jax.random.split(key)
        image = model.distortion(image, key_distortion)
        kept = model.dropout((image > _BACKGROUND).astype(image.dtype), key=key_dropout)
        return jnp.where(kept > 0, (1 - image) * self.input_t_max, jnp.inf)

    def in_times(
        self, model: LatencyModel, images: Float[Array, "batch h w"], keys: PRNGKeyArray
    ) -> Float[Array, "batch channels h w 1"]:
        """Spike trains of the pixels of a batch, with one channel and one spike per pixel."""
        times = jax.vmap(lambda x, key: self.encode(model, x, key))(jnp.asarray(images), keys)
        return times[:, None, :, :, None]

    def query(self, layers: EventSequential) -> Callable[..., Float[Array, "batch classes"]]:
        """Query of the layers that gives the response of the outputs."""
        return layers.maxima

    def simulate(
        self,
        model: LatencyModel,
        images: Float[Array, "batch h w"],
        keys: PRNGKeyArray,
    ) -> Float[Array, "batch classes"]:
        """Compute the response of the outputs: by default, their maximal potentials."""
        return self.query(model.layers)(self.in_times(model, images, keys), throw=False)

    def loss(self, model: LatencyModel, batch: Batch) -> Float[Array, ""]:
        found = self.simulate(model, batch.images, batch.keys)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(found, batch.labels)
        return jnp.mean(losses)

    def activity_metrics(self, model: LatencyModel, data: ImageData) -> dict[str, float]:
        """Mean and largest number of spikes of a hidden neuron in one test image."""
        model, total, most, neurons = eqx.nn.inference_mode(model), 0, 0, 0
        for (batch,), valid in padded_batches(data.test_images, batch_size=self.test_batch_size):
            counts = np.asarray(_hidden_counts(self, model, jnp.asarray(batch)))[valid]
            total, most = total + counts.sum(), max(most, counts.max())
            neurons += counts.size
        return {"hidden_spikes_mean": float(total / neurons), "hidden_spikes_max": int(most)}

    @property
    def main_readout(self) -> str:
        return "potential"

    def scores(self, response: Float[Array, "batch classes"]):
        return {"potential": response}


@eqx.filter_jit
def _hidden_counts(
    task: LatencyTask, model: LatencyModel, images: Float[Array, "batch h w"]
) -> Int[Array, "batch neurons"]:
    """Number of spikes of each hidden neuron of all layers."""
    in_times = task.in_times(model, images, jax.random.split(jax.random.key(0), len(images)))
    trains = zip(model.layers.layers, model.layers[:-1].trains(in_times, throw=False), strict=False)
    counts = [
        jnp.sum(times < jnp.inf, axis=-1, dtype=jnp.int32).reshape(len(images), -1)
        for layer, times in trains
        if isinstance(layer, AbstractLayer)
    ]
    return jnp.concatenate(counts, axis=1)


def gaussian(
    key: PRNGKeyArray, shape: tuple[int, ...], mean: float, deviation: float
) -> Float[Array, "..."]:
    """Draw initial weights from a normal distribution."""
    return mean + deviation * jax.random.normal(key, shape)
