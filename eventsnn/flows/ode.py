"""The flow of any neuron: one step of any diffrax solver, searched for crossings."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import AbstractFlow, Clock, Segment, Window, first
from .short import gauss_integral, searched_peak


class _Memory(NamedTuple):
    """The step size to try next, and what the step size controller remembers."""

    dt: Float[Array, ""]
    controller: Any


class ODEFlow(AbstractFlow):
    """Integrates a neuron's `drift` with a diffrax solver; a segment is one accepted step.

    A step's dense output is sampled at `nodes` points a step, and between them its turning
    points are found, so that a neuron that crosses its threshold and returns within one step
    is seen. The spike time is then converged on the solver's own step map (the state after
    one step of size dt), which is also what is differentiated: gradients are those of the
    numerical solution, exactly.
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

        - `solver`: any diffrax ODE solver; by default `diffrax.Tsit5()`.
        - `dt0`: the first step size; with the default controller it is the step size. In the
            units of the time constants.
        - `stepsize_controller`: any diffrax controller; by default constant steps if `dt0` is
            given, else `diffrax.PIDController(rtol=1e-6, atol=1e-6)`.
        - `nodes`: into how many pieces a step is cut in the search for crossings.

        **Raises:** `ValueError` for a solver or controller that is not diffrax's, `dt0` <= 0,
        or constant steps without `dt0`.
        """
        if solver is None:
            solver = diffrax.Tsit5()
        if stepsize_controller is None:
            stepsize_controller = (
                diffrax.PIDController(rtol=1e-6, atol=1e-6)
                if dt0 is None
                else diffrax.ConstantStepSize()
            )
        _check(solver, stepsize_controller, dt0, nodes)
        self.solver = _both_modes(solver)
        self.controller = stepsize_controller
        self.dt0 = None if dt0 is None else float(dt0)
        self.nodes = nodes

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
                self._error_order(terms),
            )
            return _Memory(jnp.asarray(t1), memory)

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

    def velocity(self, neuron: AbstractNeuron, state: State, dt: Array, end: State) -> State:
        def one(neuron, state, dt):
            return jax.jvp(lambda dt: self._advance(neuron, state, dt), (dt,), (jnp.ones_like(dt),))

        return _batched(one, neuron)(state, dt)[1]

    def integral(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return gauss_integral(self, neuron, state, dt)

    def peak(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return searched_peak(self, neuron, state, dt)

    def cuts(self, neuron: AbstractNeuron, t_max: float, max_events: int) -> int:
        constant = isinstance(self.controller, diffrax.ConstantStepSize)
        return math.ceil(t_max / self.dt0) if constant and self.dt0 is not None else 4096

    def _step(self, neuron: AbstractNeuron, state: State, dt: Array) -> tuple[State, Any, Any]:
        """One step: the state after it, the error estimate, and the dense output.

        `dt` is one for all neurons or one each: the step is taken in time from 0 to 1, of which
        each neuron lives its own `dt`.
        """
        terms, zero = _terms(neuron, dt), jnp.zeros((), dt.dtype)
        one = jnp.ones_like(zero)
        memory = self.solver.init(terms, zero, one, state, None)
        end, error, dense, _, _ = self.solver.step(terms, zero, one, state, None, memory, True)
        return end, error, self.solver.interpolation_cls(t0=zero, t1=one, **dense)

    def _advance(self, neuron: AbstractNeuron, state: State, dt: Array) -> State:
        return self._step(neuron, state, dt)[0]

    def _error_order(self, terms: diffrax.ODETerm):
        order = self.solver.error_order(terms)
        assert order is not None, "known for ordinary differential equations"
        return order

    def _next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Array,
        memory: _Memory,
        clock: Clock,
    ):
        h = jnp.minimum(memory.dt, horizon)
        end, error, path = self._step(neuron, state, clock.own(h))
        accepted, memory = self._adapt(neuron, state, h, end, error, memory)

        guess, until = _search(neuron, path, h, clock, self.nodes)
        time, who = first(guess[:, None])
        time, who = time[0], who[0]
        spiked = accepted & (time < jnp.inf) & (horizon > 0)
        time = self._converge(neuron, state, clock, who, jnp.minimum(time, until), until)
        dt = jnp.where(spiked, time, jnp.where(until < h, until, h))
        dt = jnp.where(accepted & (horizon > 0), dt, 0.0)
        return dt, who, spiked, self._advance(neuron, state, clock.own(dt)), memory

    def _adapt(self, neuron, state, h, end, error, memory):
        """Whether the controller accepts the step, and the size of the next.

        Between events time is relative: every step starts at 0.
        """
        if isinstance(self.controller, diffrax.ConstantStepSize):
            return jnp.asarray(True), memory
        # A step too large may end anywhere; the controller rejects an infinite error.
        error = jax.tree.map(lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), error)
        keep, t0, t1, _, controller, _ = self.controller.adapt_step_size(
            jnp.zeros_like(h),
            h,
            state,
            end,
            None,
            error,
            self._error_order(_terms(neuron, h)),
            memory.controller,
        )
        proposed = jnp.where(keep, t1 - t0, t1)
        # A step cut short by an event says nothing against the size before it.
        cut = keep & (h < memory.dt)
        idle = h <= 0
        size = jnp.where(cut, jnp.maximum(proposed, memory.dt), proposed)
        new = _Memory(size, controller)
        return keep | idle, jax.tree.map(lambda a, b: jnp.where(idle, b, a), new, memory)

    def _converge(self, neuron, state, clock, who, time, until):
        """Newton's method on the step map, for the neuron that crosses first."""

        def gap(dt):
            return _of(neuron.threshold_gap(self._advance(neuron, state, clock.own(dt))), who)

        # Before its window begins a neuron stands still, and Newton's method would, too.
        low = 0.0 if clock.window is None else _of(clock.window.start, who)
        start = time
        for _ in range(3 if time.dtype == jnp.float32 else 5):
            value, slope = jax.jvp(gap, (time,), (jnp.ones_like(time),))
            step = jnp.where(slope < 0, value / jnp.where(slope < 0, slope, 1.0), 0.0)
            time = jnp.clip(time - step, low, until)
        # A coarse solver's dense output may graze the threshold where its step map does not.
        return jnp.where(jnp.abs(gap(time)) <= jnp.abs(gap(start)), time, start)


