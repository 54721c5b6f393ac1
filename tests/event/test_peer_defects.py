"""Defects of eventax 0.1.0, tested on eventsnn; `docs/eventax.md` describes the cases.

Most cases are covered by other test files and are not repeated here:

- ties, and their gradients: `test_ties.py`
  (`test_two_identical_neurons_that_inhibit_each_other_both_fire`, `test_a_tie_by_any_solver`,
  `test_gradients_of_an_uncoupled_tie`);
- a peak between two steps: `test_spike_times.py` (`test_a_peak_between_two_far_inputs`),
  `test_flows.py` (`test_coarse_steps_do_not_lose_a_double_crossing`);
- accuracy with default settings: `test_spike_times.py` (`test_every_spike`,
  `test_qif_closed_form`);
- gradients with respect to thresholds and time constants: `test_gradients.py`
  (`test_eventprop_is_central_differences`, also `..._for_any_solver`);
- potentials in the given order: `test_spike_times.py`
  (`test_potentials_in_the_order_of_the_given_times`);
- times beyond the horizon, input times that are NaN, -inf or negative: `test_inputs.py`
  (`test_observation_times_refused`, `test_input_times_refused`, `test_status_of_input_under_jit`);
- a sample over the limit, a truncated record: `test_inputs.py`
  (`test_a_sample_over_max_events`, `test_errors_name_the_number_of_samples_and_the_limit`);
- weights that are NaN: `test_inputs.py` (`test_weights_that_are_not_finite_are_reported`);
- recompilation for a new model: `test_batching.py` (`test_a_second_model_does_not_retrace`);
- an arrival that pushes a neuron over its threshold: `test_delta_synapses.py`
  (`test_a_neuron_pushed_over_its_threshold_fires_at_the_arrival`);
- the end of a refractory period: `test_neurons_compound.py`
  (`test_current_builds_up_in_the_refractory_period`);
- gradients with delays, and of synapses excluded by a mask: `test_delays.py`
  (`test_times_and_gradients_are_those_of_the_reference`).

The other cases follow. With tau_mem = 2 tau_syn and no bias, after arrivals of weight w at times s
the membrane potential is V = A x - B x^2 in x = exp(-t/tau), A the sum of w exp(s/tau) and B that
of w exp(2 s/tau).
"""

import io
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn
from helpers.jitted import potentials_at, spikes

TAU, T_MAX = 10.0, 60.0


def crossing(weights, times):
    """First crossing of the threshold 1 after all arrivals, and its derivatives by the arrival
    times."""
    e = np.exp(np.asarray(times) / TAU)
    a, b = np.sum(weights * e), np.sum(weights * e**2)
    x = (a + np.sqrt(a**2 - 4 * b)) / (2 * b)
    speed = (2 * b * x**2 - a * x) / TAU
    return -TAU * np.log(x), -weights * (e * x - 2 * (e * x) ** 2) / TAU / speed


def lif_net(weights, *, tau=TAU, bias: Any = 0.0, **options):
    neuron, n = esn.LIF(tau, tau / 2, bias=bias), np.shape(weights)[1]
    return esn.EventNetwork(neuron, weights, outputs=range(n), t_max=T_MAX, **options)


def test_an_input_after_a_spike_has_no_influence_on_it():
    """Channel 0 makes neuron 0 fire, which makes neuron 1 fire; channel 1 spikes before or after
    that. Neuron 2 fires last, so the late input is in the record."""
    drive, link, late = 6.0, 5.0, 3.0
    weights = np.zeros((5, 3))
    weights[0, 1], weights[3, 0], weights[4, 1], weights[4, 2] = link, drive, late, drive
    net = lif_net(weights)

    @jax.jit
    def run(in_times):
        first, transpose = jax.vjp(net.ttfs, in_times)
        return first, transpose(jnp.array([0.0, 1.0, 0.0]))[0][:, 0]

    start, _ = crossing(np.array([drive]), [1.0])
    alone, _ = crossing(np.array([link]), [start])
    first, slope = run(jnp.array([[1.0], [20.0]]))
    assert 20.0 < first[2] < np.inf
    np.testing.assert_allclose(first[:2], [start, alone], rtol=1e-13)
    np.testing.assert_allclose(slope, [1.0, 0.0], rtol=0, atol=1e-13)

    both, by_times = crossing(np.array([link, late]), [start, 5.0])
    first, slope = run(jnp.array([[1.0], [5.0]]))
    assert start < 5.0 < both < alone
    np.testing.assert_allclose(first[1], both, rtol=1e-13)
    np.testing.assert_allclose(slope, by_times, rtol=1e-11)


def test_without_a_mask_every_channel_reaches_every_neuron():
    """Also if the numbers of channels and of neurons differ."""
    drive = 5.0 + np.arange(6.0).reshape(3, 2)
    net = lif_net(np.concatenate([np.zeros((2, 2)), drive]), bias=np.zeros(2))
    one_at_a_time = jnp.where(jnp.eye(3, dtype=bool), 1.0, jnp.inf)[..., None]
    expected = [[crossing(np.array([w]), [1.0])[0] for w in row] for row in drive]
    np.testing.assert_allclose(spikes(net, one_at_a_time, 3)[..., 0], expected, rtol=1e-13)


def test_each_output_has_its_own_count():
    """The fast neuron fires twelve times before the slow one has fired three times."""
    bias = np.array([1.05, 2.0])
    period = TAU / 2 * np.log(bias / (bias - 1))
    assert period[0] > 4 * period[1]
    net = lif_net(np.zeros((5, 2)), tau=TAU / 2, bias=bias)
    expected = np.outer(period, np.arange(1, 4))
    silent = jnp.full((3, 3, 1), jnp.inf)  # same shape as above, so already compiled
    for found in spikes(net, silent, 3):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_time_after_t_max_raises():
    """In compiled code the times cannot be checked; the results at valid times are returned."""
    net = lif_net([[0.0], [3.0]])
    times = jnp.array([T_MAX + 1e-6, 9.0, T_MAX])
    x = np.exp(-(np.asarray(times) - 1.0) / TAU)
    v = potentials_at(net, jnp.ones((1, 1)), times)[0]
    np.testing.assert_array_equal(np.isnan(v), [True, False, False])
    np.testing.assert_allclose(v[1:], (3 * (x - x**2))[1:], rtol=1e-12)


def test_a_saved_network_is_the_same_when_loaded():
    """The file holds every number; the solver is part of the code that builds the network."""

    def build(weight, tau):
        solver = {"solver": dfx.Tsit5(), "dt0": 0.5}
        return lif_net([[0.0], [weight]], tau=tau, bias=tau / 100, max_steps=300, **solver)

    net, template, file = build(8.0, 9.0), build(1.0, 5.0), io.BytesIO()
    eqx.tree_serialise_leaves(file, net)
    file.seek(0)
    assert not eqx.tree_equal(template, net)
    assert eqx.tree_equal(eqx.tree_deserialise_leaves(file, template), net)
