"""The next spike of lanes: neurons that move separately, each until its own time."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..engine.system import gap_and_speed, reaches, tie_tolerance
from ..flows import AbstractLaneFlow
from ..neurons import AbstractNeuron
from ..neurons.base import State


class Firing(NamedTuple):
    """Next spike of each lane, or the end of its time.

    A lane fires at once if it is above its threshold, at its next crossing, or at the end of its
    time if it is at its threshold there to rounding error. After the last case no time is left.
    """

    fires: Bool[Array, " lanes"]
    at_end: Bool[Array, " lanes"]
    wait: Float[Array, " lanes"]  # time until the spike, or until the end
    remainder: Float[Array, " lanes"]  # rounding error of `wait`
    before: State  # immediately before the spike
    after: State  # immediately after the reset
    left: Float[Array, " lanes"]  # time left after the spike
    due: Bool[Array, " lanes"]  # above the threshold after the reset: fires again at once
    end: State  # at the end of the time, if the lane does not fire again
    may: Bool[Array, " lanes"]  # may fire again


def next_spike(
    flow: AbstractLaneFlow,
    neuron: AbstractNeuron,
    scale: Float[Array, "*lanes"],
    start: State,
    left: Float[Array, " lanes"],
    due: Bool[Array, " lanes"],
) -> Firing:
    """Find the next spike of each lane within the time `left`.

    `scale` is the scale of each gap, for its rounding error. A lane in `due` is above its
    threshold.
    """
    wait, remainder = flow.crossing(neuron, start, left)
    crosses = (wait < jnp.inf) & ~due
    wait = jnp.where(due, 0.0, jnp.where(crosses, wait, left))
    before = flow.advance(neuron, start, wait)
    at_end = ~crosses & ~due & crosses_at(flow, neuron, scale, start, wait, before)
    fires = due | crosses | at_end
    after = neuron.normalise(neuron.reset(before, fires))
    left = jnp.where(fires & ~at_end, left - wait, 0.0)
    end = flow.advance(neuron, after, left)
    again = fires & (neuron.threshold_gap(after) < 0)
    return Firing(
        fires=fires,
        at_end=at_end,
        wait=wait,
        remainder=jnp.where(crosses, remainder, 0.0),
        before=before,
        after=after,
        left=left,
        due=again,
        end=end,
        may=fires & (again | flow.may_cross(neuron, after, left, end)),
    )


def crosses_at(
    flow: AbstractLaneFlow,
    neuron: AbstractNeuron,
    scale: Array,
    start: State,
    dt: Array,
    end: State,
) -> Bool[Array, " lanes"]:
    """Mask of the lanes that cross at `dt`, to rounding error, as in the event loop."""
    velocity = flow.velocity(neuron, start, dt, end)
    gap, speed = gap_and_speed(neuron, end, velocity)
    close = gap <= tie_tolerance(dt, speed, scale)
    return close & flow.passes(neuron, end) & reaches(neuron, end, velocity, gap, speed)
