"""Composed neurons: several models in one network, and refractory periods.

test_neurons.py checks their general properties; this file checks their specific ones.
"""

import functools as ft

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.flows import PopulationsFlow, RefractoryFlow, RefractoryLaneFlow
from helpers.delta_lif import DeltaLIF
from helpers.registry import (
    FLOWS,
    LIF_SET,
    MIXTURE,
    QIF,
    REFRACTORY_LIF,
    REFRACTORY_QIF,
    RK4,
    Case,
    N,
    mask_of,
    network,
    problem,
    quick,
)

SHORT = {"t_max": 30.0, "max_events": 120}
COUNT = 4


def draw(model, seed=5):
    return jax.tree.map(jnp.asarray, problem(model, seed, ratio=1.7, until=20.0))


def spikes_and_grads(neuron_of, params, weights, in_times):
    """Spikes of the network, and the gradients of a functional of the spikes."""

    def loss(params, weights):
        net = esn.EventNetwork(
            neuron_of(params), weights, mask=mask_of(LIF_SET), outputs=range(N), **SHORT
        )
        times = net.spikes(in_times, COUNT)
        return jnp.sum(jnp.where(jnp.isfinite(times), jnp.sin(times), 0.0)), times

    run = quick(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, times), grads = run(params, weights)
    assert np.isfinite(times).sum() > 2 * N
    return times, grads


def same(a, b):
    jax.tree.map(ft.partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-13), a, b)


def split(params):
    params = dict(params)
    return params, params.pop("weights"), params.pop("in_times")


# ------------------------------------------------------------------ refractory periods


@pytest.mark.parametrize("model", [LIF_SET, QIF], ids=lambda model: model.name)
def test_a_refractory_period_of_zero_changes_nothing(model):
    params, weights, in_times = split(draw(model))
    plain = spikes_and_grads(lambda p: model.neuron(**p), params, weights, in_times)
    rested = spikes_and_grads(
        lambda p: esn.Refractory(model.neuron(**p), 0.0), params, weights, in_times
    )
    same(rested, plain)


def test_no_two_spikes_are_closer_than_the_period():
    params = draw(REFRACTORY_LIF)
    params["bias"] = params["bias"] + 100.0  # without the period they would fire much more often
    net = network(Case(REFRACTORY_LIF, "exact"), params, t_max=40.0)
    solution = quick(lambda x: net.simulate(x))(params["in_times"])
    for i in range(N):
        gaps = np.diff(solution.times[solution.sources == i])
        assert gaps.size > 5
        assert np.min(gaps) > params["period"][i] and np.min(gaps) < 1.3 * params["period"][i]


def test_current_builds_up_in_the_refractory_period():
    """With tau_mem = 2 tau_syn, V = w (x - x^2) in x = exp(-t/tau_mem) after a current of w."""
    tau, period, weight, arrivals = 10.0, 4.0, 12.0, np.array([1.0, 3.0])
    net = esn.EventNetwork(
        esn.Refractory(esn.LIF(tau, tau / 2, v_reset=-1e-9, v_init=0.0), period),
        jnp.array([[0.0], [weight]]),
        outputs=(0,),
        t_max=40.0,
        max_events=8,
    )
    simulate = quick(lambda x: (net.simulate(x), net.potentials_at(x, jnp.array([4.0, 1.5]))))
    solution, seen = simulate(arrivals[None])

    def wait(w):
        return -tau * np.log((1 + np.sqrt(1 - 4 / w)) / 2)

    first = 1.0 + wait(weight)
    until = first + period
    left = np.sum(weight * np.exp(-(until - arrivals) / (tau / 2)))
    times = solution.times[solution.sources == 0]
    assert arrivals[0] < first < arrivals[1] < until
    np.testing.assert_allclose(times[:2], [first, until + wait(left)], rtol=1e-8)
    np.testing.assert_allclose(seen[0, 0], -1e-9)  # V is held
    assert 0 < seen[0, 1] < 1


class Delta(DeltaLIF, esn.AbstractClampable):
    """Neuron whose membrane potential is incremented by arrivals, also while it is held."""

    def advance_clamped(self, s, dt):
        return s


