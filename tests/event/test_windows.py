"""Flows in which each neuron evolves within its own window, against each neuron simulated
separately."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn.event.engine.system import add_batch_axis
from eventsnn.event.flows import Window
from helpers.registry import (
    EIF,
    EXACT,
    LIF_SET,
    REFRACTORY_LIF,
    REFRACTORY_QIF,
    THETA,
    Case,
    N,
    network,
    problem,
    quick,
    rk4,
)

CASES = [
    *EXACT,
    *(Case(model, "exact") for model in (THETA, REFRACTORY_LIF, REFRACTORY_QIF)),
    *(Case(model, "ode", rk4(0.05)) for model in (LIF_SET, EIF)),
]
HORIZON, TRIALS = 30.0, 12


def first_spike(flow):
    """First spike time over successive segments within each neuron's window, and the neuron that
    fires.

    The time is inf if no neuron fires up to the horizon. The neuron that a segment names may be a
    guess: as in the event loop, a segment after which another neuron that has moved is above its
    threshold is proposed again with a shorter horizon.
    """

    @quick
    def run(neuron, state, window):
        zero = jnp.zeros(1)

        def more(loop):
            _, _, time, _, _, spiked, _ = loop
            return jnp.any(~spiked & (time < HORIZON))

        def body(loop):
            state, window, time, flow_state, limit, *_ = loop
            horizon = jnp.minimum(HORIZON - time, limit)
            segment = flow.next_spike(neuron, state, horizon, flow_state, window)
            dt, gap = segment.dt, neuron.threshold_gap(segment.end)
            others = jnp.arange(len(gap), dtype=segment.source.dtype)[:, None] != segment.source
            moved = jnp.ones_like(others) if window is None else window.start < dt
            missed = segment.spiked & jnp.any((gap < -1e-9) & others & moved, axis=0)
            left = jax.tree.map(lambda x: jnp.maximum(x - dt, 0.0), window)
            now = state, window, time, flow_state
            ahead = segment.end, left, time + dt, segment.flow_state
            kept = jax.tree.map(lambda x, y: jnp.where(missed, x, y), now, ahead)
            limit = jnp.where(missed, jnp.where(dt < limit, dt, 0.5 * dt), jnp.inf)
            return *kept, limit, segment.spiked & ~missed, segment.source

        flow_state = flow.init_state(neuron, state, zero + HORIZON)
        none = zero > 0, jnp.zeros(1, jnp.int32)
        start = (state, window, zero, flow_state, zero + jnp.inf, *none)
        _, _, time, _, _, spiked, who = jax.lax.while_loop(more, body, start)
        return jnp.where(spiked, time, jnp.inf)[0], who[0]

    return run


def row(tree, i):
    return jax.tree.map(lambda x: x[i : i + 1] if x.ndim else x, tree)


def states(case, neuron, flow, rng):
    """Random states below the threshold, and one state above it per neuron."""
    start = jax.tree.map(lambda x: x[:, None], neuron.init_state(N))
    lifted = add_batch_axis(neuron)
    kick = jnp.asarray(rng.uniform(3.0, 9.0, (TRIALS, N, 1))) * abs(case.model.scale)
    advance = quick(lambda kick, dt: flow.advance(lifted, lifted.receive(start, kick), dt))
    ahead = [advance(kick[0], jnp.full(1, dt)) for dt in np.arange(0.25, 12.0, 0.25)]
    gaps = np.stack([lifted.threshold_gap(x)[:, 0] for x in ahead])
    assert np.all(np.any(gaps < -1e-3, axis=0))
    which = np.argmax(gaps < -1e-3, axis=0)
    beyond = jax.tree.map(lambda *x: jnp.stack([x[k][i] for i, k in enumerate(which)]), *ahead)
    return [lifted.receive(start, k) for k in kick], beyond


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_neuron_moves_in_its_own_window(case):
    rng = np.random.default_rng(4)
    net = network(case, jax.tree.map(jnp.asarray, problem(case.model, 5, ratio=1.7)))
    neuron, run = net.neuron, first_spike(net.flow)
    below, beyond = states(case, neuron, net.flow, rng)
    fired = late = 0
    for state in below:
        start = rng.uniform(0.0, 12.0, (N, 1)) * (rng.random((N, 1)) < 0.8)
        stop = start + rng.uniform(0.0, 25.0, (N, 1)) * (rng.random((N, 1)) < 0.6)
        # One neuron is above its threshold, in a window that opens too late.
        who = rng.integers(N)
        state = jax.tree.map(lambda x, y, i=who: x.at[i].set(y[i]), state, beyond)
        start[who], stop[who] = HORIZON + 1, np.inf
        time, found = run(
            add_batch_axis(neuron), state, jax.tree.map(jnp.asarray, Window(start, stop))
        )

        waits = []
        for i in range(N):
            wait, _ = run(add_batch_axis(row(neuron, i)), row(state, i), None)
            waits.append(wait if wait <= stop[i] - start[i] else np.inf)
        waits[who] = np.inf
        ends = np.asarray(waits) + start[:, 0]
        expected = np.min(ends)
        expected = expected if expected <= HORIZON else np.inf
        np.testing.assert_allclose(time, expected, rtol=1e-9)
        if np.isfinite(expected):
            assert int(found) == np.argmin(ends)
            fired, late = fired + 1, late + (start[found] > 0)
    assert fired >= TRIALS // 2 and late >= 2
