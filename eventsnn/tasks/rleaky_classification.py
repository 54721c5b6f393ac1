"""Digit classification by recurrent leaky neurons, with regression on spike counts or membranes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..discrete import OneToOne, RLeaky, Sequential, run_batch
from ..losses import mse_count, mse_membrane
from .base import option
from .images import ImageTask

_CHANNELS, _KERNEL = 8, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLeakyClassification(ImageTask):
    """Digit classification with two recurrent leaky layers, trained with a squared error.

    With `objective="count"`, the target of the correct output is a spike in 80 % of the steps, and
    in 20 % for all other outputs. With `objective="membrane"`, the target membrane potentials are
    1.05 and 0.2. After snnTorch's second regression tutorial.

    The feedback is `"linear"` (all-to-all), `"one-to-one"` or `"conv"`. With `"conv"`, the hidden
    neurons form 8 feature maps with feedback through a 3 x 3 convolution, and the outputs have
    all-to-all feedback.
    """

    name: ClassVar[str] = "rleaky-classification"
    summary: ClassVar[str] = (
        "digits by RLeaky layers, 128 hidden, regression on counts or membranes"
    )
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 60, "mnist": 5}

    objective: str = option(
        "count", "what is regressed: spike counts or membranes", choices=("count", "membrane")
    )
    feedback: str = option(
        "linear", "from spikes back to the layer", choices=("linear", "one-to-one", "conv")
    )
    n_hidden: int = 128
    """Number of hidden neurons. With `feedback="conv"` it must be 8 times a square number."""
    num_steps: int = 10
    """Number of time steps per image."""
    beta: float = 0.9
    """Decay of the membrane potentials per step, in [0, 1]."""

    def build(self, key, shape):
        key_in, key_out, *keys = jax.random.split(key, 4)
        n_in = shape[0] * shape[1]
        return Sequential(
            [
                jnp.ravel,
                eqx.nn.Linear(n_in, self.n_hidden, key=key_in),
                *self._hidden(keys[0]),
                eqx.nn.Linear(self.n_hidden, 10, key=key_out),
                RLeaky(self.beta, self._output_feedback(keys[1])),
            ]
        )

    def _hidden(self, key):
        n = self.n_hidden
        if self.feedback == "conv":
            side = round((n / _CHANNELS) ** 0.5)
            conv = eqx.nn.Conv2d(_CHANNELS, _CHANNELS, _KERNEL, padding=_KERNEL // 2, key=key)
            maps = eqx.nn.Lambda(lambda x: x.reshape(_CHANNELS, side, side))
            return [maps, RLeaky(self.beta, conv), jnp.ravel]
        if self.feedback == "one-to-one":
            return [RLeaky(self.beta, OneToOne(jnp.ones(n)))]
        return [RLeaky(self.beta, eqx.nn.Linear(n, n, key=key))]

    def _output_feedback(self, key):
        if self.feedback == "one-to-one":
            return OneToOne(jnp.ones(10))
        return eqx.nn.Linear(10, 10, key=key)

    def simulate(self, model, images, seeds, **options: Any):
        return run_batch(model, images, num_steps=self.num_steps, **options)

    def loss(self, model, batch):
        images, labels, seeds = batch
        run = self.simulate(model, images, seeds)
        if self.objective == "count":
            return mse_count(run.spikes, labels, correct_rate=0.8, incorrect_rate=0.2)
        return mse_membrane(run.membranes, labels, on_target=1.05, off_target=0.2)

    def scores(self, run):
        return {"rate": run.spikes.sum(axis=0), "membrane": run.membranes.mean(axis=0)}

    @property
    def readout(self):
        """Name of the readout, which matches the objective: spike counts or mean membranes."""
        return "rate" if self.objective == "count" else "membrane"
