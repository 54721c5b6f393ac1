"""Result of a simulation, and the status of each sample."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .. import checks
from .state import NetworkState


class Status(eqx.Enumeration):
    """Reason why the simulation of a sample ended. The value of each member is its message.

    A batch of samples has a batch of statuses: `solution.status == Status.completed` is a
    boolean array. The members `completed` and `outputs_fired` count as success.
    """

    completed = "Simulated to t_max."
    outputs_fired = "Stopped early: every output neuron had fired as often as the query requires."
    max_events = (
        "Reached max_events. Raise `max_events`, or lower `t_max` or the activity: `esn.activity` "
        "counts the spikes, and `esn.calibrate` scales the weights."
    )
    max_steps = (
        "Reached max_steps. Raise `max_steps`, or, with a solver, its step size. With sparse "
        "synapses it counts rounds, which are as long as the shortest delay."
    )
    queue_overflow = "More spikes were in transit than queue_capacity. Raise `queue_capacity`."
    not_finite = "A parameter, a weight or the state is NaN or infinite."
    invalid_input = "An input time is NaN, -inf or negative."
    no_reset = "A neuron fired, but its `reset` returns the state unchanged: it would fire forever."
    max_spikes = "A neuron fired more than max_spikes times. Raise `max_spikes`."
    invalid_parameters = (
        "A parameter is out of its range: a time constant <= 0, a delay < 0, or a delay of 0 in a "
        "network of sparse synapses whose delays were all positive when it was created."
    )


#: Members in a fixed order. The status code in the event loop is the position in this tuple.
MEMBERS = (
    "completed",
    "outputs_fired",
    "max_events",
    "max_steps",
    "queue_overflow",
    "not_finite",
    "invalid_input",
    "no_reset",
    "max_spikes",
    "invalid_parameters",
)
CODE = {name: code for code, name in enumerate(MEMBERS)}
RUNNING = -1
_SUCCESSES = CODE["completed"], CODE["outputs_fired"]


def status_of(code: Int[Array, " *batch"]) -> Status:
    """Convert a batch of status codes of the event loop to a `Status`."""
    if code.ndim > 0:
        return jax.vmap(status_of)(code)
    out = Status.completed
    for name in MEMBERS[1:]:
        out = Status.where(code == CODE[name], getattr(Status, name), out)
    return out


def is_success(code: Int[Array, " *batch"]):
    """Mask of the samples that reached `t_max`, or stopped because all outputs had fired."""
    completed, outputs_fired = _SUCCESSES
    return (code == completed) | (code == outputs_fired)


class Solution(eqx.Module):
    """Result of [`eventsnn.EventNetwork.simulate`][].

    - `times`: times of the events, sorted and padded with `inf`.
    - `sources`: source index of each event, padded with -1. Neuron `j` has the index `j`, input
        channel `c` the index `n_neurons + c`.
    - `status`: one [`Status`][] per sample.
    - `stats`: integer counts per sample. `events`: number of events. `spikes`: number of events
        caused by neurons. `steps`: number of iterations of the event loop, which includes segments
        that were cut short or proposed again.
    - `state`: final state, for a simulation that started from a state; otherwise None. Its floats
        are NaN for failed samples.
    """

    times: Float[Array, "*batch events"]
    sources: Int[Array, "*batch events"]
    status: Status
    stats: dict[str, Int[Array, " *batch"]]
    state: NetworkState | None = None


def raise_if_failed(tree: PyTree, code: Int[Array, " *batch"]) -> PyTree:
    """Return `tree`, or raise an error if a sample failed.

    Samples may fail for different reasons. The error names the one with the largest code.
    """
    reasons = [Status[getattr(Status, name)] for name in MEMBERS]
    if not checks.is_concrete(code):
        worst, some = _worst(code), [f"Some samples: {reason}" for reason in reasons]
        return eqx.branched_error_if(tree, worst >= 0, jnp.maximum(worst, 0), some)
    worst = int(_worst_now(code))
    if worst >= 0:
        number = int(jnp.sum(code == worst))
        raise RuntimeError(f"{number} of {math.prod(code.shape)} samples: {reasons[worst]}")
    return tree


@jax.custom_batching.custom_vmap
def _worst(code: Int[Array, " *batch"]) -> Int[Array, ""]:
    """Largest code of a failed sample, also over axes of `jax.vmap`; -1 if there is none.

    `eqx.branched_error_if` computes the maximum over such axes itself, but not if one has length 0.
    """
    return jnp.max(jnp.where(is_success(code), -1, code), initial=-1)


@_worst.def_vmap
def _(axis_size: int, in_batched: list[bool], code: Array) -> tuple[Array, bool]:
    return _worst(code), False


_worst_now = jax.jit(_worst)


def valid_or_nan(status: Array, out: Array) -> Array:
    """Set the outputs of invalid and non-finite samples to NaN."""
    codes = [CODE[m] for m in ("not_finite", "invalid_input", "invalid_parameters")]
    return _where_sample(jnp.isin(status, jnp.asarray(codes, status.dtype)), jnp.nan, out)


def complete_or_nan(status: Array, out: Array) -> Array:
    """Set the outputs of samples that did not reach the end to NaN; integers to -1."""
    value = jnp.nan if jnp.issubdtype(out.dtype, jnp.inexact) else -1
    return _where_sample(~is_success(status), value, out)


def _where_sample(samples: Array, value: float, out: Array) -> Array:
    """Set all outputs of these samples to `value`."""
    samples = samples.reshape(samples.shape + (1,) * (out.ndim - samples.ndim))
    return jnp.where(samples, jnp.asarray(value, out.dtype), out)
