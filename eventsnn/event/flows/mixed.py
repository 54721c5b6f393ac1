"""Flow of several neuron models whose neurons move separately, see [`eventsnn.Populations`][]."""

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from ..neurons import AbstractNeuron, Populations
from ..neurons.base import State
from .base import AbstractLaneFlow


class Mixed(AbstractNeuron):
    """Neurons of several models such that every neuron has the states of all models.

    Only the state of its own model changes. All arrays have one row per neuron, so that any
    selection of neurons has the parameters and states in the same rows. The states of the other
    models keep their initial values.
    """

    parts: tuple[AbstractNeuron, ...]
    number: Float[Array, " neurons"]  # of the model of each neuron; simulations take floats only

    def init_state(self, n: int) -> State:
        return tuple(part.init_state(n) for part in self.parts)

    def vector_field(self, state: State) -> State:
        return self.each(lambda part, x: part.vector_field(x), state)

    def threshold_gap(self, state: State) -> Array:
        return self.select(self.each(lambda part, x: part.threshold_gap(x), state))

    def receive(self, state: State, weights: Array) -> State:
        def own(part: AbstractNeuron, x: State, mask: Array) -> State:
            return part.receive(x, jnp.where(mask, weights, 0.0))

        return self.each(own, state, self.masks())

    def reset(self, state: State, spiked: Array) -> State:
        return self.each(lambda part, x, own: part.reset(x, spiked & own), state, self.masks())

    def observe(self, state: State) -> Array:
        return self.select(self.each(lambda part, x: part.observe(x), state))

    def normalise(self, state: State) -> State:
        return self.each(lambda part, x: part.normalise(x), state)

    def parameters_valid(self) -> Array:
        return jnp.all(jnp.stack(self.each(lambda part: part.parameters_valid())))

    def masks(self) -> tuple[Bool[Array, "..."], ...]:
        """Mask of the neurons of each model."""
        return tuple(self.number == k for k in range(len(self.parts)))

    def select(self, values: Sequence[Array]) -> Array:
        """Value of the model of each neuron."""
        pairs = zip(self.masks()[1:], values[1:], strict=True)
        return ft.reduce(lambda out, pair: jnp.where(*pair, out), pairs, values[0])

    def each(self, fn: Callable, *args: Any) -> tuple:
        """Apply a function to every model, and to its part of each argument."""
        return tuple(fn(part, *own) for part, *own in zip(self.parts, *args, strict=True))


