"""Differentiable simulation of one sample, as a primitive that simulates a batch in one loop."""

from typing import Any

import equinox as eqx
import jax

from ..adjoint import AbstractAdjoint, Problem
from .batching import BatchNative
from .loop import run
from .programs import Static
from .record import Arrivals, Record
from .system import Network, Plan


def solve(plan: Plan, network: Network, adjoint: AbstractAdjoint, arrivals: Arrivals) -> Record:
    """Simulate one sample, differentiably. Under `jax.vmap` one loop simulates the batch."""
    arrays, static = eqx.partition(network, eqx.is_inexact_array)
    one = jax.tree.map(lambda x: x[None], arrivals)
    record = _simulate(Problem(plan, Static(static), adjoint), arrays, one)
    return jax.tree.map(lambda x: x[0], record)


def _run_problem(problem: Problem, arrays: Any, arrivals: Arrivals) -> Record:
    return run(problem.plan, problem.build(arrays), arrivals)


def _differentiated(static: tuple[Problem, tuple[bool, ...]], arrays: Any, arrivals: Arrivals):
    problem, marks = static
    active = jax.tree.unflatten(jax.tree.structure((arrays, arrivals)), marks)
    return problem.adjoint.apply(_loop, problem, active, arrays, arrivals)


_loop = BatchNative("eventsnn_loop", _run_problem)
_simulate = BatchNative("eventsnn_simulate", _run_problem, derivative=_differentiated)
