"""Neurons that reach threshold at the same time all fire; their jumps add, in any order.

Identical neurons with identical mutual connections stay identical: together they act as one neuron
with a self-connection. The reference simulates that neuron, so it never encounters a tie.
"""

import functools as ft
import itertools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers import reference as ref
from helpers.jitted import events_of
from helpers.registry import LIF_SET, LIF_SUBTRACT, MODELS, QIF

T_MAX = 60.0
IN_TIMES = jnp.array([[1.0, 20.0, jnp.inf], [8.0, 8.0, 3.0]])
ONE_INPUT = jnp.full((2, 3), jnp.inf).at[0, 0].set(1.0)
NEURON = {"tau_mem": 10.0, "tau_syn": 4.0, "bias": 0.3}
DRIVE = {"lif_set": 6.0, "lif_subtract": 6.0, "qif": 40.0}


def net_of(model, weights, bias=NEURON["bias"], **options):
    weights = jnp.asarray(weights)
    n = weights.shape[1]
    return esn.EventNetwork(
        neuron=model.neuron(**{k: jnp.full(n, v) for k, v in (NEURON | {"bias": bias}).items()}),
        weights=weights,
        **{"outputs": tuple(range(n)), "t_max": T_MAX, "max_events": 150, **options},
    )


def trains(net, n):
    times, sources = events_of(net, IN_TIMES)
    assert np.all(np.diff(times) >= 0)
    return [times[sources == i] for i in range(n)]


def tied(model, tied_count, among, to_other, from_other, order):
    """Weights of `tied_count` equal neurons and one other, and of the two neurons that represent
    them."""
    drive = DRIVE[model.name]
    one = np.array(  # rows: the tied neurons, the other, two channels
        [[among, to_other], [from_other, 0.0], [drive, 0.0], [drive / 2, drive / 3]]
    )
    kind = np.array([0] * tied_count + [1])[list(order)]
    weights = one[np.concatenate([kind, [2, 3]])][:, kind]
    weights[: tied_count + 1][kind == 0] /= tied_count  # summed effect of the tied neurons
    weights[: tied_count + 1][np.ix_(kind == 0, kind == 0)] *= tied_count / (tied_count - 1)
    np.fill_diagonal(weights, 0.0)
    return weights, one, kind


@pytest.mark.parametrize("among", [-1.0, 0.4], ids=["inhibiting", "exciting"])
@pytest.mark.parametrize("tied_count", [2, 3])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_all_of_a_tie_fire(model, tied_count, among):
    scale = DRIVE[model.name] / 3
    for order in itertools.islice(itertools.permutations(range(tied_count + 1)), 0, None, 5):
        weights, one, kind = tied(
            model, tied_count, among * scale, 0.5 * scale, -0.2 * scale, order
        )
        record = ref.simulate(model.reference(**NEURON), one, IN_TIMES, T_MAX)
        assert min(record.spikes(i).size for i in range(2)) >= 2
        for i, train in enumerate(trains(net_of(model, weights), tied_count + 1)):
            np.testing.assert_allclose(train, record.spikes(kind[i]), rtol=1e-9)