class MixedFlow(AbstractLaneFlow[Mixed]):
    """Flow of neurons of several models, with one flow per model."""

    flows: tuple[AbstractLaneFlow, ...]

    def advance(self, neuron: Mixed, state: State, dt: Array) -> State:
        return self._each(lambda f, part, x, dt: f.advance(part, x, dt), neuron, dt, state)

    def velocity(self, neuron: Mixed, state: State, dt: Array, end: State) -> State:
        def own(f: AbstractLaneFlow, part: AbstractNeuron, x: State, last: State, dt: Array):
            return f.velocity(part, x, dt, last)

        return self._each(own, neuron, dt, state, end)

    def passes(self, neuron: Mixed, state: State) -> Array:
        parts = zip(self.flows, neuron.parts, state, strict=True)
        return neuron.select([f.passes(part, x) for f, part, x in parts])

    def integral(self, neuron: Mixed, state: State, dt: Array) -> Array:
        def own(f: AbstractLaneFlow, part: AbstractNeuron, x: State, dt: Array) -> Array:
            return f.integral(part, x, dt)

        return neuron.select(self._each(own, neuron, dt, state))

    def maximum(self, neuron: Mixed, state: State, dt: Array) -> Array:
        def own(f: AbstractLaneFlow, part: AbstractNeuron, x: State, dt: Array) -> Array:
            return f.maximum(part, x, dt)

        return neuron.select(self._each(own, neuron, dt, state))

    def may_cross(self, neuron: Mixed, state: State, dt: Array, end: State) -> Array:
        def own(f: AbstractLaneFlow, part: AbstractNeuron, x: State, last: State, dt: Array):
            return f.may_cross(part, x, dt, last)

        masks = zip(neuron.masks(), self._each(own, neuron, dt, state, end), strict=True)
        return ft.reduce(lambda out, pair: out | (pair[0] & pair[1]), masks, jnp.zeros((), bool))

    def crossing(self, neuron: Mixed, state: State, dt: Array) -> tuple[Array, Array]:
        def own(f: AbstractLaneFlow, part: AbstractNeuron, x: State, dt: Array):
            return f.crossing(part, x, dt)

        times, low = zip(*self._each(own, neuron, dt, state), strict=True)
        return neuron.select(times), neuron.select(low)

    @property
    def starts_at_threshold(self) -> bool:
        return all(flow.starts_at_threshold for flow in self.flows)

    def longest(
        self,
        neuron: Mixed,
        state: State,
        below: Array | float = 0.0,
        above: Array | float = 0.0,
    ) -> Array | float:
        parts = zip(self.flows, neuron.parts, state, strict=True)
        each = [f.longest(part, x, below, above) for f, part, x in parts]
        if all(isinstance(x, float) for x in each):
            return min(each)
        return neuron.select([jnp.asarray(x, neuron.number.dtype) for x in each])

    def max_extra_segments(self, neuron: Mixed, t_max: float, max_events: int) -> int:
        parts = zip(self.flows, neuron.parts, strict=True)
        return sum(f.max_extra_segments(part, t_max, max_events) for f, part in parts)

    def _each(self, fn: Callable, neuron: Mixed, dt: Array, *states: State) -> tuple:
        """Apply a function to every flow, model and states; other models do not move in `dt`."""
        parts = zip(self.flows, neuron.parts, *states, neuron.masks(), strict=True)
        return tuple(fn(*own, jnp.where(mask, dt, 0.0)) for *own, mask in parts)


def separate(neuron: AbstractNeuron) -> AbstractNeuron:
    """Return the same neurons for a flow that moves them separately, see `lane_flow`.

    Their states are those of `separate_state`.
    """
    if not isinstance(neuron, Populations):
        return neuron
    n = sum(neuron.sizes)
    parts = tuple(
        _repeated(separate(part), first, size, n) for part, first, size in _places(neuron)
    )
    number = np.repeat(np.arange(len(parts)), neuron.sizes)
    dtype = jnp.result_type(*(x for x in jax.tree.leaves(parts) if eqx.is_inexact_array(x)))
    return Mixed(parts, jnp.asarray(number, dtype))


def separate_state(neuron: AbstractNeuron, state: State) -> State:
    """Return the state of `separate(neuron)` for a state of `neuron`."""
    if not isinstance(neuron, Populations):
        return state
    n = sum(neuron.sizes)
    return tuple(
        _repeated(separate_state(part, x), first, size, n)
        for (part, first, size), x in zip(_places(neuron), state, strict=True)
    )


def joint_state(neuron: AbstractNeuron, state: State) -> State:
    """Return the state of `neuron` for a state of `separate(neuron)`, the inverse."""
    if not isinstance(neuron, Populations):
        return state
    return tuple(
        joint_state(part, jax.tree.map(lambda row, a=first, b=first + size: row[a:b], x))
        for (part, first, size), x in zip(_places(neuron), state, strict=True)
    )


def _places(neuron: Populations) -> list[tuple[AbstractNeuron, int, int]]:
    """Model, first neuron and size of each population."""
    ends = np.cumsum(neuron.sizes)
    firsts = [int(end) - size for end, size in zip(ends, neuron.sizes, strict=True)]
    return list(zip(neuron.parts, firsts, neuron.sizes, strict=True))


def _repeated(tree: PyTree, first: int, size: int, n: int) -> PyTree:
    """Arrays of one row per neuron; those of other models repeat the first or the last row."""

    def one(x):
        if not eqx.is_array(x) or x.ndim == 0:
            return x
        return jnp.pad(x, (first, n - first - size), mode="edge")

    return jax.tree.map(one, tree)
