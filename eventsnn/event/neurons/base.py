"""What a neuron model is."""

import abc
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from ... import checks

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
    these. A model with a closed form adds a flow, see `eventsnn.event.flows`.

    A neuron whose synapses are of several kinds (excitation of the dendrite and of the soma, the
    gates of a unit) has as many `ports`: the columns of the weights are then those of port 0 for
    all neurons, then those of port 1, and so on, and `receive` is handed an array of the shape
    `(ports, n, ...)`.
    """

    ports: ClassVar[int] = 1

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
        """The state after a presynaptic spike: `current` is a row of the weights (of the shape
        `(ports, n, ...)` with several ports)."""

    @abc.abstractmethod
    def reset(self, state: State, spiked: Bool[Array, "neurons ..."]) -> State:
        """The state after the neurons marked in `spiked` have fired, below their threshold."""

    def never_reset(self, n: int) -> Bool[np.ndarray, " neurons"]:
        """Mark those of `n` neurons whose `reset` returns its argument. They are readouts that
        never fire: a spike would leave them at their threshold, and is reported by a status."""
        state = self.init_state(n)
        after = self.reset(state, jnp.ones((n,), bool))
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True)
        return np.full((n,), all(x is y for x, y in pairs))

    @abc.abstractmethod
    def observe(self, state: State) -> Float[Array, "neurons ..."]:
        """The quantity that `EventNetwork.states_at` reports, usually the membrane potential."""

    def normalise(self, state: State) -> State:
        """The same physical state in a well-scaled representation; by default, itself."""
        return state

    def hold(self, state: State, dt: Float[Array, "... batch"]) -> State:
        """The state after `dt` with the membrane held where it is, as it is while the neuron is
        refractory: synapses and adaptation go on. Only [`eventsnn.Refractory`][] asks for it."""
        raise NotImplementedError(f"{type(self).__name__} has no `hold`.")

    def driven(self, current: Float[ArrayLike, "..."]) -> Self:
        """The neuron with a constant current added; by default, to its `bias`. Only pseudospikes
        ask for it."""
        if not hasattr(self, "bias"):
            raise NotImplementedError(f"{type(self).__name__} has no `driven`, and no `bias`.")
        where: Any = lambda neuron: neuron.bias  # noqa: E731
        return eqx.tree_at(where, self, where(self) + current)

    def fitted(self, n: int, dtype: Any) -> Self:
        """The model of `n` neurons with its parameters in this dtype.

        **Raises:** `ValueError` for a parameter that is neither a scalar nor of shape `(n,)`.
        """
        return checks.neuron_parameters(self, n, dtype)

    def valid(self) -> Bool[Array, ""]:
        """Whether all parameters are in their range; checked at run time."""
        return jnp.asarray(True)
