"""Interface of flows: the next threshold crossing, and the state at that time."""

import abc
import functools as ft
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..models import anywhere
from ..neurons import AbstractNeuron
from ..neurons.base import State

_Neuron = TypeVar("_Neuron", bound=AbstractNeuron, contravariant=True)


class Segment(NamedTuple):
    """Segment of smooth flow that a flow proposes, one per sample.

    A segment ends at the first threshold crossing, at the horizon, or earlier where the flow
    stops, for example after one step of a solver.

    - `dt`: length of the segment. It equals the horizon exactly if the horizon was reached.
    - `source`: index of the neuron that crosses its threshold.
    - `spiked`: whether the segment ends at a crossing.
    - `end`: state after `dt`.
    - `flow_state`: state of the flow for its next call.
    - `low`: rounding error of `dt`: the time of the crossing minus `dt`. It matters because the
        errors of many equal segments add up. None: not known.
    """

    dt: Float[Array, " batch"]
    source: Int[Array, " batch"]
    spiked: Bool[Array, " batch"]
    end: State
    flow_state: Any
    low: Float[Array, " batch"] | None = None

    def remainder(self) -> Float[Array, " batch"]:
        """Return `low`, or 0 if it is not known."""
        return jnp.zeros_like(self.dt) if self.low is None else self.low


class Window(NamedTuple):
    """Part of a segment in which each neuron moves, for arrivals at a separate time per neuron.

    Times count from the start of the segment. The given state of a neuron is its state at `start`,
    and the neuron stops at `stop`. In a window of length 0 a neuron does not move.
    """

    start: Float[Array, "#n batch"]
    stop: Float[Array, "#n batch"]


class Clock(NamedTuple):
    """Conversion between the time of a segment and each neuron's own time.

    A neuron's own time starts at the start of its window. Without a window both times are equal.
    """

    window: Window | None

    def own(self, t: Array) -> Array:
        """Return the time for which each neuron has moved at time t of the segment."""
        if self.window is None:
            return t
        return jnp.maximum(jnp.minimum(t, self.window.stop) - self.window.start, 0.0)

    def shared(self, t: Array) -> Array:
        """Return the time of the segment at which each neuron has moved for t."""
        return t if self.window is None else self.window.start + t

    def of(self, index: Array, n: int) -> "Clock":
        """Return the clock of one neuron per sample."""
        return Clock(pick(self.window, index, n))


class AbstractFlow(eqx.Module, Generic[_Neuron]):
    """Integrator of neurons between events.

    The batch is the *last* axis: state arrays have shape `(n, batch)`, and parameters that are not
    scalars have shape `(n, 1)`. Vector instructions then run along the batch, for any number of
    neurons.

    **Arguments** that several methods share:

    - `neuron`: the neuron model, with parameters of these shapes.
    - `state`: state of all neurons, a pytree of arrays of shape `(n, batch)`. It is the state at
        the start of the segment unless a method says otherwise.
    - `dt`: time since that state, of shape `(batch,)` or `(n, batch)`.
    """

    def init_state(self, neuron: _Neuron, state: State, horizon: Array) -> Any:
        """Initial state of the flow: arrays carried between calls of `next_spike`, batch last.

        `state` is the state at time 0, and `horizon` is `t_max` for each sample.
        """
        return ()

    @abc.abstractmethod
    def next_spike(
        self,
        neuron: _Neuron,
        state: State,
        horizon: Float[Array, " batch"],
        flow_state: Any,
        window: Window | None = None,
    ) -> Segment:
        """Propose the next segment.

        `horizon` is the maximum length of the segment. Each neuron moves within its `window`;
        None: during the whole segment. The length `dt` of the segment must lie in [0, horizon], and
        the horizon may be 0.
        `flow_state` comes from `init_state` or from the segment that an earlier call returned.

        The reported crossing must be accurate to rounding error, but the choice of the neuron may
        be a guess. The event loop checks the end state. If another neuron is past its threshold
        there, the loop calls the flow again with `dt` as the new, shorter horizon. The flow must
        guarantee that the sign of the gap at the shorter horizon is decisive: no neuron may have
        crossed and returned.
        """

    @abc.abstractmethod
    def advance(self, neuron: _Neuron, state: State, dt: Float[Array, "... batch"]) -> State:
        """Return the state after `dt`.

        The result must be differentiable in all arguments, and equal to `state` for dt = 0.
        """

    def passes(self, neuron: _Neuron, state: State) -> Bool[Array, "n batch"]:
        """Mask of the neurons whose gap, if it is <= 0, counts as a crossing.

        `state` is the state at the end of a segment or at an event. A neuron that is at or past its
        threshold only by rounding, or by the error of a solver, has not crossed it, see
        `flows.threshold`. By default the mask is true for all neurons.
        """
        return jnp.ones_like(neuron.threshold_gap(state), bool)

    def velocity(self, neuron: _Neuron, state: State, dt: Array, end: State) -> State:
        """Derivative of `advance` with respect to `dt`; `end` is the result of `advance`."""
        return neuron.vector_field(end)

    def max_extra_segments(self, neuron: _Neuron, t_max: float, max_events: int) -> int:
        """Default number of rows to reserve for segments that end without an event.

        A number that depends on the values of parameters is rounded up to a power of two. The
        length of the record is fixed at compile time, and similar models should share a program.

        **Arguments:**

        - `neuron`: the neuron model, with parameters that are scalars or of shape `(n,)`.
        - `t_max`: end of the simulation, in units of time.
        - `max_events`: maximum number of events per sample.
        """
        return 0


