"""Membrane-potential regression in the discrete-time mode."""

import dataclasses
import itertools
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..data import membrane
from ..discrete import Leaky, Sequential, run_batch, trainable
from ..discrete.surrogates import FastSigmoid
from ..train import FitResult, fit
from .base import Outcome, Pictures, Task, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembraneRegression(Task):
    """Membrane-potential regression with two layers of leaky neurons and one output without reset.

    The hidden neurons have random thresholds and decays. The target of the output membrane
    potential is a line or the square root of a line. Weights, biases and decays train. After
    snnTorch's first regression tutorial (Henkes, Eshraghian & Wessels, arXiv:2210.03515).
    """

    name: ClassVar[str] = "membrane-regression"
    summary: ClassVar[str] = "a membrane follows a curve, 1-128-128-1 Leaky neurons"
    pictures: ClassVar[tuple[str, ...]] = ("before.png", "after.png", "loss.png", "raster.png")

    steps: int = option(100, "gradient steps", kind="count")
    mode: str = option("sqrt", "the curve: a line, or its root", choices=("sqrt", "linear"))

    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    n_hidden: int = 128
    """Number of neurons in each of the two hidden layers."""
    num_steps: int = 50
    """Number of time steps."""

    def quick(self) -> Self:
        return dataclasses.replace(self, steps=10, n_hidden=16)

    def build(self, key: PRNGKeyArray) -> Sequential:
        """Build the untrained network. Decays and hidden thresholds are uniform in [0, 1]."""
        n, surrogate = self.n_hidden, FastSigmoid(25.0)
        k = jax.random.split(key, 8)
        uniform = jax.random.uniform
        return Sequential(
            [
                eqx.nn.Linear(1, n, key=k[0]),
                Leaky(uniform(k[1], (n,)), threshold=uniform(k[2], (n,)), surrogate=surrogate),
                eqx.nn.Linear(n, n, key=k[3]),
                Leaky(uniform(k[4], (n,)), threshold=uniform(k[5], (n,)), surrogate=surrogate),
                eqx.nn.Linear(n, 1, key=k[6]),
                Leaky(uniform(k[7], (1,)), reset="none", surrogate=surrogate),
            ]
        )

    def follow(
        self, model: Sequential, inputs: Float[Array, "batch steps 1"]
    ) -> Float[Array, "batch steps 1"]:
        """Membrane potential of the output over time."""
        return jnp.moveaxis(run_batch(model, jnp.moveaxis(inputs, 1, 0)).membranes, 0, 1)

    def loss(self, model: Sequential, batch: tuple[Array, Array]) -> Float[Array, ""]:
        """Mean squared error of the membrane potential."""
        inputs, targets = batch
        return jnp.mean((self.follow(model, inputs) - targets) ** 2)

    def train(self, *, progress: bool = True) -> tuple[Sequential, tuple, FitResult]:
        """Train a network on one sample.

        **Returns:** the untrained network, the sample `(inputs, targets)`, and the result of `fit`.
        """
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        model = self.build(key_net)
        curve = membrane.target(key_data, num_steps=self.num_steps, mode=self.mode)
        sample = tuple(np.asarray(part)[None] for part in curve)
        fitted = fit(
            model,
            itertools.repeat(sample, self.steps),
            self.loss,
            optax.adam(self.learning_rate),
            steps=self.steps,
            filter_spec=trainable(model, "beta"),
            progress=progress,
        )
        return model, sample, fitted

    def run(self, *, progress: bool = True) -> Outcome:
        """Train, test and draw.

        `relative_error` is the mean over time of |output - target| / |target|, without the first
        step, at which the target is 0. `l1` is the mean of |output - target|.
        """
        before, (inputs, target), fitted = self.train(progress=progress)
        follow = eqx.filter_jit(self.follow)
        untrained, output = (np.asarray(follow(m, inputs)) for m in (before, fitted.model))
        error = np.abs(output - target)
        metrics = {
            "relative_error": float(np.mean(error[:, 1:] / np.abs(target[:, 1:]))),
            "l1": float(np.mean(error)),
            "final_loss": float(fitted.losses[-1]),
            "steps_per_second": fitted.steps_per_second,
            "compile_seconds": fitted.compile_seconds,
            "devices_used": fitted.n_devices,
        }
        show = fitted, inputs, target, untrained, output
        return Outcome(metrics, Pictures(lambda: self._figures(*show)))

    def _figures(self, fitted, inputs, target, untrained, output):
        from .. import plots  # matplotlib is slow to import, and training does not need it

        times = np.arange(self.num_steps)
        run = eqx.filter_jit(lambda m, x: run_batch(m, jnp.moveaxis(x, 1, 0), layers=(1, 3)))(
            fitted.model, inputs
        )
        first, second = (np.asarray(spikes[:, 0]) for spikes in run.spikes)
        return {
            "before": plots.target_trace(times, target[0, :, 0], untrained[0, :, 0]),
            "after": plots.target_trace(times, target[0, :, 0], output[0, :, 0]),
            "loss": plots.loss_curve(fitted.losses),
            "raster": plots.spike_raster({"first layer": first, "second layer": second}),
        }
