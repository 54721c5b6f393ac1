"""The spike-time regression: a spike in at x asks for a spike out at 5 sin(2 pi x/10) + x + 30."""

import dataclasses
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..data import regression
from ..event import QIF, EventNetwork, recurrent_mask
from ..losses import time_mae, time_mse
from ..train import FitResult, fit
from .base import SOLVERS, Outcome, Pictures, Task, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TTFSRegression(Task):
    """A recurrent population of QIF neurons and one output neuron, trained on its first spike.

    The weights and biases train; the time constants (ms) stay. Times beyond `t_max` (ms) count as
    `t_max`.
    """

    name: ClassVar[str] = "ttfs-regression"
    summary: ClassVar[str] = "regression between spike times, 20 recurrent QIF neurons"
    pictures: ClassVar[tuple[str, ...]] = (
        "prediction.png",
        "loss.png",
        "parameters.png",
        "raster.png",
        "membranes.png",
    )

    steps: int = option(1562, "gradient steps", kind="count")
    solver: str = option(
        "exact",
        "how neurons flow between events: their closed form, or an ODE solver of diffrax",
        choices=SOLVERS,
    )
    batch_size: int = 64
    learning_rate: float = 0.1
    n_population: int = 20
    tau_mem: float = 20.0
    tau_syn: float = 5.0
    t_max: float = 80.0
    max_events: int = 500
    max_steps: int = 660
    weight_max: float = 40.0
    bias_max: float = 0.25
    n_test: int = 100
    snapshot_every: int = 20
    x_shown: float = 12.5
    average: int = 150

    def quick(self) -> Self:
        """A few steps: the loss falls, the fit is not good yet."""
        return dataclasses.replace(self, steps=20, batch_size=16, average=5)

    def mask(self) -> Bool[Array, "sources neurons"]:
        """Who sends to whom: input to population, population to itself and to the output."""
        return recurrent_mask(inputs=1, hidden=self.n_population, outputs=1)

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """The network before training: weights uniform in [0, 40] on the mask, biases in +-0.25."""
        key_weights, key_bias = jax.random.split(key)
        mask, n = self.mask(), self.n_population
        weights = jax.random.uniform(key_weights, mask.shape, maxval=self.weight_max)
        bias = jax.random.uniform(key_bias, (n + 1,), minval=-self.bias_max, maxval=self.bias_max)
        return self.network(jnp.where(mask, weights, 0.0), bias, outputs=(n,))

    def network(
        self,
        weights: Float[Array, "sources neurons"],
        bias: Float[Array, " neurons"],
        *,
        outputs: tuple[int, ...],
    ) -> EventNetwork:
        """The network of these parameters, seen at these neurons."""
        return EventNetwork(
            neuron=QIF(tau_mem=self.tau_mem, tau_syn=self.tau_syn, bias=bias),
            weights=weights,
            mask=self.mask(),
            outputs=outputs,
            t_max=self.t_max,
            max_events=self.max_events,
            max_steps=self.max_steps if self.solver == "exact" else None,
            **SOLVERS[self.solver](),
        )

    def loss(
        self,
        net: EventNetwork,
        batch: tuple[Float[Array, "batch 1 2"], Float[Array, "batch 1"]],
    ) -> Float[Array, ""]:
        """The mean squared error of the output's first spike, in units of `t_max`."""
        in_times, targets = batch
        return time_mse(net.ttfs(in_times, throw=False), targets, t_max=self.t_max)

    def train(self, *, progress: bool = True) -> FitResult:
        """Trains a fresh network; a snapshot is its `(weights on the mask, biases)`."""
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        net = self.build(key_net)
        connected = jnp.nonzero(self.mask())
        return fit(
            net,
            regression.batches(key_data, batch_size=self.batch_size),
            self.loss,
            optax.adam(self.learning_rate),
            steps=self.steps,
            filter_spec=trainable(net),
            snapshot=lambda net: (net.weights[connected], net.neuron.bias),
            chunk=self.snapshot_every,
            average=min(self.average, self.steps),
            progress=progress,
        )

    def predict(self, net: EventNetwork, x: Float[Array, " n"]) -> Float[Array, "n 1"]:
        """When the output first fires for each `x` (ms); `inf` where it does not."""
        return eqx.filter_jit(_ttfs)(net, regression.event_inputs(x))

    def run(self, *, progress: bool = True) -> Outcome:
        """Trains, tests on the grid and draws.

        `test_mae` (ms) is that of the mean network of the last `average` steps, and
        `test_mae_last_step` that of the network after the last: at this constant learning rate
        the latter jumps from step to step.
        """
        fitted = self.train(progress=progress)
        x = regression.grid(self.n_test)
        target = regression.target(x)[:, None]
        predicted, last = (self.predict(net, x) for net in (fitted.average, fitted.model))
        metrics = {
            "test_mae": float(time_mae(predicted, target, t_max=self.t_max)),
            "test_mae_last_step": float(time_mae(last, target, t_max=self.t_max)),
            "final_loss": float(fitted.losses[-1]),
            "steps_per_second": fitted.steps_per_second,
            "compile_seconds": fitted.compile_seconds,
            "devices_used": fitted.n_devices,
        }
        show = fitted, x, target[:, 0], predicted[:, 0]
        return Outcome(metrics, Pictures(lambda: self._figures(*show)))

    def _figures(self, fitted, x, target, predicted):
        from .. import plots  # matplotlib is slow to import, and training does not need it

        net, shown = fitted.average, jnp.asarray(self.x_shown)
        in_times, goal = regression.event_inputs(shown), float(regression.target(shown))
        everyone = self.network(net.weights, net.neuron.bias, outputs=tuple(range(net.n_neurons)))
        solution, times, v = eqx.filter_jit(_record)(everyone, in_times)
        weights, biases = fitted.snapshots
        return {
            "prediction": plots.prediction(x, target, predicted),
            "loss": plots.loss_curve(fitted.losses),
            "parameters": plots.parameter_history(fitted.snapshot_steps, weights, biases),
            "raster": plots.raster(
                solution.times,
                solution.sources,
                n_neurons=net.n_neurons,
                outputs=net.outputs,
                t_max=self.t_max,
                target=goal,
            ),
            "membranes": plots.membranes(
                times, plots.phase(v), outputs=net.outputs, in_times=in_times, target=goal
            ),
        }


def trainable(net: EventNetwork) -> EventNetwork:
    """The filter for `fit`: true for the weights and the biases, false for everything else."""
    nothing = jax.tree.map(lambda _: False, net)
    return eqx.tree_at(lambda net: (net.weights, net.neuron.bias), nothing, (True, True))


def _ttfs(net, in_times):
    return net.ttfs(in_times, throw=False)


def _record(net, in_times, n_times=1601):
    """One sample: its events, and the membranes of the outputs at `n_times` times.

    Up to `t_max` and not just to the first output spike, so an untrained network may reach
    `max_events` before: the pictures then end there.
    """
    times = jnp.linspace(0.0, net.t_max, n_times)
    states = net.states_at(in_times, times, throw=False)
    return net.simulate(in_times, throw=False), times, states