class AbstractReadoutFlow(AbstractFlow[_Neuron]):
    """Flow with readouts of whole segments, for `EventNetwork.integrals` and `maxima`."""

    @abc.abstractmethod
    def integral(self, neuron: _Neuron, state: State, dt: Array) -> Float[Array, "n batch"]:
        """Integral over `dt` of each neuron's observable (`AbstractNeuron.observe`)."""

    @abc.abstractmethod
    def maximum(self, neuron: _Neuron, state: State, dt: Array) -> Float[Array, "n batch"]:
        """Maximum of each neuron's observable within `dt`."""


class AbstractLaneFlow(AbstractReadoutFlow[_Neuron]):
    """Flow that finds the next spike of each neuron separately, for layers and sparse networks.

    All methods are elementwise: states, times and parameters may have any shapes that broadcast.
    """

    #: Whether `advance` is affine in the state. If it is, a backward pass needs no states.
    affine: ClassVar[bool] = False

    def next_spike(
        self,
        neuron: _Neuron,
        state: State,
        horizon: Float[Array, " batch"],
        flow_state: Any,
        window: Window | None = None,
    ) -> Segment:
        """Propose the next segment, which ends at the first of the neurons' crossings."""
        clock = Clock(window)
        longest = jnp.asarray(self.longest(neuron, state), horizon.dtype)
        dt = jnp.minimum(horizon, jnp.min(jnp.atleast_2d(clock.shared(longest)), axis=0))
        times, low = self.crossing(neuron, state, clock.own(dt))
        earliest, index = first(clock.shared(times))
        spiked = earliest < jnp.inf
        dt, low = jnp.where(spiked, jnp.minimum(earliest, dt), dt), pick(low, index, low.shape[0])
        end = self.advance(neuron, state, clock.own(dt))
        return Segment(dt, index, spiked, end, flow_state, jnp.where(spiked, low, 0.0))

    @abc.abstractmethod
    def may_cross(self, neuron: _Neuron, state: State, dt: Array, end: State) -> Bool[Array, "..."]:
        """Mask of the neurons that may cross within `dt`, or that reach the threshold to rounding.

        It must include every neuron that crosses, and may include others. It should be cheap.
        `end` is the state after `dt`.
        """

    @abc.abstractmethod
    def crossing(
        self, neuron: _Neuron, state: State, dt: Array
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Time until the first crossing within `dt`, and its rounding error; inf if there is none.

        `dt` is at most `longest`.
        """

    @property
    def starts_at_threshold(self) -> bool:
        """True if `crossing` finds a neuron that crosses from its threshold at the start.

        A neuron whose potential approaches its threshold may come to lie at it by rounding, until
        an arrival carries it through. If false, the simulation tests for this at every arrival. By
        default true.
        """
        return True

    def longest(
        self,
        neuron: _Neuron,
        state: State,
        below: Array | float = 0.0,
        above: Array | float = 0.0,
    ) -> Array | float:
        """Length of the segments for which `may_cross` and `crossing` are valid; by default inf.

        Within this length, weights may arrive whose negative ones add up to at least `below`, and
        whose positive ones add up to at most `above`. They start new segments.
        """
        return jnp.inf


def with_readouts(flow: AbstractFlow) -> AbstractReadoutFlow:
    """Return the flow.

    **Raises:** `ValueError` for a flow without readouts of segments.
    """
    if not isinstance(flow, AbstractReadoutFlow):
        raise ValueError(
            "solver must be a flow with integrals and maxima (`AbstractReadoutFlow`), "
            f"got {type(flow).__name__}."
        )
    return flow


@ft.singledispatch
def exact_flow(neuron: AbstractNeuron) -> AbstractFlow | None:
    """Return the closed-form flow of a neuron model, or None. Flows are registered per model."""
    return None


def first(times: Float[Array, "n batch"]) -> tuple[Float[Array, " batch"], Int[Array, " batch"]]:
    """Smallest value of each column and its row; `(inf, n)` if all values are inf."""
    n = times.shape[0]
    time = jnp.min(times, axis=0)
    rows = lax.broadcasted_iota(jnp.int32, times.shape, 0)
    hit = (times == time) & (times < jnp.inf)
    return time, jnp.min(jnp.where(hit, rows, n), axis=0)


def pick(tree: Any, index: Int[Array, " batch"], n: int) -> Any:
    """Select row `index[b]` of column b of every array: one neuron per sample."""
    batch = index.shape[0]
    row = jnp.minimum(index, n - 1)

    def one(x):
        if not eqx.is_array(x) or x.ndim == 0:
            return x
        if x.shape[0] == 1:
            return x[0]
        if x.shape[-1] == 1:
            return jnp.take(x[:, 0], row, mode="clip")
        return jnp.take(
            x.reshape(-1), row * batch + jnp.arange(batch, dtype=row.dtype), mode="clip"
        )

    return jax.tree.map(one, tree)


def newton(
    gap: Callable[[Array], tuple[Array, Array, Array]],
    guess: Float[Array, " batch"],
    low: Float[Array, " batch"],
    high: Float[Array, " batch"],
    *,
    max_steps: int = 60,
) -> Float[Array, " batch"]:
    """Find the zero of a decreasing function in [low, high], to rounding error.

    Newton's method inside a bracket: a step that would leave the bracket is replaced by bisection.
    It therefore converges for any function with gap(low) > 0 >= gap(high). `gap` returns the value,
    the derivative, and a bound of the rounding error of the value. A sample is finished when the
    value is within this bound, or when a step no longer changes the result.
    """
    eps = jnp.finfo(guess.dtype).eps

    def body(carry):
        t, low, high, _, k = carry
        value, slope, error = gap(t)
        low, high = jnp.where(value > 0, t, low), jnp.where(value > 0, high, t)
        step = t - value / slope
        inside = (step >= low) & (step <= high)
        new = jnp.where(inside, step, 0.5 * (low + high))
        moves = (jnp.abs(value) > error) & (jnp.abs(new - t) > eps * jnp.abs(new))
        return jnp.where(moves, new, t), low, high, moves, k + 1

    def more(carry):
        return anywhere(carry[3]) & (carry[4] < max_steps)

    start = (guess, low, high, high > low, jnp.asarray(0, jnp.int32))
    return lax.while_loop(more, body, start)[0]


def with_time_derivative(value: Callable, derivative: Callable) -> Callable:
    """Return `value` with a given derivative with respect to its last argument, the time.

    `derivative(result, *arguments)` is the derivative of the result, for example by a differential
    equation. It has the same value as the derivative of the formula up to rounding, but its program
    is several times smaller, in particular for second derivatives. With respect to all other
    arguments the formula is differentiated.
    """
    function = eqx.filter_custom_jvp(value)

    def rule(primals, tangents):
        (*parameters, t), (*d_parameters, d_t) = primals, tangents
        if jax.tree.leaves(d_parameters):
            out, change = eqx.filter_jvp(lambda *p: value(*p, t), parameters, d_parameters)
            # None: a component that depends on no differentiated argument.
            change = jax.tree.map(lambda x, d: jnp.zeros_like(x) if d is None else d, out, change)
        else:
            out = function(*primals)
            change = jax.tree.map(jnp.zeros_like, out)
        if d_t is not None:
            change = jax.tree.map(lambda x, v: x + v * d_t, change, derivative(out, *primals))
        return out, change

    function.def_jvp(rule)
    return function
