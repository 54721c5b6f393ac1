"""A neuron that rests after each spike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ...checks import neuron_parameters, parameter, shown
from .base import AbstractNeuron, State


class RefractoryState(NamedTuple):
    """The state of the neuron itself, and how long it is still to rest (below 0: how long ago its
    rest was over)."""

    neuron: State
    left: Float[Array, "neurons ..."]


class Refractory(AbstractNeuron):
    r"""A neuron whose membrane is held after each spike, for a period.

    After a spike and its reset the membrane stays where it is for `period`; synapses and
    adaptation go on, and what arrives meanwhile is received (a synaptic current builds up; a
    pulse moves the membrane that is held, and if that lifts it over its threshold, the neuron
    fires as its rest ends). The end of the period is an event of its own: no solver steps over
    it, and spike times are exact and differentiable in the period too.

    For any model that says how it behaves while it is held (`AbstractNeuron.hold`); all those of
    this package that fire do.
    """

    neuron: AbstractNeuron
    period: Float[Array, "*neurons"]

    def __init__(self, neuron: AbstractNeuron, period: ArrayLike):
        """**Arguments:**

        - `neuron`: the model.
        - `period`: how long it rests, >= 0, in units of time; a scalar or of shape `(n,)`.

        **Raises:** `ValueError` for a negative period, a model that has no `hold`, or a mixture,
        whose parts can be refractory instead.
        """
        if not isinstance(neuron, AbstractNeuron) or type(neuron).hold is AbstractNeuron.hold:
            found = type(neuron).__name__ if isinstance(neuron, AbstractNeuron) else shown(neuron)
            raise ValueError(
                f"neuron must be a neuron model with a `hold`, got {found}. "
                "(Of a mixture, the parts can be refractory.)"
            )
        self.neuron = neuron
        self.period = parameter("period", period, not_negative=True)

    @property
    def ports(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
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
        # One that is over its threshold fires as its rest ends.
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