def _of(x: Float[Array, "#n"], who: Array) -> Array:
    """The entry of this neuron, or the one for all."""
    return x[jnp.minimum(who, x.shape[0] - 1)]


class _Search(NamedTuple):
    """What the dense output shows: see [`_search`][]."""

    guess: Float[Array, " n"]
    until: Float[Array, ""]


def _search(neuron: AbstractNeuron, path: Any, h: Array, clock: Clock, nodes: int) -> _Search:
    """Where each neuron first crosses on the dense output of a step; inf if it does not.

    Looks only up to a time `until` at which the sign of the gap decides: whoever has crossed by
    then is above threshold then.
    """
    length = clock.own(h)
    shares = jnp.linspace(0.0, 1.0, nodes + 1, dtype=h.dtype)
    gaps, slopes = jax.vmap(lambda s: _gap(neuron, path, s))(shares)
    falls = (gaps[:-1] > 0) & (gaps[1:] <= 0)
    piece = jnp.argmax(falls, axis=0)
    low, high, found = shares[piece], shares[piece + 1], jnp.any(falls, axis=0)

    start, turn, dips = _turning_points(neuron, path, shares, gaps, slopes)
    earlier = dips & (~found | (turn < high))
    low, high = jnp.where(earlier, start, low), jnp.where(earlier, turn, high)
    found = (found | dips) & (length > 0)

    until = jnp.min(jnp.where(found, clock.shared(high * length), h))
    last = clock.own(until) / jnp.where(length > 0, length, 1.0)
    low = jnp.minimum(low, last)
    above, _ = _own_gap(neuron, path, low)
    if clock.window is None:
        below, _ = _gap(neuron, path, last)
    else:
        below, _ = _own_gap(neuron, path, jnp.broadcast_to(last, above.shape))
    share = above / jnp.where(above > below, above - below, 1.0)
    guess = clock.shared((low + (last - low) * share) * length)
    return _Search(jnp.where(found & (below <= 0), guess, jnp.inf), until)


def _turning_points(neuron, path, times, gaps, slopes):
    """Where a neuron comes closest to its threshold between two nodes at both of which it is
    below it: the node before, the time, and whether it crosses there."""
    h = times[1] - times[0]
    share, bottom = _cubic_minimum(gaps[:-1], gaps[1:], slopes[:-1] * h, slopes[1:] * h)
    turns = (slopes[:-1] < 0) & (slopes[1:] > 0) & (gaps[:-1] > 0) & (gaps[1:] > 0)
    # The first that seems to cross, else the lowest.
    index = jnp.arange(share.shape[0])[:, None] - share.shape[0]
    order = jnp.where(bottom <= 0, index.astype(bottom.dtype), bottom)
    piece = jnp.argmin(jnp.where(turns, order, jnp.inf), axis=0)
    own = piece, jnp.arange(gaps.shape[1])
    start, time = times[piece], times[piece] + share[own] * h
    for _ in range(3):
        slope, curve = jax.jvp(
            lambda t: _own_gap(neuron, path, t)[1], (time,), (jnp.ones_like(time),)
        )
        move = jnp.where(curve > 0, slope / jnp.where(curve > 0, curve, 1.0), 0.0)
        time = jnp.clip(time - move, start, start + h)
    return start, time, turns[own] & (_own_gap(neuron, path, time)[0] <= 0)


def _cubic_minimum(a: Array, b: Array, da: Array, db: Array) -> tuple[Array, Array]:
    """Place (in [0, 1]) and value of the minimum of the cubic with these values and slopes at
    0 and 1, where it falls at 0 and rises at 1."""
    c3, c2 = 2 * (a - b) + da + db, 3 * (b - a) - 2 * da - db
    root = jnp.sqrt(jnp.maximum(c2 * c2 - 3 * c3 * da, 0.0))
    # The root of c1 + 2 c2 s + 3 c3 s^2 with positive curvature, without cancellation.
    below = c2 + root
    s = jnp.where(below > 0, -da / jnp.where(below > 0, below, 1.0), 0.5)
    s = jnp.clip(s, 0.0, 1.0)
    return s, a + s * (da + s * (c2 + s * c3))


def _gap(neuron: AbstractNeuron, path: Any, t: Array) -> tuple[Array, Array]:
    """The gaps at one time of the dense output, and their time derivatives."""
    return jax.jvp(lambda t: neuron.threshold_gap(path.evaluate(t)), (t,), (jnp.ones_like(t),))


def _own_gap(neuron: AbstractNeuron, path: Any, times: Float[Array, " n"]):
    """The gap of each neuron at its own time, and its time derivative."""

    def one(t, j):
        gap, slope = _gap(neuron, path, t)
        return gap[j], slope[j]

    return jax.vmap(one)(times, jnp.arange(times.shape[0]))


def _terms(neuron: AbstractNeuron, dt: Array) -> diffrax.ODETerm:
    return diffrax.ODETerm(lambda t, y, args: jax.tree.map(lambda d: d * dt, neuron.drift(y)))


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


def _both_modes(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver with its loop over stages differentiable in forward mode as well, which the
    velocity needs, and not in reverse mode only."""
    if getattr(solver, "scan_kind", "none") is not None:
        return solver
    return eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None)


def _check(solver, controller, dt0, nodes) -> None:
    if not isinstance(solver, diffrax.AbstractSolver):
        raise ValueError(f"solver must be a diffrax solver, got {solver!r}.")
    if not isinstance(controller, diffrax.AbstractStepSizeController):
        raise ValueError(
            f"stepsize_controller must be a diffrax step size controller, got {controller!r}."
        )
    if isinstance(controller, diffrax.StepTo):
        raise ValueError(
            "stepsize_controller must not fix absolute times, since steps end at events, "
            f"got {controller!r}."
        )
    if dt0 is not None and not dt0 > 0:
        raise ValueError(f"dt0 must be > 0, got {dt0!r}.")
    if dt0 is None and isinstance(controller, diffrax.ConstantStepSize):
        raise ValueError("dt0 must be given with diffrax.ConstantStepSize(), got None.")
    if nodes < 1:
        raise ValueError(f"nodes must be >= 1, got {nodes!r}.")
