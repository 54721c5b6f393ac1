"""Rounds: the simulation of a sparse network, updating only the targets of each spike.

If every spike takes at least the shortest delay to arrive, then no neuron influences another one
within a *round* of this length, and all arrivals are known at its start. They are delivered in
order. A delivery advances the targets of the spike, and only these, from their last update to the
arrival, finds the spikes that they have fired in between, and adds the weights. At the end of the
round all neurons advance to its end. The spikes of the round are then sorted, and become arrivals
of later rounds.

If spikes may arrive at once, the next spike of each neuron within the round is predicted, and
predicted again after each arrival. The first predicted spike or arrival is the next event.

The computation time of a spike is proportional to its number of targets. In addition all neurons
are visited once per round.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..engine.instants import Instant
from ..lanes.system import initial_status
from ..solution import CODE, RUNNING, is_success
from ..state import NetworkState
from .deliveries import Context, Deliveries, Transit, delivered, started
from .ordering import sort_first
from .predictions import Predictions
from .records import Pending, Run, Steps, Trace, write
from .system import Inputs, Network, Setting, initial_rows
from .transit import Sent, entry, given_arrivals, input_arrivals, left_in_transit, send


class _State(NamedTuple):
    """State between two rounds."""

    time: Instant
    rows: Float[Array, "rows columns"]
    predictions: Predictions | None
    pending: Pending
    n_inputs: Int[Array, ""]  # number of input spikes so far
    n_events: Int[Array, ""]  # number of spikes of neurons so far
    n_spikes: Int[Array, " n"]
    step: Int[Array, ""]
    visit: Int[Array, ""]
    status: Int[Array, ""]
    run: Run


def run(setting: Setting, network: Network, inputs: Inputs) -> Run:
    """Simulate one sample."""
    packing, rows = initial_rows(network, setting, inputs.start)
    at_threshold = network.neuron.threshold_gap(packing.state(rows[: setting.n])) <= 0
    context = Context(
        setting,
        network,
        packing,
        input_arrivals(setting, network, inputs),
        _window(network, setting),
        at_threshold if inputs.start is None else inputs.start.due,
    )
    state = _start(context, rows, inputs)

    def more(state: _State):
        return (state.status == RUNNING) & (state.run.rounds < setting.max_rounds)

    state = lax.while_loop(more, lambda state: _round(context, state), state)
    limit = jnp.asarray(CODE["max_steps"], jnp.int32)
    status = jnp.where(state.status == RUNNING, limit, state.status)
    found = state.run._replace(status=status, steps=state.step)
    return found if inputs.start is None else _with_end(context, inputs, state, found)


def _with_end(context: Context, inputs: Inputs, state: _State, found: Run) -> Run:
    """Return the result with the state at the end, for a simulation that started from a state."""
    setting, start = context.setting, inputs.start
    assert start is not None
    parts = setting, inputs, start.sources.size, state.pending, context.arrivals, state.n_inputs
    waits, sources, overflows = left_in_transit(*parts)
    neurons = context.packing.state(state.rows[: setting.n])
    status = jnp.where(overflows & is_success(found.status), CODE["queue_overflow"], found.status)
    end = NetworkState(neurons, jnp.zeros(setting.n, bool), waits, sources)
    return found._replace(status=status.astype(jnp.int32), end=end)


def _window(network: Network, setting: Setting) -> Float[Array, ""]:
    """Longest round: the shortest delay of a neuron with targets; inf if there is none.

    With predictions, spikes without delays arrive in the same round, and have no influence on it.
    """
    delays, counts = network.delays[: setting.n], _sends(network, setting)
    if setting.predicts:
        counts = counts & (delays > 0)
    shortest = jnp.min(jnp.where(counts, delays, jnp.inf), initial=jnp.inf)
    return jnp.minimum(shortest, setting.window)


def _sends(network: Network, setting: Setting) -> Bool[Array, " n"]:
    """Mask of the neurons that have targets."""
    offsets = network.fan.offsets[: setting.n + 1]
    return offsets[1:] > offsets[:-1]


def _start(context: Context, rows: Array, inputs: Inputs) -> _State:
    """State at time 0."""
    setting, network = context.setting, context.network
    n, size, dtype = setting.n, setting.capacity, network.weights.dtype
    events = setting.max_events + size
    zero = jnp.zeros((), jnp.int32)
    steps = setting.max_events + inputs.times.size + setting.max_rounds
    steps += 0 if inputs.start is None else inputs.start.sources.size
    if setting.predicts:
        steps += events
    blank, rounds = jnp.zeros(steps, jnp.int32), jnp.zeros(setting.max_rounds, jnp.int32)
    components = rows.shape[1] - 1
    trace = Trace(
        offset=jnp.zeros(events, dtype),
        visit=jnp.full(events, -1, jnp.int32),
        before=jnp.zeros((events, components), dtype),
        steps=Steps(blank, jnp.zeros(steps, dtype), blank),
        first_step=rounds,
        first_visit=rounds,
        first_spike=rounds,
        tables=jnp.zeros((setting.max_rounds, n, components), dtype),
    )
    run = Run(
        times=jnp.full(events, jnp.inf, dtype),
        sources=jnp.full(events, setting.n_sources, jnp.int32),
        status=zero,
        steps=zero,
        rounds=zero,
        trace=trace if setting.keep else None,
    )
    return _State(
        time=Instant.at(jnp.zeros((), dtype)),
        rows=rows,
        predictions=Predictions.none(setting, dtype) if setting.predicts else None,
        pending=given_arrivals(setting, inputs.start, dtype),
        n_inputs=zero,
        n_events=zero,
        n_spikes=jnp.zeros(n, jnp.int32),
        step=zero,
        visit=zero,
        status=_initial_status(setting, network, inputs),
        run=run,
    )


def _initial_status(setting: Setting, network: Network, inputs: Inputs) -> Int[Array, ""]:
    """Initial status: an error code for invalid inputs or parameters, otherwise `RUNNING`."""
    arrays = network.weights, network.delays
    status = initial_status(network.neuron, arrays, inputs.times[None])[0]
    wrong = jnp.any(network.delays < 0)
    if not setting.predicts:  # a delay of 0 would need predictions
        wrong = wrong | jnp.any(_sends(network, setting) & (network.delays[: setting.n] <= 0))
    wrong = (status != CODE["not_finite"]) & wrong
    return jnp.where(wrong, CODE["invalid_parameters"], status).astype(jnp.int32)


def _round(context: Context, state: _State) -> _State:
    """Process the events of a round.

    The first round has the length 0: neurons at or above their thresholds fire.
    """
    setting, network, packing = context.setting, context.network, context.packing
    left = state.time.until(setting.t_max)
    start = packing.state(state.rows[: setting.n])
    longest = jnp.asarray(network.flow.longest(network.neuron, start), left.dtype)
    length, first = jnp.minimum(context.window, left), state.run.rounds == 0
    length = jnp.where(first, 0.0, jnp.minimum(length, jnp.min(longest)))
    steps = None if state.run.trace is None else state.run.trace.steps
    counts = state.n_inputs, state.step, state.visit
    d = started(context, state.rows, state.predictions, length, counts, steps)
    d = d._replace(due=d.due.at[: setting.n].set(first & context.due))
    transit = Transit(state.time, left, state.pending, state.n_events)
    return _finish(context, state, delivered(context, transit, d))


def _finish(context: Context, state: _State, d: Deliveries) -> _State:
    """Sort the spikes of a round, unless they are in order, and send them."""
    setting, network = context.setting, context.network
    found, order = d.found, jnp.arange(setting.capacity, dtype=jnp.int32)
    columns = (*found.time, found.source, order)
    if not setting.predicts:  # predicted spikes are found in order
        columns = sort_first(found.n_spikes, columns)
    high, low, source, order = columns
    exists = jnp.arange(source.size, dtype=jnp.int32) < found.n_spikes
    when = state.time.after(high, low)
    when = Instant(jnp.where(exists, when.high, jnp.inf), jnp.where(exists, when.low, 0.0))
    number = state.n_events + jnp.arange(source.size, dtype=jnp.int32)
    spikes = Sent(when, source, number, found.n_spikes, d.n_found)
    pending, overflows = send(network, state.pending, d.n_pending, spikes)
    n_events = state.n_events + found.n_spikes
    n_spikes = state.n_spikes.at[source].add(1, mode="drop")
    run = state.run

    def put(table, values):
        return lax.dynamic_update_slice_in_dim(table, values, state.n_events, 0)

    trace = run.trace
    if trace is not None and found.before is not None and d.steps is not None:
        trace = Trace(
            offset=put(trace.offset, high),
            visit=put(trace.visit, jnp.where(exists, found.visit[order], -1)),
            before=put(trace.before, found.before[order]),
            steps=d.steps,
            first_step=write(trace.first_step, state.step, run.rounds),
            first_visit=write(trace.first_visit, state.visit, run.rounds),
            first_spike=write(trace.first_spike, state.n_events, run.rounds),
            tables=write(trace.tables, state.rows[: setting.n, :-1], run.rounds),
        )
    run = run._replace(
        times=put(run.times, when.high),
        sources=put(run.sources, source),
        rounds=run.rounds + 1,
        trace=trace,
    )
    time = state.time.after(d.clock)
    # A round that was cut short may leave arrivals at t_max.
    first, _, _ = entry(pending, jnp.zeros((), jnp.int32), time)
    following, _, _ = entry(context.arrivals, d.n_inputs, time)
    over = time.reached(setting.t_max) & (jnp.minimum(first, following) > 0)
    status = jnp.where(over, CODE["completed"], RUNNING)
    if setting.stop_after is not None:
        least = jnp.min(n_spikes[jnp.asarray(setting.outputs, jnp.int32)])
        status = jnp.where(least >= setting.stop_after, CODE["outputs_fired"], status)
    status = jnp.where(n_events > setting.max_events, CODE["max_events"], status)
    status = jnp.where(overflows, CODE["queue_overflow"], status)
    finite = jnp.all(jnp.isfinite(d.rows))
    status = jnp.where(finite, status, CODE["not_finite"])
    status = jnp.where(state.status == RUNNING, status, state.status).astype(jnp.int32)
    counts = d.n_inputs, n_events, n_spikes, d.step, d.visit
    return _State(time, d.rows, d.predictions, pending, *counts, status, run)
