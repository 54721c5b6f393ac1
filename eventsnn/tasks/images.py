"""What the tasks on handwritten digits share: data, training by epochs, and the test."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..data import images
from ..data.images import ImageData
from ..discrete import Run, Sequential, trainable
from ..train import FitResult, fit
from .base import DataError, Outcome, Task, option
from .image_figures import draw

Batch = tuple[Float[Array, "batch h w"], Int[Array, " batch"], Int[Array, " batch"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(Task):
    """Classification of digits by a network of the discrete-time mode.

    A batch is `(images, labels, seeds)`: a seed a sample, for what is random in the network or
    in the way the image is shown.
    """

    dataset: str = option(
        "digits",
        "digits: 8 x 8 pixels, bundled with scikit-learn; mnist: 28 x 28 pixels",
        choices=("digits", "mnist"),
    )
    data_dir: str | None = option(
        None, "folder of the MNIST files (default: $EVENTSNN_DATA, else they are fetched once)"
    )
    epochs: int | None = option(None, "passes through the data", kind="count")
    steps: int | None = option(None, "gradient steps (default: the epochs)", kind="count")

    batch_size: int = 128
    learning_rate: float = 1e-3
    test_batch_size: int = 500
    average_last_epoch: bool = False
    """Whether to test the mean of the networks of the last epoch's steps, not only the last."""

    default_epochs: ClassVar[Mapping[str, int]]

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray, shape: tuple[int, int]) -> Sequential:
        """The network before training, for images of this shape."""

    @abc.abstractmethod
    def simulate(
        self,
        model: Sequential,
        images: Float[Array, "batch h w"],
        seeds: Int[Array, " batch"],
        **options: Any,
    ) -> Run:
        """Shows the images to the network; `options` are `layers` and the like of `run_batch`."""

    @abc.abstractmethod
    def loss(self, model: Sequential, batch: Batch) -> Float[Array, ""]:
        """What training lowers: a mean over the batch."""

    @abc.abstractmethod
    def scores(self, run: Run) -> dict[str, Float[Array, "batch classes"]]:
        """How much the output speaks for each class, by name of the readout."""

    @property
    def readout(self) -> str:
        """The readout that counts."""
        return "rate"

    def monitor(self, model: Sequential, batch: Any) -> Float[Array, ""]:
        """A scalar of the test batch that comes with each batch of training."""
        return self.loss(model, batch[1])

    def quick(self):
        return dataclasses.replace(self, steps=12, batch_size=32)

    def load(self) -> ImageData:
        """The images.

        **Raises:** `DataError` where they cannot be read.
        """
        try:
            return images.load(self.dataset, data_dir=self.data_dir)
        except (OSError, ValueError) as error:
            raise DataError(str(error)) from error

    def n_steps(self, data: ImageData) -> tuple[int, int]:
        """Gradient steps in all, and in an epoch."""
        epoch = len(data.train_labels) // self.batch_size
        return self.steps or epoch * (self.epochs or self.default_epochs[self.dataset]), epoch

    def batches(self, data: ImageData) -> Iterator[tuple[Batch, Batch]]:
        """A batch to train on and one to look at, without end."""
        seeds = np.random.default_rng([self.seed, 1])
        parts = (
            images.batches(self.seed, x, y, batch_size=min(self.batch_size, len(y)))
            for x, y in (
                (data.train_images, data.train_labels),
                (data.test_images, data.test_labels),
            )
        )
        for (x, y), (x_test, y_test) in zip(*parts, strict=True):
            drawn = seeds.integers(2**31, size=(2, self.batch_size), dtype=np.int32)
            yield (x, y, drawn[0]), (x_test, y_test, drawn[1])

    def train(self, data: ImageData, *, progress: bool = True) -> tuple[Sequential, FitResult]:
        """The network before training, and what came of it."""
        model = self.build(jax.random.key(self.seed), data.train_images.shape[1:])
        steps, epoch = self.n_steps(data)
        fitted = fit(
            model,
            self.batches(data),
            lambda model, batch: self.loss(model, batch[0]),
            optax.adam(self.learning_rate),
            steps=steps,
            filter_spec=trainable(model),
            average=min(epoch, steps) if self.average_last_epoch else None,
            monitor=self.monitor,
            progress=progress,
        )
        return model, fitted

    def test(self, model: Sequential, data: ImageData) -> "Test":
        """Shows the whole test set."""
        model = eqx.nn.inference_mode(model)
        simulate = eqx.filter_jit(lambda model, x, s: self.scores(self.simulate(model, x, s)))
        found: dict[str, list[np.ndarray]] = {}
        seeds = np.arange(len(data.test_labels), dtype=np.int32)
        for (x, _, valid), (seed, _, _) in zip(
            images.test_batches(data.test_images, data.test_labels, self.test_batch_size),
            images.test_batches(seeds, data.test_labels, self.test_batch_size),
            strict=True,
        ):
            for name, score in simulate(model, x, seed).items():
                found.setdefault(name, []).append(np.asarray(jnp.argmax(score, -1))[valid])
        predicted = {name: np.concatenate(parts) for name, parts in found.items()}
        return Test(data.test_labels, predicted.pop(self.readout), predicted)

    def run(self, *, progress: bool = True) -> Outcome:
        data = self.load()
        before, fitted = self.train(data, progress=progress)
        tested = fitted.model if fitted.average is None else fitted.average
        test = self.test(tested, data)
        metrics = {f"test_accuracy{suffix}": value for suffix, value in test.accuracies().items()}
        if fitted.average is not None:
            last = self.test(fitted.model, data).accuracies()
            metrics |= {f"test_accuracy{suffix}_last_step": value for suffix, value in last.items()}
        steps, epoch = self.n_steps(data)
        metrics |= {
            "final_loss": float(fitted.losses[-1]),
            "gradient_steps": steps,
            "steps_per_epoch": epoch,
            "steps_per_second": fitted.steps_per_second,
            "compile_seconds": fitted.compile_seconds,
            "devices_used": fitted.n_devices,
        }
        return Outcome(metrics, *draw(self, data, before, fitted, test))


@dataclasses.dataclass(frozen=True)
class Test:
    """What a network said of the test set."""

    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    """The predicted classes."""
    otherwise: Mapping[str, Int[np.ndarray, " n"]]
    """The same by other readouts."""

    def accuracies(self) -> dict[str, float]:
        """The share of right answers, that of other readouts under their names."""
        named = {"": self.predicted, **{f"_{name}": p for name, p in self.otherwise.items()}}
        return {name: float(np.mean(p == self.labels)) for name, p in named.items()}

    def confusion(self, n_classes: int) -> Int[np.ndarray, "classes classes"]:
        """How often class `i` was taken for class `j`."""
        matrix = np.zeros((n_classes, n_classes), int)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix
