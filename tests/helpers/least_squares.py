"""Least squares: a model that trains without spikes and is small enough to check by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from eventsnn.train import fit

# An optimiser with a state. (Adam's bias correction, inside Optax, needs mixed promotion.)
OPTIMIZER = optax.sgd(0.1, momentum=0.5)


class Line(eqx.Module):
    slope: jax.Array
    offset: jax.Array
    name: str = eqx.field(static=True, default="line")


def line():
    return Line(jnp.asarray([0.5, -0.25]), jnp.asarray(0.125))


def squared_error(model, batch):
    x, y = batch
    return jnp.mean((x @ model.slope + model.offset - y) ** 2)


def mean_absolute_error(model, batch):
    x, y = batch
    return jnp.mean(jnp.abs(x @ model.slope + model.offset - y))


def data(steps, size=8):
    rng = np.random.default_rng(0)
    dtype = jnp.result_type(float)
    x = rng.normal(size=(steps, size, 2)).astype(dtype)
    return list(zip(x, (x @ np.array([2.0, -1.0]) + 3.0).astype(dtype), strict=True))


def train(steps, batches=None, **options):
    options = {"progress": False, "steps_per_dispatch": 4} | options
    batches = data(steps) if batches is None else batches
    return fit(line(), batches, squared_error, OPTIMIZER, steps=steps, **options)