PULSES = {
    "tau": np.array([10.0, 12.0, 8.0]),
    "bias": np.array([0.9, 1.4, 0.3]),
    "period": np.array([3.0, 4.0, 5.0]),
    "weights": np.array(
        [[0, 0.3, 0], [0.2, 0, 0.4], [0, 0.3, 0], [0.9, 0.5, 0.2], [0.3, 0.6, 0.7]]
    ),
    "in_times": np.array([[2.0, 4.5, 9.1, 15.0], [2.5, 5.3, 9.7, 21.0]]),
}
DELAYED = PULSES | {"delays": np.array([1.5, 0.7, 2.2, 0.3, 1.0])}


def fires_by_reference(tau, bias, period, weights, in_times, delays, t_max):
    """Pulse-coupled neurons, simulated from event to event. Neurons above threshold at the end of
    their refractory period fire."""
    v, rests, n = np.zeros(len(tau)), np.full(len(tau), -np.inf), len(tau)
    coming = [(t + delays[n + c], n + c) for c, train in enumerate(in_times) for t in train]
    now, fired = 0.0, []
    while True:
        # V reaches 1 after tau log((b - V) / (b - 1)), counted from the end of the refractory
        # period.
        with np.errstate(divide="ignore", invalid="ignore"):
            climb = np.where(v >= 1, 0.0, tau * np.log((bias - v) / (bias - 1)))
        climb = np.where((v < 1) & (bias <= 1), np.inf, climb)
        due = np.maximum(rests, now) + climb
        first, arrival = int(np.argmin(due)), min(coming, default=(np.inf, 0))
        then = min(due[first], arrival[0])
        if then > t_max:
            return fired
        moved = np.maximum(then - np.maximum(rests, now), 0.0)
        v, now = bias + (v - bias) * np.exp(-moved / tau), then
        if due[first] <= arrival[0]:
            v[first], rests[first] = 0.0, now + period[first]
            fired.append((now, first))
            coming.append((now + delays[first], first))
        else:
            coming.remove(arrival)
            v = v + weights[arrival[1]]


@pytest.mark.parametrize("point", [PULSES, DELAYED], ids=["at once", "delays"])
def test_a_pulse_in_the_refractory_period_causes_a_spike_at_its_end(point):
    """The spike time is the end of the period and depends on the period, not on the pulse."""
    delays, t_max = point.get("delays", np.zeros(5)), 40.0
    fired = fires_by_reference(*(point[k] for k in PULSES), delays, t_max)
    arrays = {"threshold": jnp.ones(3)} | jax.tree.map(jnp.asarray, point)

    def loss(p):
        net = esn.EventNetwork(
            esn.Refractory(Delta(p["tau"], p["bias"], p["threshold"]), p["period"]),
            p["weights"],
            outputs=range(3),
            t_max=t_max,
            delays=p.get("delays"),
            max_events=60,
            max_steps=600,
            solver=esn.ODEFlow(RK4(), dt0=0.1, nodes=1),
        )
        times = net.spikes(p["in_times"], 8, throw=False)
        return jnp.sum(jnp.where(jnp.isfinite(times), jnp.sin(times), 0.0)), times

    run = quick(jax.value_and_grad(loss, has_aux=True))
    (_, times), grads = run(arrays)
    for i, train in enumerate(times):
        expected = [t for t, j in fired if j == i]
        np.testing.assert_allclose(train[: len(expected)], expected, rtol=1e-9)
        assert np.all(np.isinf(train[len(expected) :]))
    for name, grad in grads.items():
        way = 1e-5 * np.sin(1.0 + np.arange(grad.size)).reshape(grad.shape)
        up, down = (run(arrays | {name: arrays[name] + s * way})[0][0] for s in (1, -1))
        np.testing.assert_allclose(np.vdot(grad, way), (up - down) / 2, rtol=1e-6, atol=1e-13)
    assert np.sum(grads["period"] != 0) >= 2


def recurrent(weights, delays, sparse):
    """Network of three refractory neurons and an input channel."""
    pairs = np.indices(weights.shape).reshape(2, -1)
    sparse_weights = esn.Synapses(*pairs, weights.ravel(), weights.shape, delays.ravel())
    return esn.EventNetwork(
        esn.Refractory(esn.LIF(10.0, 5.0, bias=jnp.array([1.3, 0.9, 1.1])), 2.0),
        sparse_weights if sparse else weights,
        delays=None if sparse else delays,
        outputs=range(3),
        t_max=25.0,
        max_events=100,
        queue_capacity=100,
    )


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_gradients_of_an_arrival_at_the_end_of_the_period(sparse, rng):
    """A neuron's own spike arrives when its period ends, also with other weights."""
    weights = rng.uniform(-0.3, 1.2, (20, 4, 3))
    weights[:, 3] += 1.0
    delays = rng.uniform(0.5, 4.0, (4, 3))
    delays[range(3), range(3)], delays[3] = 2.0, 0.3
    in_times = jnp.array([[0.5, 1.3, 6.1, 9.0]])

    def loss(weights):
        net = recurrent(weights, delays, sparse)
        assert (net.in_rounds) == sparse
        times = net.spikes(in_times, 6)
        times = jnp.where(jnp.isfinite(times), times, 0.0)
        return jnp.sum(jnp.sin(times * jnp.arange(1, 7, dtype=times.dtype))), times

    run = quick(jax.vmap(jax.value_and_grad(loss, has_aux=True)))
    (_, times), grads = run(jnp.asarray(weights))
    assert np.sum(np.sum(times > 0, axis=-1) >= 2) > 40
    way = rng.normal(size=weights.shape)
    up, down = (run(jnp.asarray(weights + s * 1e-6 * way))[0][0] for s in (1, -1))
    found = np.sum(grads * way, axis=(1, 2))
    np.testing.assert_allclose(found, (up - down) / 2e-6, rtol=1e-5, atol=1e-5)


def test_the_derivative_by_a_period_of_zero():
    """The spike of number k in a regular train is k periods later, also if the period is 0."""

    def times(period, layer):
        neuron = esn.Refractory(esn.LIF(10.0, 5.0, bias=2.0), period)
        if layer:
            linear = esn.EventLinear(neuron, jnp.zeros((1, 1)), t_max=30.0, max_spikes=4)
            return linear.spikes(jnp.zeros((1, 1)), 3)
        net = esn.EventNetwork(neuron, jnp.zeros((2, 1)), outputs=[0], t_max=30.0, max_events=9)
        return net.spikes(jnp.zeros((1, 1)), 3)

    found = quick(jax.jacrev(lambda p: [times(p, layer)[0] for layer in (False, True)]))(0.0)
    for of_network in found:
        np.testing.assert_allclose(of_network, [0.0, 1.0, 2.0], rtol=1e-9, atol=1e-12)


def test_a_neuron_at_infinity_spoils_no_gradient():
    """After its reset a QIF neuron is at minus infinity, and stays there during its refractory
    period."""

    def look(bias):
        neuron = esn.Refractory(esn.QIF(10.0, 5.0, bias=bias), 5.0)
        net = esn.EventNetwork(neuron, jnp.zeros((2, 2)), outputs=(0, 1), t_max=60.0)
        rests, moves = net.potentials_at(jnp.zeros((0, 0)), jnp.array([15.0]))[:, 0]
        return moves, rests

    (value, rests), slope = quick(jax.value_and_grad(look, has_aux=True))(jnp.array([2.4, 0.7]))
    assert rests == -np.inf and np.isfinite(value)
    np.testing.assert_allclose(slope[0], 0.0, atol=1e-15)
    assert slope[1] > 0


# ------------------------------------------------------------------ populations


def test_two_parts_of_one_model_are_one_network():
    params, weights, in_times = split(draw(LIF_SET))

    def parts(p):
        halves = [{k: v[s] for k, v in p.items()} for s in (slice(0, 2), slice(2, N))]
        return esn.Populations([(esn.LIF(**half), half["bias"].size) for half in halves])

    plain = spikes_and_grads(lambda p: esn.LIF(**p), params, weights, in_times)
    same(spikes_and_grads(parts, params, weights, in_times), plain)


def flow_of(neuron, **options):
    n = sum(neuron.sizes)
    return esn.EventNetwork(neuron, np.zeros((n, n)), outputs=(0,), t_max=9.0, **options).flow


