"""Yin-yang: the output that fires first says which part of the figure a point belongs to."""

import dataclasses
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ..architectures import feedforward
from ..data import images, yin_yang
from ..data.yin_yang import Samples, YinYangData
from ..losses import ttfs_cross_entropy
from ..network import EventNetwork
from ..neurons import LIF, QIF
from ..pseudospikes import Pseudospikes
from ..train import FitResult, fit
from .base import Outcome, Task, option

# Steps a dispatch: the largest divisor of an epoch up to here.
_MAX_CHUNK = 40
# More gradients than this in a row that are not finite are no accident.
_MAX_BAD = 10
_N_SHOWN = 40
_GRID = 100


@dataclasses.dataclass(frozen=True)
class Setup:
    """What goes with a neuron model. Times are in ms."""

    n_hidden: int
    batch_size: int
    learning_rate: float
    decay: float
    """The learning rate is multiplied by it after every epoch."""
    bias_time: float
    """When the fifth input fires, the same for every point."""
    t_max: float
    drive: float
    """The current that makes outputs fire in the end which are silent until `t_max`; 0: none."""
    duration: float
    """For how long it does."""
    max_events: int
    max_steps: int


SETUPS = {
    "lif": Setup(
        n_hidden=200,
        batch_size=32,
        learning_rate=5e-3,
        decay=0.95,
        bias_time=15.0,
        t_max=40.0,
        drive=4.0,
        duration=20.0,
        max_events=200,
        max_steps=260,
    ),
    "qif": Setup(
        n_hidden=20,
        batch_size=256,
        learning_rate=5e-2,
        decay=1.0,
        bias_time=0.0,
        t_max=30.0,
        drive=0.0,
        duration=20.0,
        max_events=100,
        max_steps=200,
    ),
}
POINTS = ("published", "fresh")


