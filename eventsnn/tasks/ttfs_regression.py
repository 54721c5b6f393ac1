"""Spike-time regression: the target for an input spike at x is 5 sin(2 pi x/10) + x + 30 ms."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..data import spike_time_regression as data
from ..event import QIF, EventNetwork, recurrent_mask, trainable
from ..losses import mae_time, mse_time
from ..train import FitResult, fit
from .base import SOLVERS, LazyFigures, Task, TaskResult, check_samples, training_metrics
from .settings import option

__all__ = ["TTFSRegression"]

# Learning rate by schedule.
_LEARNING_RATE = {"one-cycle": 0.6, "constant": 0.1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TTFSRegression(Task):
    """Regression of the first spike time of one output neuron, with recurrent QIF neurons.

    Weights and biases train. The time constants (ms) are fixed. Spike times after `t_max` (ms)
    count as `t_max`. The one-cycle schedule is that of Smith & Topin (arXiv:1708.07120), Nadam is
    that of Dozat (ICLR Workshop 2016).
    """

    name: ClassVar[str] = "ttfs-regression"
    summary: ClassVar[str] = "regression of spike times, 20 recurrent QIF neurons"
    pictures: ClassVar[tuple[str, ...]] = (
        "prediction.png",
        "loss.png",
        "parameters.png",
        "raster.png",
        "membranes.png",
    )

    quick_settings: ClassVar[dict[str, Any]] = {"steps": 20, "batch_size": 16, "average": 5}

    steps: int = option(1562, "number of gradient steps")
    solver: str = option(
        "exact",
        "solution of the neuron's equation between events; exact: closed form; the others: solvers "
        "of diffrax, euler and heun with steps of 0.1 ms, tsit5 and dopri5 with adaptive steps",
        choices=SOLVERS,
    )
    batch_size: int = option(64, "number of samples per gradient step")
    schedule: str = option(
        "one-cycle",
        "learning rate; one-cycle: rises to --learning-rate in the first 30 % of the steps, then "
        "falls to 0, both along a cosine; constant: --learning-rate in all steps",
        choices=_LEARNING_RATE,
    )
    learning_rate: float = option(None, "largest learning rate of the optimiser", least=0)
    n_hidden: int = option(20, "number of recurrent neurons, without the output neuron")
    tau_mem: float = option(20.0, "time constant of the membranes, in ms", above=0)
    tau_syn: float = option(5.0, "time constant of the synapses, in ms", above=0)
    t_max: float = option(80.0, "time limit of the simulation, in ms", above=0)
    max_events: int = option(500, "maximum number of events per sample")
    max_steps: int = option(
        660, "maximum number of iterations of the event loop per sample, with --solver exact"
    )
    weight_max: float = option(40.0, "largest initial weight; the smallest is 0", least=0)
    bias_max: float = option(0.25, "largest absolute value of the initial biases", least=0)
    n_test: int = option(100, "number of test samples, evenly spaced in the input time")
    snapshot_every: int = option(
        20, "number of gradient steps between snapshots of the parameters, and per dispatch"
    )
    average: int = option(
        150, "number of last steps whose parameters are averaged for the network that is tested"
    )
    x_shown: float = option(
        12.5, "input time of the sample in the figures of spikes and membranes, in ms", least=0
    )

    def defaults(self) -> Mapping[str, Any]:
        return {"learning_rate": _LEARNING_RATE[self.schedule]}

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a constant learning rate, or Nadam with the one-cycle schedule.

        Gradients are large where a spike is about to vanish. With `b2=0.99` they limit the step
        size for about 100 steps, instead of 1000.
        """
        if self.schedule == "constant":
            return optax.adam(self.learning_rate)
        rate = optax.cosine_onecycle_schedule(self.steps, self.learning_rate)
        return optax.nadam(rate, b2=0.99)

    def mask(self) -> Bool[Array, "sources neurons"]:
        """Connection mask: input to population, population to itself and to the output."""
        return recurrent_mask(inputs=1, hidden=self.n_hidden, outputs=1)

    def build(self, key: PRNGKeyArray) -> EventNetwork:
        """Build the untrained network.

        Weights are uniform in [0, `weight_max`] within the mask, biases in +- `bias_max`.
        """
        key_weights, key_bias = jax.random.split(key)
        mask, n = self.mask(), self.n_hidden
        weights = jax.random.uniform(key_weights, mask.shape, maxval=self.weight_max)
        bias = jax.random.uniform(key_bias, (n + 1,), minval=-self.bias_max, maxval=self.bias_max)
        return self.network(jnp.where(mask, weights, 0.0), bias, outputs=(n,))

    def untrained(self, sizes: Mapping[str, Any]) -> EventNetwork:
        return self.build(jax.random.key(self.seed))

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
        return mse_time(net.ttfs(in_times, throw=False), targets, t_max=self.t_max)

    def train(self, **options: Any) -> FitResult:
        """Train a new network. The snapshots are `(weights within the mask, biases)`."""
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        net = self.build(key_net)
        connected = jnp.nonzero(self.mask())
        return fit(
            net,
            data.batches(key_data, batch_size=self.batch_size),
            self.loss,
            self.optimizer(),
            steps=self.steps,
            filter_spec=trainable(net, "weights", "bias"),
            snapshot=lambda net: (net.weights[connected], net.neuron.bias),
            steps_per_dispatch=self.snapshot_every,
            average=min(self.average, self.steps),
            **options,
        )

    def predict(self, net: EventNetwork, x: Float[Array, " n"]) -> Float[Array, "n 1"]:
        """First output spike time for each `x` (ms), `inf` without a spike."""
        return eqx.filter_jit(_ttfs)(net, data.event_inputs(check_samples("x", x, "n")))

    def run(self, **options: Any) -> TaskResult:
        """Train, test on the grid and draw.

        `test_mae` (ms) is the mean absolute error of the network averaged over the last `average`
        steps. `test_mae_last_step` (ms) is the error of the network after the last step. With
        `schedule="constant"` it fluctuates from step to step.
        """
        result = self.train(**options)
        x = data.grid(self.n_test)
        target = data.target(x)[:, None]
        predicted, last = (self.predict(net, x) for net in (result.average, result.model))
        metrics = {
            "test_mae": float(mae_time(predicted, target, t_max=self.t_max)),
            "test_mae_last_step": float(mae_time(last, target, t_max=self.t_max)),
            **training_metrics(result),
        }
        drawn = result, x, target[:, 0], predicted[:, 0]
        figures = LazyFigures(lambda: self.make_figures(*drawn))
        return TaskResult(metrics, figures, model=result.average)

    def make_figures(self, result, x, target, predicted):
        """Draw the figures, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it

        net, shown = result.average, jnp.asarray(self.x_shown)
        in_times, target_time = data.event_inputs(shown), float(data.target(shown))
        all_neurons = self.network(
            net.weights, net.neuron.bias, outputs=tuple(range(net.n_neurons))
        )
        solution, times, v = eqx.filter_jit(_events_and_potentials)(all_neurons, in_times)
        weights, biases = result.snapshots
        return {
            "prediction": plots.prediction(x, target, predicted),
            "loss": plots.loss_curve(result.losses),
            "parameters": plots.parameter_history(result.snapshot_steps, weights, biases),
            "raster": plots.raster(
                solution.times,
                solution.sources,
                n_neurons=net.n_neurons,
                outputs=net.outputs,
                t_max=self.t_max,
                target=target_time,
            ),
            "membranes": plots.membranes(
                times, plots.phase(v), outputs=net.outputs, in_times=in_times, target=target_time
            ),
        }


def _ttfs(net, in_times):
    return net.ttfs(in_times, throw=False)


def _events_and_potentials(net, in_times, n_times=1601):
    """Events of one sample, and membrane potentials of the outputs at `n_times` times.

    The simulation continues up to `t_max` after the first output spike. An untrained network may
    reach `max_events` earlier. The figures then end at that time.
    """
    times = jnp.linspace(0.0, net.t_max, n_times)
    states = net.potentials_at(in_times, times, throw=False)
    return net.simulate(in_times, throw=False), times, states
