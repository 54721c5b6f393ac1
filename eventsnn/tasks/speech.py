"""Base class of the tasks on speech: classification of spike trains by two layers."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from ..data import arrays
from ..event import LIF, EventLinear, EventSequential, LeakyIntegrator, trainable
from ..train import FitResult
from .base import DataError, LazyFigures, TaskResult, check_samples, skip_nonfinite_updates
from .epochs import EpochTask, snapshot_models
from .images import TestResult
from .settings import option

__all__ = ["DelayLines", "SpeechData", "SpeechTask", "Trains"]

# Number of times at which the membrane potentials of the outputs are drawn.
_N_TIMES = 401


class Trains(NamedTuple):
    """Labelled spike trains, in host or device memory."""

    in_times: Any
    """Spike times of each channel (ms), padded with inf, of shape `(n, channels, k)`."""
    labels: Any
    """Classes, of shape `(n,)`."""


@dataclasses.dataclass(frozen=True)
class SpeechData:
    """Disjoint parts of a data set."""

    train: Trains
    """Training set."""
    validation: Trains | None
    """Validation set, if any."""
    test: Trains | None
    """Test set; None if the network is evaluated on the validation set only."""
    classes: Sequence[str]
    """Names of the classes."""
    metrics: Mapping[str, float | int] = dataclasses.field(default_factory=dict)
    """Properties of the data that are reported with the metrics."""

    @property
    def evaluated(self) -> dict[str, Trains]:
        """Parts on which the trained network is evaluated, by name, the test set last."""
        parts = {"validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


class DelayLines(eqx.Module):
    """Delay lines: `n` copies of each channel, with delays of 0, `spacing`, `2 * spacing`, ...

    A neuron thus receives the inputs from several times at the same time.
    """

    n: int
    spacing: float

    def __call__(self, in_times: Float[Array, "*batch channels k"]) -> Float[Array, "..."]:
        """Spike trains of all copies, of shape `(..., n * channels, k)`."""
        return jnp.concatenate([in_times + i * self.spacing for i in range(self.n)], axis=-2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechTask(EpochTask):
    r"""Base class of speech classification by one hidden layer of LIF neurons.

    The outputs are leaky integrators. The class is the output with the largest membrane potential,
    either at its maximum over time or on average over time, and the loss is the cross entropy of
    these values.

    The initial weights of the hidden layer have mean 0 and a standard deviation for which the
    membrane potentials fluctuate with a given standard deviation $\sigma_V$ (Rossbroich, Gygax &
    Zenke, Neuromorphic Computing and Engineering 2:044016, 2022, arXiv:2206.10226). For $n$ inputs
    with independent Poisson spikes of rate $\nu$, the mean rate of the training set, it is

    $$\sigma_w = \frac{\sigma_V}{\tau_s} \sqrt{\frac{2 (\tau_m + \tau_s)}{n \nu}} .$$
    """

    data_dir: str | None = option(None, "folder of the files", unset="$EVENTSNN_DATA")
    readout: str = option(
        "mean",
        "value of an output that is compared; mean: its membrane potential, averaged over time; "
        "maximum: the maximum of its membrane potential",
        choices=("mean", "maximum"),
    )
    final_rate_fraction: float = option(
        0.05, "final learning rate, as a fraction of the initial learning rate", least=0
    )
    n_hidden: int = option(None, "number of hidden neurons")
    delay_lines: int = option(None, "number of copies of each input channel, with other delays")
    delay_spacing: float = option(None, "difference between these delays, in ms", least=0)
    tau_mem: float = option(None, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(None, "time constant of the synapses, in ms", above=0)
    t_max: float = option(None, "duration of the simulation, in ms", above=0)
    max_spikes: int = option(
        40, "number of spikes per hidden neuron that the outputs receive, the first ones"
    )
    fluctuation: float = option(
        1.0,
        "standard deviation of the hidden membrane potentials before training, in units of the "
        "threshold",
        above=0,
    )

    pictures: ClassVar[tuple[str, ...]] = (
        "loss.png",
        "accuracy.png",
        "confusion.png",
        "raster.png",
        "membranes.png",
    )

    @abc.abstractmethod
    def read(self) -> SpeechData:
        """Read the data from files, or sample them."""

    def load(self) -> SpeechData:
        """Load the data.

        **Raises:** `DataError` if they cannot be read. `ValueError` if the batch size or the number
        of steps is too large.
        """
        try:
            data = self.read()
        except (ImportError, OSError, ValueError, MemoryError) as error:
            raise DataError(str(error) or "out of memory for the data.") from error
        self.n_steps(len(data.train.labels))
        return data

    def sizes(self, data: SpeechData) -> dict[str, Any]:
        """Properties of the data on which the untrained network depends, by name."""
        counts = np.sum(data.train.in_times < self.t_max, axis=-1)
        return {
            "channels": data.train.in_times.shape[1],
            "classes": len(data.classes),
            "spikes_per_channel": max(float(np.mean(counts)), 1.0),
        }

    def build(self, key: PRNGKeyArray, data: SpeechData) -> EventSequential:
        """Build the untrained network for the given data."""
        return self.network(key, **self.sizes(data))

    def untrained(self, sizes: Mapping[str, Any]) -> EventSequential:
        return self.network(jax.random.key(self.seed), **sizes)

    def network(
        self, key: PRNGKeyArray, *, channels: int, classes: int, spikes_per_channel: float
    ) -> EventSequential:
        """Build the untrained network."""
        n_in, n = channels * self.delay_lines, self.n_hidden
        taus = self.tau_mem, self.tau_syn
        rate = n_in * spikes_per_channel / self.t_max  # of all inputs
        scale = math.sqrt(2 * sum(taus) / rate) / self.tau_syn
        key_hidden, key_output = jax.random.split(key)
        hidden = EventLinear(
            LIF(*taus),
            self.fluctuation * scale * jax.random.normal(key_hidden, (n_in, n)),
            t_max=self.t_max,
            max_spikes=self.max_spikes,
            truncate=True,
        )
        outputs = EventLinear(
            LeakyIntegrator(*taus),
            jax.random.normal(key_output, (n, classes)) / math.sqrt(n),
            t_max=self.t_max,
        )
        return EventSequential([DelayLines(self.delay_lines, self.delay_spacing), hidden, outputs])

    def trainable(self, model: EventSequential) -> EventSequential:
        return trainable(model, "weights")

    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.learning_rate, steps, self.final_rate_fraction)
        return skip_nonfinite_updates(optax.adam(rate))

    def scores(
        self, model: EventSequential, in_times: Float[Array, "batch channels k"]
    ) -> Float[Array, "batch classes"]:
        """Score of each class: the mean or the maximum of the membrane potential of its output."""
        if self.readout == "maximum":
            return model.maxima(in_times, throw=False)
        return model.integrals(in_times, throw=False) / self.t_max

    def loss(self, model: EventSequential, batch: Trains) -> Float[Array, ""]:
        """Cross entropy of the scores."""
        scores = self.scores(model, jnp.asarray(batch.in_times))
        labels = jnp.asarray(batch.labels)
        return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, labels))

    def train(self, data: SpeechData, **options: Any) -> FitResult:
        """Train a new network. The snapshots are as in [`snapshot_models`][]."""
        n_train = len(data.train.labels)
        steps, epoch = self.n_steps(n_train)
        drawn = arrays.batches(self.seed, *data.train, batch_size=self.batch_size)
        return self.fit(
            self.build(jax.random.key(self.seed), data),
            (Trains(*batch) for batch in drawn),
            self.loss,
            n_train,
            average=min(epoch, steps),
            **options,
        )

    def predict(
        self, model: EventSequential, in_times: Float[np.ndarray, "n channels k"]
    ) -> Int32[np.ndarray, " n"]:
        """Predicted class of each sample."""
        trains = check_samples("in_times", in_times, "n", "channels", "k")
        parts = arrays.padded_batches(trains, batch_size=self.test_batch_size)
        found = [np.asarray(_predicted(self, model, *part))[valid] for part, valid in parts]
        return np.concatenate(found)

    def evaluate(self, model: EventSequential, samples: Trains) -> TestResult:
        """Evaluate a network on some samples."""
        return TestResult(samples.labels, self.predict(model, samples.in_times), {})

    def select(
        self, result: FitResult, accuracies: Callable[[], Sequence[float]]
    ) -> tuple[EventSequential, dict[str, float | int]]:
        """Return the network that is evaluated, and additional metrics.

        **Arguments:**

        - `result`: result of the training.
        - `accuracies`: function that computes the accuracy of every snapshot on the validation set
            or, if there is none, on the test set.
        """
        return result.average, {}

    def run(self, **options: Any) -> TaskResult:
        """Train a network, and evaluate the selected one on the validation and test sets."""
        data = self.load()
        result = self.train(data, **options)
        monitored = next(iter(data.evaluated.values()))

        @functools.cache
        def accuracies():
            models = snapshot_models(result)
            return [self.evaluate(model, monitored).accuracies()[""] for model in models]

        model, metrics = self.select(result, accuracies)
        tests = {name: self.evaluate(model, part) for name, part in data.evaluated.items()}
        metrics |= {f"{name}_accuracy": test.accuracies()[""] for name, test in tests.items()}
        metrics |= {**data.metrics, **self.epoch_metrics(result, len(data.train.labels))}
        figures = LazyFigures(lambda: self.make_figures(data, result, model, tests, accuracies()))
        return TaskResult(metrics, figures, model=model, sizes=self.sizes(data))

    def make_figures(
        self,
        data: SpeechData,
        result: FitResult,
        model: EventSequential,
        tests: Mapping[str, TestResult],
        accuracies: Sequence[float],
    ) -> dict[str, Any]:
        """Draw the figures, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import speech as figures

        first, last = f"{next(iter(tests))} set", list(tests)[-1]
        in_times, label = (part[0] for part in data.evaluated[last])
        times = jnp.linspace(0.0, self.t_max, _N_TIMES)
        hidden, traces = _spikes_and_potentials(model, in_times, times)
        title = f"the first sample of the {last} set, class {data.classes[label]}"
        matrix = tests[last].confusion(len(data.classes))
        x = {first: result.snapshot_steps}
        return {
            "loss": plots.loss_curve(result.losses),
            "accuracy": plots.curves({first: accuracies}, x=x, y_label="accuracy"),
            "confusion": plots.confusion(matrix, labels=data.classes),
            "raster": figures.raster(in_times, hidden, t_max=self.t_max, title=title),
            "membranes": figures.membranes(times, traces, target=int(label), title=title),
        }


@eqx.filter_jit
def _predicted(task, model, in_times):
    return jnp.argmax(task.scores(model, in_times), axis=-1).astype(jnp.int32)


@eqx.filter_jit
def _spikes_and_potentials(model, in_times, times):
    in_times = jnp.asarray(in_times)
    return model[:-1](in_times, throw=False), model.potentials_at(in_times, times, throw=False)
