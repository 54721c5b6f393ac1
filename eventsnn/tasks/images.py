"""Base class of the tasks on handwritten digits: data, training and test."""

import abc
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from ..data import arrays, images
from ..data.images import ImageData
from ..train import FitResult
from .base import DataError, LazyFigures, TaskResult, check_samples
from .epochs import EpochTask, snapshot_models
from .settings import option

__all__ = ["N_SHOWN", "Batch", "ImageTask", "TestResult", "key_data_of"]

_Model = TypeVar("_Model")
_Response = TypeVar("_Response")

# Number of images in the figures.
N_SHOWN = 10
# Number of batches whose random keys are made at a time.
_BLOCK = 64


class Batch(NamedTuple):
    """Samples in host or device memory, each with a random key for the network and the encoding."""

    images: Any
    """Grey values, of shape `(batch, h, w)`."""
    labels: Any
    """Classes, of shape `(batch,)`."""
    key_data: Any
    """Data of the random keys, of shape `(batch, words)`."""

    @property
    def keys(self) -> PRNGKeyArray:
        """Random keys, of shape `(batch,)`."""
        return jax.random.wrap_key_data(jnp.asarray(self.key_data))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(EpochTask, Generic[_Model, _Response]):
    """Base class of digit classification tasks, for any kind of model and its response."""

    dataset: str = option(
        "digits",
        "data set; digits: 1797 images of 8 x 8 pixels, bundled with scikit-learn; mnist: 70000 "
        "images of 28 x 28 pixels",
        choices=("digits", "mnist"),
    )
    data_dir: str | None = option(
        None,
        "folder of the four MNIST files, only with --dataset mnist",
        unset="$EVENTSNN_DATA, or a download into the cache",
    )
    average: int | None = option(
        None,
        "number of last steps whose parameters are averaged for the network that is tested",
        unset="the steps of one epoch",
    )

    pictures: ClassVar[tuple[str, ...]] = (
        "loss.png",
        "accuracy.png",
        "confusion.png",
        "raster.png",
        "membranes.png",
        "counts.png",
        "weights.png",
        "samples.png",
    )
    quick_settings: ClassVar[dict[str, Any]] = {"steps": 12, "batch_size": 32}
    default_epochs: ClassVar[Mapping[str, int]]
    monitor_test_loss: ClassVar[bool] = False
    """Whether to record the loss of a test batch at every step."""

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray, shape: tuple[int, int]) -> _Model:
        """Build the untrained network for images of the given shape."""

    def untrained(self, sizes: Mapping[str, Any]) -> _Model:
        height, width = sizes["shape"]
        return self.build(jax.random.key(self.seed), (height, width))

    @abc.abstractmethod
    def simulate(
        self,
        model: _Model,
        images: Float[Array, "batch h w"],
        keys: PRNGKeyArray,
    ) -> _Response:
        """Run the network on the images, with one random key per image."""

    @abc.abstractmethod
    def loss(self, model: _Model, batch: Batch) -> Float[Array, ""]:
        """Training loss, a mean over the batch."""

    @abc.abstractmethod
    def scores(self, response: _Response) -> dict[str, Float[Array, "batch classes"]]:
        """Scores of the classes by name of the readout. The largest score is the prediction."""

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    @abc.abstractmethod
    def main_readout(self) -> str:
        """Name of the readout in `scores` from which the test accuracy is computed."""

    def defaults(self) -> Mapping[str, Any]:
        sizes = {"batch_size": 128, "test_batch_size": 500, "learning_rate": 1e-3}
        return {"epochs": self.default_epochs[self.dataset], **sizes}

    def load(self) -> ImageData:
        """Load the images.

        **Raises:** `DataError` if they cannot be read. `ValueError` if they do not match the
        settings.
        """
        if self.data_dir is not None and self.dataset == "digits":
            raise ValueError(f"data_dir must be None with dataset='digits', got '{self.data_dir}'.")
        try:
            data = images.load(self.dataset, data_dir=self.data_dir)
        except (OSError, ValueError, MemoryError) as error:
            raise DataError(str(error) or f"out of memory for dataset {self.dataset}.") from error
        fewest = min(len(data.train_labels), len(data.test_labels))
        if self.batch_size > fewest:
            raise ValueError(
                f"batch_size must be at most {fewest}, the number of images of the smaller split, "
                f"got {self.batch_size}."
            )
        self.n_steps(len(data.train_labels))
        return data

    def batches(self, data: ImageData, part: Literal["train", "test"]) -> Iterator[Batch]:
        """Yield batches of the training or test set, without end."""
        x, y = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        order = arrays.batches(self.seed, x, y, batch_size=self.batch_size)
        draws = np.random.default_rng([self.seed, part == "test"])
        while True:
            seeds = draws.integers(2**31, size=(_BLOCK, self.batch_size), dtype=np.int32)
            for key_data, (shown, labels) in zip(key_data_of(seeds), order, strict=False):
                yield Batch(shown, labels, key_data)

    def train(self, data: ImageData, **options: Any) -> FitResult:
        """Train a new network. The snapshots are as in [`snapshot_models`][]."""
        n_train = len(data.train_labels)
        steps, epoch = self.n_steps(n_train)
        parts = ("train", "test") if self.monitor_test_loss else ("train",)
        return self.fit(
            self.build(jax.random.key(self.seed), data.train_images.shape[1:]),
            zip(*(self.batches(data, part) for part in parts), strict=True),
            lambda model, pair: self.loss(model, pair[0]),
            n_train,
            average=min(self.average or epoch, steps),
            monitor=(lambda model, pair: self.loss(model, pair[1]))
            if self.monitor_test_loss
            else None,
            **options,
        )

    def test(self, model: _Model, data: ImageData) -> "TestResult":
        """Evaluate a network on the whole test set."""
        predicted = self._classes(model, data.test_images)
        return TestResult(data.test_labels, predicted.pop(self.main_readout), predicted)

    def predict(self, model: _Model, images: Float[np.ndarray, "n h w"]) -> Int[np.ndarray, " n"]:
        """Predicted class of each image, with grey values from 0 to 1.

        Random numbers, for example of the path of a moving digit, depend on the row of the image.
        """
        found = check_samples("images", images, "n", "h", "w")
        return self._classes(model, found)[self.main_readout]

    def _classes(self, model, images) -> dict[str, Int[np.ndarray, " n"]]:
        """Predicted classes by name of the readout."""
        model, found = eqx.nn.inference_mode(model), {}
        whole = images, key_data_of(np.arange(len(images)))
        for part, valid in arrays.padded_batches(*whole, batch_size=self.test_batch_size):
            for name, classes in _predicted(self, model, *part).items():
                found.setdefault(name, []).append(np.asarray(classes)[valid])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def run(self, **options: Any) -> TaskResult:
        """Train a network and evaluate it on the test set.

        `test_accuracy` is the accuracy of the network averaged over the last `average` steps, on
        the whole test set. `test_accuracy_last_step` is the accuracy of the network after the last
        step, which fluctuates from step to step.
        """
        data = self.load()
        result = self.train(data, **options)
        test, last = (self.test(model, data) for model in (result.average, result.model))
        metrics = {f"test_accuracy{suffix}": value for suffix, value in test.accuracies().items()}
        metrics |= {f"test_accuracy{s}_last_step": v for s, v in last.accuracies().items()}
        metrics |= self.activity_metrics(result.average, data)
        metrics |= self.epoch_metrics(result, len(data.train_labels))
        drawn = functools.cache(lambda: self.make_figures(data, result, test))
        figures = (LazyFigures(lambda i=i: drawn()[i]) for i in range(2))
        sizes = {"shape": data.train_images.shape[1:]}
        return TaskResult(metrics, *figures, model=result.average, sizes=sizes)

    def activity_metrics(self, model: _Model, data: ImageData) -> dict[str, float]:
        """Metrics of the activity of a trained network for the test set, by name."""
        return {}

    @abc.abstractmethod
    def make_figures(
        self, data: ImageData, result: FitResult, test: "TestResult"
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the figures and animations, by name."""

    def training_figures(
        self, data: ImageData, result: FitResult, test: "TestResult"
    ) -> dict[str, Any]:
        """Draw the loss, the accuracy after each epoch, and the confusion matrix."""
        from .figures import images as figures

        losses = {"training batch": result.losses}
        if result.monitored is not None:
            losses["test batch"] = result.monitored
        accuracies = [self.test(model, data).accuracies()[""] for model in snapshot_models(result)]
        confusion = test.confusion(data.n_classes)
        return figures.training(losses, accuracies, result.snapshot_steps, confusion)


@jax.jit
def _key_data(seeds):
    keys = jax.vmap(jax.random.key)(seeds.ravel())
    return jax.random.key_data(keys).reshape(*seeds.shape, -1)


def key_data_of(seeds: Int[np.ndarray, "*n"]) -> UInt32[np.ndarray, "*n words"]:
    """Data of the random keys `jax.random.key(seed)`, one key per seed."""
    return np.asarray(_key_data(seeds.astype(np.int32)))


@eqx.filter_jit
def _predicted(task, model, images, key_data):
    scores = task.scores(task.simulate(model, images, jax.random.wrap_key_data(key_data)))
    return {name: jnp.argmax(score, -1) for name, score in scores.items()}


@dataclasses.dataclass(frozen=True)
class TestResult:
    """Predictions of a network for the test set."""

    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    """Classes predicted by the main readout."""
    other_readouts: Mapping[str, Int[np.ndarray, " n"]]
    """Classes predicted by the other readouts, by name."""

    def accuracies(self) -> dict[str, float]:
        """Accuracy by suffix: `""` for the main readout, `"_name"` for another readout."""
        named = {"": self.predicted, **{f"_{name}": p for name, p in self.other_readouts.items()}}
        return {name: float(np.mean(p == self.labels)) for name, p in named.items()}

    def confusion(self, n_classes: int) -> Int[np.ndarray, "classes classes"]:
        """Confusion matrix: number of images of class `i` that were assigned to class `j`."""
        matrix = np.zeros((n_classes, n_classes), int)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix
