"""Simultaneous events, and a flow with wrong guesses.

A crossing precedes an arrival at the same time; all tied neurons fire; a neuron pushed over its
threshold by an arrival fires at once. Reference values are closed forms.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.flows import AbstractFlow, ExactLIF, Window
from helpers import jitted
from helpers.delta_lif import ClosedDelta, DeltaLIF

INF = jnp.inf
T_MAX = 40.0
ULPS = np.arange(-8, 9)  # offsets within which times count as equal


def around(time):
    """Times that count as equal to the given one."""
    return time + ULPS * np.spacing(float(time))


def lif(weights, delays=None, **neuron):
    weights = jnp.asarray(weights)
    return esn.EventNetwork(
        esn.LIF(10.0, 5.0, **neuron),
        weights,
        delays=delays,
        outputs=range(weights.shape[1]),
        t_max=T_MAX,
        max_events=30,
    )


def delta(weights, delays=None, bias=0.0, adjoint=None):
    """Neurons whose membrane potential is incremented by the weight of an arrival."""
    weights = jnp.asarray(weights)
    one = jnp.ones(weights.shape[1])
    return esn.EventNetwork(
        DeltaLIF(10.0 * one, bias * one, one),
        weights,
        delays=delays,
        outputs=range(weights.shape[1]),
        t_max=T_MAX,
        max_events=20,
        adjoint=adjoint,
        solver=ClosedDelta(),
    )


# ------------------------------------------------------------------ a crossing, then an arrival


def test_a_crossing_precedes_an_arrival_at_the_same_instant():
    crossing = 10.0 * np.log(2.0)
    net = lif([[0.0], [3.0]], bias=jnp.array([2.0]))
    solution = jitted.simulate(net, around(crossing)[:, None, None])
    np.testing.assert_array_equal(solution.sources[:, :2], [[0, 1]] * len(ULPS))
    np.testing.assert_allclose(solution.times[:, :2], crossing, rtol=1e-14)
    apart = crossing + np.array([-1e-9, 1e-9] + [0.0] * (len(ULPS) - 2))  # (no other shape)
    solution = jitted.simulate(net, apart[:, None, None])
    np.testing.assert_array_equal(solution.sources[:3, :2], [[1, 0], [0, 1], [0, 1]])


@pytest.mark.parametrize("delays", [None, jnp.ones((2, 1))], ids=["at once", "delays"])
def test_an_observation_at_a_crossing_shows_the_state_after_it(delays):
    crossing = 10.0 * np.log(2.0)
    net = lif([[0.0], [3.0]], delays, bias=jnp.array([2.0]), v_reset=-0.4, v_init=0.0)
    states = jitted.potentials_at(net, jnp.array([[INF]]), jnp.array(around(crossing)))
    np.testing.assert_allclose(states, -0.4, rtol=1e-12)


def test_a_pulse_at_a_crossing_is_not_lost_in_the_reset():
    """V falls to 0 at the crossing and then by 0.5, so the next crossing is later."""
    net = delta([[0.0], [-0.5]], bias=2.0)
    first, second = 10.0 * np.log(2.0), 10.0 * np.log(2.5)
    spikes = jitted.spikes(net, around(first)[:, None, None], 2)[:, 0]
    np.testing.assert_allclose(spikes, [[first, first + second]] * len(ULPS), rtol=1e-13)


# ------------------------------------------------------------------ ties


def test_neurons_that_differ_by_the_order_of_summation_tie():
    """Equal charges that arrive from the channels in different orders; each neuron inhibits the
    others.

    Of two spikes a rounding error apart, the second would be lost.
    """
    rng = np.random.default_rng(0)
    n, n_in, samples = 4, 12, 300
    charge = rng.uniform(0.35, 0.8, (samples, n_in))
    weights = np.zeros((samples, n + n_in, n))
    weights[:, :n] = -1000.0
    for i in range(n):
        weights[:, n:, i] = rng.permuted(charge, axis=1)

    @eqx.filter_jit
    @eqx.filter_vmap
    def simulate(weights, time):
        return lif(weights).simulate(jnp.full((n_in, 1), time), throw=False)

    time = rng.uniform(0.0, 20.0, samples)
    solution = simulate(jnp.asarray(weights), jnp.asarray(time))
    sums = np.sum(weights[:, n:], axis=1)
    assert np.sum(np.ptp(sums, axis=1) > 0) > 200
    sources = np.asarray(solution.sources)
    spikes = (sources >= 0) & (sources < n)
    np.testing.assert_array_equal(np.sum(spikes, axis=1), n)
    # Charge c at rest: V = c (x - x^2) with x = exp(-t/10).
    c = sums[:, :1]
    expected = time[:, None] - 10.0 * np.log(0.5 + np.sqrt(0.25 - 1 / c))
    found = np.asarray(solution.times)[spikes].reshape(samples, n)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-12)


# ------------------------------------------------------------------ pushed over the threshold

LIFTS = np.array([[0.0, 0.0], [0.0, 0.0], [1.5, 1.6]])
DELAYS = {"synaptic": jnp.array([[0.0, 0.0], [0.0, 0.0], [2.0, 2.0]])}


@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
def test_an_arrival_that_triggers_a_spike_causes_no_rejected_segment(delays):
    def steps(weights):
        return jitted.simulate(delta(weights, delays), jnp.array([[1.0]]))

    lifted, not_lifted = steps(LIFTS), steps(0.5 * LIFTS)
    assert lifted.stats["spikes"] == 2 and not_lifted.stats["spikes"] == 0
    np.testing.assert_array_equal(lifted.times[:3], [1.0, 3.0, 3.0])
    assert lifted.stats["steps"] <= not_lifted.stats["steps"] + 4


@pytest.mark.parametrize("delays", [None, *DELAYS.values()], ids=["None", *DELAYS])
def test_an_observation_at_a_triggering_arrival_shows_the_state_after_the_spike(delays):
    sent = 3.0 if delays is None else 1.0
    states = jitted.potentials_at(
        delta(LIFTS, delays), jnp.array([[sent]]), jnp.array([2.0, 3.0, 4.0])
    )
    np.testing.assert_allclose(states, np.zeros((2, 3)), atol=1e-15)


@eqx.filter_jit
def lifted_gradients(delays, adjoint):
    """Gradient of t_0 + 10 t_1 with respect to the delays and the time of the input."""

    def loss(delays, in_times):
        times = delta(LIFTS, delays, adjoint=adjoint).ttfs(in_times, throw=False)
        return times[0] + 10.0 * times[1]

    return jax.grad(loss, argnums=(0, 1))(delays, jnp.array([[1.0]]))


@pytest.mark.parametrize("delays", DELAYS.values(), ids=DELAYS)
def test_gradient_of_an_input_that_triggers_two_spikes_at_one_instant(delays):
    """Each neuron fires as the input arrives, so its spike time shifts with that of the input."""
    d_delays, d_input = lifted_gradients(delays, esn.EventProp())
    np.testing.assert_allclose(d_input, [[11.0]], rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(d_delays[2]), 11.0, rtol=1e-12)
    np.testing.assert_array_equal(d_delays[:2], 0.0)


@pytest.mark.parametrize(
    "adjoint", [esn.EventProp(), esn.Autodiff()], ids=["eventprop", "autodiff"]
)
def test_gradients_of_two_delays_that_trigger_spikes_at_one_instant(adjoint):
    """Each neuron fires as the input arrives at it, after its own delay."""
    d_delays, _ = lifted_gradients(DELAYS["synaptic"], adjoint)
    np.testing.assert_allclose(d_delays[2], [1.0, 10.0], rtol=1e-12)


# ------------------------------------------------------------------ a flow with wrong guesses


class LastFirst(AbstractFlow):
    """Flow of LIF neurons without a maximum; it reports the last crossing instead of the first."""

    exact: AbstractFlow = ExactLIF()

    def next_spike(self, neuron, state, horizon, flow_state, window=None):
        n = state.v.shape[0]
        zero = jnp.zeros_like(state.v)
        window = Window(zero, zero + INF) if window is None else window
        rows = jax.lax.broadcasted_iota(jnp.int32, zero.shape, 0)
        last = self.exact.next_spike(neuron, state, horizon, flow_state, window)
        for i in range(n):
            stop = jnp.where(rows == i, window.stop, window.start)  # the others do not move
            alone = self.exact.next_spike(
                neuron, state, horizon, flow_state, window._replace(stop=stop)
            )
            later = alone.spiked & (alone.dt > last.dt)
            dt, who = (
                jnp.where(later, *x) for x in ((alone.dt, last.dt), (alone.source, last.source))
            )
            last = last._replace(dt=dt, source=who)
        moved = jnp.maximum(jnp.minimum(last.dt, window.stop) - window.start, 0.0)
        return last._replace(end=self.advance(neuron, state, moved))

    def advance(self, neuron, state, dt):
        return self.exact.advance(neuron, state, dt)


def test_a_wrong_guess_of_the_first_crossing_is_put_right():
    """Neuron 1 crosses first, and just afterwards it receives an inhibition that would prevent the
    spike. Both neurons receive input within the segment that the flow proposes first."""
    crossing = 10.0 * np.log([2.0, 1.5])
    weights = jnp.array([[0.0, 0.0], [0.0, 0.0], [0.0, -1000.0], [0.1, 0.0]])
    delays = jnp.zeros((4, 2)).at[2].set(crossing[1] + 0.05).at[3].set(jnp.array([8.0, 30.0]))
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=jnp.array([2.0, 3.0])),
        weights,
        weights != 0,
        delays=delays,
        outputs=(0, 1),
        t_max=10.0,
        max_events=20,
        solver=LastFirst(),
    )
    spikes = jitted.spikes(net, jnp.zeros((2, 1)), 2)
    np.testing.assert_allclose(spikes, [[crossing[0], INF], [crossing[1], INF]], rtol=1e-13)
