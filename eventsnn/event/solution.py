"""Why a simulation ended, and what it returns."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int


class Status(eqx.Enumeration):
    """Why the simulation of one sample ended. The value of each member is its message.

    A batch of samples has a batch of statuses: `solution.status == Status.completed` is a
    boolean array. See [`is_success`][] for the members that count as success.
    """

    completed = "Simulated to t_max."
    outputs_fired = "Stopped early: every output neuron had fired as often as was asked for."
    max_events = "Reached max_events. Raise `max_events`, or lower `t_max` or the activity."
    max_steps = "Reached max_steps segments. Raise `max_steps`, or, with a solver, its step size."
    queue_overflow = "More spikes were under way than queue_capacity. Raise `queue_capacity`."
    not_finite = "A parameter, a weight or the state is NaN or infinite."
    invalid_input = "An input time is NaN, -inf or negative."
    no_reset = (
        "A neuron fired, but its `reset` returns the state unchanged: it would fire without end."
    )
    invalid_parameters = "A parameter is out of its range (a time constant <= 0, a delay < 0)."


#: The members in a fixed order: the event loop carries the position in this tuple.
MEMBERS = (
    "completed",
    "outputs_fired",
    "max_events",
    "max_steps",
    "queue_overflow",
    "not_finite",
    "invalid_input",
    "no_reset",
    "invalid_parameters",
)
CODE = {name: code for code, name in enumerate(MEMBERS)}
RUNNING = -1


def status_of(code: Int[Array, " *batch"]) -> Status:
    """The status for a batch of the loop's integer codes."""
    if code.ndim > 0:
        return jax.vmap(status_of)(code)
    out = Status.completed
    for name in MEMBERS[1:]:
        out = Status.where(code == CODE[name], getattr(Status, name), out)
    return out


def is_success(code: Int[Array, " *batch"]):
    """True where a simulation reached `t_max`, or stopped because all outputs had fired."""
    return (code == CODE["completed"]) | (code == CODE["outputs_fired"])


class Solution(eqx.Module):
    """What [`eventsnn.EventNetwork.simulate`][] returns.

    - `times`: times of the events in order, padded with `inf`.
    - `sources`: who caused each: neuron `j` is `j`, input channel `c` is `n_neurons + c`;
        padded with -1.
    - `status`: a [`Status`][] a sample.
    - `stats`: integer counts a sample: `events`, `spikes` (events caused by neurons), and
        `steps` (iterations of the event loop: events, segments cut short, second tries).
    """

    times: Float[Array, "*batch events"]
    sources: Int[Array, "*batch events"]
    status: Status
    stats: dict[str, Int[Array, " *batch"]]
