"""The flow of any neuron: one step of any diffrax solver, searched for crossings."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import AbstractFlow, Clock, Segment, Window, first
from .crossings import Gap, first_roots, suspects
from .short import gauss_integral, searched_peak
from .solvers import check, differentiable, with_tolerances
from .threshold import ROUNDING_ULPS, passes


class _Memory(NamedTuple):
    """The step size to try next, and what the step size controller remembers."""

    dt: Float[Array, ""]
    controller: Any


class _Step(NamedTuple):
    """One step of the solver: the state after it, the error estimate (or None), and the dense
    output, a function of the share of the step that is over."""

    end: State
    error: Any
    path: Callable[[Array], State]


class ODEFlow(AbstractFlow):
    r"""Integrates a neuron's `drift` with a diffrax solver; a segment is one accepted step.

    **What is computed.** The state at time t of a segment is the state after one step of size t:
    the step map. A spike is where the gap to the threshold falls from above 0 to 0 on the step
    map, to rounding, whatever the form of `threshold_gap`, and where the neuron's `drift` closes
    the gap: a potential that approaches its threshold without reaching it may pass it by the error
    of a step, and this is no spike. (It fires as soon as its drift does close the gap.) A neuron
    that has crossed and is not reset does not fire until it has returned. Step sizes that a
    controller chooses are rounded down to one of 8 per octave, so that they do not change with the
    parameters, except for jumps that the tolerance bounds. Gradients are therefore exactly those
    of what is computed.

    **What is found.** The gap g along the dense output of a step is sampled at `nodes` points.
    Between them it is taken for the cubic with the values and slopes at the nodes, so that a
    neuron that crosses its threshold and returns within one step is seen. On a piece of length d
    the cubic is wrong by at most $d^4 \max |g''''| / 384$. Every second node measures this error on
    a piece at least 1.6 times as long. Where it exceeds 1e-3 of the gap, as under a threshold that
    oscillates within the step, one half of the step is searched at a time, and so on down to a
    part of $2^{-16}$. Where the cubic comes as close to 0 as this error, the step map decides. For
    a gap that is linear in the state and a dense output of degree 4 or less (all offered solvers
    except `diffrax.Dopri8`), the measured error is a bound, and no crossing of the dense output
    is missed.

    **What is not certified.** (1) A feature of the gap that is narrower than the distance of the
    nodes and lies between them, such as a single short pulse of the threshold; more `nodes`
    or a controller's `dtmax` resolve it. (2) A crossing that only one of dense output and step map
    shows. They differ by about the error of one step, so this concerns a peak that is this
    close to the threshold.

    An implicit solver is applied to each neuron by itself. If the tolerances of its root finder are
    left to diffrax, as by default, they are close to rounding error, and Newton's method with
    at most 50 iterations is used. Where it fails, a step of constant size is not finite, and an
    adaptive one is repeated with a smaller size.
    """

    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    dt0: float | None = eqx.field(static=True)
    nodes: int = eqx.field(static=True)

    def __init__(
        self,
        solver: diffrax.AbstractSolver | None = None,
        *,
        dt0: float | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        nodes: int = 8,
    ):
        """**Arguments:**

        - `solver`: a diffrax solver of one ordinary differential equation, explicit or implicit; by
            default `diffrax.Tsit5()`. Not those that take several terms (stochastic, semi-implicit,
            IMEX), nor `diffrax.LeapfrogMidpoint`, a method of two steps: events would start
            it anew at each step, with an order less. (`diffrax.ReversibleHeun`, started anew, is
            Heun's method, of the same order.)
        - `dt0`: the first step size; with the default controller it is the step size. In the
            units of the time constants.
        - `stepsize_controller`: a diffrax controller; by default constant steps if `dt0` is
            given, else `diffrax.PIDController(rtol=1e-6, atol=1e-6)`. Not those of absolute times
            (`StepTo`, `ClipStepSizeController`).
        - `nodes`: into how many pieces a step is cut in the search for crossings, at first; an odd
            number counts as the next even one.

        **Raises:** `ValueError` for a solver or a controller that is none of these, an adaptive
        controller for a solver without an error estimate, `dt0` that is not finite and > 0,
        constant steps without `dt0`, or `nodes` that is not an integer >= 1.
        """
        if solver is None:
            solver = diffrax.Tsit5()
        if stepsize_controller is None:
            stepsize_controller = (
                diffrax.PIDController(rtol=1e-6, atol=1e-6)
                if dt0 is None
                else diffrax.ConstantStepSize()
            )
        check(solver, stepsize_controller, dt0, nodes)
        self.solver = differentiable(solver)
        self.controller = stepsize_controller
        self.dt0 = None if dt0 is None else float(dt0)
        self.nodes = int(nodes)

    def init(self, neuron: AbstractNeuron, state: State, horizon: Array) -> _Memory:
        def one(neuron, state, horizon):
            terms, zero = _terms(neuron, jnp.ones_like(horizon)), jnp.zeros_like(horizon)
            t1, memory = self.controller.init(
                terms,
                zero,
                horizon,
                state,
                None if self.dt0 is None else jnp.asarray(self.dt0, horizon.dtype),
                None,
                self.solver.func,
                self.solver.error_order(terms),
            )
            t1 = jnp.asarray(t1)
            return _Memory(t1 if self.dt0 is not None else _rounded(t1), memory)

        return _batched(one, neuron)(state, horizon)

    def next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Array,
        memory: _Memory,
        window: Window | None = None,
    ) -> Segment:
        return Segment(*_batched(self._next_spike, neuron)(state, horizon, memory, Clock(window)))

    def advance(self, neuron: AbstractNeuron, state: State, dt: Array) -> State:
        return _batched(self._advance, neuron)(state, dt)

    def passes(self, neuron: AbstractNeuron, state: State) -> Array:
        return passes(neuron, state)

    def velocity(self, neuron: AbstractNeuron, state: State, dt: Array, end: State) -> State:
        def one(neuron, state, dt):
            return jax.jvp(lambda dt: self._advance(neuron, state, dt), (dt,), (jnp.ones_like(dt),))

        return _batched(one, neuron)(state, dt)[1]

    def integral(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return gauss_integral(self, neuron, state, dt)

    def peak(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return searched_peak(self, neuron, state, dt)

    def cuts(self, neuron: AbstractNeuron, t_max: float, max_events: int) -> int:
        if isinstance(self.controller, diffrax.ConstantStepSize) and self.dt0 is not None:
            return math.ceil(t_max / self.dt0)
        # After an event an adaptive step size takes a few steps to be found again.
        longest = getattr(self.controller, "dtmax", None)
        steps = 0 if longest is None else math.ceil(t_max / float(longest))
        return max(_ADAPTIVE_CUTS, 2 * steps, 8 * max_events)

    def _advance(self, neuron: AbstractNeuron, state: State, dt: Array) -> State:
        return self._step(neuron, state, dt).end

    def _step(self, neuron: AbstractNeuron, state: State, dt: Array) -> _Step:
        """One step; `dt` is one for all neurons or one for each."""
        solver = with_tolerances(self.solver, self.controller, dt.dtype)
        dt = jnp.broadcast_to(dt, jax.tree.leaves(state)[0].shape[:1])
        if isinstance(solver, diffrax.AbstractImplicitSolver):
            end, error, dense = _solve_each(solver, neuron, state, dt)
            return _Step(end, error, lambda share: _between_each(solver, dense, share))
        end, error, dense = _solve(solver, neuron, state, dt)
        return _Step(end, error, lambda share: _between(solver, dense, share))

    def _next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Array,
        memory: _Memory,
        clock: Clock,
    ):
        h = jnp.minimum(memory.dt, horizon)
        step = self._step(neuron, state, clock.own(h))
        accepted, memory = self._adapt(neuron, state, h, step, memory)
        searches = accepted & (horizon > 0)

        times = self._crossings(neuron, state, h, step, clock, searches)
        time, who = first(times[:, None])
        spiked = searches & (time[0] < jnp.inf)
        dt = jnp.where(searches, jnp.minimum(time[0], h), 0.0)
        dt, end = self._end(neuron, state, clock, dt, who[0], spiked, h)
        return dt, who[0], spiked, end, memory

    def _crossings(self, neuron, state, h, step: _Step, clock: Clock, searches):
        """When each neuron first crosses within the step, up to the first of all; inf if none."""

        def sample(share):
            return jax.jvp(lambda s: _gap(neuron, step.path(s)), (share,), (jnp.ones_like(share),))

        def gap(dt):
            end = self._advance(neuron, state, dt)
            return Gap(_gap(neuron, end), passes(neuron, end))

        start = Gap(_gap(neuron, state), passes(neuron, state))
        end, armed = _gap(neuron, step.end), (start.value > 0) | ~start.passes
        length = jnp.broadcast_to(clock.own(h), end.shape)

        scale = jax.jvp(neuron.threshold_gap, (step.end,), (step.end,))[1]
        eps = ROUNDING_ULPS * jnp.finfo(h.dtype).eps
        rounding = eps * (jnp.abs(end) + jnp.abs(scale))

        def more(carry):
            upto, times = carry
            known = jnp.min(jnp.where(length > 0, clock.shared(upto * length), jnp.inf))
            return (upto < 1) & ~(jnp.min(times) <= known)

        def body(carry):
            upto, times = carry
            found = suspects(sample, armed, end, rounding, upto, self.nodes)
            roots = clock.shared(first_roots(gap, start, found, length))
            return found.upto, jnp.minimum(times, roots)

        begin = (jnp.where(searches, 0.0, jnp.ones_like(h)), jnp.full_like(end, jnp.inf))
        return lax.while_loop(more, body, begin)[1]

    def _end(self, neuron, state, clock: Clock, dt, who, spiked, h):
        """The end of a segment of length `dt`. Where it spiked, the neuron is at its threshold or
        past it there, as computed: if it is not, by rounding, the segment is a little longer."""

        def below(end):
            return spiked & (_of(_gap(neuron, end), who) > 0)

        def more(carry):
            dt, end, grain = carry
            return (grain == 0) | (below(end) & (dt < h))

        def body(carry):
            dt, _, grain = carry
            dt = jnp.minimum(dt + grain, jnp.maximum(dt, h))
            end = self._advance(neuron, state, clock.own(dt))
            return dt, end, jnp.maximum(2 * grain, jnp.finfo(dt.dtype).eps * h + tiny)

        tiny = jnp.finfo(dt.dtype).tiny
        dt, end, _ = lax.while_loop(more, body, (dt, state, jnp.zeros_like(dt)))
        return dt, end

    def _adapt(self, neuron, state, h, step: _Step, memory: _Memory):
        """Whether the controller accepts the step, and the size of the next.

        Between events time is relative: every step starts at 0.
        """
        if isinstance(self.controller, diffrax.ConstantStepSize):
            return jnp.asarray(True), memory
        # A step too large may end anywhere; the controller rejects an infinite error.
        error = jax.tree.map(lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), step.error)
        order = self.solver.error_order(_terms(neuron, h))
        assert order is not None, "checked in __init__"
        keep, t0, t1, _, controller, _ = self.controller.adapt_step_size(
            jnp.zeros_like(h),
            h,
            state,
            step.end,
            None,
            error,
            order,
            memory.controller,
        )
        proposed = _rounded(jnp.where(keep, t1 - t0, t1))
        # A step cut short by an event says nothing against the size before it.
        cut = keep & (h < memory.dt)
        idle = h <= 0
        size = jnp.where(cut, jnp.maximum(proposed, memory.dt), proposed)
        new = _Memory(size, controller)
        return keep | idle, jax.tree.map(lambda a, b: jnp.where(idle, b, a), new, memory)


#: How many steps of adaptive size to allow for, at least.
_ADAPTIVE_CUTS = 4096


def _rounded(dt: Array) -> Array:
    """A step size rounded down to one of 8 per octave: the next parameter gives the same one."""
    mantissa, exponent = jnp.frexp(dt)
    return jnp.ldexp(jnp.floor(16 * mantissa) / 16, exponent)


def _gap(neuron: AbstractNeuron, state: State) -> Float[Array, " n"]:
    return neuron.threshold_gap(state)


def _of(x: Float[Array, " n"], who: Array) -> Array:
    """The entry of this neuron."""
    return x[jnp.minimum(who, x.shape[0] - 1)]


def _terms(neuron: AbstractNeuron, dt: Array) -> diffrax.ODETerm:
    return diffrax.ODETerm(lambda t, y, args: jax.tree.map(lambda d: d * dt, neuron.drift(y)))


@eqx.filter_jit
def _solve(solver: diffrax.AbstractSolver, neuron: AbstractNeuron, state: State, dt: Array):
    """State after a step, error estimate and dense output. The step is taken in time from 0 to 1,
    of which each neuron has its own `dt`. (Traced once, for all that call it.)"""
    terms, zero = _terms(neuron, dt), jnp.zeros((), dt.dtype)
    one = jnp.ones_like(zero)
    memory = solver.init(terms, zero, one, state, None)
    end, error, dense, _, result = solver.step(terms, zero, one, state, None, memory, True)
    if _is_linear(solver):
        slopes = (terms.vf(zero, state, None), terms.vf(one, end, None))
        dense = {"y0": state, "y1": end, "k0": slopes[0], "k1": slopes[1]}
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        failed = result != diffrax.RESULTS.successful
        end = jax.tree.map(lambda x: jnp.where(failed, jnp.nan, x), end)
        error = jax.tree.map(lambda x: jnp.where(failed, jnp.inf, x), error)
    return end, error, dense


def _between(solver: diffrax.AbstractSolver, dense: Any, share: Array) -> State:
    """The state within a step. Where a solver's dense output is a straight line, which has no
    peaks, the cubic with the drift at both ends is taken instead."""
    hermite = diffrax.ThirdOrderHermitePolynomialInterpolation
    kind = hermite if _is_linear(solver) else solver.interpolation_cls
    zero = jnp.zeros_like(share)
    return kind(t0=zero, t1=jnp.ones_like(zero), **dense).evaluate(share)


def _is_linear(solver: diffrax.AbstractSolver) -> bool:
    return solver.interpolation_cls is diffrax.LocalLinearInterpolation


@eqx.filter_jit
def _solve_each(solver: diffrax.AbstractSolver, neuron: AbstractNeuron, state: State, dt: Array):
    """As `_solve`, for an implicit solver: each neuron solves its own equations. They are small,
    and how far the root finder goes does not depend on the other neurons."""
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


def _between_each(solver: diffrax.AbstractSolver, dense: Any, share: Array) -> State:
    """As `_between`, for what `_solve_each` found."""
    state = jax.vmap(lambda own: _between(solver, own, share))(dense)
    return jax.tree.map(lambda x: x[:, 0], state)


def _batched(fn: Callable, neuron: AbstractNeuron) -> Callable:
    """`fn(neuron, *args)`, written for one sample, for a batch that comes last.

    The neuron's parameters come as scalars, `(n, 1)`, or with a batch of their own.
    """
    leaves, tree = jax.tree.flatten(neuron)
    leaves = [x[:, 0] if eqx.is_array(x) and x.shape[1:] == (1,) else x for x in leaves]
    own = [eqx.is_array(x) and x.ndim == 2 for x in leaves]

    def call(*args):
        def one(mapped, *args):
            rest = iter(mapped)
            full = [next(rest) if m else x for x, m in zip(leaves, own, strict=True)]
            return fn(jax.tree.unflatten(tree, full), *args)

        mapped = [x for x, m in zip(leaves, own, strict=True) if m]
        return jax.vmap(one, in_axes=-1, out_axes=-1)(mapped, *args)

    return call