@dataclasses.dataclass(frozen=True, kw_only=True)
class YinYang(Task):
    r"""Two feed-forward layers, trained on which output fires first.

    With `neuron="lif"` network and training are those of Wunderlich & Pehle (Scientific Reports
    11:12829, 2021, arXiv:2009.08378): weights are jumps of the current in units of the threshold,
    normally distributed with mean 1.5 and deviation 0.78 (hidden) and 0.93 and 0.1 (output). One
    spike of weight $w$ lifts a membrane by $0.157 w$ at most, so that a hidden neuron needs
    several. Three things differ. The fifth input fires amid the others, at 15 ms, and not before
    all of them at 0 (`bias_time=0.0`). The simulation has a time limit, 40 ms. And an output that
    is silent until then is driven by a current until it fires, see [`eventsnn.Pseudospikes`][]
    (`drive=0.0`: it is not), so that the right one can learn to fire. In an answer such a spike
    does not count.

    With `neuron="qif"` weights are uniform in [0, 40] and biases, which learn as well, in
    [-1/2, 1/2]. The fifth input fires at 0, and there are no pseudospikes.

    The points are those of the publication, which are the same for everybody, or fresh ones. The
    published test set is a little easier than fresh points are: `run` reports both accuracies.
    """

    name: ClassVar[str] = "yin-yang"
    summary: ClassVar[str] = "classes of points by the first spike, 5-200-3 LIF neurons"

    neuron: str = option("lif", "lif: 5-200-3 LIF; qif: 5-20-3 QIF", choices=SETUPS)
    points: str = option(
        "published", "the points of the publication, or new ones for every seed", choices=POINTS
    )
    epochs: int = option(100, "passes through the data", kind="count")
    steps: int | None = option(None, "gradient steps (default: the epochs)", kind="count")

    n_hidden: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    bias_time: float | None = None
    drive: float | None = None
    n_train: int = 5000
    n_validation: int = 1000
    n_test: int = 1000
    n_test_fresh: int = 10_000
    tau_mem: float = 20.0
    tau_syn: float = 5.0
    input_t_max: float = 30.0
    tau0: float = 0.5
    tau1: float = 6.4
    alpha: float = 3e-3
    test_batch_size: int = 250

    def quick(self) -> Self:
        sizes = {"n_train": 320, "n_validation": 100, "n_test": 100, "n_test_fresh": 100}
        return dataclasses.replace(self, steps=20, n_hidden=50, **sizes)

    @property
    def setup(self) -> Setup:
        """What goes with the neuron, and what was chosen instead."""
        names = ("n_hidden", "batch_size", "learning_rate", "bias_time", "drive")
        chosen = {name: getattr(self, name) for name in names}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return dataclasses.replace(SETUPS[self.neuron], **chosen)

    def load(self) -> YinYangData:
        """The points."""
        sizes = {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}
        if self.points == "published":
            return yin_yang.published(**sizes)
        return yin_yang.generate(self._data_key(), **sizes)

    def fresh(self) -> Samples:
        """More points to test on, drawn anew for every seed whatever the others are."""
        key = jax.random.fold_in(self._data_key(), 3)
        return jax.device_get(yin_yang.sample(key, self.n_test_fresh))

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """The network before training."""
        setup, constants = self.setup, (self.tau_mem, self.tau_syn)
        sizes = (5, setup.n_hidden, len(yin_yang.CLASSES))
        if self.neuron == "lif":
            neuron, init = LIF(*constants), (_normal(1.5, 0.78), _normal(0.93, 0.1))
        else:
            key, key_bias = jax.random.split(key)
            bias = jax.random.uniform(key_bias, (sum(sizes[1:]),), minval=-0.5, maxval=0.5)
            neuron, init = QIF(*constants, bias=bias), jax.nn.initializers.uniform(40.0)
        driven = np.repeat([0.0, setup.drive], sizes[1:])
        return feedforward(
            neuron,
            sizes=sizes,
            init=init,
            key=key,
            t_max=setup.t_max,
            pseudospikes=Pseudospikes(driven, setup.duration) if setup.drive else None,
            max_events=setup.max_events,
            max_steps=setup.max_steps,
        )

    def trainable(self, net: EventNetwork) -> EventNetwork:
        """The filter for `fit`: true for the weights, and with QIF neurons for the biases."""
        nothing = jax.tree.map(lambda _: False, net)
        if self.neuron == "lif":
            return eqx.tree_at(lambda net: net.weights, nothing, True)
        return eqx.tree_at(lambda net: (net.weights, net.neuron.bias), nothing, (True, True))

    def event_inputs(self, xy: Float[ArrayLike, "*batch 2"]) -> Float[Array, "*batch 5 1"]:
        """The spikes that stand for a point."""
        return yin_yang.event_inputs(xy, t_max=self.input_t_max, bias_time=self.setup.bias_time)

    def first_spikes(
        self, net: EventNetwork, xy: Float[ArrayLike, "*batch 2"]
    ) -> Float[Array, "*batch 3"]:
        """When each output first fires (ms); a time later than `net.t_max` is a pseudospike."""
        return net.ttfs(self.event_inputs(xy), throw=False)

    def loss(self, net: EventNetwork, batch: Samples) -> Float[Array, ""]:
        """The cross entropy of the first spikes, and a price of late ones."""
        late = net.pseudospikes
        last = net.t_max + (0.0 if late is None else late.duration)
        return ttfs_cross_entropy(
            self.first_spikes(net, batch.xy),
            batch.labels,
            tau0=self.tau0,
            tau1=self.tau1,
            alpha=self.alpha,
            t_max=last,
        )

    def n_steps(self) -> tuple[int, int]:
        """Gradient steps in all, and in an epoch."""
        epoch = self.n_train // self.setup.batch_size
        return self.steps or epoch * self.epochs, epoch

    def train(self, data: YinYangData, *, progress: bool = True) -> FitResult:
        """Trains a fresh network. A snapshot is what trains, after every epoch."""
        key_net, key_order = jax.random.split(jax.random.key(self.seed))
        net, setup = self.build(key_net), self.setup
        steps, epoch = self.n_steps()
        spec = self.trainable(net)
        rate = optax.exponential_decay(setup.learning_rate, epoch, setup.decay, staircase=True)
        return fit(
            net,
            yin_yang.batches(key_order, data.train, setup.batch_size),
            self.loss,
            # A membrane that only just reaches its threshold has an unbounded derivative, and once
            # in some thousand steps an infinite one (in float32). That step is left out.
            optax.apply_if_finite(optax.adam(rate), max_consecutive_errors=_MAX_BAD),
            steps=steps,
            chunk=max(n for n in range(1, _MAX_CHUNK + 1) if epoch % n == 0),
            filter_spec=spec,
            snapshot=lambda net: eqx.filter(net, spec),
            snapshot_every=epoch,
            progress=progress,
        )

    def predict(self, net: EventNetwork, xy: Float[np.ndarray, "n 2"]) -> np.ndarray:
        """The class of each point; -1 where no output fires."""
        found = []
        for part, _, valid in images.test_batches(xy, xy[:, 0], self.test_batch_size):
            times = np.asarray(_first_spikes(self, net, part))[valid]
            silent = ~np.any(times <= net.t_max, axis=-1)
            found.append(np.where(silent, -1, np.argmin(times, axis=-1)))
        return np.concatenate(found)

    def accuracy(self, net: EventNetwork, samples: Samples) -> float:
        """The share of points whose class fires first; where none fires, the answer is wrong."""
        return float(np.mean(self.predict(net, np.asarray(samples.xy)) == samples.labels))

    def run(self, *, progress: bool = True) -> Outcome:
        """Trains, tests and draws.

        `test_accuracy` is that of the network after the last step on the test set, and
        `test_accuracy_fresh` the same on `n_test_fresh` points drawn for this seed. The validation
        set is only looked at.
        """
        data = self.load()
        fitted = self.train(data, progress=progress)
        accuracies = [self.accuracy(net, data.validation) for net in _history(fitted)]
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
        return Outcome(metrics, self._figures(fitted, data, accuracies))

    def _data_key(self):
        return jax.random.fold_in(jax.random.key(self.seed), 1)

    def _figures(self, fitted, data, accuracies):
        from .. import plots  # matplotlib is slow to import, and training does not need it

        net, (xy, labels) = fitted.model, data.test
        epochs = fitted.snapshot_steps / self.n_steps()[1]
        axis = (np.arange(_GRID, dtype=xy.dtype) + 0.5) / _GRID
        grid = np.stack(np.meshgrid(axis, axis), axis=-1)
        inside = np.asarray(yin_yang.classify(grid)) >= 0
        regions = np.full(inside.shape, np.nan)
        regions[inside] = self.predict(net, grid[inside])
        title = f"the first test point, {yin_yang.CLASSES[labels[0]]}"
        return {
            "regions": _map(xy, labels, self.predict(net, xy), regions),
            "loss": plots.loss_curve(fitted.losses),
            "accuracy": plots.curves(
                {"validation set": accuracies},
                x={"validation set": epochs},
                x_label="epoch",
                y_label="accuracy",
            ),
            "raster": self._raster(net, xy[0], title),
        }

    def _raster(self, net, xy, title):
        """The events of one sample: inputs, hidden neurons that fire, and the outputs."""
        from .. import plots

        in_times = self.event_inputs(xy)
        events = eqx.filter_jit(lambda net, x: net.simulate(x, throw=False))(net, in_times)
        sources, first = np.asarray(events.sources), net.outputs[0]
        hidden = np.unique(sources[(sources >= 0) & (sources < first)])[:_N_SHOWN]
        rows = [*hidden, *net.outputs, *range(net.n_neurons, len(net.weights))]
        place = np.full(len(net.weights) + 1, -1)  # with an entry more for the padding
        place[rows] = np.arange(len(rows))
        n_shown = len(hidden) + len(net.outputs)
        figure = plots.raster(
            events.times,
            place[sources],
            n_neurons=n_shown,
            outputs=range(len(hidden), n_shown),
            t_max=net.t_max,
        )
        figure.axes[0].set_ylabel("hidden neurons that fire, outputs", color=plots.INK)
        figure.suptitle(title, fontsize=10, color=plots.INK)
        return figure


