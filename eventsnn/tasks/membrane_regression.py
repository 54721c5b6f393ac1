"""Membrane-potential regression in the discrete-time mode."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from ..discrete import Leaky, Sequential, run_batch, trainable
from ..discrete.surrogates import FastSigmoid
from .curves import CurveTask
from .settings import option

__all__ = ["MembraneRegression"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembraneRegression(CurveTask):
    """Membrane-potential regression with two layers of leaky neurons and one output without reset.

    The hidden neurons have random thresholds and decays. The target of the output membrane
    potential is a line or the square root of a line. Weights, biases and decays train. After
    snnTorch's first regression tutorial (Henkes, Eshraghian & Wessels, arXiv:2210.03515), which
    trains for 100 steps.
    """

    name: ClassVar[str] = "membrane-regression"
    summary: ClassVar[str] = "regression of a membrane potential, 1-128-128-1 Leaky neurons"
    input_shape: ClassVar[tuple[int | str, ...]] = ("n", "num_steps", 1)
    quick_settings: ClassVar[dict[str, Any]] = {"steps": 10, "n_hidden": 16}

    n_hidden: int = option(128, "number of neurons in each of the two hidden layers")

    def defaults(self):
        return {"steps": 10_000, "learning_rate": 1e-3}

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

    def trainable(self, model):
        return trainable(model, "beta")

    def optimizer(self):
        return optax.adam(self.learning_rate)

    def inputs(self, ramp):
        return ramp

    def potential(self, model, inputs):
        return jnp.moveaxis(run_batch(model, jnp.moveaxis(inputs, 1, 0)).membranes, 0, 1)[..., 0]

    def trace(self, model, inputs, target):
        output = eqx.filter_jit(self.potential)(model, inputs)
        return np.arange(self.num_steps), target, np.asarray(output[0])

    def raster(self, model, inputs):
        from .. import plots  # matplotlib is slow to import, and training does not need it

        run = eqx.filter_jit(_spikes)(model, inputs)
        first, second = (np.asarray(spikes[:, 0]) for spikes in run.spikes)
        return plots.spike_raster({"first layer": first, "second layer": second})


def _spikes(model, inputs):
    return run_batch(model, jnp.moveaxis(inputs, 1, 0), layers=(1, 3))
