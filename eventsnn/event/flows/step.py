"""One step of a diffrax solver, with a separate length for each neuron."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..neurons import AbstractNeuron
from ..neurons.base import State


class Step(NamedTuple):
    """One step of the solver."""

    end: State  # state after the step
    error: Any  # error estimate, or None
    path: Callable[[Array], State]  # dense output, at a fraction of the step in [0, 1]


def solver_step(
    solver: diffrax.AbstractSolver, neuron: AbstractNeuron, state: State, dt: Array
) -> Step:
    """Compute one step; `dt` is a scalar or has one value per neuron."""
    dt = jnp.broadcast_to(dt, jax.tree.leaves(state)[0].shape[:1])
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        end, error, dense = _solve_each(solver, neuron, state, dt)
        return Step(end, error, lambda fraction: _between_each(solver, dense, fraction))
    end, error, dense = _solve(solver, neuron, state, dt)
    return Step(end, error, lambda fraction: _between(solver, dense, fraction))


def scaled_terms(neuron: AbstractNeuron, dt: Array) -> diffrax.ODETerm:
    """Vector field in a time from 0 to 1; `dt` is the length of the step, or one per neuron."""
    return diffrax.ODETerm(
        lambda t, y, args: jax.tree.map(lambda d: d * dt, neuron.vector_field(y))
    )


@eqx.filter_jit
def _solve(solver: diffrax.AbstractSolver, neuron: AbstractNeuron, state: State, dt: Array):
    """Compute the state after a step, the error estimate and the dense output.

    The step goes from 0 to 1 in a scaled time; each neuron's vector field is multiplied by its own
    `dt`. `filter_jit` makes all callers share one trace.
    """
    terms, zero = scaled_terms(neuron, dt), jnp.zeros((), dt.dtype)
    one = jnp.ones_like(zero)
    solver_state = solver.init(terms, zero, one, state, None)
    end, error, dense, _, result = solver.step(terms, zero, one, state, None, solver_state, True)
    if _is_linear(solver):
        slopes = (terms.vf(zero, state, None), terms.vf(one, end, None))
        dense = {"y0": state, "y1": end, "k0": slopes[0], "k1": slopes[1]}
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        failed = result != diffrax.RESULTS.successful
        end = jax.tree.map(lambda x: jnp.where(failed, jnp.nan, x), end)
        error = jax.tree.map(lambda x: jnp.where(failed, jnp.inf, x), error)
    return end, error, dense


def _between(solver: diffrax.AbstractSolver, dense: Any, fraction: Array) -> State:
    """State within a step, at a fraction of the step.

    A solver's dense output may be linear, and then it has no peaks. In this case the cubic with the
    vector field at both ends is used instead.
    """
    hermite = diffrax.ThirdOrderHermitePolynomialInterpolation
    kind = hermite if _is_linear(solver) else solver.interpolation_cls
    zero = jnp.zeros_like(fraction)
    return kind(t0=zero, t1=jnp.ones_like(zero), **dense).evaluate(fraction)


def _is_linear(solver: diffrax.AbstractSolver) -> bool:
    return solver.interpolation_cls is diffrax.LocalLinearInterpolation


@eqx.filter_jit
def _solve_each(solver: diffrax.AbstractSolver, neuron: AbstractNeuron, state: State, dt: Array):
    """Equivalent of `_solve` for an implicit solver, which solves each neuron's own equations.

    The systems are small, and the number of iterations of the root finder does not depend on the
    other neurons.
    """
    leaves, tree = jax.tree.flatten(neuron)
    own = [eqx.is_inexact_array(x) and x.ndim > 0 for x in leaves]

    def one(mapped, state, dt):
        rest = iter(mapped)
        full = [next(rest) if m else x for x, m in zip(leaves, own, strict=True)]
        return _solve(solver, jax.tree.unflatten(tree, full), state, dt)

    def alone(x):
        return jnp.broadcast_to(x, (*dt.shape, *x.shape[1:]))[:, None]

    mapped = [alone(x) for x, m in zip(leaves, own, strict=True) if m]
    end, error, dense = jax.vmap(one)(mapped, jax.tree.map(alone, state), dt)
    return *jax.tree.map(lambda x: x[:, 0], (end, error)), dense


def _between_each(solver: diffrax.AbstractSolver, dense: Any, fraction: Array) -> State:
    """Equivalent of `_between` for the dense output of `_solve_each`."""
    state = jax.vmap(lambda own: _between(solver, own, fraction))(dense)
    return jax.tree.map(lambda x: x[:, 0], state)
