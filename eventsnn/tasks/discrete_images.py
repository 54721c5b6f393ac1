"""Base class of the tasks on handwritten digits in the discrete mode."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..data.images import ImageData
from ..discrete import AbstractCell, OneToOne, Run, Sequential, trainable
from ..train import FitResult
from .epochs import snapshot_models
from .images import N_SHOWN, Batch, ImageTask, TestResult, key_data_of

__all__ = ["DiscreteImageTask"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscreteImageTask(ImageTask[Sequential, Run]):
    """Base class of digit classification by networks of the discrete mode."""

    @abc.abstractmethod
    def simulate(
        self,
        model: Sequential,
        images: Float[Array, "batch h w"],
        keys: PRNGKeyArray,
        **options: Any,
    ) -> Run:
        """Run the network on the images, with one random key per image.

        `options` are keyword arguments of `run_batch`.
        """

    def trainable(self, model: Sequential) -> Sequential:
        return trainable(model)

    @property
    def main_readout(self) -> str:
        return "rate"

    def make_figures(
        self, data: ImageData, result: FitResult, test: TestResult
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import images as figures

        model = eqx.nn.inference_mode(result.average)
        shown, labels = data.test_images[:N_SHOWN], data.test_labels[:N_SHOWN]
        predicted, target = test.predicted[:N_SHOWN], int(labels[0])
        cells = [i for i, layer in enumerate(model.layers) if isinstance(layer, AbstractCell)]
        batch = Batch(shown, labels, key_data_of(np.arange(N_SHOWN)))
        simulate = eqx.filter_jit(lambda m, b: self.simulate(m, b.images, b.keys, layers=cells))
        run = simulate(model, batch)
        hidden, output = (np.asarray(spikes[:, 0]) for spikes in run.spikes)
        hidden = hidden.reshape(len(hidden), -1)  # feature maps, for a convolution
        drawn = {
            **self.training_figures(data, result, test),
            **figures.activity(
                hidden,
                output,
                np.asarray(run.membranes[-1][:, 0]),
                threshold=float(model.layers[cells[-1]].threshold),
                target=target,
            ),
            "weights": plots.weights(
                _parameters(next(snapshot_models(result))), _parameters(model)
            ),
        }
        samples, animations = self.sample_figures(batch, predicted, hidden)
        return drawn | samples, animations

    def sample_figures(
        self, batch: Batch, predicted: np.ndarray, hidden: Float[np.ndarray, "time neurons"]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw some samples with their predicted classes; return figures and animations.

        A subclass may animate the first sample, whose hidden neurons have the spikes `hidden`.
        """
        from .figures import images as figures

        return {"samples": figures.samples(batch.images, batch.labels, predicted)}, {}


def _parameters(model: Sequential) -> dict[str, np.ndarray]:
    """Weights and biases of every layer by name. V are the feedback weights."""
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