@eqx.filter_jit
def _first_spikes(task, net, xy):
    return task.first_spikes(net, xy)


def _history(fitted):
    """The network before training and after every epoch."""
    for i in range(len(fitted.snapshot_steps)):
        trained = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), fitted.snapshots)
        yield eqx.combine(trained, fitted.model)


def _normal(mean, deviation):
    def init(key, shape, dtype):
        return mean + deviation * jax.random.normal(key, shape, dtype)

    return init


def _map(xy, labels, predicted, regions):
    """The classes of the plane by colour, and the test points; the wrong ones are marked."""
    from matplotlib.colors import ListedColormap

    from ..plots import style

    colours = [style.MODEL, style.GOAL, style.INPUT]
    figure = style.new_figure(5.4, 5.0)
    axes = figure.subplots()
    axes.imshow(
        regions,
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap=ListedColormap([style.MUTED, *colours]),
        vmin=-1,
        vmax=2,
        alpha=0.3,
    )
    for label, name in enumerate(yin_yang.CLASSES):
        own = labels == label
        axes.scatter(*xy[own].T, s=7, color=colours[label], linewidths=0, label=name)
    wrong = predicted != labels
    axes.scatter(*xy[wrong].T, s=28, color=style.INK, marker="x", linewidths=1, label="wrong")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    style.axis_labels(axes, "x", "y")
    axes.grid(False)
    return figure
