"""Base class of the tasks on handwritten digits: data, training and test."""

import abc
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..data import images
from ..data.images import ImageData
from ..discrete import AbstractCell, OneToOne, Run, Sequential, trainable
from ..train import FitResult, fit
from .base import MAX_EPOCHS, MAX_STEPS, DataError, Outcome, Pictures, Task, option

# Upper limit of the steps per dispatch, which divide the steps per epoch.
_MAX_CHUNK = 40
# Number of images in the figures.
N_SHOWN = 10

Batch = tuple[Float[Array, "batch h w"], Int[Array, " batch"], Int[Array, " batch"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTask(Task):
    """Base class of digit classification tasks.

    A batch is `(images, labels, seeds)`, with one seed per sample. The seed sets the random numbers
    of the network and of the encoding of the image.
    """

    dataset: str = option(
        "digits",
        "digits: 8 x 8 pixels, bundled with scikit-learn; mnist: 28 x 28 pixels",
        choices=("digits", "mnist"),
    )
    data_dir: str | None = option(
        None, "folder of the MNIST files (default: $EVENTSNN_DATA, else they are fetched once)"
    )
    epochs: int | None = option(None, "passes through the data", kind="count", most=MAX_EPOCHS)
    steps: int | None = option(None, "gradient steps (default: the epochs)", kind="count")

    batch_size: int = 128
    """Number of images per gradient step."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    test_batch_size: int = 500
    """Number of images per batch of the test set."""
    average: int | None = None
    """Number of last steps in the averaged network that is tested. None: the steps of one epoch."""

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
    default_epochs: ClassVar[Mapping[str, int]]
    watches_test: ClassVar[bool] = False
    """True to record the loss of a test batch at every step."""

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray, shape: tuple[int, int]) -> Sequential:
        """Build the untrained network for images of the given shape."""

    @abc.abstractmethod
    def simulate(
        self,
        model: Sequential,
        images: Float[Array, "batch h w"],
        seeds: Int[Array, " batch"],
        **options: Any,
    ) -> Run:
        """Run the network on the images. `options` are keyword arguments of `run_batch`."""

    @abc.abstractmethod
    def loss(self, model: Sequential, batch: Batch) -> Float[Array, ""]:
        """Training loss, a mean over the batch."""

    @abc.abstractmethod
    def scores(self, run: Run) -> dict[str, Float[Array, "batch classes"]]:
        """Scores of the classes by name of the readout. The largest score is the prediction."""

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """Optimiser for a run of `steps` steps."""
        return optax.adam(self.learning_rate)

    @property
    def readout(self) -> str:
        """Name of the main readout."""
        return "rate"

    def quick(self):
        return dataclasses.replace(self, steps=12, batch_size=32)

    def load(self) -> ImageData:
        """Load the images.

        **Raises:** `DataError` if they cannot be read, or do not match the settings.
        """
        if self.data_dir is not None and self.dataset == "digits":
            raise DataError(f"data_dir goes with dataset mnist, got '{self.data_dir}' with digits.")
        try:
            data = images.load(self.dataset, data_dir=self.data_dir)
        except (OSError, ValueError, MemoryError) as error:
            raise DataError(str(error) or f"out of memory for dataset {self.dataset}.") from error
        fewest = min(len(data.train_labels), len(data.test_labels))
        if fewest < self.batch_size:
            raise DataError(f"a batch takes {self.batch_size} images, got a part of {fewest}.")
        steps, epoch = self.n_steps(data)
        if steps > MAX_STEPS:
            most = MAX_STEPS // epoch
            raise DataError(f"epochs must be at most {most} with this data, got {self.epochs}.")
        return data

    def n_steps(self, data: ImageData) -> tuple[int, int]:
        """Total number of gradient steps, and number of steps per epoch."""
        epoch = len(data.train_labels) // self.batch_size
        return self.steps or epoch * (self.epochs or self.default_epochs[self.dataset]), epoch

    def batches(self, data: ImageData, part: Literal["train", "test"]) -> Iterator[Any]:
        """Yield batches of the training or test set, without end."""
        x, y = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        draws = np.random.default_rng([self.seed, part == "test"])
        for x_batch, y_batch in images.batches(self.seed, x, y, batch_size=self.batch_size):
            yield x_batch, y_batch, draws.integers(2**31, size=self.batch_size, dtype=np.int32)

    def train(self, data: ImageData, *, progress: bool = True) -> tuple[Sequential, FitResult]:
        """Train a network. Return the untrained network and the result of `fit`.

        The snapshots are the arrays of the network before training and after every epoch.
        """
        model = self.build(jax.random.key(self.seed), data.train_images.shape[1:])
        steps, epoch = self.n_steps(data)
        parts = ("train", "test") if self.watches_test else ("train",)
        fitted = fit(
            model,
            zip(*(self.batches(data, part) for part in parts), strict=True),
            lambda model, batch: self.loss(model, batch[0]),
            self.optimizer(steps),
            steps=steps,
            steps_per_dispatch=max(n for n in range(1, _MAX_CHUNK + 1) if epoch % n == 0),
            filter_spec=trainable(model),
            snapshot=lambda model: eqx.filter(model, eqx.is_array),
            snapshot_every=epoch,
            average=min(self.average or epoch, steps),
            monitor=(lambda model, batch: self.loss(model, batch[1]))
            if self.watches_test
            else None,
            progress=progress,
        )
        return model, fitted

    def test(self, model: Sequential, data: ImageData) -> "Test":
        """Evaluate a network on the whole test set."""
        model = eqx.nn.inference_mode(model)
        found: dict[str, list[np.ndarray]] = {}
        seeds = np.arange(len(data.test_labels), dtype=np.int32)
        for (x, _, valid), (seed, _, _) in zip(
            images.test_batches(data.test_images, data.test_labels, self.test_batch_size),
            images.test_batches(seeds, data.test_labels, self.test_batch_size),
            strict=True,
        ):
            for name, answers in _answers(self, model, x, seed).items():
                found.setdefault(name, []).append(np.asarray(answers)[valid])
        predicted = {name: np.concatenate(parts) for name, parts in found.items()}
        return Test(data.test_labels, predicted.pop(self.readout), predicted)

    def run(self, *, progress: bool = True) -> Outcome:
        """Train, test and draw.

        `test_accuracy` is the accuracy of the network averaged over the last `average` steps, on
        the whole test set. `test_accuracy_last_step` is the accuracy of the network after the last
        step, which fluctuates from step to step.
        """
        data = self.load()
        before, fitted = self.train(data, progress=progress)
        test, last = (self.test(model, data) for model in (fitted.average, fitted.model))
        metrics = {f"test_accuracy{suffix}": value for suffix, value in test.accuracies().items()}
        metrics |= {f"test_accuracy{s}_last_step": v for s, v in last.accuracies().items()}
        steps, epoch = self.n_steps(data)
        metrics |= {
            "final_loss": float(fitted.losses[-1]),
            "gradient_steps": steps,
            "steps_per_epoch": epoch,
            "steps_per_second": fitted.steps_per_second,
            "compile_seconds": fitted.compile_seconds,
            "devices_used": fitted.n_devices,
        }
        drawn = functools.cache(lambda: self.draw(data, before, fitted, test))
        return Outcome(metrics, *(Pictures(lambda i=i: drawn()[i]) for i in range(2)))

    def draw(
        self, data: ImageData, before: Any, fitted: FitResult, test: "Test"
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw the figures and animations, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import images as figures

        model = eqx.nn.inference_mode(fitted.average)
        shown, labels = data.test_images[:N_SHOWN], data.test_labels[:N_SHOWN]
        predicted, target = test.predicted[:N_SHOWN], int(labels[0])
        cells = [i for i, layer in enumerate(model.layers) if isinstance(layer, AbstractCell)]
        seeds = np.arange(N_SHOWN, dtype=np.int32)
        run = eqx.filter_jit(lambda m, x, s: self.simulate(m, x, s, layers=cells))(
            model, shown, seeds
        )
        hidden, output = (np.asarray(spikes[:, 0]) for spikes in run.spikes)
        hidden = hidden.reshape(len(hidden), -1)  # feature maps, for a convolution
        drawn = {
            **self.training_figures(data, before, fitted, test),
            **figures.activity(
                hidden,
                output,
                np.asarray(run.membranes[-1][:, 0]),
                threshold=float(model.layers[cells[-1]].threshold),
                target=target,
            ),
            "weights": plots.weights(_parameters(before), _parameters(model)),
        }
        film = getattr(self, "frames", None)
        if film is None:
            return {**drawn, "samples": figures.samples(shown, labels, predicted)}, {}
        frames = np.asarray(jax.jit(film)(shown, seeds))
        drawn["samples"] = figures.moving_samples(frames, labels, predicted)
        return drawn, {"sample": figures.movie(frames[:, 0], hidden, target, predicted[0])}

    def training_figures(
        self, data: ImageData, before: Any, fitted: FitResult, test: "Test"
    ) -> dict[str, Any]:
        """Draw the loss, the accuracy after each epoch, and the confusion matrix."""
        from .figures import images as figures

        losses = {"training batch": fitted.losses}
        if fitted.monitored is not None:
            losses["test batch"] = fitted.monitored
        static = eqx.filter(before, eqx.is_array, inverse=True)
        models = (
            eqx.combine(jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), fitted.snapshots), static)
            for i in range(len(fitted.snapshot_steps))
        )
        accuracies = [self.test(model, data).accuracies()[""] for model in models]
        confusion = test.confusion(data.n_classes)
        return figures.training(losses, accuracies, fitted.snapshot_steps, confusion)


@eqx.filter_jit
def _answers(task, model, images, seeds):
    scores = task.scores(task.simulate(model, images, seeds))
    return {name: jnp.argmax(score, -1) for name, score in scores.items()}


@dataclasses.dataclass(frozen=True)
class Test:
    """Predictions of a network for the test set."""

    labels: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    """Classes predicted by the main readout."""
    otherwise: Mapping[str, Int[np.ndarray, " n"]]
    """Classes predicted by the other readouts, by name."""

    def accuracies(self) -> dict[str, float]:
        """Accuracy by suffix: `""` for the main readout, `"_name"` for another readout."""
        named = {"": self.predicted, **{f"_{name}": p for name, p in self.otherwise.items()}}
        return {name: float(np.mean(p == self.labels)) for name, p in named.items()}

    def confusion(self, n_classes: int) -> Int[np.ndarray, "classes classes"]:
        """Confusion matrix: number of images of class `i` that were assigned to class `j`."""
        matrix = np.zeros((n_classes, n_classes), int)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix


def _parameters(model: Sequential) -> dict[str, np.ndarray]:
    """Weights and biases of every layer by name. V is the feedback."""
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
