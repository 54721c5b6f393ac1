"""Flow of any neuron model: steps of a diffrax solver, searched for threshold crossings."""

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
from .base import AbstractReadoutFlow, Clock, Segment, Window, first
from .crossings import Gap, candidates, first_roots
from .short import gauss_integral, searched_peak
from .solvers import check, differentiable, error_order, with_tolerances
from .step import Step, scaled_terms, solver_step
from .threshold import ROUNDING_ULPS, passes


class _StepControl(NamedTuple):
    """Next step size to try, and the state of the step size controller."""

    dt: Float[Array, ""]
    controller: Any


class ODEFlow(AbstractReadoutFlow[AbstractNeuron]):
    r"""Flow of any neuron model by a diffrax solver; a segment is one accepted step.

    **Definition.** The step map is the state after one solver step of size t, as a function of t.
    It defines the state at time t of a segment. A spike is a time at which two conditions hold:

    1. The gap to the threshold, evaluated on the step map, falls from above 0 to 0. The spike time
       is accurate to rounding error, for any form of `threshold_gap`.
    2. The neuron's `vector_field` closes the gap. A potential that approaches its threshold without
       reaching it may pass it by the error of a step, and this is not a spike. The neuron fires as
       soon as its vector field closes the gap.

    A neuron that has crossed its threshold and is not reset does not fire again until it has
    returned below it. Step sizes chosen by a controller are rounded down to one of 8 values per
    octave. They are then constant in the parameters, except for jumps, whose effect the tolerance
    bounds. Gradients are therefore the exact gradients of the computed result.

    **Search.** The gap g along the dense output of a step is sampled at `nodes` points. Between
    them it is approximated by the cubic with the values and slopes at the nodes. This detects a
    neuron that crosses its threshold and returns within one step. On a piece of length d the error
    of the cubic is at most $d^4 \max |g''''| / 384$. Every second node measures this error on a
    piece at least 1.6 times as long. Where it exceeds 1e-3 of the gap, for example with a threshold
    that oscillates within the step, one half of the step is searched at a time, and so on down to
    a fraction of $2^{-16}$. Where the cubic comes as close to 0 as this error, the step map
    decides. For a gap that is linear in the state and a dense output of degree 4 or less, the
    measured error is a bound, and no crossing of the dense output is missed. All supported solvers
    except `diffrax.Dopri8` have such a dense output.

    **Limits of the search.** Two kinds of crossings may be missed:

    1. Crossings by a feature of the gap that is narrower than the distance of the nodes and lies
       between them, such as a single short pulse of the threshold. More `nodes` or the `dtmax` of
       a controller resolve it.
    2. Crossings that only one of dense output and step map has. The two differ by about the error
       of one step, so this concerns peaks that come this close to the threshold.

    **Implicit solvers.** An implicit solver solves the equations of each neuron separately. If the
    tolerances of its root finder are left to diffrax, which is the default, they are set close to
    rounding error, and Newton's method with at most 50 iterations is used. If it fails, a step of
    constant size is not finite, and an adaptive step is repeated with a smaller size.
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

        - `solver`: diffrax solver of one ordinary differential equation, explicit or implicit. None
            (the default): `diffrax.Tsit5()`. Solvers of several terms (stochastic, semi-implicit,
            IMEX) are not supported. `diffrax.LeapfrogMidpoint` is not supported either: it is a
            two-step method, which would restart at every step and lose one order.
            `diffrax.ReversibleHeun` also restarts at every step; it is then Heun's method, of the
            same order.
        - `dt0`: first step size, > 0, in the units of the time constants. With the default
            controller it is the size of all steps. None (the default): the controller chooses it.
        - `stepsize_controller`: diffrax step size controller. None (the default): constant steps if
            `dt0` is given, otherwise `diffrax.PIDController(rtol=1e-6, atol=1e-6)`. Controllers of
            absolute times (`StepTo`, `ClipStepSizeController`) are not supported.
        - `nodes`: initial number of pieces of a step in the search for crossings, >= 1; 8 by
            default. An odd number is rounded up to the next even number.

        **Raises:** `ValueError` for a solver or a controller that is not supported, an adaptive
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

    @property
    def constant(self) -> bool:
        """True if all steps have the size `dt0`."""
        return isinstance(self.controller, diffrax.ConstantStepSize)

    def init_state(self, neuron: AbstractNeuron, state: State, horizon: Array) -> _StepControl:
        def one(neuron, state, horizon):
            terms, zero = scaled_terms(neuron, jnp.ones_like(horizon)), jnp.zeros_like(horizon)
            t1, flow_state = self.controller.init(
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
            return _StepControl(t1 if self.dt0 is not None else _rounded(t1), flow_state)

        return _batched(one, neuron)(state, horizon)

    def next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Array,
        flow_state: _StepControl,
        window: Window | None = None,
    ) -> Segment:
        return Segment(
            *_batched(self._next_spike, neuron)(state, horizon, flow_state, Clock(window))
        )

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

    def maximum(self, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
        return searched_peak(self, neuron, state, dt)

    def max_extra_segments(self, neuron: AbstractNeuron, t_max: float, max_events: int) -> int:
        if self.constant:
            assert self.dt0 is not None
            return math.ceil(t_max / self.dt0)
        # After an event, an adaptive controller needs a few steps to reach its step size again.
        longest = getattr(self.controller, "dtmax", None)
        steps = 0 if longest is None else math.ceil(t_max / float(longest))
        return max(_ADAPTIVE_CUTS, 2 * steps, 8 * max_events)

    def _advance(self, neuron: AbstractNeuron, state: State, dt: Array) -> State:
        return self.step(neuron, state, dt).end

    def step(self, neuron: AbstractNeuron, state: State, dt: Array) -> Step:
        """Compute one step; `dt` is a scalar or has one value per neuron."""
        solver = with_tolerances(self.solver, self.controller, dt.dtype)
        return solver_step(solver, neuron, state, dt)

    def _next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Array,
        flow_state: _StepControl,
        clock: Clock,
    ):
        h = jnp.minimum(flow_state.dt, horizon)
        step = self.step(neuron, state, clock.own(h))
        accepted, flow_state = self._adapt(neuron, state, h, step, flow_state)
        searches = accepted & (horizon > 0)

        times = self._crossings(neuron, state, h, step, clock, searches)
        time, index = first(times[:, None])
        spiked = searches & (time[0] < jnp.inf)
        dt = jnp.where(searches, jnp.minimum(time[0], h), 0.0)
        dt, end = self._end(neuron, state, clock, dt, index[0], spiked, h)
        return dt, index[0], spiked, end, flow_state

    def _crossings(self, neuron, state, h, step: Step, clock: Clock, searches):
        """Time of each neuron's first crossing within the step; inf for none.

        The search ends after the first crossing of any neuron.
        """

        def sample(s):
            return jax.jvp(lambda s: _gap(neuron, step.path(s)), (s,), (jnp.ones_like(s),))

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
            found = candidates(sample, armed, end, rounding, upto, self.nodes)
            roots = clock.shared(first_roots(gap, start, found, length))
            return found.upto, jnp.minimum(times, roots)

        begin = (jnp.where(searches, 0.0, jnp.ones_like(h)), jnp.full_like(end, jnp.inf))
        return lax.while_loop(more, body, begin)[1]

    def _end(self, neuron, state, clock: Clock, dt, index, spiked, h):
        """Length and end state of a segment of length `dt`.

        If the segment ends at a spike, the neuron must be at or past its threshold in the computed
        end state. If it is not, because of rounding, the segment is lengthened slightly.
        """

        def below(end):
            return spiked & (_of(_gap(neuron, end), index) > 0)

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

    def _adapt(self, neuron, state, h, step: Step, flow_state: _StepControl):
        """Return whether the controller accepts the step, and the next step size.

        Between events time is relative: every step starts at 0.
        """
        if self.constant:
            return jnp.asarray(True), flow_state
        # A step that is too large may give NaN. The controller rejects an infinite error.
        error = jax.tree.map(lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), step.error)
        order = error_order(self.solver, scaled_terms(neuron, h))
        keep, t0, t1, _, controller, _ = self.controller.adapt_step_size(
            jnp.zeros_like(h),
            h,
            state,
            step.end,
            None,
            error,
            order,
            flow_state.controller,
        )
        proposed = _rounded(jnp.where(keep, t1 - t0, t1))
        # A step that an event cut short must not reduce the previous step size.
        cut = keep & (h < flow_state.dt)
        idle = h <= 0
        size = jnp.where(cut, jnp.maximum(proposed, flow_state.dt), proposed)
        new = _StepControl(size, controller)
        return keep | idle, jax.tree.map(lambda a, b: jnp.where(idle, b, a), new, flow_state)


#: Minimum number of rows to reserve for steps of adaptive size.
_ADAPTIVE_CUTS = 4096


def _rounded(dt: Array) -> Array:
    """Round a step size down to one of 8 values per octave.

    Slightly different parameters then give the same step size.
    """
    mantissa, exponent = jnp.frexp(dt)
    return jnp.ldexp(jnp.floor(16 * mantissa) / 16, exponent)


def _gap(neuron: AbstractNeuron, state: State) -> Float[Array, " n"]:
    return neuron.threshold_gap(state)


def _of(x: Float[Array, " n"], index: Array) -> Array:
    """Entry of neuron `index`."""
    return x[jnp.minimum(index, x.shape[0] - 1)]


def _batched(fn: Callable, neuron: AbstractNeuron) -> Callable:
    """Map `fn(neuron, *args)`, written for one sample, over a batch in the last axis.

    The neuron's parameters are scalars, have shape `(n, 1)`, or have a batch axis.
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
