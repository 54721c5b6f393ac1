"""Interface of adjoints, and the problem that they differentiate."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..engine.record import Arrivals, Record, no_event_source
from ..engine.system import Network, Plan
from ..neurons import AbstractNeuron
from ..neurons.base import State


class Problem(NamedTuple):
    """Static part of a simulation, fixed when it is compiled; hashable."""

    plan: Plan
    network: Any  # the static part of a Network, see `Static`
    adjoint: "AbstractAdjoint"

    def build(self, arrays: PyTree) -> Network:
        """Return the network with these arrays as its leaves."""
        return eqx.combine(arrays, self.network.tree)


class AbstractAdjoint(eqx.Module):
    """Method to differentiate a simulation. All fields are static."""

    @abc.abstractmethod
    def apply(
        self,
        loop: Callable[[Problem, PyTree, Arrivals], Record],
        problem: Problem,
        active: PyTree[bool],
        arrays: PyTree,
        arrivals: Arrivals,
    ) -> Record:
        """Run `loop(problem, arrays, arrivals)` such that JAX can differentiate the result.

        `active` marks the leaves of `(arrays, arrivals)` that are being differentiated. `loop`
        itself is not differentiable. With `plan.keep_states` it records every segment.
        """


class Row(NamedTuple):
    """One row of the record, or all rows; batch last. See [`Record`][]."""

    source: Int[Array, "... batch"]
    dt: Float[Array, "... batch"]
    message: Any  # None without delays
    wait: Any  # None without delays
    past_t_max: Bool[Array, "... batch"] | None
    at_start: Bool[Array, "... batch"]  # the row ends at time 0

    @classmethod
    def all(cls, record: Record) -> "Row":
        """Return all rows of a record that was made for a backward pass."""
        columns = (record.sources, record.dt, record.message, record.wait, record.past_t_max)
        columns = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), columns)
        return cls(*columns, at_start=jnp.cumsum(columns[1], axis=0) <= 0)

    def fires_at_start(self, neuron: AbstractNeuron, state: State) -> Bool[Array, "n batch"]:
        """Mask of the neurons that fire at time 0 because they start at or above their thresholds.

        `state` is the state before an event of the row, which has no part in these spikes.
        """
        return self.at_start & (neuron.threshold_gap(state) <= 0)

    def is_external(self, n: int, n_sources: int) -> Bool[Array, "... batch"]:
        """Mask of the samples in which the row ends with an external event."""
        return (self.source >= n) & (self.source != no_event_source(n_sources))


def recording(problem: Problem) -> Problem:
    """Return the same problem, with every segment recorded."""
    return problem._replace(plan=problem.plan._replace(keep_states=True))


def forget(record: Record) -> Record:
    """Return the record without the fields that only a backward pass needs."""
    return record._replace(dt=None, state=None, message=None, wait=None, past_t_max=None)
