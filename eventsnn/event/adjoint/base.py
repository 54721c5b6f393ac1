"""Interface of adjoints, and the problem that they differentiate."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from ..engine.record import Arrivals, Record
from ..engine.system import Network, Plan


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


def recording(problem: Problem) -> Problem:
    """Return the same problem, with every segment recorded."""
    return problem._replace(plan=problem.plan._replace(keep_states=True))


def forget(record: Record) -> Record:
    """Return the record without the fields that only a backward pass needs."""
    return record._replace(dt=None, state=None, message=None, wait=None, driven=None)
