"""Digit classification by two layers of leaky neurons, trained on output membrane potentials."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..discrete import Leaky, Sequential, run_batch
from ..losses import ce_membrane
from .discrete_images import DiscreteImageTask
from .settings import option

__all__ = ["LeakyClassification"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakyClassification(DiscreteImageTask):
    """Digit classification with static images and the loss of snnTorch's tutorial 5.

    The image is a constant input current for `num_steps` steps. The predicted class is the output
    with the largest spike count.
    """

    name: ClassVar[str] = "leaky-classification"
    summary: ClassVar[str] = (
        "classification of digits, 1000 hidden Leaky neurons, cross entropy of membrane potentials"
    )
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 30, "mnist": 1}
    monitor_test_loss: ClassVar[bool] = True

    quick_settings: ClassVar[dict[str, Any]] = DiscreteImageTask.quick_settings | {
        "n_hidden": 50,
        "num_steps": 10,
    }

    n_hidden: int = option(1000, "number of hidden neurons")
    num_steps: int = option(25, "number of time steps per image")
    beta: float = option(
        0.95, "decay factor of the membrane potentials per time step", least=0, most=1
    )

    def defaults(self):
        return {**super().defaults(), "learning_rate": 5e-4, "average": 50}

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

    def simulate(self, model, images, keys, **options: Any):
        return run_batch(model, images, num_steps=self.num_steps, **options)

    def loss(self, model, batch):
        run = self.simulate(model, batch.images, batch.keys)
        return ce_membrane(run.membranes, batch.labels)

    def scores(self, response):
        return {"rate": response.spikes.sum(axis=0), "membrane": response.membranes.mean(axis=0)}
