"""Digit classification by two layers of leaky neurons, trained on output membrane potentials."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..discrete import Leaky, Sequential, run_batch
from ..losses import ce_membrane
from .images import ImageTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakyClassification(ImageTask):
    """Digit classification with static images and the loss of snnTorch's tutorial 5.

    The image is a constant input current for `num_steps` steps. The predicted class is the output
    with the largest spike count.
    """

    name: ClassVar[str] = "leaky-classification"
    summary: ClassVar[str] = "digits by Leaky layers, 1000 hidden, cross-entropy on membranes"
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 30, "mnist": 1}
    watches_test: ClassVar[bool] = True

    learning_rate: float = 5e-4
    """Learning rate of Adam."""
    average: int | None = 50
    """Number of last steps in the averaged network that is tested. None: the steps of one epoch."""
    n_hidden: int = 1000
    """Number of hidden neurons."""
    num_steps: int = 25
    """Number of time steps per image."""
    beta: float = 0.95
    """Decay of the membrane potentials per step, in [0, 1]."""

    def quick(self):
        return dataclasses.replace(super().quick(), n_hidden=50, num_steps=10)

    def build(self, key, shape):
        key_in, key_out = jax.random.split(key)
        n_in = shape[0] * shape[1]
        return Sequential(
            [
                jnp.ravel,
                eqx.nn.Linear(n_in, self.n_hidden, key=key_in),
                Leaky(self.beta),
                eqx.nn.Linear(self.n_hidden, 10, key=key_out),
                Leaky(self.beta),
            ]
        )

    def simulate(self, model, images, seeds, **options: Any):
        return run_batch(model, images, num_steps=self.num_steps, **options)

    def loss(self, model, batch):
        images, labels, seeds = batch
        return ce_membrane(self.simulate(model, images, seeds).membranes, labels)

    def scores(self, run):
        return {"rate": run.spikes.sum(axis=0), "membrane": run.membranes.mean(axis=0)}
