"""Regression of a firing time with a spiking LSTM, in the discrete-time mode."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..data import spike_time_regression as data
from ..discrete import SLSTM, Leaky, Run, Sequential, run_batch, trainable
from ..discrete.surrogates import FastSigmoid
from ..losses import first_spike_steps, mse_temporal
from ..train import FitResult, fit
from .base import LazyFigures, Task, TaskResult, check_samples, training_metrics
from .settings import option

__all__ = ["SpikingLSTM"]

# Factor of the distance from the threshold in the cross entropy.
_SHARPNESS = 4.0
_SHOWN = (5.0, 12.5, 25.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpikingLSTM(Task):
    r"""Regression of the first spike time of one output neuron, with a layer of spiking LSTM cells.

    The subject of the third part of snnTorch's regression tutorials (Henkes, Eshraghian & Wessels,
    arXiv:2210.03515), on the data of `ttfs-regression`: after input spikes at 0 and $x$, the target
    of the first output spike is $5\sin(2\pi x/10) + x + 30$ ms. A step is 1 ms. An input spike
    between two steps is divided between them.

    The output is a leaky neuron without reset. With the objective `membrane`, the sigmoid of the
    distance of its membrane potential from the threshold is trained by the cross entropy to be 0
    before and 1 after the target. With `time`, the loss is the squared error of the spike time
    ([`eventsnn.losses.mse_temporal`][]), whose gradient only reaches the step of the spike. The
    spike is at a whole step, so the mean error is at least 0.25 ms.
    """

    name: ClassVar[str] = "spiking-lstm"
    summary: ClassVar[str] = "regression of a firing time, 64 spiking LSTM cells, discrete time"
    pictures: ClassVar[tuple[str, ...]] = (
        "prediction.png",
        "loss.png",
        "raster.png",
        "membranes.png",
    )
    quick_settings: ClassVar[dict[str, Any]] = {"steps": 20, "n_hidden": 16, "batch_size": 16}

    objective: str = option(
        "membrane",
        "loss; membrane: cross entropy of the output's membrane potential, below the threshold "
        "before the target and above it afterwards; time: squared error of the first spike time",
        choices=("membrane", "time"),
    )
    steps: int = option(3000, "number of gradient steps")
    batch_size: int = option(64, "number of samples per gradient step")
    learning_rate: float = option(
        5e-3, "initial learning rate of Adam, which decays to 0 along a cosine", least=0
    )
    n_hidden: int = option(64, "number of spiking LSTM cells")
    threshold: float = option(0.1, "threshold of the spiking LSTM cells", above=0)
    beta: float = option(
        0.9, "decay factor of the output's membrane potential per time step", least=0, most=1
    )
    num_steps: int = option(80, "number of time steps, of 1 ms each", least=2)
    n_test: int = option(100, "number of test samples, evenly spaced in the input time")

    def build(self, key: PRNGKeyArray) -> Sequential:
        """Build the untrained network."""
        key_lstm, key_out = jax.random.split(key)
        surrogate = FastSigmoid(5.0)
        lstm = eqx.nn.LSTMCell(1, self.n_hidden, key=key_lstm)
        return Sequential(
            [
                SLSTM(lstm, threshold=self.threshold, surrogate=surrogate),
                eqx.nn.Linear(self.n_hidden, 1, key=key_out),
                Leaky(self.beta, reset="none", surrogate=surrogate),
            ]
        )

    def untrained(self, sizes: Mapping[str, Any]) -> Sequential:
        return self.build(jax.random.key(self.seed))

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a learning rate that decays to 0, and gradients of at most norm 1."""
        rate = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))

    def respond(self, model: Sequential, in_times: Float[Array, "batch 1 2"]) -> Run:
        """Run on a batch of input spike times (ms). Record the LSTM and the output."""
        apart = jnp.abs(self.clock(in_times.ndim) - in_times)
        currents = jnp.sum(jnp.maximum(1 - apart, 0), axis=-1)
        return run_batch(model, currents, layers=(0, 2))

    def clock(self, ndim: int) -> Float[Array, "num_steps ..."]:
        """Times of the steps (ms), followed by `ndim` axes of length 1."""
        return jnp.arange(self.num_steps, dtype=float).reshape(-1, *[1] * ndim)

    def loss(
        self,
        model: Sequential,
        batch: tuple[Float[Array, "batch 1 2"], Float[Array, "batch 1"]],
    ) -> Float[Array, ""]:
        """Loss of the chosen objective."""
        in_times, targets = batch
        run = self.respond(model, in_times)
        if self.objective == "time":
            return mse_temporal(run.spikes[1], targets)
        gap = run.membranes[1] - model.layers[2].threshold
        # The first step above threshold is the one nearest to the target.
        after = jnp.clip(self.clock(targets.ndim) - targets + 1, 0, 1)
        return jnp.mean(optax.sigmoid_binary_cross_entropy(_SHARPNESS * gap, after))

    def train(self, **options: Any) -> FitResult:
        """Train a new network: its weights and biases."""
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        model = self.build(key_net)
        return fit(
            model,
            data.batches(key_data, batch_size=self.batch_size),
            self.loss,
            self.optimizer(),
            steps=self.steps,
            filter_spec=trainable(model),
            **options,
        )

    def predict(self, model: Sequential, x: Float[Array, " n"]) -> Float[Array, "n 1"]:
        """First output spike time for each `x` (ms), `inf` without a spike."""
        in_times = data.event_inputs(check_samples("x", x, "n"))
        spikes = eqx.filter_jit(self.respond)(model, in_times).spikes[1]
        return jnp.where(jnp.any(spikes != 0, axis=0), first_spike_steps(spikes), jnp.inf)

    def run(self, **options: Any) -> TaskResult:
        """Train, test on evenly spaced input times and draw.

        `test_mae` (ms) is the mean absolute error of the first output spike. An output that does
        not fire counts as firing at the last step; `silent` is the share of such samples.
        """
        result = self.train(**options)
        x = data.grid(self.n_test)
        target, predicted = data.target(x), self.predict(result.model, x)[:, 0]
        counted = jnp.minimum(predicted, self.num_steps - 1)
        metrics = {
            "test_mae": float(jnp.mean(jnp.abs(counted - target))),
            "silent": float(jnp.mean(jnp.isinf(predicted))),
            **training_metrics(result),
        }
        figures = LazyFigures(lambda: self.make_figures(result, x, target, predicted))
        return TaskResult(metrics, figures, model=result.model)

    def make_figures(self, result, x, target, predicted) -> Mapping[str, Any]:
        """Draw the figures, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it

        shown = data.event_inputs(np.array(_SHOWN))
        run = eqx.filter_jit(self.respond)(result.model, shown)
        hidden, output = (np.asarray(spikes[:, 1]) for spikes in run.spikes)
        potentials = {
            f"input at {x:g} ms": np.asarray(run.membranes[1][:, k, 0])
            for k, x in enumerate(_SHOWN)
        }
        times = np.arange(self.num_steps)
        return {
            "prediction": plots.prediction(x, target, predicted),
            "loss": plots.loss_curve(result.losses),
            "raster": plots.spike_raster({"spiking LSTM": hidden, "output": output}),
            "membranes": plots.curves(
                {**potentials, "threshold": np.ones(self.num_steps)},
                x=dict.fromkeys([*potentials, "threshold"], times),
                x_label="time (ms)",
                y_label="membrane potential of the output",
                window=1,
            ),
        }
