"""Initial weights from the literature: share of silent neurons, and accuracy after a few epochs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import eventsnn as esn

from .training import TAU, Case, Spikes, build, train

#: Number of epochs.
EPOCHS = 5
#: Number of training samples on which activity is counted and weights are calibrated.
SAMPLES = 200


def _normal(mean: float, deviation: float) -> Callable[[Case], Any]:
    """Weights in units of the critical drive of the neurons of each layer."""

    def of(case: Case) -> Any:
        neurons = case.neuron(TAU, TAU), esn.LeakyIntegrator(TAU, TAU)
        options = {"t_max": case.t_max, "mean": mean, "deviation": deviation}
        hidden, readout = (esn.init.normal(neuron, **options) for neuron in neurons)
        return hidden if case.recurrent else [hidden, readout]

    return of


#: Initialisers by name; None: the default weights of each layer. `fluctuations` are weights of mean
#: 0, as in Rossbroich, Gygax & Zenke (2022); `mean` are weights with a positive mean and a small
#: spread, similar to those of the networks of EventProp and DelGrad.
INITIALISERS: dict[str, Callable[[Case], Any]] = {
    "default": lambda case: None,
    "glorot": lambda case: jax.nn.initializers.glorot_normal(),
    "he": lambda case: jax.nn.initializers.he_normal(),
    "uniform(8)": lambda case: jax.nn.initializers.uniform(8.0),
    "mean": _normal(1.0, 0.2),
    "fluctuations": _normal(0.0, 1.0),
    "glorot, calibrated": lambda case: jax.nn.initializers.glorot_normal(),
}


def measure(case: Case, spikes: Spikes, name: str, seed: int, steps: int | None) -> dict[str, Any]:
    """Return the share of silent hidden responses before training, and the accuracy after it.

    The accuracy is None if the training stops because a loss is not finite.
    """
    model = build(case, spikes, seed, init=INITIALISERS[name](case))
    sample = jnp.asarray(spikes.train[:SAMPLES])
    if name.endswith("calibrated"):
        model = esn.calibrate(model, sample)
    hidden = esn.activity(model, sample)[0]
    short = dataclasses.replace(case, epochs=EPOCHS)
    try:
        _, accuracy = train(short, "default", spikes, model, seed, steps=steps)
    except FloatingPointError:
        accuracy = None
    return {"silent": hidden.silent, "accuracy": accuracy}
