"""What a flow is: when does the next neuron reach threshold, and where is the state then?"""

import abc
import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..neurons import AbstractNeuron
from ..neurons.base import State


class Segment(NamedTuple):
    """A piece of smooth flow, as a flow proposes it: one a sample.

    It ends at the first crossing (`spiked`, by neuron `who`), at the horizon, or before, where
    the flow prefers to stop. `dt` equals the horizon exactly if it was reached. `end` is the
    state after `dt`. `memory` is for the flow's next call. `low` is what `dt` lacks, rounded as it
    is, of the time of the crossing, if the flow knows it: over many equal segments it adds up.
    """

    dt: Float[Array, " batch"]
    who: Int[Array, " batch"]
    spiked: Bool[Array, " batch"]
    end: State
    memory: Any
    low: Float[Array, " batch"] | None = None

    def remainder(self) -> Float[Array, " batch"]:
        """`low`, 0 if it is not known."""
        return jnp.zeros_like(self.dt) if self.low is None else self.low


class Window(NamedTuple):
    """The part of a segment in which each neuron moves, for arrivals at times of their own.

    Times count from the start of the segment. A neuron's state is the one at its `start`, and it
    stops at `stop`; a window of no length is no window.
    """

    start: Float[Array, "#n batch"]
    stop: Float[Array, "#n batch"]


class Clock(NamedTuple):
    """A neuron's own time, from the time of the segment: both start at 0 unless there is a
    window."""

    window: Window | None

    def own(self, t: Array) -> Array:
        """How long each neuron has moved at time t of the segment."""
        if self.window is None:
            return t
        return jnp.maximum(jnp.minimum(t, self.window.stop) - self.window.start, 0.0)

    def shared(self, t: Array) -> Array:
        """The time of the segment, where each neuron has moved for t."""
        return t if self.window is None else self.window.start + t

    def of(self, who: Array, n: int) -> "Clock":
        """The clock of one neuron a sample."""
        return Clock(pick(self.window, who, n))


class AbstractFlow(eqx.Module):
    """Integrates neurons between events.

    Flows work on a batch that comes *last*: state arrays have shape `(n, batch)`, so that
    vector units run along the batch whatever the number of neurons, and parameters that are
    not scalars have shape `(n, 1)`.
    """

    def init(self, neuron: AbstractNeuron, state: State, horizon: Array) -> Any:
        """What the flow wishes to remember from call to call (arrays, batch last)."""
        return ()

    @abc.abstractmethod
    def next_spike(
        self,
        neuron: AbstractNeuron,
        state: State,
        horizon: Float[Array, " batch"],
        memory: Any,
        window: Window | None = None,
    ) -> Segment:
        """The next segment, at most `horizon` long, in which each neuron moves within its window
        (by default, all the time).

        The crossing reported has to be a crossing, to the last bits; which neuron is first may
        be a good guess. The event loop looks at the end state, and if it finds another neuron
        past its threshold it asks again with `dt` as the new, shorter horizon. What a flow must
        guarantee is that then, at the shorter horizon, the sign of the gap decides: no neuron
        may have crossed and returned.

        `dt` lies in [0, horizon]. A horizon may be 0, and then so is `dt`.
        """

    @abc.abstractmethod
    def advance(self, neuron: AbstractNeuron, state: State, dt: Float[Array, "... batch"]) -> State:
        """The state after `dt`, one a sample or, of shape (n, batch), one a neuron; differentiable
        in all arguments, and the identity for dt = 0."""

    def passes(self, neuron: AbstractNeuron, state: State) -> Bool[Array, "n batch"]:
        """Whether a neuron that is found at its threshold or past it has crossed it, or is there
        by rounding or by the error of a solver (see `flows.threshold`). By default, it has."""
        return jnp.ones_like(neuron.threshold_gap(state), bool)

    def velocity(self, neuron: AbstractNeuron, state: State, dt: Array, end: State) -> State:
        """The derivative of `advance` with respect to `dt`, where it ended at `end`."""
        return neuron.drift(end)

    def integral(self, neuron: AbstractNeuron, state: State, dt: Array) -> Float[Array, "n batch"]:
        """The integral over `dt` of what each neuron shows (`AbstractNeuron.observe`). Only
        `EventNetwork.integrals` asks for it."""
        raise NotImplementedError(f"{type(self).__name__} has no `integral`.")

    def peak(self, neuron: AbstractNeuron, state: State, dt: Array) -> Float[Array, "n batch"]:
        """The largest of what each neuron shows within `dt`. Only `EventNetwork.maxima` asks for
        it."""
        raise NotImplementedError(f"{type(self).__name__} has no `peak`.")

    def cuts(self, neuron: AbstractNeuron, t_max: float, max_events: int) -> int:
        """How many segments that end in no event to allow for, unless a user says otherwise.

        What depends on the values of parameters is rounded up to a power of two: the record's
        length is fixed when it is compiled, and a similar model must not need another.
        """
        return 0


@ft.singledispatch
def exact_flow(neuron: AbstractNeuron) -> AbstractFlow | None:
    """The closed-form flow of a neuron model, or None; flows register themselves here."""
    return None


def first(times: Float[Array, "n batch"]) -> tuple[Float[Array, " batch"], Int[Array, " batch"]]:
    """The smallest of each column and its row; `(inf, n)` if all are inf."""
    n = times.shape[0]
    time = jnp.min(times, axis=0)
    rows = lax.broadcasted_iota(jnp.int32, times.shape, 0)
    hit = (times == time) & (times < jnp.inf)
    return time, jnp.min(jnp.where(hit, rows, n), axis=0)


def pick(tree: Any, who: Int[Array, " batch"], n: int) -> Any:
    """Row `who[b]` of column b of every array: one neuron's state and parameters a sample."""
    batch = who.shape[0]
    row = jnp.minimum(who, n - 1)

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
    gap: Callable[[Array], tuple[Array, Array]],
    guess: Float[Array, " batch"],
    low: Float[Array, " batch"],
    high: Float[Array, " batch"],
    *,
    max_steps: int = 60,
) -> Float[Array, " batch"]:
    """The zero of a falling function in [low, high], to the last bits.

    Newton's method inside a bracket: a step that would leave it is replaced by bisection, so
    this ends for any function with gap(low) > 0 >= gap(high). `gap` returns the value and the
    derivative. A sample is done at an exact zero, or when a step no longer moves it.
    """
    eps = jnp.finfo(guess.dtype).eps

    def body(carry):
        t, low, high, _, k = carry
        value, slope = gap(t)
        low, high = jnp.where(value > 0, t, low), jnp.where(value > 0, high, t)
        step = t - value / slope
        inside = (step >= low) & (step <= high)
        new = jnp.where(inside, step, 0.5 * (low + high))
        moved = (value != 0) & (jnp.abs(new - t) > eps * jnp.abs(new))
        return jnp.where(moved, new, t), low, high, moved, k + 1

    def more(carry):
        return jnp.any(carry[3]) & (carry[4] < max_steps)

    start = (guess, low, high, high > low, jnp.asarray(0, jnp.int32))
    return lax.while_loop(more, body, start)[0]
