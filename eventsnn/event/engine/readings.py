"""What is read of the outputs in each segment: a state, an integral, or a maximum.

The event loop and the adjoints read here; queries add up what was read.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..flows import AbstractFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State
from .record import observation
from .system import Inbound, Passage, passage

Reading = Literal["state", "integral", "peak"]

#: What a row shows in which nothing is read.
UNREAD = {"state": 0.0, "integral": 0.0, "peak": -np.inf}


def reads(
    kind: Reading, source: Int[Array, " batch"], holds: Bool[Array, " batch"], n_sources: int
) -> Bool[Array, " batch"]:
    """In which samples a row is read: a state where it was asked for, all else everywhere."""
    return source == observation(n_sources) if kind == "state" else holds


def read(
    kind: Reading,
    flow: AbstractFlow,
    neuron: AbstractNeuron,
    outputs: tuple[int, ...],
    start: State,
    dt: Float[Array, " batch"],
    inbound: Inbound | None,
    end: State,
) -> Float[Array, "outputs batch"]:
    """What the outputs show in a segment; differentiable in all that is an array of floats."""
    if kind == "state":
        return of(neuron.observe(end), outputs)
    measure = flow.integral if kind == "integral" else flow.peak
    if inbound is None:
        return of(measure(neuron, start, dt), outputs)
    way: Passage = passage(flow, neuron, start, dt, inbound)
    legs = (
        measure(neuron, start, jnp.where(inbound.takes, inbound.wait, 0.0)),
        measure(neuron, way.start, way.dt),
    )
    return of(legs[0] + legs[1] if kind == "integral" else jnp.maximum(*legs), outputs)


def of(x: Float[Array, "n batch"], outputs: tuple[int, ...]) -> Float[Array, "outputs batch"]:
    """The rows of the outputs; a slice where that does, so that XLA computes no others."""
    first, count = outputs[0], len(outputs)
    if outputs == tuple(range(first, first + count)):
        return x[first : first + count]
    return x[jnp.asarray(outputs)]