def mutual_inhibition(model, **options):
    weights = np.array([[0.0, -10.0], [-10.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    return net_of(model, weights * DRIVE[model.name], **options)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_two_identical_neurons_that_inhibit_each_other_both_fire(model):
    # The simplest case; a simulator that fires one neuron per step silences the second neuron.
    times, sources = events_of(mutual_inhibition(model), ONE_INPUT)
    assert sources[0] == 2 and sorted(sources[1:]) == [0, 1]  # then each has silenced the other
    assert times[1] == times[2]


def test_a_tie_by_any_solver(model=LIF_SET):
    ode = mutual_inhibition(model, solver=dfx.Tsit5(), dt0=0.5, max_events=20)
    times, sources = events_of(ode, ONE_INPUT)
    assert sources[0] == 2 and sorted(sources[1:]) == [0, 1]
    assert times[1] == times[2]
    np.testing.assert_allclose(times, events_of(mutual_inhibition(model), ONE_INPUT)[0], rtol=1e-4)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_arrivals_at_one_instant_add(model):
    drive = DRIVE[model.name]
    apart = net_of(model, [[0.0], [drive], [drive / 2]])
    at_once = jnp.array([[5.0, 9.0], [9.0, 5.0]])
    together = net_of(model, [[0.0], [1.5 * drive], [0.0]])
    once = jnp.array([[9.0, 5.0], [jnp.inf, jnp.inf]])
    twice = jnp.array([[5.0, 5.0], [jnp.inf, jnp.inf]])
    double = jnp.array([[5.0, jnp.inf], [jnp.inf, jnp.inf]])

    def fired(net, in_times):
        times, sources = events_of(net, in_times)
        assert (sources == 0).sum() >= 1
        return times[sources == 0]

    np.testing.assert_allclose(fired(apart, at_once), fired(together, once), rtol=1e-13)
    as_one = net_of(model, [[0.0], [3 * drive], [0.0]])
    np.testing.assert_allclose(fired(together, twice), fired(as_one, double), rtol=1e-13)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_inhibition_at_the_very_crossing_does_not_undo_it(model, getkey):
    """The inhibition arrives exactly at the time that the record gives for the crossing."""
    channels = np.array([[0.0], [1.0], [-50.0]])

    @eqx.filter_jit
    @eqx.filter_vmap
    def run(drive, start, inhibition):
        net = net_of(model, channels, max_events=6)
        net = eqx.tree_at(lambda net: net.weights, net, net.weights * drive)
        sol = net.simulate(jnp.stack([start, inhibition])[:, None], throw=False)
        fired = sol.sources == 0
        return jnp.min(jnp.where(fired, sol.times, jnp.inf)), jnp.sum(fired)

    drive = DRIVE[model.name] * jax.random.uniform(getkey(), (60,), minval=0.9, maxval=1.5)
    start = jnp.where(jnp.arange(60) < 20, 0.0, jax.random.uniform(getkey(), (60,), maxval=30.0))
    crossing, _ = run(drive, start, jnp.full(60, jnp.inf))
    assert np.all(np.isfinite(crossing))
    at_crossing, count = run(drive, start, crossing)
    np.testing.assert_allclose(at_crossing, crossing, rtol=1e-14)
    assert np.all(count == 1)  # afterwards it silences the neuron
    if model is not QIF:  # (a QIF neuron continues from V = inf after a spike: nothing inhibits it)
        # Inhibition before the crossing prevents the spike: the tolerance of a tie is small.
        assert np.all(np.isinf(run(drive, start, crossing - 1e-7)[0]))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_gradients_of_an_uncoupled_tie(model):
    """Each tied neuron has the same gradient as in isolation."""
    drive = DRIVE[model.name]
    coefficients = jnp.array([[1.3, 0.4], [-0.6, 0.9]])

    @jax.jit
    def loss(weights, bias, in_times, coefficients):
        net = esn.EventNetwork(
            neuron=model.neuron(**{**NEURON, "bias": bias}),
            weights=jnp.concatenate([jnp.zeros((2, 2)), weights]),
            outputs=(0, 1),
            t_max=T_MAX,
            max_events=40,
        )
        spikes = net.spikes(in_times, 2, throw=False)
        return jnp.sum(coefficients * jnp.where(jnp.isfinite(spikes), spikes, 0.0))

    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    weights, bias = jnp.array([[drive, drive], [drive / 2, drive / 2]]), jnp.array([0.3, 0.3])
    both = grad(weights, bias, IN_TIMES, coefficients)
    assert np.all(np.abs(both[1]) > 1e-3)
    alone = []
    for i in range(2):  # the other neuron never fires
        mine = jnp.arange(2) == i
        alone.append(
            grad(
                jnp.where(mine, weights, 0.0),
                jnp.where(mine, bias, -5.0),
                IN_TIMES,
                jnp.where(mine[:, None], coefficients, 0.0),
            )
        )
    for i in range(2):
        # With the other neuron present, a flow may be divided into other segments.
        np.testing.assert_allclose(both[0][:, i], alone[i][0][:, i], rtol=1e-9)
        np.testing.assert_allclose(both[1][i], alone[i][1][i], rtol=1e-9)
    np.testing.assert_allclose(both[2], alone[0][2] + alone[1][2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", [LIF_SET, QIF], ids=lambda m: m.name)
def test_gradients_of_an_arrival_at_the_time_of_a_spike(model):
    """An input reaches one neuron exactly when the other fires."""
    drive = DRIVE[model.name]

    @jax.jit
    @ft.partial(jax.value_and_grad, has_aux=True)
    def loss(args):
        weights, in_times = args
        weights = jnp.concatenate([jnp.zeros((2, 2)), weights])
        net = net_of(model, weights, bias=0.0, max_events=9)
        first = net.ttfs(in_times, throw=False)
        return 1.3 * first[0] - 0.6 * first[1], first

    weights = jnp.array([[drive, 0.0], [0.0, 1.3 * drive]])
    in_times = jnp.array([[2.0], [5.0]])
    (_, first), apart = loss((weights, in_times))
    shift = first[0] - in_times[1, 0]  # the state of a neuron at rest does not depend on time
    (_, moved), at_once = loss((weights, in_times.at[1, 0].set(first[0])))
    np.testing.assert_allclose(moved, first + jnp.array([0.0, shift]), rtol=1e-12)
    np.testing.assert_allclose(jnp.diag(at_once[0]), jnp.diag(apart[0]), rtol=1e-9)
    np.testing.assert_allclose(at_once[1], apart[1], rtol=1e-9)


@pytest.mark.parametrize("model", [LIF_SUBTRACT, QIF], ids=lambda m: m.name)
def test_gradients_of_a_coupled_tie_do_not_depend_on_the_order(model, getkey):
    drive = DRIVE[model.name]
    n = 4
    weights = np.zeros((n + 2, n))
    weights[:n] = -0.1 * drive * (1 - np.eye(n))
    weights[n:] = [[drive, drive, drive, 0.5 * drive], [0.5 * drive] * 3 + [0.8 * drive]]
    coefficients = jnp.array([[1.0, 0.5, 2.0]] * 3 + [[-1.0, 0.3, 0.7]])

    @jax.jit
    def loss(weights, bias, coefficients):
        net = esn.EventNetwork(
            neuron=model.neuron(**{**NEURON, "bias": bias}),
            weights=weights,
            outputs=tuple(range(n)),
            t_max=T_MAX,
            max_events=100,
        )
        spikes = net.spikes(IN_TIMES, 3, throw=False)
        return jnp.sum(coefficients * jnp.where(jnp.isfinite(spikes), spikes, 0.0))

    grad = jax.jit(jax.grad(loss, argnums=(0, 1)))
    weights, bias = jnp.asarray(weights), jnp.full(n, 0.3)
    base = grad(weights, bias, coefficients)
    np.testing.assert_allclose(base[1][:3], base[1][0], rtol=1e-11)  # the tied are identical
    for order in ([3, 0, 1, 2], [2, 3, 1, 0]):
        order = np.array(order)
        rows = np.concatenate([order, [n, n + 1]])
        moved = grad(weights[rows][:, order], bias[order], coefficients[order])
        np.testing.assert_allclose(moved[0], base[0][rows][:, order], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(moved[1], base[1][order], rtol=1e-9)


def test_a_reset_that_does_not_suffice_fires_again_at_once():
    """Subtracting the threshold leaves 2.5 and 1.5, still above it, then 0.5."""
    neuron = esn.LIF(10.0, 5.0, v_init=3.5, reset_mode="subtract")
    net = esn.EventNetwork(neuron, jnp.zeros((2, 1)), outputs=(0,), t_max=T_MAX, max_events=9)
    np.testing.assert_array_equal(
        net.spikes(jnp.full((1, 1), jnp.inf), 5), [[0.0, 0.0, 0.0, jnp.inf, jnp.inf]]
    )
