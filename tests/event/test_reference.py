"""The reference simulator, on the cases that have a closed form."""

import numpy as np
import pytest

from helpers import reference as ref

NONE = np.zeros((0, 0))


def _input(w):
    return np.array([[0.0], [w]])


def test_lif_constant_drive():
    tau, bias = 10.0, 1.3
    record = ref.simulate(ref.LIF(tau, 5.0, bias=bias), np.zeros((1, 1)), NONE, 60.0)
    period = tau * np.log(bias / (bias - 1))
    expected = period * np.arange(1, int(60 / period) + 1)
    assert expected.size == 4
    np.testing.assert_allclose(record.times, expected, rtol=1e-11)


@pytest.mark.parametrize("excess", [1.0, 1e-2, 1e-6, -1e-6])
def test_lif_peak(excess):
    # With tau_mem = 2 tau_syn, V = w (x - x^2) in x = exp(-t/tau_mem), which peaks at w/4.
    tau, w = 10.0, 4 * (1 + excess)
    record = ref.simulate(
        ref.LIF(tau, tau / 2, v_reset=-9.0, v_init=0.0), _input(w), [[2.0]], 50.0, max_step=np.inf
    )
    if excess < 0:
        assert record.spikes(0).size == 0
    else:
        x = (1 + np.sqrt(1 - 4 / w)) / 2
        np.testing.assert_allclose(record.spikes(0), [2.0 - tau * np.log(x)], rtol=1e-10)


def test_lif_subtract_and_query():
    tau = 10.0
    model = ref.LIF(tau, 5.0, bias=1.5, threshold=0.5, reset_mode="subtract", v_reset=-0.4)
    first = tau * np.log(1.9 / 1.0)
    again = tau * np.log(1.5 / 1.0)
    record = ref.simulate(model, np.zeros((1, 1)), NONE, 20.0, query=(5.0, 1.0, first + 1.0))
    np.testing.assert_allclose(
        record.times, first + again * np.arange(record.times.size), rtol=1e-11
    )
    v = [1.5 - 1.9 * np.exp(-0.5), 1.5 - 1.9 * np.exp(-0.1), 1.5 - 1.5 * np.exp(-0.1)]
    np.testing.assert_allclose(record.seen, [v], rtol=1e-11)


def test_qif_constant_drive():
    tau, bias = 20.0, 1.0
    omega = np.sqrt(bias - 0.25)
    record = ref.simulate(ref.QIF(tau, 5.0, bias=bias), np.zeros((1, 1)), NONE, 240.0)
    first = tau / omega * (np.pi / 2 + np.arctan(0.5 / omega))
    expected = first + tau * np.pi / omega * np.arange(record.times.size)
    assert expected.size == 3
    np.testing.assert_allclose(record.times, expected, rtol=1e-11)


def test_qif_one_input():
    # tau_mem = 2 tau_syn, no bias: V = x sqrt(w) tan(sqrt(w) (1 - x)) in x = exp(-t/tau_mem).
    tau, w = 20.0, 60.0
    record = ref.simulate(ref.QIF(tau, tau / 2), _input(w), [[0.0]], 80.0, query=(1.0, 40.0))
    expected = [-tau * np.log(1 - (k + 0.5) * np.pi / np.sqrt(w)) for k in range(2)]
    np.testing.assert_allclose(record.spikes(0), expected, rtol=1e-11)
    x = np.exp(-np.array([1.0, 40.0]) / tau)
    np.testing.assert_allclose(
        record.seen[0], x * np.sqrt(w) * np.tan(np.sqrt(w) * (1 - x)), rtol=1e-9
    )


def test_order_of_record_and_mask():
    weights = np.array([[0.0, 30.0], [0.0, 0.0], [30.0, 30.0]])
    mask = np.array([[False, True], [False, False], [True, False]])
    record = ref.simulate(ref.LIF(10.0, 5.0), weights, [[5.0, np.inf, 1.0, 99.0]], 8.0, mask=mask)
    assert np.all(np.diff(record.times) >= 0)
    assert record.sources[:2].tolist() == [2, 0] and set(record.sources) == {0, 1, 2}
    assert np.array_equal(record.times[record.sources == 2], [1.0, 5.0])
    assert record.spikes(1)[0] > record.spikes(0)[0]  # neuron 1 receives input only from neuron 0
