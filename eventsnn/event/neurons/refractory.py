"""Neuron with a refractory period after each spike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import neuron_parameters, parameter, short_repr
from .base import AbstractNeuron, State


class RefractoryState(NamedTuple):
    """State of the inner neuron model, and the time left in the refractory period."""

    neuron: State
    left: Float[Array, "neurons ..."]  # negative after the end of the period


class Refractory(AbstractNeuron):
    r"""Neuron with a refractory period, in which its membrane potential is clamped.

    After a spike and its reset the membrane potential is clamped for `period`. Synapses and
    adaptation evolve as usual, and input is received: a synaptic current builds up, and a pulse
    changes the clamped potential. A neuron that a pulse pushes over its threshold fires at the end
    of the refractory period. Segments are split exactly at the end of the period: no solver steps
    over it, and spike times are exact and also differentiable in the period.

    The model must implement `AbstractNeuron.hold`. All models of this package that fire do so.
    """

    neuron: AbstractNeuron
    period: Float[Array, "*neurons"]

    def __init__(self, neuron: AbstractNeuron, period: ArrayLike):
        """**Arguments:**

        - `neuron`: neuron model.
        - `period`: length of the refractory period, >= 0, in units of time; a scalar or of shape
            `(n,)`.

        **Raises:** `ValueError` for a negative period, or a model that has no `hold`. A mixture has
        none: its parts can be refractory instead.
        """
        if not isinstance(neuron, AbstractNeuron) or type(neuron).hold is AbstractNeuron.hold:
            known = isinstance(neuron, AbstractNeuron)
            found = type(neuron).__name__ if known else short_repr(neuron)
            raise ValueError(
                f"neuron must be a neuron model with a `hold`, got {found}. "
                "(Of a mixture, the parts can be refractory.)"
            )
        self.neuron = neuron
        self.period = parameter("period", period, not_negative=True)

    @property
    def ports(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of ports of the inner neuron model."""
        return self.neuron.ports

    def init_state(self, n: int) -> RefractoryState:
        return RefractoryState(self.neuron.init_state(n), jnp.zeros((n,), self.period.dtype))

    def drift(self, state: RefractoryState) -> RefractoryState:
        zero, rests = jnp.zeros_like(state.left), state.left > 0
        held = jax.jvp(
            lambda dt: self.neuron.hold(state.neuron, dt), (zero,), (jnp.ones_like(zero),)
        )[1]
        moves = self.neuron.drift(state.neuron)
        inner = jax.tree.map(lambda a, b: jnp.where(rests, a, b), held, moves)
        return RefractoryState(inner, -jnp.ones_like(zero))

    def threshold_gap(self, state: RefractoryState) -> Array:
        gap = self.neuron.threshold_gap(state.neuron)
        resting = jnp.where(state.left > 0, 1.0, gap)
        # A neuron over its threshold fires at the end of its refractory period.
        return jnp.where(gap < 0, jnp.maximum(gap, state.left), resting)

    def receive(self, state: RefractoryState, current: Array) -> RefractoryState:
        return state._replace(neuron=self.neuron.receive(state.neuron, current))

    def reset(self, state: RefractoryState, spiked: Array) -> RefractoryState:
        left = jnp.where(spiked, self.period, state.left)
        return RefractoryState(self.neuron.reset(state.neuron, spiked), left)

    def observe(self, state: RefractoryState) -> Array:
        return self.neuron.observe(state.neuron)

    def normalise(self, state: RefractoryState) -> RefractoryState:
        return state._replace(neuron=self.neuron.normalise(state.neuron))

    def hold(self, state: RefractoryState, dt: Array) -> RefractoryState:
        return RefractoryState(self.neuron.hold(state.neuron, dt), state.left - dt)

    def driven(self, current: ArrayLike) -> "Refractory":
        return Refractory(self.neuron.driven(current), self.period)

    def fitted(self, n: int, dtype: Any) -> "Refractory":
        period = neuron_parameters({"period": self.period}, n, dtype)["period"]
        return Refractory(self.neuron.fitted(n, dtype), period)

    def valid(self) -> Array:
        return self.neuron.valid() & jnp.all(self.period >= 0)
