"""Spikes against recordings of NEST, one by one; `fixtures/make_nest.py` made them, and documents
the map from its parameters and units to ours."""

import pathlib

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn

NEST = np.load(pathlib.Path(__file__).parents[1] / "fixtures" / "nest.npz")
NETWORKS, LONGEST = NEST["times"].shape
N = NEST["tau_m"].shape[1]
NAMES = ("C_m", "tau_m", "tau_syn", "V_th", "V_reset", "t_ref", "I_e", "weights", "delays")


@eqx.filter_jit
def simulate(one, in_times):
    resistance = one["tau_m"] / one["C_m"]
    neuron = esn.LIF(
        one["tau_m"],
        one["tau_syn"],
        threshold=one["V_th"] - NEST["e_l"],
        v_reset=one["V_reset"] - NEST["e_l"],
        bias=resistance * one["I_e"],
        v_init=jnp.zeros(N),
    )
    net = esn.EventNetwork(
        esn.Refractory(neuron, one["t_ref"]),
        one["weights"] * resistance,
        one["weights"] != 0,
        delays=one["delays"],
        outputs=range(N),
        t_max=float(NEST["t_max"]),
        max_events=LONGEST + NEST["in_times"][0].size,
        max_steps=5000,
        queue_capacity=64,
    )
    return net.simulate(in_times, throw=False)


@pytest.mark.parametrize("k", range(NETWORKS))
def test_spikes_are_those_of_nest(k):
    solution = simulate({name: NEST[name][k] for name in NAMES}, NEST["in_times"][k])
    assert bool(solution.status == esn.Status.completed)
    spikes = (solution.sources >= 0) & (solution.sources < N)
    count = int(np.sum(NEST["sources"][k] >= 0))
    np.testing.assert_array_equal(solution.sources[spikes], NEST["sources"][k][:count])
    times = solution.times[spikes]
    np.testing.assert_allclose(times, NEST["times"][k][:count], rtol=0, atol=1e-10)
