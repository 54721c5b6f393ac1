"""Populations of different neuron models in one network."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ...checks import count, instance, value_error
from .base import AbstractDrivable, AbstractNeuron, State, drivable


class Populations(AbstractDrivable):
    """Combination of several neuron models in one network, one population ("part") per model.

    The first `sizes[0]` neurons use the first model, the next `sizes[1]` neurons the second, and so
    on. Each part has its own parameters, state and flow, including closed-form flows. All parts can
    be connected to each other. For a readout that never fires, add a part of
    [`eventsnn.LeakyIntegrator`][].

    A parameter of a part is a scalar or has one value per neuron of that part.
    """

    parts: tuple[AbstractNeuron, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, parts: Sequence[tuple[AbstractNeuron, int]]):
        """**Arguments:**

        - `parts`: pairs `(neuron model, number of neurons)`.

        **Raises:** `ValueError` for an empty sequence, a number < 1, an object that is not a neuron
        model, or models with different numbers of receptors.
        """
        expected = "(neuron model, size) pairs"
        pairs = list(instance("parts", parts, list | tuple, expected))
        if not pairs or not all(_is_pair(pair) for pair in pairs):
            raise value_error("parts", parts, expected)
        self.parts = tuple(part for part, _ in pairs)
        self.sizes = tuple(count(f"parts[{i}][1]", size) for i, (_, size) in enumerate(pairs))
        if len({part.receptors for part in self.parts}) > 1:
            receptors = [part.receptors for part in self.parts]
            raise ValueError(f"parts must have the same number of receptors, got {receptors}.")

    @property
    def receptors(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of receptors of each part."""
        return self.parts[0].receptors

    def rows(self, x: Array, axis: int = 0) -> list[Array]:
        """Split the array `x` into the rows of each part; a single row is passed to every part.

        `axis` is the axis of the neurons. Default: 0.
        """
        if x.ndim == 0 or x.shape[axis] == 1:
            return [x] * len(self.parts)
        ends = [sum(self.sizes[: k + 1]) for k in range(len(self.sizes) - 1)]
        return jnp.split(x, ends, axis=axis)

    def of_time(self, dt: Array) -> list[Array]:
        """Split times `dt` of shape (batch,) or (n, batch) into the times of each part."""
        return self.rows(dt) if dt.ndim > 1 else [dt] * len(self.parts)

    def init_state(self, n: int) -> State:
        if n != sum(self.sizes):
            raise ValueError(
                f"neuron must have parts of {n} neurons in total, as the weights have, "
                f"got {' + '.join(map(str, self.sizes))}."
            )
        return tuple(part.init_state(m) for part, m in zip(self.parts, self.sizes, strict=True))

    def vector_field(self, state: State) -> State:
        return self._each(lambda part, x: part.vector_field(x), state)

    def threshold_gap(self, state: State) -> Array:
        return jnp.concatenate(self._each(lambda part, x: part.threshold_gap(x), state))

    def receive(self, state: State, weights: Array) -> State:
        own = self.rows(weights, axis=0 if self.receptors == 1 else 1)
        return self._each(lambda part, x, weights: part.receive(x, weights), state, own)

    def reset(self, state: State, spiked: Array) -> State:
        return self._each(lambda part, x, own: part.reset(x, own), state, self.rows(spiked))

    def never_reset(self, n: int) -> np.ndarray:
        return np.concatenate(self._each(lambda part, m: part.never_reset(m), self.sizes))

    def observe(self, state: State) -> Array:
        return jnp.concatenate(self._each(lambda part, x: part.observe(x), state))

    def normalise(self, state: State) -> State:
        return self._each(lambda part, x: part.normalise(x), state)

    def with_current(self, current: ArrayLike) -> "Populations":
        own = self.rows(jnp.asarray(current))
        return self._with(self._each(lambda part, x: drivable(part).with_current(x), own))

    def rheobase(self) -> Array:
        each = self._each(lambda part: drivable(part).rheobase())
        own = zip(each, self.sizes, strict=True)
        return jnp.concatenate([jnp.broadcast_to(x, (size,)) for x, size in own])

    def for_population(self, n: int, dtype: Any) -> "Populations":
        self.init_state(n)
        sizes = list(self.sizes)
        return self._with(self._each(lambda part, size: part.for_population(size, dtype), sizes))

    def parameters_valid(self) -> Array:
        return jnp.all(jnp.stack(self._each(lambda part: part.parameters_valid())))

    def _each(self, fn: Callable, *args) -> tuple:
        return tuple(fn(part, *own) for part, *own in zip(self.parts, *args, strict=True))

    def _with(self, parts: Sequence[AbstractNeuron]) -> "Populations":
        return Populations(list(zip(parts, self.sizes, strict=True)))


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], AbstractNeuron)
