"""Every spike of every neuron against the reference, and closed forms where they exist."""

import decimal
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers import reference as ref
from helpers.jitted import events_of, potentials_at, spikes, ttfs
from helpers.registry import (
    EXACT,
    LIF_SET,
    MASK,
    MODELS,
    N_IN,
    QIF,
    RATIOS,
    N,
    network,
    problem,
    reference,
)

OUTPUTS = (3, 0, 5)


def case_of(model):
    return next(case for case in EXACT if case.model is model)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_every_spike(model, ratio):
    case = case_of(model)
    for seed in (0, 1):
        params = problem(model, seed, RATIOS[ratio])
        record = reference(model, params)
        assert np.unique(record.sources[record.sources < N]).size >= 4
        assert max(record.spikes(i).size for i in range(N)) >= 4
        net = network(case, params, max_steps=1500)  # static: the same for all time constants
        times, sources = events_of(net, params["in_times"])
        np.testing.assert_array_equal(sources, record.sources)
        np.testing.assert_allclose(times, record.times, rtol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_time_constants_per_neuron(model):
    rng = np.random.default_rng(5)
    params = problem(model, 3, rng.uniform(0.3, 4.0, N), tau_mem=rng.uniform(5.0, 25.0, N))
    record = reference(model, params)
    times, sources = events_of(network(case_of(model), params), params["in_times"])
    np.testing.assert_array_equal(sources, record.sources)
    np.testing.assert_allclose(times, record.times, rtol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_potentials_in_the_order_of_the_given_times(model):
    params = problem(model, 0)
    query = np.array([17.0, 3.0, 49.0, 0.5, 31.0, 17.0])
    record = reference(model, params, query=query)
    assert record.times.size > 20
    net = network(case_of(model), params, outputs=OUTPUTS)
    v = potentials_at(net, jnp.asarray(params["in_times"]), jnp.asarray(query))
    expected = record.seen[list(OUTPUTS)]
    if model is QIF:  # V passes through infinity; its phase does not
        v, expected = np.arctan(v / np.pi), np.arctan(expected / np.pi)
    np.testing.assert_allclose(v, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_spikes_and_first_spikes_equal_the_reference(model):
    params = problem(model, 1)
    record = reference(model, params)
    net = network(case_of(model), params, outputs=OUTPUTS)
    expected = np.full((3, 4), np.inf)
    for row, i in zip(expected, OUTPUTS, strict=True):
        found = record.spikes(i)[:4]
        row[: found.size] = found
    in_times = jnp.asarray(params["in_times"])
    np.testing.assert_allclose(spikes(net, in_times, 4), expected, rtol=1e-9)
    np.testing.assert_allclose(ttfs(net, in_times), expected[:, 0], rtol=1e-9)


@pytest.mark.parametrize("model", [LIF_SET, QIF], ids=lambda m: m.name)
def test_uncoupled_neurons_do_not_influence_each_other(model):
    """The first of many neurons is found in hundreds of draws, which include difficult cases.

    Inhibition at time 0 lowers the potentials before a drive above threshold raises them, which
    misleads a guess of the crossing.
    """
    draws, rng = 500, np.random.default_rng(0)
    neurons = {
        "tau_mem": 10 ** rng.uniform(0.0, 1.5, (draws, N)),
        "tau_syn": 10 ** rng.uniform(-1.0, 1.0, (draws, N)),
        "bias": rng.uniform(1.25, 2.0, (draws, N)),
        "v_init": rng.uniform(-0.3, 0.7, (draws, N)),
    }
    inhibition = -(10 ** rng.uniform(-0.5, 1.0, (draws, N)))

    @eqx.filter_jit
    @eqx.filter_vmap
    def run(neurons, inhibition):
        n = inhibition.size
        net = esn.EventNetwork(
            neuron=model.neuron(**neurons),
            weights=jnp.concatenate([jnp.zeros((n, n)), inhibition[None]]),
            outputs=tuple(range(n)),
            t_max=30.0,
            max_events=300,
            max_steps=3000,
        )
        return net.simulate(jnp.zeros((1, 1)), throw=False)

    together = run(neurons, inhibition)
    assert np.all(together.status == esn.Status.completed)
    each = {k: v.reshape(-1, 1) for k, v in neurons.items()}
    alone = run(each, inhibition.reshape(-1, 1))
    assert np.all(alone.status == esn.Status.completed)
    assert np.sum(alone.stats["spikes"]) > 2 * draws * N
    times, sources = np.asarray(together.times), np.asarray(together.sources)
    times_alone, sources_alone = np.asarray(alone.times), np.asarray(alone.sources)
    for k in range(draws * N):
        found = times[k // N][sources[k // N] == k % N]
        np.testing.assert_allclose(found, times_alone[k][sources_alone[k] == 0], rtol=1e-9)


def test_a_silent_neuron_is_inf():
    params = problem(LIF_SET, 0)
    params["bias"] = np.array([0.0, 0.0, 0.0, 1.5, 0.0, 0.0])
    params["weights"] = np.zeros_like(params["weights"])
    net, in_times = network(EXACT[0], params, outputs=OUTPUTS), jnp.asarray(params["in_times"])
    first, all_spikes = ttfs(net, in_times), spikes(net, in_times, 4)
    assert np.isfinite(first[0]) and np.all(np.isposinf(first[1:]))
    assert np.all(np.isfinite(all_spikes[0, :3])) and np.all(np.isposinf(all_spikes[1:]))


# One LIF neuron with tau_mem = 2 tau_syn: after an input of weight w the potential is
# V = w (x - x^2) in x = exp(-t/tau_mem), which peaks at w/4.
TAU = 10.0


def one_lif(weights, tau_mem=TAU, tau_syn=TAU / 2, **neuron):
    """One neuron with two input channels."""
    return esn.EventNetwork(
        neuron=esn.LIF(tau_mem, tau_syn, **neuron),
        weights=np.array([[0.0], [weights[0]], [weights[1]]]),
        outputs=(0,),
        t_max=500.0,
        max_events=30,
    )


@pytest.mark.parametrize("excess", [0.5, 1e-3, 1e-6, 1e-9, 1e-12, -1e-12, -1e-9, -1e-6, -1e-3])
def test_a_peak_between_two_far_inputs(excess):
    # The potential is far below threshold at both ends of a long interval and above it in between.
    w = 4 * (1 + excess)
    net = one_lif((w, -w), v_reset=-50.0, v_init=0.0)
    times, sources = events_of(net, [[1.0], [400.0]])
    if excess < 0:
        assert sources.tolist() == [1, 2]
        return
    x = (1 + np.sqrt(excess / (1 + excess))) / 2
    assert sources.tolist() == [1, 0, 2]
    # An error of 1 ulp in V moves a grazing crossing by sqrt(ulp), also in the closed form.
    np.testing.assert_allclose(
        times[1] - 1.0, -TAU * np.log(x), rtol=max(1e-12, 1e-15 / np.sqrt(excess))
    )


CROSSING = -TAU * np.log((1 + np.sqrt(0.5)) / 2)  # after an input of weight 8


@pytest.mark.parametrize("shift", [1e-6, -1e-6])
def test_a_crossing_at_the_end_of_an_interval(shift):
    # V reaches threshold just before an inhibitory arrival, or would reach it just after.
    net = one_lif((8.0, -8.0), v_reset=-50.0, v_init=0.0)
    times, sources = events_of(net, [[0.0], [CROSSING + shift]])
    assert sources.tolist() == ([1, 0, 2] if shift > 0 else [1, 2])
    if shift > 0:
        np.testing.assert_allclose(times[1], CROSSING, rtol=1e-13)


@pytest.mark.parametrize("shift", [1e-6, -1e-6])
def test_t_max_includes_what_is_before_it(shift):
    tau = TAU * (500.0 - shift) / CROSSING  # so slow that it crosses `shift` before t_max
    net = one_lif((8.0, -8.0), tau, tau / 2, v_reset=-50.0, v_init=0.0)
    _, sources = events_of(net, [[0.0], [np.inf]])
    assert sources.tolist() == ([1, 0] if shift > 0 else [1])


def test_a_dip_below_and_back():
    # A drive above threshold and an inhibition that lowers V: it rises again and crosses later.
    neuron: dict[str, Any] = {"tau_mem": 15.0, "tau_syn": 3.0, "bias": 1.05}
    in_times = np.array([[40.0], [400.0]])
    net = one_lif((-0.5, -3.0), **neuron)
    record = ref.simulate(ref.LIF(**neuron), net.weights, in_times, 500.0)
    times, sources = events_of(net, in_times)
    assert record.sources[0] == 1 and (record.sources == 0).sum() >= 5
    np.testing.assert_array_equal(sources, record.sources)
    np.testing.assert_allclose(times, record.times, rtol=1e-10)


@pytest.mark.parametrize(
    "ratio", [1 + 1e-4, 1 + 1e-7, 1 + 1e-12, 1.0, 1 - 1e-12, 1 - 1e-7, 1 - 1e-4]
)
def test_lif_is_accurate_near_equal_time_constants(ratio):
    t, tau_syn = 7.0, TAU * ratio
    net = one_lif((1.0, 0.0), TAU, tau_syn)
    with decimal.localcontext(prec=60):
        z, s = (decimal.Decimal(t) / decimal.Decimal(tau) for tau in (TAU, tau_syn))
        # V = tau_syn (exp(-t/tau_syn) - exp(-t/tau_mem)) / (tau_syn - tau_mem)
        expected = z * (-z).exp() if z == s else ((-s).exp() - (-z).exp()) / (1 / s - 1 / z) / s
    v = potentials_at(net, jnp.array([[0.0], [jnp.inf]]), jnp.array([t]))
    np.testing.assert_allclose(v, [[float(expected)]], rtol=1e-13)


def test_qif_closed_form():
    # tau_mem = 2 tau_syn, no bias: V = x sqrt(w) tan(sqrt(w) (1 - x)) in x = exp(-t/tau_mem).
    tau, w = 20.0, 60.0
    net = esn.EventNetwork(
        neuron=esn.QIF(tau, tau / 2),
        weights=np.array([[0.0], [w]]),
        outputs=(0,),
        t_max=80.0,
        max_events=10,
    )
    found = spikes(net, jnp.array([[3.0]]), 4)
    expected = [3.0 - tau * np.log(1 - (k + 0.5) * np.pi / np.sqrt(w)) for k in range(2)]
    np.testing.assert_allclose(found, [expected + [np.inf] * 2], rtol=1e-11)
    t = np.array([40.0, 4.0, 3.125])
    x = np.exp(-(t - 3.0) / tau)
    v = x * np.sqrt(w) * np.tan(np.sqrt(w) * (1 - x))
    np.testing.assert_allclose(
        potentials_at(net, jnp.array([[3.0]]), jnp.asarray(t)), [v], rtol=1e-10
    )


def test_masked_weights_do_not_act():
    # The same masked problem as a dense one with zeros; every masked entry is large.
    params = problem(LIF_SET, 2)
    hidden = {**params, "weights": np.where(MASK, params["weights"], 1e3)}
    dense = {**params, "weights": np.where(MASK, params["weights"], 0.0)}
    a = events_of(network(EXACT[0], hidden), params["in_times"])
    b = events_of(network(EXACT[0], dense, mask=np.ones((N + N_IN, N), bool)), params["in_times"])
    np.testing.assert_array_equal(a[1], b[1])
    np.testing.assert_allclose(a[0], b[0], rtol=1e-14)
