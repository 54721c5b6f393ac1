"""Spike-time regression: the target of an input spike at x is 5 sin(2 pi x/10) + x + 30."""

import dataclasses
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..data import spike_time_regression as data
from ..event import QIF, EventNetwork, recurrent_mask
from ..losses import time_mae, time_mse
from ..train import FitResult, fit
from .base import SOLVERS, Outcome, Pictures, Task, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TTFSRegression(Task):
    """Regression of the first spike time of one output neuron, with recurrent QIF neurons.

    Weights and biases train. The time constants (ms) are fixed. Spike times after `t_max` (ms)
    count as `t_max`.
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
    """Number of samples per gradient step."""
    learning_rate: float = 0.1
    """Learning rate of Adam."""
    n_population: int = 20
    """Number of neurons in the recurrent population, without the output neuron."""
    tau_mem: float = 20.0
    """Time constant of the membranes (ms)."""
    tau_syn: float = 5.0
    """Time constant of the synapses (ms)."""
    t_max: float = 80.0
    """Time limit of the simulation (ms)."""
    max_events: int = 500
    """Maximum number of events per sample."""
    max_steps: int = 660
    """Maximum number of iterations of the event loop per sample, with `solver="exact"`."""
    weight_max: float = 40.0
    """Largest initial weight. The smallest is 0."""
    bias_max: float = 0.25
    """Largest magnitude of the initial biases."""
    n_test: int = 100
    """Number of test samples, evenly spaced in the input time."""
    snapshot_every: int = 20
    """Number of gradient steps between snapshots of the parameters, and per dispatch."""
    x_shown: float = 12.5
    """Input spike time of the sample in the figures of spikes and membranes (ms)."""
    average: int = 150
    """Number of last steps in the averaged network that is tested."""

    def quick(self) -> Self:
        """Return the same task with few steps: the loss falls, but the fit is still poor."""
        return dataclasses.replace(self, steps=20, batch_size=16, average=5)

    def mask(self) -> Bool[Array, "sources neurons"]:
        """Connection mask: input to population, population to itself and to the output."""
        return recurrent_mask(inputs=1, hidden=self.n_population, outputs=1)

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """Build the untrained network.

        Weights are uniform in [0, `weight_max`] within the mask, biases in +- `bias_max`.
        """
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
        """Build a network with the given parameters and outputs."""
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
        """Mean squared error of the first output spike time, in units of `t_max`."""
        in_times, targets = batch
        return time_mse(net.ttfs(in_times, throw=False), targets, t_max=self.t_max)

    def train(self, *, progress: bool = True) -> FitResult:
        """Train a new network. The snapshots are `(weights within the mask, biases)`."""
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        net = self.build(key_net)
        connected = jnp.nonzero(self.mask())
        return fit(
            net,
            data.batches(key_data, batch_size=self.batch_size),
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
        """First output spike time for each `x` (ms), `inf` without a spike."""
        return eqx.filter_jit(_ttfs)(net, data.event_inputs(x))

    def run(self, *, progress: bool = True) -> Outcome:
        """Train, test on the grid and draw.

        `test_mae` (ms) is the mean absolute error of the network averaged over the last `average`
        steps. `test_mae_last_step` (ms) is the error of the network after the last step. It
        fluctuates from step to step, since the learning rate is constant.
        """
        fitted = self.train(progress=progress)
        x = data.grid(self.n_test)
        target = data.target(x)[:, None]
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
        in_times, goal = data.event_inputs(shown), float(data.target(shown))
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
    """Filter of trained parameters for `fit`: the weights and the biases."""
    nothing = jax.tree.map(lambda _: False, net)
    return eqx.tree_at(lambda net: (net.weights, net.neuron.bias), nothing, (True, True))


def _ttfs(net, in_times):
    return net.ttfs(in_times, throw=False)


def _record(net, in_times, n_times=1601):
    """Events of one sample, and membrane potentials of the outputs at `n_times` times.

    The simulation runs up to `t_max`, beyond the first output spike. An untrained network may reach
    `max_events` before. The figures then end at that time.
    """
    times = jnp.linspace(0.0, net.t_max, n_times)
    states = net.states_at(in_times, times, throw=False)
    return net.simulate(in_times, throw=False), times, states
