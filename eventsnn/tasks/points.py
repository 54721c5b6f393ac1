"""Base class of the yin-yang tasks: time-to-first-spike classification of points."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..data import arrays, yin_yang
from ..data.yin_yang import Samples, YinYangData
from ..event import EventNetwork, EventSequential, Pseudospikes
from ..event.architectures import Initializer
from ..losses import ce_ttfs
from ..train import FitResult
from .base import LazyFigures, TaskResult, check_samples
from .epochs import EpochTask, snapshot_models
from .settings import option

__all__ = ["Network", "PointsTask", "normal"]

Network = EventNetwork | EventSequential

# Points per side of the grid on which predictions are drawn.
_GRID = 100

_POINTS = ("published", "fresh")
_N_INPUTS, _N_CLASSES = 5, len(yin_yang.CLASSES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointsTask(EpochTask):
    """Base class of tasks with five inputs, a hidden layer and three outputs.

    The output that fires first is the predicted class.
    """

    points: str = option(
        "published",
        "data set; published: the fixed points of the publication; fresh: new points, sampled with "
        "the seed",
        choices=_POINTS,
    )
    n_train: int = option(5000, "number of training points")
    n_validation: int = option(1000, "number of validation points")
    n_test: int = option(1000, "number of test points")
    n_test_fresh: int = option(10_000, "number of additional test points, sampled with the seed")
    input_t_max: float = option(30.0, "latest spike time of the first four inputs, in ms", above=0)
    bias_time: float = option(
        None, "spike time of the fifth input, in ms, the same for all points", least=0
    )
    n_hidden: int = option(None, "number of hidden neurons")
    tau_mem: float = option(20.0, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(5.0, "time constant of the synapses, in ms", above=0)
    t_max: float = option(None, "time limit of the simulation before pseudospikes, in ms", above=0)
    drive: float = option(
        None,
        "current after t_max that makes silent outputs fire, so that they get a gradient; a neuron "
        "at rest fires if the current is above 1; 0: no current",
        least=0,
    )
    drive_duration: float = option(None, "maximum duration of this current, in ms", above=0)
    max_events: int = option(None, "maximum number of events per sample")
    max_steps: int = option(None, "maximum number of iterations of the event loop per sample")
    tau0: float = option(0.5, "softmax temperature of the loss, in ms", above=0)
    tau1: float = option(6.4, "time scale of the penalty for late spikes, in ms", above=0)
    alpha: float = option(None, "weight of the penalty for late spikes", least=0)

    pictures: ClassVar[tuple[str, ...]] = ("regions.png", "loss.png", "accuracy.png", "raster.png")
    quick_settings: ClassVar[dict[str, Any]] = {
        "steps": 20,
        "n_train": 320,
        "n_validation": 100,
        "n_test": 100,
        "n_test_fresh": 100,
    }

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray) -> Network:
        """Build the untrained network."""

    def untrained(self, sizes: Mapping[str, Any]) -> Network:
        return self.build(jax.random.key(self.seed))

    def whole(self, net: Network) -> EventNetwork:
        """Return the network as one event loop, to draw all its events."""
        return net if isinstance(net, EventNetwork) else net.as_network(self.max_events)

    def defaults(self) -> Mapping[str, Any]:
        return {"epochs": 100, "test_batch_size": 250}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of inputs, hidden neurons and outputs."""
        return _N_INPUTS, self.n_hidden, _N_CLASSES

    def pseudospikes(self) -> Pseudospikes | None:
        """Pseudospikes of the outputs, or None without drive."""
        if not self.drive:
            return None
        return Pseudospikes(np.repeat([0.0, self.drive], self.sizes[1:]), self.drive_duration)

    def load(self) -> YinYangData:
        """Load or sample the points."""
        sizes = {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}
        if self.points == "published":
            return yin_yang.published(**sizes)
        return yin_yang.generate(self._data_key(), **sizes)

    def fresh(self) -> Samples:
        """Sample additional test points, which depend on the seed even with published points."""
        key = jax.random.fold_in(self._data_key(), 3)
        return jax.device_get(yin_yang.sample(key, self.n_test_fresh))

    def event_inputs(self, xy: Float[ArrayLike, "*batch 2"]) -> Float[Array, "*batch 5 1"]:
        """Encode points as input spike times."""
        return yin_yang.event_inputs(xy, t_max=self.input_t_max, bias_time=self.bias_time)

    def first_spikes(
        self, net: Network, xy: Float[ArrayLike, "*batch 2"]
    ) -> Float[Array, "*batch 3"]:
        """First spike time of each output (ms). A time after `t_max` is a pseudospike."""
        return net.ttfs(self.event_inputs(xy), throw=False)

    def spikes_until_t_max(self, net: Network, batch: Samples) -> Float[Array, "batch 3"]:
        """First spike times without pseudospikes: `inf` for an output silent until `t_max`."""
        times = self.first_spikes(net, batch.xy)
        return jnp.where(times > self.t_max, jnp.inf, times)

    def loss(self, net: Network, batch: Samples) -> Float[Array, ""]:
        """Cross entropy of the first spike times, plus a penalty for late spikes."""
        last = self.t_max + (self.drive_duration if self.drive else 0.0)
        return ce_ttfs(
            self.first_spikes(net, batch.xy),
            batch.labels,
            tau0=self.tau0,
            tau1=self.tau1,
            alpha=self.alpha,
            t_max=last,
        )

    def train(self, data: YinYangData, **options: Any) -> FitResult:
        """Train a new network. The snapshots are as in [`snapshot_models`][]."""
        key_net, key_order = jax.random.split(jax.random.key(self.seed))
        net = self.build(key_net)
        n_train = len(data.train.labels)
        self.n_steps(n_train)  # checks the batch size before the order of the samples is made
        return self.fit(
            net,
            yin_yang.batches(key_order, data.train, batch_size=self.batch_size),
            self.loss,
            n_train,
            outputs=self.spikes_until_t_max,
            **options,
        )

    def predict(self, net: Network, xy: Float[np.ndarray, "n 2"]) -> np.ndarray:
        """Predicted class of each point, -1 if no output fires until `t_max`."""
        found, xy = [], np.asarray(check_samples("xy", xy, "n", 2))
        for (part,), valid in arrays.padded_batches(xy, batch_size=self.test_batch_size):
            times = np.asarray(_first_spikes(self, net, part))[valid]
            silent = ~np.any(times <= self.t_max, axis=-1)
            found.append(np.where(silent, -1, np.argmin(times, axis=-1)))
        return np.concatenate(found)

    def accuracy(self, net: Network, samples: Samples) -> float:
        """Fraction of points whose correct output fires first, by `t_max` at the latest."""
        return float(np.mean(self.predict(net, np.asarray(samples.xy)) == samples.labels))

    def run(self, **options: Any) -> TaskResult:
        """Train a network and evaluate it on the validation and test sets.

        `test_accuracy` is the accuracy of the network after the last step on the test set.
        `test_accuracy_fresh` is its accuracy on `n_test_fresh` new points sampled with the seed.
        The validation accuracy is reported, and not used for any decision.
        """
        data = self.load()
        result = self.train(data, **options)
        accuracies = [self.accuracy(net, data.validation) for net in snapshot_models(result)]
        metrics = {
            "test_accuracy": self.accuracy(result.model, data.test),
            "test_accuracy_fresh": self.accuracy(result.model, self.fresh()),
            "validation_accuracy": accuracies[-1],
            **self.epoch_metrics(result, self.n_train),
        }
        figures = LazyFigures(lambda: self.make_figures(result, data, accuracies))
        return TaskResult(metrics, figures, model=result.model)

    def make_figures(self, result: FitResult, data: YinYangData, accuracies: list[float]) -> dict:
        """Draw the figures, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it
        from .figures import points as figures

        net, (xy, labels) = result.model, map(np.asarray, data.test)
        axis = (np.arange(_GRID, dtype=xy.dtype) + 0.5) / _GRID
        grid = np.stack(np.meshgrid(axis, axis), axis=-1)
        inside = np.asarray(yin_yang.classify(grid)) >= 0
        plane = np.full(inside.shape, np.nan)
        plane[inside] = self.predict(net, grid[inside])
        whole = self.whole(net)
        events = _simulate(whole, self.event_inputs(xy[0]))
        epochs = result.snapshot_steps / self.n_steps(self.n_train)[1]
        return {
            "regions": figures.regions(
                xy, labels, self.predict(net, xy), plane, classes=yin_yang.CLASSES
            ),
            "loss": plots.loss_curve(result.losses),
            "accuracy": plots.curves(
                {"validation set": accuracies},
                x={"validation set": epochs},
                x_label="epoch",
                y_label="accuracy",
            ),
            "raster": figures.raster(
                events.times,
                events.sources,
                n_neurons=whole.n_neurons,
                n_inputs=_N_INPUTS,
                outputs=whole.outputs,
                t_max=self.t_max,
                classes=yin_yang.CLASSES,
                label=int(labels[0]),
            ),
        }

    def _data_key(self):
        return jax.random.fold_in(jax.random.key(self.seed), 1)


@eqx.filter_jit
def _first_spikes(task, net, xy):
    return task.first_spikes(net, xy)


@eqx.filter_jit
def _simulate(net, in_times):
    return net.simulate(in_times, throw=False)


def normal(mean: float, deviation: float) -> Initializer:
    """Make an initialiser of normally distributed weights, given their mean and deviation."""

    def init(key, shape, dtype):
        return mean + deviation * jax.random.normal(key, shape, dtype)

    return init
