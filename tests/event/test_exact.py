"""Spike times of LIF neurons against a reference of 32 digits (`fixtures/make_exact.py`)."""

import functools as ft

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.recorded import recorded

INF = np.inf
EXACT = recorded("exact.npz")
NETWORKS, LONGEST = EXACT["times"].shape
N = EXACT["tau_mem"].shape[1]
NEURON = ("tau_mem", "tau_syn", "threshold", "v_reset", "bias", "v_init")


@eqx.filter_jit
def simulate(neuron, period, weights, delays, in_times):
    net = esn.EventNetwork(
        esn.Refractory(esn.LIF(**neuron), period),
        weights,
        delays=delays,
        outputs=range(N),
        t_max=float(EXACT["t_max"]),
        max_events=LONGEST + in_times.size,
        queue_capacity=128,
    )
    return net.simulate(in_times, throw=False)


@pytest.mark.parametrize("k", range(NETWORKS))
def test_networks(k):
    neuron = {name: EXACT[name][k] for name in NEURON}
    others = (EXACT[name][k] for name in ("period", "weights", "delays", "in_times"))
    solution = simulate(neuron, *others)
    assert bool(solution.status == esn.Status.completed)
    spikes = (solution.sources >= 0) & (solution.sources < N)
    count = int(np.sum(EXACT["sources"][k] >= 0))
    np.testing.assert_array_equal(solution.sources[spikes], EXACT["sources"][k][:count])
    np.testing.assert_allclose(solution.times[spikes], EXACT["times"][k][:count], rtol=1e-12)


@ft.cache
def first_spikes():
    """First spikes of the single neurons."""

    @eqx.filter_jit
    @eqx.filter_vmap
    def first_spike(tau_mem, tau_syn, weight, threshold):
        net = esn.EventNetwork(
            esn.LIF(tau_mem, tau_syn, threshold=threshold),
            jnp.zeros((2, 1)).at[1].set(weight),
            outputs=(0,),
            t_max=1e6,
            max_events=8,
        )
        return net.ttfs(jnp.zeros((1, 1)), throw=False)[0]

    return np.asarray(first_spike(*(jnp.asarray(x) for x in EXACT["single"].T[:4])))


@pytest.mark.parametrize(
    "large",
    [False, True],
    ids=["ratios to 100", "ratios from 1000"],
)
def test_grazing_and_many_orders_of_magnitude(large):
    """Ratios of time constants from 1e-6 to 1e6 and weights from 1e-12 to 1e12. At a relative
    distance d below the peak, rounding moves the time by its size divided by sqrt(d)."""
    tau_mem, tau_syn, _, _, expected = EXACT["single"].T
    distances = np.resize([0.5, 1e-2, 1e-6, 1e-10, 1e-13, INF, INF], expected.shape)
    which = (tau_mem / tau_syn > 100) == large
    expected, found, distances = expected[which], first_spikes()[which], distances[which]
    fires = np.isfinite(distances)
    assert np.all(np.isfinite(expected) == fires)
    np.testing.assert_array_equal(np.isfinite(found), fires)
    error = np.abs(found[fires] / expected[fires] - 1)
    assert np.max(error * np.sqrt(distances[fires])) < 5e-14


def test_many_input_spikes():
    """The membrane potential is the sum of 1e5 responses."""
    rng = np.random.default_rng(0)
    times, weights = np.sort(rng.uniform(0.0, 1000.0, 100_000)), np.array([0.02, -0.01])
    net = esn.EventNetwork(
        esn.LeakyIntegrator(10.0, 4.0),
        np.concatenate([np.zeros((1, 1)), weights[:, None]]),
        outputs=(0,),
        t_max=1000.0,
        max_events=len(times),
    )
    query = np.array([10.0, 500.0, 999.5])
    states = net.potentials_at(times.reshape(-1, 2).T, query)[0]
    ago = query[:, None] - times
    response = 4.0 / 6.0 * (np.exp(-ago / 10.0) - np.exp(-ago / 4.0))
    expected = np.sum(np.where(ago > 0, response, 0.0) * np.resize(weights, len(times)), axis=1)
    np.testing.assert_allclose(states, expected, rtol=1e-11)
