"""Base class of the yin-yang tasks: time-to-first-spike classification of points."""

import abc
import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..data import images, yin_yang
from ..data.yin_yang import Samples, YinYangData
from ..event import EventNetwork, Pseudospikes
from ..event.architectures import Initializer
from ..losses import ce_ttfs
from ..train import FitResult, fit
from .base import MAX_EPOCHS, Outcome, Pictures, Task, finite_steps, option

# Upper limit of the steps per dispatch, which divide the steps per epoch.
_MAX_CHUNK = 40
# Points per side of the grid on which predictions are drawn.
_GRID = 100

POINTS = ("published", "fresh")
N_INPUTS, N_CLASSES = 5, len(yin_yang.CLASSES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """Settings that depend on the network. Times are in ms."""

    n_hidden: int
    batch_size: int
    learning_rate: float
    alpha: float
    """Weight of the penalty for late spikes."""
    bias_time: float
    """Spike time of the fifth input, the same for every point."""
    t_max: float
    drive: float
    """Current of the pseudospikes of outputs that are silent until `t_max`. 0: no pseudospikes."""
    duration: float
    """Maximum duration of this current."""
    max_events: int
    max_steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointsTask(Task):
    """Base class of tasks with five inputs, a hidden layer and three outputs.

    The output that fires first is the predicted class.
    """

    pictures: ClassVar[tuple[str, ...]] = ("regions.png", "loss.png", "accuracy.png", "raster.png")

    points: str = option(
        "published", "the points of the publication, or new ones for every seed", choices=POINTS
    )
    epochs: int = option(100, "passes through the data", kind="count", most=MAX_EPOCHS)
    steps: int | None = option(None, "gradient steps (default: the epochs)", kind="count")

    n_hidden: int | None = None
    """Number of hidden neurons. None: the value in `default_setup`."""
    batch_size: int | None = None
    """Number of points per gradient step. None: the value in `default_setup`."""
    learning_rate: float | None = None
    """Initial learning rate of Adam. None: the value in `default_setup`."""
    alpha: float | None = None
    """Weight of the penalty for late spikes. None: the value in `default_setup`."""
    bias_time: float | None = None
    """Spike time of the fifth input (ms). None: the value in `default_setup`."""
    drive: float | None = None
    """Current of the pseudospikes, 0 for no pseudospikes. None: the value in `default_setup`."""
    n_train: int = 5000
    """Number of training points."""
    n_validation: int = 1000
    """Number of validation points."""
    n_test: int = 1000
    """Number of test points."""
    n_test_fresh: int = 10_000
    """Number of additional test points, which are sampled with the seed."""
    tau_mem: float = 20.0
    """Time constant of the membranes (ms)."""
    tau_syn: float = 5.0
    """Time constant of the synapses (ms)."""
    input_t_max: float = 30.0
    """Latest spike time of the first four inputs (ms)."""
    tau0: float = 0.5
    """Softmax temperature of the loss (ms)."""
    tau1: float = 6.4
    """Time scale of the penalty for late spikes (ms)."""
    test_batch_size: int = 250
    """Number of points per batch in predictions."""

    @property
    @abc.abstractmethod
    def default_setup(self) -> Setup:
        """Default settings of the chosen network."""

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """Build the untrained network."""

    @abc.abstractmethod
    def trainable(self, net: EventNetwork) -> EventNetwork:
        """Filter of trained parameters for `fit`."""

    @abc.abstractmethod
    def optimizer(self) -> optax.GradientTransformation:
        """Optimiser of the trained parameters."""

    def quick(self):
        sizes = {"n_train": 320, "n_validation": 100, "n_test": 100, "n_test_fresh": 100}
        return dataclasses.replace(self, steps=20, **sizes)

    @property
    def setup(self) -> Setup:
        """Settings of the network, overridden by settings of the task that are not None."""
        names = ("n_hidden", "batch_size", "learning_rate", "alpha", "bias_time", "drive")
        chosen = {name: getattr(self, name) for name in names}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return dataclasses.replace(self.default_setup, **chosen)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of inputs, hidden neurons and outputs."""
        return N_INPUTS, self.setup.n_hidden, N_CLASSES

    def pseudospikes(self) -> Pseudospikes | None:
        """Pseudospikes of the outputs, or None without drive."""
        setup = self.setup
        if not setup.drive:
            return None
        return Pseudospikes(np.repeat([0.0, setup.drive], self.sizes[1:]), setup.duration)

    def load(self) -> YinYangData:
        """Load or sample the points."""
        sizes = {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}
        if self.points == "published":
            return yin_yang.published(**sizes)
        return yin_yang.generate(self._data_key(), **sizes)

    def fresh(self) -> Samples:
        """Sample additional test points, which depend on the seed, also with published points."""
        key = jax.random.fold_in(self._data_key(), 3)
        return jax.device_get(yin_yang.sample(key, self.n_test_fresh))

    def event_inputs(self, xy: Float[ArrayLike, "*batch 2"]) -> Float[Array, "*batch 5 1"]:
        """Encode points as input spike times."""
        return yin_yang.event_inputs(xy, t_max=self.input_t_max, bias_time=self.setup.bias_time)

    def first_spikes(
        self, net: EventNetwork, xy: Float[ArrayLike, "*batch 2"]
    ) -> Float[Array, "*batch 3"]:
        """First spike time of each output (ms). A time after `net.t_max` is a pseudospike."""
        return net.ttfs(self.event_inputs(xy), throw=False)

    def spikes_until_t_max(self, net: EventNetwork, batch: Samples) -> Float[Array, "batch 3"]:
        """First spike times without pseudospikes: `inf` for an output silent until `t_max`."""
        times = self.first_spikes(net, batch.xy)
        return jnp.where(times > net.t_max, jnp.inf, times)

    def loss(self, net: EventNetwork, batch: Samples) -> Float[Array, ""]:
        """Cross entropy of the first spike times, plus a penalty for late spikes."""
        late = net.pseudospikes
        last = net.t_max + (0.0 if late is None else late.duration)
        return ce_ttfs(
            self.first_spikes(net, batch.xy),
            batch.labels,
            tau0=self.tau0,
            tau1=self.tau1,
            alpha=self.setup.alpha,
            t_max=last,
        )

    def n_steps(self) -> tuple[int, int]:
        """Total number of gradient steps, and number of steps per epoch."""
        epoch = self.n_train // self.setup.batch_size
        return self.steps or epoch * self.epochs, epoch

    def train(self, data: YinYangData, *, progress: bool = True) -> FitResult:
        """Train a new network.

        The snapshots are the trained parameters before training and after every epoch.
        """
        key_net, key_order = jax.random.split(jax.random.key(self.seed))
        net = self.build(key_net)
        steps, epoch = self.n_steps()
        spec = self.trainable(net)
        return fit(
            net,
            yin_yang.batches(key_order, data.train, self.setup.batch_size),
            self.loss,
            finite_steps(self.optimizer()),
            steps=steps,
            steps_per_dispatch=max(n for n in range(1, _MAX_CHUNK + 1) if epoch % n == 0),
            filter_spec=spec,
            snapshot=lambda net: eqx.filter(net, spec),
            snapshot_every=epoch,
            outputs=self.spikes_until_t_max,
            progress=progress,
        )

    def predict(self, net: EventNetwork, xy: Float[np.ndarray, "n 2"]) -> np.ndarray:
        """Predicted class of each point, -1 if no output fires until `t_max`."""
        found = []
        for part, _, valid in images.test_batches(xy, xy[:, 0], self.test_batch_size):
            times = np.asarray(_first_spikes(self, net, part))[valid]
            silent = ~np.any(times <= net.t_max, axis=-1)
            found.append(np.where(silent, -1, np.argmin(times, axis=-1)))
        return np.concatenate(found)

    def accuracy(self, net: EventNetwork, samples: Samples) -> float:
        """Fraction of points whose correct output fires first. Without spikes a point is wrong."""
        return float(np.mean(self.predict(net, np.asarray(samples.xy)) == samples.labels))

    def run(self, *, progress: bool = True) -> Outcome:
        """Train, test and draw.

        `test_accuracy` is the accuracy of the network after the last step on the test set.
        `test_accuracy_fresh` is its accuracy on `n_test_fresh` new points sampled with the seed.
        The validation accuracy is reported, and not used for any decision.
        """
        data = self.load()
        fitted = self.train(data, progress=progress)
        accuracies = [self.accuracy(net, data.validation) for net in history(fitted)]
        steps, epoch = self.n_steps()
        metrics = {
            "test_accuracy": self.accuracy(fitted.model, data.test),
            "test_accuracy_fresh": self.accuracy(fitted.model, self.fresh()),
            "validation_accuracy": accuracies[-1],
            "final_loss": float(fitted.losses[-1]),
            "gradient_steps": steps,
            "steps_per_epoch": epoch,
            "steps_per_second": fitted.steps_per_second,
            "compile_seconds": fitted.compile_seconds,
            "devices_used": fitted.n_devices,
        }
        return Outcome(metrics, Pictures(lambda: self.figures(fitted, data, accuracies)))

    def figures(self, fitted: FitResult, data: YinYangData, accuracies: list[float]) -> dict:
        """Draw the figures, by name."""
        from .figures import points as figures  # matplotlib is slow to import

        net, (xy, labels) = fitted.model, map(np.asarray, data.test)
        axis = (np.arange(_GRID, dtype=xy.dtype) + 0.5) / _GRID
        grid = np.stack(np.meshgrid(axis, axis), axis=-1)
        inside = np.asarray(yin_yang.classify(grid)) >= 0
        plane = np.full(inside.shape, np.nan)
        plane[inside] = self.predict(net, grid[inside])
        events = _simulate(net, self.event_inputs(xy[0]))
        return {
            "regions": figures.regions(
                xy, labels, self.predict(net, xy), plane, classes=yin_yang.CLASSES
            ),
            **figures.training(
                fitted.losses, accuracies, fitted.snapshot_steps / self.n_steps()[1]
            ),
            "raster": figures.raster(
                events.times,
                events.sources,
                n_neurons=net.n_neurons,
                n_inputs=N_INPUTS,
                outputs=net.outputs,
                t_max=net.t_max,
                title=f"the first test point, {yin_yang.CLASSES[labels[0]]}",
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


def history(fitted: FitResult):
    """Yield the network before training and after every epoch."""
    for i in range(len(fitted.snapshot_steps)):
        trained = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), fitted.snapshots)
        yield eqx.combine(trained, fitted.model)


def only(net: EventNetwork, where) -> EventNetwork:
    """Make a filter that is true only for the leaves selected by `where`."""
    return eqx.tree_at(where, jax.tree.map(lambda _: False, net), replace_fn=lambda _: True)


def normal(mean: float, deviation: float) -> Initializer:
    """Make an initialiser of normally distributed weights."""

    def init(key, shape, dtype):
        return mean + deviation * jax.random.normal(key, shape, dtype)

    return init
