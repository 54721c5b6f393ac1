"""What an adjoint is, and the problem it differentiates."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from ..engine.record import Arrivals, Record
from ..engine.system import Network, Plan


class Problem(NamedTuple):
    """The part of a simulation that is fixed when it is compiled; hashable."""

    plan: Plan
    network: Any  # the static part of a Network, see `Static`
    adjoint: "AbstractAdjoint"

    def build(self, arrays: PyTree) -> Network:
        """The network with these arrays as its leaves."""
        return eqx.combine(arrays, self.network.tree)


class AbstractAdjoint(eqx.Module):
    """How to differentiate a simulation. Fields are static."""

    @abc.abstractmethod
    def apply(
        self,
        loop: Callable[[Problem, PyTree, Arrivals], Record],
        problem: Problem,
        active: PyTree[bool],
        arrays: PyTree,
        arrivals: Arrivals,
    ) -> Record:
        """Run `loop(problem, arrays, arrivals)` so that JAX can differentiate it.

        `active` marks the leaves of `(arrays, arrivals)` that are being differentiated. `loop`
        itself is not differentiable; with `plan.keep_states` it records every segment.
        """


def recording(problem: Problem) -> Problem:
    """The same simulation, with every segment recorded."""
    return problem._replace(plan=problem.plan._replace(keep_states=True))


def forget(record: Record) -> Record:
    """The record without what only a backward pass needs."""
    return record._replace(dt=None, state=None, message=None, wait=None, driven=None)
