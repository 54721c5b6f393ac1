"""What a neuron model is."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

State = PyTree[Float[Array, "neurons ..."]]


class AbstractNeuron(eqx.Module):
    """A neuron model: a smooth flow between events and a jump at each event.

    Fields are parameters only; each array leaf is a scalar or has shape `(n,)`, and is
    learnable. Weights belong to the network.

    Every method acts on each neuron by itself. The state is a pytree of arrays whose first axis
    is the neuron; further axes (a batch) may follow, and then the parameters are handed over
    already shaped to broadcast, `(n, 1)`. Elementwise `jnp` code serves both.

    A new model needs `init_state`, `drift`, `threshold_gap`, `receive`, `reset` and `observe`;
    exact spike times (by any diffrax solver) and exact gradients (by EventProp) follow from
    these. A model with a closed form adds a flow, see `eventsnn.flows`.
    """

    @abc.abstractmethod
    def init_state(self, n: int) -> State:
        """The state of `n` neurons at time 0: arrays of shape `(n,)`."""

    @abc.abstractmethod
    def drift(self, state: State) -> State:
        """The time derivative of the state between events."""

    @abc.abstractmethod
    def threshold_gap(self, state: State) -> Float[Array, "neurons ..."]:
        """How far each neuron is from its threshold: positive below it, zero at a spike."""

    @abc.abstractmethod
    def receive(self, state: State, current: Float[Array, "neurons ..."]) -> State:
        """The state after a presynaptic spike: `current` is a row of the weights."""

    @abc.abstractmethod
    def reset(self, state: State, spiked: Bool[Array, "neurons ..."]) -> State:
        """The state after the neurons marked in `spiked` have fired."""

    @abc.abstractmethod
    def observe(self, state: State) -> Float[Array, "neurons ..."]:
        """The quantity that `EventNetwork.states_at` reports, usually the membrane potential."""

    def normalise(self, state: State) -> State:
        """The same physical state in a well-scaled representation; by default, itself."""
        return state

    def valid(self) -> Bool[Array, ""]:
        """Whether all parameters are in their range; checked at run time."""
        return jnp.asarray(True)
