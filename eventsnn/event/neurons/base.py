"""Interface of neuron models."""

import abc
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from ... import checks

State = PyTree[Float[Array, "..."]]
Neuron = TypeVar("Neuron", bound="AbstractNeuron")
Biased = TypeVar("Biased", bound="AbstractBiased")


class AbstractNeuron(eqx.Module):
    """Neuron model: a smooth flow between events, and a jump of the state at each event.

    The fields are the parameters: floats or floating-point arrays, scalars or of shape `(n,)`.
    Networks and layers convert floats to arrays, so that each parameter has a gradient and can be
    trained. A constant number is a field `equinox.field(static=True)`. Integers are never trained.
    Weights belong to the network.

    Every method acts on each neuron separately. The state is a pytree of arrays of shape `(n,)`, or
    `(n, batch)` in a simulation of several samples. In the second case parameters of shape `(n,)`
    have shape `(n, 1)`, so that they broadcast. Elementwise `jnp` code covers both cases. The
    argument `state` of the methods is such a pytree. Methods that return a state return the same
    structure, shapes and dtypes.

    A new model must implement `init_state`, `vector_field`, `threshold_gap`, `receive`, `reset` and
    `observe`. Exact spike times (with any diffrax solver) and exact gradients (with EventProp)
    follow from these methods. A model with a closed-form solution also provides a flow, see
    `eventsnn.event.flows`. A model that can be refractory is an [`AbstractClampable`][]. A model
    that pseudospikes can drive is an [`AbstractDrivable`][].

    A neuron may have several types of synapses, for example on the dendrite and on the soma, or for
    the gates of a unit. It then has one *receptor* per type, and `receptors` is their number. The
    weights have `n` columns for receptor 0, followed by `n` columns for receptor 1, and so on.
    `receive` gets an array of shape `(receptors, n, ...)`.
    """

    receptors: ClassVar[int] = 1

    @abc.abstractmethod
    def init_state(self, n: int) -> State:
        """Return the state of `n` neurons at time 0, as arrays of shape `(n,)`."""

    @abc.abstractmethod
    def vector_field(self, state: State) -> State:
        """Vector field: the time derivative of the state between events."""

    @abc.abstractmethod
    def threshold_gap(self, state: State) -> Float[Array, "neurons ..."]:
        """Gap between each neuron's state and its threshold: positive below it, 0 at a spike."""

    @abc.abstractmethod
    def receive(self, state: State, weights: Float[Array, "neurons ..."]) -> State:
        """Return the state after a presynaptic spike.

        `weights` is a row of the weights. With several receptors it has shape `(receptors, n,
        ...)`.
        """

    @abc.abstractmethod
    def reset(self, state: State, spiked: Bool[Array, "neurons ..."]) -> State:
        """Return the state after the neurons marked in `spiked` have fired.

        These neurons must then be below their thresholds.
        """

    def never_reset(self, n: int) -> Bool[np.ndarray, " neurons"]:
        """Mask of the neurons, out of `n`, whose `reset` returns its argument unchanged.

        They are readouts and must not fire: a spike would leave them at their threshold. If one
        fires, the status of the sample is `Status.no_reset`.
        """
        state = self.init_state(n)
        after = self.reset(state, jnp.ones((n,), bool))
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True)
        return np.full((n,), all(x is y for x, y in pairs))

    @abc.abstractmethod
    def observe(self, state: State) -> Float[Array, "neurons ..."]:
        """Quantity that `potentials_at`, `integrals` and `maxima` read, usually the potential."""

    def normalise(self, state: State) -> State:
        """Return the same physical state in a well-scaled representation; by default unchanged."""
        return state

    def for_population(self: Neuron, n: int, dtype: Any) -> Neuron:
        """Return the model for `n` neurons, with its parameters in `dtype`.

        **Raises:** `ValueError` for a parameter that is neither a scalar nor of shape `(n,)`, or a
        method whose result has another structure, shape or dtype than required.
        """
        neuron = checks.neuron_parameters(self, n, dtype)
        checks.neuron_methods(neuron, n, dtype)
        return neuron

    def parameters_valid(self) -> Bool[Array, ""]:
        """Return whether all parameters are in their ranges; checked at run time."""
        return jnp.asarray(True)


class AbstractClampable(AbstractNeuron):
    """Neuron model whose membrane potential can be clamped, see [`eventsnn.Refractory`][]."""

    @abc.abstractmethod
    def advance_clamped(self, state: State, dt: Float[Array, "... batch"]) -> State:
        """Return the state after `dt` in the refractory period.

        The membrane potential is clamped, and synapses and adaptation evolve as usual.
        """


class AbstractDrivable(AbstractNeuron):
    """Neuron model that a constant current can drive, see [`eventsnn.Pseudospikes`][]."""

    @abc.abstractmethod
    def with_current(self, current: Float[ArrayLike, "..."]) -> "AbstractDrivable":
        """Return the neuron with a constant `current` added; it broadcasts against the state."""

    def rheobase(self) -> Float[Array, "*neurons"]:
        """Smallest constant current without a stable resting state: with more, the neuron fires.

        It is at most 0 for a neuron that fires without input, and inf for one that never fires.

        **Raises:** `ValueError` for a model that does not define it.
        """
        raise ValueError(
            f"drive must be given for neurons of type {type(self).__name__}, which do not define "
            "`rheobase`, got None."
        )


class AbstractBiased(AbstractDrivable):
    """Neuron model with a constant current as its parameter `bias`."""

    bias: eqx.AbstractVar[Float[Array, "..."]]

    def with_current(self: Biased, current: Float[ArrayLike, "..."]) -> Biased:
        return eqx.tree_at(lambda neuron: neuron.bias, self, self.bias + current)


def drivable(neuron: AbstractNeuron) -> AbstractDrivable:
    """Return the neuron.

    **Raises:** `ValueError` for a model that cannot be driven by a current.
    """
    if not isinstance(neuron, AbstractDrivable):
        raise ValueError(
            f"neuron must be a model that a current can drive (`AbstractDrivable`), "
            f"got {type(neuron).__name__}."
        )
    return neuron
