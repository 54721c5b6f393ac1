"""Readout of the outputs in a segment: a state, an integral or a maximum."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..flows import with_readouts
from ..neurons.base import State
from .record import observation_source
from .segments import Inbound, NoInbound
from .system import Network, Readout

#: Neutral value, for rows in which nothing is read.
NEUTRAL = {"state": 0.0, "integral": 0.0, "maximum": -np.inf}


def is_read(
    readout: Readout,
    source: Int[Array, " batch"],
    accepted: Bool[Array, " batch"],
    n_sources: int,
) -> Bool[Array, " batch"]:
    """Mask of the samples in which a row is read.

    A state is read at observations only, an integral or a maximum in every accepted segment.
    """
    return source == observation_source(n_sources) if readout.kind == "state" else accepted


def evaluate(
    readout: Readout,
    network: Network,
    inbound: NoInbound | Inbound,
    start: State,
    dt: Float[Array, " batch"],
    end: State,
) -> Float[Array, "outputs batch"]:
    """Readout of the outputs in a segment. Differentiable in all arrays of floats."""
    neuron = network.neuron
    if readout.kind == "state":
        return select(neuron.observe(end), readout.outputs)
    flow = with_readouts(network.flow)
    integral = readout.kind == "integral"
    measure, join = (flow.integral, jnp.add) if integral else (flow.maximum, _later_if_equal)
    if isinstance(inbound, NoInbound):
        return select(measure(neuron, start, dt), readout.outputs)
    split = inbound.split(network, start, dt)
    first = measure(neuron, start, inbound.first())
    return select(join(first, measure(neuron, split.start, split.dt)), readout.outputs)


def _later_if_equal(first: Array, second: Array) -> Array:
    """Maximum of two parts of a segment. `jnp.maximum` would average the derivatives."""
    return jnp.where(first > second, first, second)


def select(x: Float[Array, "n batch"], outputs: tuple[int, ...]) -> Float[Array, "outputs batch"]:
    """Rows of the outputs. Contiguous outputs are a slice, so that XLA computes no other rows."""
    first, count = outputs[0] if outputs else 0, len(outputs)
    if outputs == tuple(range(first, first + count)):
        return x[first : first + count]
    return x[jnp.asarray(outputs)]
