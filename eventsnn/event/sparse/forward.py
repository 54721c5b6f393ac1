"""Rounds: the simulation of a sparse network, updating only the targets of each spike.

If every spike takes at least the shortest delay to arrive, then no neuron influences another one
within a *round* of this length, and all arrivals are known at its start. They are delivered in
order. A delivery advances the targets of the spike, and only these, from their last update to the
arrival, finds the spikes that they have fired in between, and adds the weights. At the end of the
round all neurons advance to its end. The spikes of the round are then sorted, and become arrivals
of later rounds.

If the delays differ between the synapses of a source, all arrivals of the round are listed, and
sorted by target and time. The first arrivals of all neurons are delivered together, then the second
ones, and so on (see the package `synaptic`).

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
from .records import Pending, Run, Spans, Steps, Trace, write
from .synaptic.arrivals import no_arrivals
from .synaptic.delivery import delivered_together, planned
from .synaptic.sent import Oldest, joined
from .synaptic.transit import Lists, Underway, advanced, left_of_synapses, lists_of, sent_spikes
from .system import Inputs, Network, Setting, initial_rows
from .transit import Fired, entry, given_arrivals, input_arrivals, left_in_transit, send


class _State(NamedTuple):
    """State between two rounds."""

    time: Instant
    rows: Float[Array, "rows columns"]
    predictions: Predictions | None
    transit: Pending | Underway  # spikes in transit; `Underway` with synaptic delays
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
    sort = input_arrivals if setting.max_arrivals is None else lists_of
    context = Context(
        setting,
        network,
        packing,
        sort(setting, network, inputs),
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
    lists, transit, capacity = context.inputs, state.transit, start.sources.size
    if isinstance(lists, Lists):
        assert isinstance(transit, Underway)
        until = Instant.at(jnp.asarray(setting.t_max, state.rows.dtype))
        sent = sent_spikes(setting, lists, state.run, state.n_events, transit.oldest, until)
        parts = joined(setting, *sent), capacity, state.time
        waits, sources, overflows = left_of_synapses(setting, lists, *parts)
    else:
        assert isinstance(transit, Pending)
        parts = capacity, transit, lists, state.n_inputs
        waits, sources, overflows = left_in_transit(setting, inputs, *parts)
    neurons = context.packing.state(state.rows[: setting.n])
    status = jnp.where(overflows & is_success(found.status), CODE["queue_overflow"], found.status)
    end = NetworkState(neurons, jnp.zeros(setting.n, bool), waits, sources)
    return found._replace(status=status.astype(jnp.int32), end=end)


def _window(network: Network, setting: Setting) -> Float[Array, ""]:
    """Longest round: the shortest delay of a neuron with targets; inf if there is none.

    With predictions, spikes without delays arrive in the same round, and have no influence on it.
    """
    delays, counts = network.delays, _sends(network, setting)
    if setting.max_arrivals is None:
        delays = delays[: setting.n]
    if setting.predicts:
        counts = counts & (delays > 0)
    shortest = jnp.min(jnp.where(counts, delays, jnp.inf), initial=jnp.inf)
    return jnp.minimum(shortest, setting.window)


def _sends(network: Network, setting: Setting) -> Bool[Array, " delays"]:
    """Mask of the delays of neurons with targets or, with synaptic delays, of their synapses."""
    offsets = network.fan.offsets[: setting.n + 1]
    if setting.max_arrivals is None:
        return offsets[1:] > offsets[:-1]
    return jnp.arange(network.delays.size, dtype=jnp.int32) < offsets[-1]


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
    moment = Instant.at(jnp.zeros((), dtype))
    spans = None
    if setting.max_arrivals is not None:
        spent = jnp.zeros(setting.max_rounds, dtype)
        spans = Spans(Instant.at(spent), spent, rounds, rounds)
    trace = Trace(
        offset=jnp.zeros(events, dtype),
        visit=jnp.full(events, -1, jnp.int32),
        before=jnp.zeros((events, components), dtype),
        steps=Steps(blank, jnp.zeros(steps, dtype), blank) if spans is None else None,
        spans=spans,
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
        low=None if spans is None else jnp.zeros(events, dtype),
        trace=trace if setting.keep else None,
    )
    return _State(
        time=moment,
        rows=rows,
        predictions=Predictions.none(setting, dtype) if setting.predicts else None,
        transit=given_arrivals(setting, inputs.start, dtype)
        if spans is None
        else Underway(Oldest(zero, zero, zero), no_arrivals(setting, dtype)),
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
        sends = _sends(network, setting)
        wrong = wrong | jnp.any(sends & (network.delays[: sends.size] <= 0))
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
    lists, transit = context.inputs, state.transit
    if isinstance(lists, Lists):
        assert isinstance(transit, Underway)
        oldest, until = transit.oldest, state.time.after(length)
        sent = sent_spikes(setting, lists, state.run, state.n_events, oldest, until)
        recent = oldest.recent, state.n_events
        parts = state.rows, state.time, length, first, recent, transit.arrivals
        arrivals, length = planned(context, lists, joined(setting, *sent), *parts)
        transit = transit._replace(arrivals=arrivals)
        state = state._replace(transit=transit)
    counts = state.n_inputs, state.step, state.visit
    steps = None if state.run.trace is None else state.run.trace.steps
    d = started(context, state.rows, state.predictions, length, counts, steps)
    due = jnp.pad(first & context.due, (0, setting.width))
    d = d._replace(due=due)
    if d.predictions is not None:  # these spikes come before the arrivals at time 0
        now = jnp.where(due, 0.0, d.predictions.time)
        d = d._replace(predictions=d.predictions._replace(time=now))
    if isinstance(transit, Underway):
        return _finish(context, state, delivered_together(context, d, transit.arrivals))
    return _finish(
        context, state, delivered(context, Transit(state.time, left, transit, state.n_events), d)
    )


def _finish(context: Context, state: _State, d: Deliveries) -> _State:
    """Sort the spikes of a round, unless they are in order, and send them."""
    setting = context.setting
    spikes, offset, order = _sorted_spikes(context, state, d)
    found, time = d.found, state.time.after(d.clock)
    n_events = state.n_events + found.n_spikes
    n_spikes = state.n_spikes.at[spikes.source].add(1, mode="drop")
    run = _recorded(state, d, spikes, offset, order)
    transit, overflows, over = _sent(context, state, d, spikes, run, time)
    status = jnp.where(over, CODE["completed"], RUNNING)
    if setting.stop_after is not None:
        least = jnp.min(n_spikes[jnp.asarray(setting.outputs, jnp.int32)])
        status = jnp.where(least >= setting.stop_after, CODE["outputs_fired"], status)
    status = jnp.where(n_events > setting.max_events, CODE["max_events"], status)
    status = jnp.where(overflows, CODE["queue_overflow"], status)
    finite = jnp.all(jnp.isfinite(d.rows[: setting.n]))
    status = jnp.where(finite, status, CODE["not_finite"])
    status = jnp.where(state.status == RUNNING, status, state.status).astype(jnp.int32)
    counts = d.n_inputs, n_events, n_spikes, d.step, d.visit
    return _State(time, d.rows, d.predictions, transit, *counts, status, run)


def _sent(
    context: Context, state: _State, d: Deliveries, spikes: Fired, run: Run, time: Instant
) -> tuple[Pending | Underway, Bool[Array, ""], Bool[Array, ""]]:
    """Spikes in transit after a round, whether there are too many, and whether it is the last."""
    setting, inputs, transit = context.setting, context.inputs, state.transit
    over = time.reached(setting.t_max)
    if isinstance(inputs, Lists):
        assert isinstance(transit, Underway) and setting.max_arrivals is not None
        counts = state.n_events, state.n_events + spikes.n_spikes
        oldest, many = advanced(setting, inputs, run, counts, transit.oldest, time)
        many = many | (spikes.n_spikes > setting.capacity)
        many = many | (transit.arrivals.n_arrivals > setting.max_arrivals)
        return transit._replace(oldest=oldest), many, over
    assert isinstance(transit, Pending)
    pending, many = send(context.network, transit, d.n_pending, spikes)
    # A round that was cut short may leave arrivals at t_max.
    first, _, _ = entry(pending, jnp.zeros((), jnp.int32), time)
    following, _, _ = entry(inputs, d.n_inputs, time)
    return pending, many, over & (jnp.minimum(first, following) > 0)


def _sorted_spikes(
    context: Context, state: _State, d: Deliveries
) -> tuple[Fired, Float[Array, " capacity"], Int[Array, " capacity"]]:
    """Spikes of a round, sorted by time.

    Also returns their times from the start of the round, and the order in which they were found.
    """
    found, order = d.found, jnp.arange(context.setting.capacity, dtype=jnp.int32)
    columns = (*found.time, found.source, order)
    if not context.setting.predicts:  # predicted spikes are found in order
        columns = sort_first(found.n_spikes, columns)
    high, low, source, order = columns
    exists = jnp.arange(source.size, dtype=jnp.int32) < found.n_spikes
    when = state.time.after(high, low)
    when = Instant(jnp.where(exists, when.high, jnp.inf), jnp.where(exists, when.low, 0.0))
    number = state.n_events + jnp.arange(source.size, dtype=jnp.int32)
    return Fired(when, source, number, found.n_spikes, d.n_found), high, order


def _recorded(state: _State, d: Deliveries, spikes: Fired, offset: Array, order: Array) -> Run:
    """Write the spikes of a round to the record, and what a backward pass needs."""
    run, found = state.run, d.found

    def put(table, values):
        return lax.dynamic_update_slice_in_dim(table, values, state.n_events, 0)

    trace = run.trace
    if trace is not None and found.before is not None:
        exists = jnp.arange(order.size, dtype=jnp.int32) < found.n_spikes
        spans = trace.spans
        if isinstance(state.transit, Underway):
            oldest = state.transit.oldest
            row = Spans(state.time, d.length, oldest.spike, oldest.input)
            spans = write(spans, row, run.rounds)
        trace = Trace(
            offset=put(trace.offset, offset),
            visit=put(trace.visit, jnp.where(exists, found.visit[order], -1)),
            before=put(trace.before, found.before[order]),
            steps=d.steps,
            spans=spans,
            first_step=write(trace.first_step, state.step, run.rounds),
            first_visit=write(trace.first_visit, state.visit, run.rounds),
            first_spike=write(trace.first_spike, state.n_events, run.rounds),
            tables=write(trace.tables, state.rows[: state.n_spikes.size, :-1], run.rounds),
        )
    return run._replace(
        times=put(run.times, spikes.time.high),
        low=None if run.low is None else put(run.low, spikes.time.low),
        sources=put(run.sources, spikes.source),
        rounds=run.rounds + 1,
        trace=trace,
    )
