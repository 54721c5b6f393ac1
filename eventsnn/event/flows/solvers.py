"""Supported diffrax solvers and step size controllers, and their preparation for a flow."""

from collections.abc import Callable
from typing import Any, get_origin

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix as optx

from ... import checks

#: Placeholder of diffrax for tolerances that `diffeqsolve` sets.
_UNSET = diffrax.with_stepsize_controller_tols(diffrax.VeryChord)().rtol

#: Relative tolerance of an implicit solver's root finder, in units in the last place.
_ROOT_ULPS = 2.0**12

_ROOT_STEPS = 50


def differentiable(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """Make a solver's loop over its stages differentiable in forward and in reverse mode.

    By default it may support reverse mode only. The velocity of a flow needs forward mode.
    """

    def one(solver):
        if getattr(solver, "scan_kind", "none") is not None:
            return solver
        return eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None)

    return _innermost(one, solver)


def error_order(solver: diffrax.AbstractSolver, terms: diffrax.ODETerm) -> Any:
    """Return the order of the solver's error estimate.

    **Raises:** `ValueError` for a solver without an order.
    """
    order = solver.error_order(terms)
    if order is None:
        raise ValueError(
            "solver must state its order for an adaptive step size controller, "
            f"got {type(solver).__name__}."
        )
    return order


def with_tolerances(
    solver: diffrax.AbstractSolver, controller: diffrax.AbstractStepSizeController, dtype: Any
) -> diffrax.AbstractSolver:
    """Set the tolerances of an implicit solver's root finder close to rounding error.

    A step is then a smooth function of its size, as derivatives require. The ratio of `atol` to
    `rtol` is that of the step size controller. Tolerances given by the user are kept.
    """
    rtol = _ROOT_ULPS * float(jnp.finfo(dtype).eps)
    atol = rtol * getattr(controller, "atol", 1.0) / getattr(controller, "rtol", 1.0)

    def one(solver):
        finder = getattr(solver, "root_finder", None)
        values = {"rtol": rtol, "atol": atol, "norm": optx.max_norm}
        unset = [x for x in values if getattr(finder, x, None) is _UNSET]
        if not unset:
            return solver
        finder = eqx.tree_at(
            lambda f: [getattr(f, x) for x in unset], finder, [values[x] for x in unset]
        )
        if type(finder) in (diffrax.VeryChord, optx.Chord):
            # Replace the default root finders: VeryChord takes rounding errors for divergence, and
            # Chord is slow.
            finder = optx.Newton(finder.rtol, finder.atol, finder.norm)
        steps = max(solver.root_find_max_steps, _ROOT_STEPS)
        return eqx.tree_at(
            lambda s: (s.root_finder, s.root_find_max_steps), solver, (finder, steps)
        )

    return _innermost(one, solver)


def check(solver: Any, controller: Any, dt0: Any, nodes: Any) -> None:
    """Raise a `ValueError` for arguments that `ODEFlow` does not support."""
    _check_solver(solver)
    _check_controller(controller, solver)
    if dt0 is None and isinstance(controller, diffrax.ConstantStepSize):
        raise ValueError("dt0 must be given with diffrax.ConstantStepSize(), got None.")
    if dt0 is not None:
        checks.positive("dt0", dt0)
    checks.count("nodes", nodes)


def _check_solver(solver: Any) -> None:
    checks.instance("solver", solver, diffrax.AbstractSolver, "a diffrax solver")
    inner = solver
    while isinstance(inner, diffrax.AbstractWrappedSolver):
        inner = inner.solver
    terms = get_origin(inner.term_structure) or inner.term_structure
    if not (isinstance(terms, type) and issubclass(diffrax.ODETerm, terms)):
        raise ValueError(
            "solver must integrate one ordinary differential equation, "
            f"got {type(inner).__name__}, which takes several terms."
        )
    if isinstance(inner, diffrax.LeapfrogMidpoint):
        raise ValueError(
            "solver must start from one state, since events interrupt it, "
            "got LeapfrogMidpoint, which starts from two."
        )


def _check_controller(controller: Any, solver: diffrax.AbstractSolver) -> None:
    kind, expected = diffrax.AbstractStepSizeController, "a diffrax step size controller"
    checks.instance("stepsize_controller", controller, kind, expected)
    name = type(controller).__name__
    if isinstance(controller, diffrax.StepTo | diffrax.ClipStepSizeController):
        raise ValueError(
            "stepsize_controller must not fix absolute times, since steps end at events, "
            f"got {name}."
        )
    if isinstance(controller, diffrax.ConstantStepSize):
        return
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            "stepsize_controller must be diffrax.ConstantStepSize() for a solver without an error "
            f"estimate, got {name} for {type(solver).__name__}."
        )
    error_order(solver, diffrax.ODETerm(lambda t, y, args: y))
    if not getattr(controller, "force_dtmin", True):
        raise ValueError("stepsize_controller must have force_dtmin=True, got False.")


def _innermost(
    change: Callable[[Any], Any], solver: diffrax.AbstractSolver
) -> diffrax.AbstractSolver:
    """Apply `change` to a solver or, if it wraps another solver, to the innermost one."""
    if isinstance(solver, diffrax.AbstractWrappedSolver):
        return eqx.tree_at(lambda s: s.solver, solver, _innermost(change, solver.solver))
    return change(solver)
