"""Neuron with a refractory period after each spike."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import instance, neuron_parameters, parameter
from .base import AbstractClampable, AbstractDrivable, State, drivable


class RefractoryState(NamedTuple):
    """State of the inner neuron model, and the time left in the refractory period."""

    neuron: State
    left: Float[Array, "neurons ..."]  # negative after the end, and before the first spike


class Refractory(AbstractClampable, AbstractDrivable):
    r"""Neuron with a refractory period, in which its membrane potential is clamped.

    After a spike and its reset the membrane potential is clamped for `period`. Synapses and
    adaptation evolve as usual, and input is received: a synaptic current builds up, and a pulse
    changes the clamped potential. A neuron that a pulse pushes over its threshold fires at the end
    of the refractory period. Segments are split exactly at the end of the period: no solver steps
    over it, and spike times are exact and also differentiable in the period.

    The model must be an [`eventsnn.AbstractClampable`][], as all models of this package that fire
    are. [`eventsnn.Populations`][] are not, but their parts can be refractory.
    """

    neuron: AbstractClampable
    period: Float[Array, "*neurons"]

    def __init__(self, neuron: AbstractClampable, period: ArrayLike):
        """**Arguments:**

        - `neuron`: neuron model.
        - `period`: length of the refractory period, >= 0, in units of time; a scalar or of shape
            `(n,)`.

        **Raises:** `ValueError` for a negative period, or a model that cannot be clamped.
        """
        expected = "a neuron model that can be clamped (`AbstractClampable`)"
        instance("neuron", neuron, AbstractClampable, expected)
        self.neuron = neuron
        self.period = parameter("period", period, not_negative=True)

    @property
    def receptors(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of receptors of the inner neuron model."""
        return self.neuron.receptors

    def init_state(self, n: int) -> RefractoryState:
        # Negative, because a state at the end of a period (0) depends on the time of the end.
        return RefractoryState(self.neuron.init_state(n), jnp.full((n,), -1.0, self.period.dtype))

    def vector_field(self, state: RefractoryState) -> RefractoryState:
        zero, clamped = jnp.zeros_like(state.left), state.left >= 0
        held = jax.jvp(
            lambda dt: self.neuron.advance_clamped(state.neuron, dt),
            (zero,),
            (jnp.ones_like(zero),),
        )[1]
        moves = self.neuron.vector_field(state.neuron)
        inner = jax.tree.map(lambda a, b: jnp.where(clamped, a, b), held, moves)
        return RefractoryState(inner, -jnp.ones_like(zero))

    def threshold_gap(self, state: RefractoryState) -> Array:
        gap = self.neuron.threshold_gap(state.neuron)
        during = jnp.where(state.left > 0, 1.0, gap)
        # A neuron over its threshold fires at the end of its refractory period.
        return jnp.where(gap < 0, jnp.maximum(gap, state.left), during)

    def receive(self, state: RefractoryState, weights: Array) -> RefractoryState:
        return state._replace(neuron=self.neuron.receive(state.neuron, weights))

    def reset(self, state: RefractoryState, spiked: Array) -> RefractoryState:
        left = jnp.where(spiked, self.period, state.left)
        return RefractoryState(self.neuron.reset(state.neuron, spiked), left)

    def observe(self, state: RefractoryState) -> Array:
        return self.neuron.observe(state.neuron)

    def normalise(self, state: RefractoryState) -> RefractoryState:
        return state._replace(neuron=self.neuron.normalise(state.neuron))

    def advance_clamped(self, state: RefractoryState, dt: Array) -> RefractoryState:
        return RefractoryState(self.neuron.advance_clamped(state.neuron, dt), state.left - dt)

    def with_current(self, current: ArrayLike) -> "Refractory":
        return eqx.tree_at(lambda x: x.neuron, self, drivable(self.neuron).with_current(current))

    def rheobase(self) -> Array:
        return drivable(self.neuron).rheobase()

    def for_population(self, n: int, dtype: Any) -> "Refractory":
        period = neuron_parameters({"period": self.period}, n, dtype)["period"]
        return Refractory(self.neuron.for_population(n, dtype), period)

    def parameters_valid(self) -> Array:
        return self.neuron.parameters_valid() & jnp.all(self.period >= 0)