def test_each_part_has_its_own_flow():
    lif, alif = esn.LIF(10.0, 5.0), esn.ALIF(10.0, 5.0, 20.0, 0.1)
    neuron = esn.Populations([(esn.Refractory(lif, 2.0), 1), (alif, 2), (esn.QIF(9.0, 5.0), 1)])
    rested, ode, qif = flow_of(neuron, dt0=0.1).flows
    assert isinstance(rested, RefractoryLaneFlow) and isinstance(rested.flow, esn.ExactLIF)
    assert isinstance(ode, esn.ODEFlow) and ode.dt0 == 0.1 and isinstance(qif, esn.TaylorQIF)
    rested, *others = flow_of(neuron, solver=dfx.Heun(), dt0=0.1).flows
    assert all(isinstance(flow, esn.ODEFlow) for flow in (rested.flow, *others))
    own = PopulationsFlow((RefractoryFlow(esn.ExactLIF()), ode, ode))
    assert flow_of(neuron, solver=own) is own


# ------------------------------------------------------------------ dtypes, errors


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("model", [MIXTURE, REFRACTORY_QIF], ids=lambda model: model.name)
def test_dtypes(model, dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), draw(model))

    def times(params):
        return network(Case(model, "exact"), params).spikes(params["in_times"], 1)

    assert jax.eval_shape(times, params) == jax.ShapeDtypeStruct((N, 1), dtype)


def net_of(neuron, weights):
    return esn.EventNetwork(neuron, weights, outputs=(0,), t_max=9.0)


LIF = esn.LIF(10.0, 5.0)
MIX = esn.Populations([(LIF, 2), (esn.QIF(10.0, 5.0), 1)])
REFUSED = [
    (lambda: esn.Refractory(LIF, -1.0), "period must be >= 0, got -1"),
    (lambda: esn.Refractory(LIF, [1.0, np.nan]), "period must be >= 0, got .* nan"),
    (
        lambda: esn.Refractory(esn.LeakyIntegrator(10.0, 5.0), 1.0),
        "neuron must be a neuron model that can be clamped .*, got LeakyIntegrator",
    ),
    (lambda: esn.Refractory("LIF", 1.0), "neuron must be a neuron model .*, got 'LIF'"),
    (lambda: esn.Refractory(MIX, 1.0), "that can be clamped .*, got Populations"),
    (lambda: esn.Populations([]), "parts must be .neuron model, size. pairs"),
    (lambda: esn.Populations([("LIF", 2)]), "parts must be .neuron model, size. pairs"),
    (lambda: esn.Populations([(LIF, 0)]), r"parts\[0\]\[1\] must be an integer >= 1, got 0"),
    (lambda: esn.Populations([(LIF, 1.5)]), r"parts\[0\]\[1\] must be an integer >= 1, got 1.5"),
    (
        lambda: esn.Populations([(LIF, 1), (esn.EGRU(9.0, 5.0), 1)]),
        r"the same number of receptors, got \[1, 3\]",
    ),
    (lambda: net_of(MIX, np.zeros((4, 4))), r"parts of 4 neurons in total, .* got 2 \+ 1"),
    (
        lambda: net_of(esn.Populations([(esn.LIF([10.0] * 3, 5.0), 2)]), np.zeros((2, 2))),
        r"tau_mem must be a scalar or have shape \(2,\)",
    ),
    (
        lambda: net_of(esn.Refractory(LIF, [1.0, 2.0]), np.zeros((3, 3))),
        r"period.* must be a scalar or have shape \(3,\)",
    ),
    (lambda: net_of(esn.EGRU(9.0, 5.0), np.zeros((2, 4))), r"shape \(n \+ n_in, 3 n\)"),
    (lambda: net_of(esn.EGRU(9.0, 5.0), np.zeros((1, 6))), r"shape \(n \+ n_in, 3 n\)"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_invalid_parts_are_seen_while_running():
    for case in (Case(FLOWS, "ode"), Case(MIXTURE, "exact")):
        params, *_ = split(draw(case.model))
        assert case.model.neuron(**params).parameters_valid()
    neuron = esn.Populations([(LIF, 1), (esn.Refractory(LIF, 1.0), 1)])
    for where in (lambda m: m.parts[0].tau_mem, lambda m: m.parts[1].period):
        assert not eqx.tree_at(where, neuron, jnp.asarray(-1.0)).parameters_valid()
