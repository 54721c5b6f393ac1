"""Long simulations in float32 without drift: spikes, delays, arrivals and readouts.

The references are closed forms in float64 with the parameters as rounded to float32.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.jitted import potentials_at, simulate

T_MAX = 1e5


def single(x):
    """Value of a parameter in the simulation: the value in float32, in float64."""
    return np.float64(np.float32(x))


def rounding(times):
    """Half a unit in the last place of the times as returned in float32."""
    return np.spacing(np.asarray(times, np.float32)).astype(float) / 2


def lif_period(tau, bias, threshold=1.0, v_reset=0.0):
    return single(tau) * np.log1p(
        (single(threshold) - single(v_reset)) / (single(bias) - single(threshold))
    )


def lif(tau, bias, **options):
    return esn.LIF(tau, 5.0, bias=bias, **options), lif_period(tau, bias), None


def with_reset(tau, bias):
    neuron = esn.LIF(tau, 5.0, bias=bias, threshold=0.9, v_reset=-0.4)
    return neuron, lif_period(tau, bias, 0.9, -0.4), None


def refractory_with_reset(tau, bias):
    neuron, period, _ = with_reset(tau, bias)
    return esn.Refractory(neuron, 2.3), period + single(2.3), period


def refractory(tau, bias):
    period = lif_period(tau, bias)
    neuron = esn.Refractory(esn.LIF(tau, 5.0, bias=bias), 2.3)
    return neuron, period + single(2.3), period


def mixture(tau, bias):
    return esn.Populations([(esn.LIF(tau, 5.0, bias=bias), 1)]), lif_period(tau, bias), None


def theta(tau, bias):
    half = single(tau) * np.pi / np.sqrt(single(bias) - 0.25) / 2
    return esn.Theta(tau, bias, v_init=0.5), 2 * half, half


def qif(tau, bias):
    half = single(tau) * np.pi / np.sqrt(single(bias) - 0.25) / 2
    return esn.QIF(tau, 5.0, bias=bias, v_init=0.5), 2 * half, half


def in_float32(neuron, weights=((0.0,),), **options):
    weights = jnp.asarray(weights, jnp.float32)
    return esn.EventNetwork(neuron, weights, **{"outputs": (0,), "t_max": T_MAX, **options})


NO_INPUT = np.zeros((0, 1), np.float32)
SUBTRACT = lambda *args: lif(*args, reset_mode="subtract")  # noqa: E731


@pytest.mark.parametrize(
    ("make", "tolerance"),
    # The state of a QIF neuron is rounded in each segment, to 6e-8 of the elapsed time.
    [
        pytest.param(lif, 3e-4, id="lif"),
        pytest.param(SUBTRACT, 3e-4, id="subtract"),
        pytest.param(with_reset, 3e-4, id="reset"),
        pytest.param(refractory, 3e-4, id="refractory"),
        pytest.param(mixture, 3e-4, id="mixture"),
        pytest.param(theta, 3e-4, id="theta"),
        pytest.param(qif, 6e-3, id="qif"),
    ],
)
def test_regular_firing_for_1e5_ms(make, tolerance):
    for tau, bias in [(9.0, 1.7), (13.7, 1.5), (7.0, 3.3)]:
        neuron, period, first = make(tau, bias)
        true = np.arange(period if first is None else first, T_MAX, period)
        sol = simulate(in_float32(neuron, max_events=40_000, max_steps=100_000), NO_INPUT)
        assert sol.status == esn.Status.completed
        times = np.asarray(sol.times, float)[np.asarray(sol.sources) == 0]
        assert len(times) == len(true)
        assert np.max(np.abs(times - true) - rounding(true)) < tolerance


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        pytest.param(lif, 0, id="lif"),
        pytest.param(lif, 2000, id="lif-inputs"),
        pytest.param(SUBTRACT, 0, id="subtract"),
        pytest.param(refractory_with_reset, 0, id="refractory"),
        pytest.param(theta, 0, id="theta"),
        pytest.param(qif, 0, id="qif"),
    ],
)
def test_regular_firing_among_other_neurons(make, inputs):
    """Six unconnected neurons fire for 1e5 ms; only the first one receives the inputs.

    Events of the other neurons and inputs end segments, and each segment rounds the states. The
    errors are therefore larger than those of a single neuron: up to 6e-8 of the time.
    """
    rng = np.random.default_rng(0)
    taus, biases = rng.uniform(7.0, 25.0, 6), rng.uniform(1.3, 3.0, 6)
    neuron, period, first = make(taus, biases)
    weights = np.zeros((7, 6), np.float32)
    weights[6, 0] = 0.3
    given = np.sort(rng.uniform(0.0, T_MAX, (1, inputs)).astype(np.float32))
    size = {"outputs": range(6), "max_events": 200_000, "max_steps": 400_000}
    net = in_float32(neuron, weights, **size)
    sol = simulate(net, given)
    assert sol.status == esn.Status.completed
    times, sources = np.asarray(sol.times, float), np.asarray(sol.sources)
    for k in range(1 if inputs else 0, 6):
        start = period[k] if first is None else first[k]
        true = np.arange(start, T_MAX, period[k])
        found = times[sources == k]
        assert len(found) == len(true)
        assert np.max(np.abs(found - true) - rounding(true)) < 6e-8 * T_MAX


def test_delays_do_not_drift():
    """A second neuron responds to each spike of the first with one spike, after a delay. Once both
    have the same rhythm, each response follows its cause after a constant time."""
    net = in_float32(
        esn.LIF(jnp.array([9.0, 10.0]), jnp.array([5.0, 1.0]), bias=jnp.array([1.7, 0.0])),
        [[0.0, 14.0], [0.0, 0.0]],
        delays=jnp.asarray([[0.0, 1.7], [0.0, 0.0]], jnp.float32),
        t_max=2e4,
        max_events=6000,
        max_steps=40_000,
    )
    sol = simulate(net, NO_INPUT)
    times, sources = np.asarray(sol.times, float), np.asarray(sol.sources)
    period = lif_period(9.0, 1.7)
    true = np.arange(period, 2e4, period)
    sender, receiver = times[sources == 0], times[sources == 1]
    assert len(sender) == len(true)
    assert np.max(np.abs(sender - true) - rounding(true)) < 1e-3
    assert len(sender) - 1 <= len(receiver) <= len(sender)
    lag = (receiver - sender[: len(receiver)])[100:]
    assert 1.7 < lag[0] < 1.7 + period
    assert np.ptp(lag) < 1e-4 + 2 * rounding(2e4)


def test_arrivals_and_readouts_do_not_drift():
    """Inputs are exact floats: after 10^4 ms of the neuron's own spikes, the potential caused by an
    input has the correct value, V = b (1 - e^{-t/tau}) since the last spike."""
    tau, bias, period = 9.0, 1.7, lif_period(9.0, 1.7)
    net = in_float32(esn.LIF(tau, 5.0, bias=bias), t_max=2e4, max_events=3000)
    times = np.asarray(np.linspace(1.9e4, 1.99e4, 7), np.float32)
    shown = np.asarray(potentials_at(net, NO_INPUT, jnp.asarray(times)), float)[0]
    since = times.astype(float) % period
    true = single(bias) * -np.expm1(-since / tau)
    # 1e-3 ms correspond to at most this fraction of the potential.
    np.testing.assert_allclose(shown, true, atol=1e-3 * single(bias) / tau + 1e-6)
