"""Digit classification by recurrent leaky neurons, with regression on spike counts or membranes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..discrete import OneToOne, RLeaky, Sequential, run_batch
from ..losses import mse_count, mse_membrane
from .discrete_images import DiscreteImageTask
from .settings import option

__all__ = ["RLeakyClassification"]

_CHANNELS, _KERNEL = 8, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RLeakyClassification(DiscreteImageTask):
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
        "classification of digits, 128 hidden RLeaky neurons, targets for counts or membranes"
    )
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 60, "mnist": 5}

    objective: str = option(
        "count",
        "quantity of the outputs that has a target; count: the number of spikes; membrane: the "
        "membrane potential at every time step",
        choices=("count", "membrane"),
    )
    feedback: str = option(
        "linear",
        "connections from the spikes of a layer back to the layer; linear: all-to-all; one-to-one: "
        "of each neuron to itself; conv: a 3 x 3 convolution of 8 feature maps",
        choices=("linear", "one-to-one", "conv"),
    )
    n_hidden: int = option(
        128, "number of hidden neurons; with --feedback conv, 8 times a square number"
    )
    num_steps: int = option(10, "number of time steps per image")
    beta: float = option(
        0.9, "decay factor of the membrane potentials per time step", least=0, most=1
    )

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
            side = math.isqrt(n // _CHANNELS)
            if n != _CHANNELS * side**2:
                raise ValueError(
                    f"n_hidden must be {_CHANNELS} times a square number with feedback='conv', "
                    f"got {n}."
                )
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

    def simulate(self, model, images, keys, **options: Any):
        return run_batch(model, images, num_steps=self.num_steps, **options)

    def loss(self, model, batch):
        run = self.simulate(model, batch.images, batch.keys)
        if self.objective == "count":
            return mse_count(run.spikes, batch.labels, correct_rate=0.8, incorrect_rate=0.2)
        return mse_membrane(run.membranes, batch.labels, on_target=1.05, off_target=0.2)

    def scores(self, response):
        return {"rate": response.spikes.sum(axis=0), "membrane": response.membranes.mean(axis=0)}

    @property
    def main_readout(self):
        """Name of the readout that the objective trains: spike counts or mean membranes."""
        return "rate" if self.objective == "count" else "membrane"
