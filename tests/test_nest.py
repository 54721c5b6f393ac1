"""Spikes against recordings of NEST, one by one; `fixtures/make_nest.py` made them, and documents
the map from its parameters and units to ours."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from jitted import events_of

import eventsnn as esn

NEST = np.load(pathlib.Path(__file__).parent / "fixtures" / "nest.npz")
NETWORKS, LONGEST = NEST["times"].shape
NAMES = ("C_m", "tau_m", "tau_syn", "V_th", "V_reset", "t_ref", "I_e", "weights", "delays")


def network(one):
    n = len(one["tau_m"])
    resistance = one["tau_m"] / one["C_m"]
    neuron = esn.LIF(
        one["tau_m"],
        one["tau_syn"],
        threshold=one["V_th"] - NEST["e_l"],
        v_reset=one["V_reset"] - NEST["e_l"],
        bias=resistance * one["I_e"],
        v_init=jnp.zeros(n),
    )
    return esn.EventNetwork(
        esn.Refractory(neuron, one["t_ref"]),
        one["weights"] * resistance,
        one["weights"] != 0,
        delays=one["delays"],
        outputs=range(n),
        t_max=float(NEST["t_max"]),
        max_events=LONGEST + NEST["in_times"][0].size,
        max_steps=20_000,
        queue_capacity=256,
    )


@pytest.mark.parametrize("k", range(NETWORKS))
def test_spikes_are_those_of_nest(k):
    one = {name: NEST[name][k] for name in NAMES}
    times, sources = events_of(network(one), NEST["in_times"][k])
    spikes = sources < len(one["tau_m"])
    count = int(np.sum(NEST["sources"][k] >= 0))
    np.testing.assert_array_equal(sources[spikes], NEST["sources"][k][:count])
    np.testing.assert_allclose(times[spikes], NEST["times"][k][:count], rtol=0, atol=1e-10)
