"""Simulations that go on from the state of an earlier one: as one long simulation."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.sparse import rounds
from helpers.registry import quick

N, N_IN, PARTS, PART = 12, 3, 4, 10.0
WEIGHTS = np.random.default_rng(1).normal(-0.1, 0.8, (N + N_IN, N))
BIAS = np.linspace(0.9, 2.0, N)


def lif(**options):
    return esn.LIF(10.0, 5.0, bias=BIAS, v_init=np.linspace(0.0, 1.3, N), **options)


NEURONS = {
    "lif": lambda: lif(reset_mode="subtract"),
    "refractory": lambda: esn.Refractory(lif(), 1.5),
    "qif": lambda: esn.QIF(8.0, 4.0, bias=BIAS - 0.5, v_init=0.3),
    "eif": lambda: esn.EIF(10.0, 5.0, bias=BIAS),
    "mixture": lambda: esn.Populations(
        [
            (esn.Refractory(esn.LIF(10.0, 5.0, bias=BIAS[6:]), 1.5), 6),
            (esn.LeakyIntegrator(10.0, 5.0), 6),
        ]
    ),
}
SHAPES = {"none": None, "axonal": (N + N_IN,), "synaptic": (N + N_IN, N)}


def network(neuron, kind, t_max, sparse=False, **options):
    weights, shape = WEIGHTS, SHAPES[kind]
    delays = None if shape is None else np.random.default_rng(2).uniform(0.0, 8.0, shape)
    if sparse:
        i, j = np.nonzero(np.random.default_rng(3).random(weights.shape) < 0.5)
        delays = delays[i, j] + 0.2 if kind == "synaptic" else delays
        weights = esn.Synapses(i, j, 1.5 * weights[i, j], shape=weights.shape, delays=delays)
        delays = None
    options = {"max_events": 400, "queue_capacity": 64, "outputs": range(N)} | options
    return esn.EventNetwork(NEURONS[neuron](), weights, delays=delays, t_max=t_max, **options)


def in_parts(x, parts=PARTS, part=PART):
    """Input spikes of each part, from its start."""
    start = part * np.arange(parts).reshape(-1, *[1] * x.ndim)
    inside = (x >= start) & (x < start + part)
    return jnp.asarray(np.where(inside, x - start, np.inf))


def spikes_of(times, sources):
    found = np.isfinite(times)
    return np.asarray(times)[found], np.asarray(sources)[found]


@pytest.mark.parametrize(
    ("neuron", "delays", "sparse"),
    [
        ("lif", "none", False),
        ("refractory", "axonal", False),
        ("lif", "synaptic", False),
        ("mixture", "axonal", False),
        ("refractory", "axonal", True),
        ("qif", "none", True),
        ("mixture", "none", True),
        ("refractory", "synaptic", True),
    ],
)
def test_parts_are_one_simulation(neuron, delays, sparse, rng):
    x = rng.uniform(0, PARTS * PART, (2, N_IN, 8))
    long = network(neuron, delays, PARTS * PART, sparse)
    whole = quick(lambda x: long.simulate(x))(x)
    net = network(neuron, delays, PART, sparse)
    assert net.in_rounds == sparse

    @quick
    def scanned(in_times):
        def part(state, in_times):
            found = net.simulate(in_times, state=state)
            return found.state, (found.times, found.sources)

        return jax.lax.scan(part, net.initial_state((2,)), in_times)

    state, (times, sources) = scanned(in_parts(x))
    times = np.moveaxis(times + PART * np.arange(PARTS)[:, None, None], 0, 1)
    for k in range(2):
        found = spikes_of(times[k], np.moveaxis(sources, 0, 1)[k])
        expected = spikes_of(whole.times[k], whole.sources[k])
        assert np.sum(expected[1] < N) > N // 2
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    assert not np.any(state.due)
    if delays != "none":
        assert np.any(np.isfinite(state.waits))
        in_transit = np.isfinite(state.waits).any(-1)
        np.testing.assert_array_equal(in_transit, state.sources >= 0)
        if sparse and delays == "synaptic":
            assert np.any(state.waits[in_transit][:, 1] > 0)  # some targets were reached


def test_a_solver_goes_on_to_its_tolerance(rng):
    x = rng.uniform(0, 20.0, (N_IN, 4))
    control = diffrax.PIDController(rtol=1e-9, atol=1e-10)
    options = {"solver": diffrax.Tsit5(), "stepsize_controller": control}
    whole = network("eif", "none", 20.0, **options).simulate(x)
    net, times, state = network("eif", "none", 10.0, **options), [], None
    state = net.initial_state()
    for number, part in enumerate(in_parts(x, 2)):
        found = net.simulate(part, state=state)
        times.append(np.asarray(found.times[found.sources >= 0]) + 10.0 * number)
        state = found.state
    expected = np.asarray(whole.times[whole.sources >= 0])
    np.testing.assert_allclose(np.concatenate(times), expected, rtol=1e-7)


@pytest.mark.parametrize("kind", ["dense", "axonal", "synaptic"])
def test_an_arrival_at_the_end_of_a_part_is_delivered_once(kind):
    """The spike of the input arrives exactly at the end of the first part, or just after it."""
    delay = 0.9
    weights = np.array([[0.0], [8.0]])
    options = {"outputs": [0], "t_max": 10.0, "max_events": 20}
    if kind != "dense":
        delays = delay if kind == "axonal" else [delay]
        weights = esn.Synapses([1], [0], [8.0], shape=(2, 1), delays=delays)
    else:
        options["delays"] = [delay, delay]
    net = esn.EventNetwork(esn.LIF(10.0, 5.0), weights, **options)
    sent = 10.0 - delay

    @quick
    def simulate(times, state):
        found = net.simulate(jnp.stack([times, jnp.inf])[None], state=state)
        return jnp.min(jnp.where(found.sources == 0, found.times, jnp.inf)), found.state

    expected = simulate(0.0, net.initial_state())[0] - delay
    for start in (sent, np.nextafter(sent, 11.0)):
        _, state = simulate(start, net.initial_state())
        assert np.isfinite(state.waits).any() == (start > sent)
        assert kind == "synaptic" or not np.any(state.waits < 0)
        np.testing.assert_allclose(simulate(np.inf, state)[0], expected, rtol=1e-12)


def test_delays_that_change_between_two_parts_deliver_no_spike_twice():
    """Two of three synapses were reached in the first part, long before its end."""
    synapses = esn.Synapses(
        [0, 0, 0, 4], [1, 2, 3, 0], 16.0, shape=(5, 4), delays=np.array([1.0, 2.0, 9.0, 0.0])
    )
    neuron = esn.Refractory(esn.LIF(10.0, 2.0), 5.0)
    net = esn.EventNetwork(neuron, synapses, outputs=[0], t_max=6.0, max_events=50)

    @quick
    def second(longer, state):
        delays = net.weights.delays + jnp.where(net.weights.sources < 4, longer, 0.0)
        moved = eqx.tree_at(lambda net: net.weights.delays, net, delays)
        return moved.simulate(jnp.full((1, 1), jnp.inf), state=state).state.neurons

    first = net.simulate([[0.5]], state=net.initial_state())
    kept = second(0.0, first.state)
    for longer in (-1e-6, 1e-6):
        changed = second(longer, first.state)
        for x, y in zip(jax.tree.leaves(kept), jax.tree.leaves(changed), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-4)


@pytest.mark.parametrize(("delay", "sent"), [(0.7, 9.3), (1.4, 8.6), ([0.7], 9.3), ([1.4], 8.6)])
def test_rounding_at_the_end_delivers_no_spike_twice(delay, sent):
    """The sum of delay and time exceeds `t_max` by less than a rounding error of the round."""
    neuron = esn.LIF(10.0, 5.0, threshold=100.0)
    synapses = esn.Synapses([1], [0], [1.0], shape=(2, 1), delays=delay)
    net = esn.EventNetwork(neuron, synapses, outputs=[0], t_max=10.0)
    state = net.simulate([[sent]], state=net.initial_state()).state
    state = net.simulate([[np.inf]], state=state).state
    assert 0.0 < float(state.neurons.current[0]) <= np.exp(-10.0 / 5.0) * (1 + 1e-12)


def test_a_round_that_is_cut_short_at_the_end_delivers_all(monkeypatch):
    """Many spikes arrive at `t_max`, more than one round delivers."""
    monkeypatch.setattr(rounds.Rounds, "max_chunks", 3)
    sources = np.arange(N, N + 20)
    synapses = esn.Synapses(
        sources, np.arange(20) % N, np.full(20, 1.0), shape=(N + 20, N), delays=2.0
    )
    neuron = esn.LIF(10.0, 5.0, threshold=100.0)
    net = esn.EventNetwork(neuron, synapses, outputs=[0], t_max=10.0)
    state = net.simulate(np.full((20, 1), 8.0), state=net.initial_state()).state
    assert not np.any(np.isfinite(state.waits))
    np.testing.assert_array_equal(state.neurons.current, np.bincount(np.arange(20) % N))


def test_gradients_with_many_spikes_in_transit():
    """The record of a part has room for all spikes that were in transit, besides `max_events`."""
    n, again = 130, 20  # the first neurons fire once more in the second part
    sources = np.concatenate([np.arange(2 * n), np.full(again, 2 * n)])
    targets = np.concatenate([np.roll(np.arange(n), 1), np.arange(n), np.arange(again)])
    weights = np.repeat([-0.5, 9.0], [n, n + again]) + np.linspace(0.0, 0.3, 2 * n + again)
    synapses = esn.Synapses(sources, targets, weights, shape=(2 * n + 1, n), delays=2.0)
    neuron = esn.Refractory(esn.LIF(10.0, 5.0), 12.0)
    net = esn.EventNetwork(neuron, synapses, outputs=[0], t_max=30.0, max_events=n + again)

    def value(weights, in_times, state):
        moved = eqx.tree_at(lambda net: net.weights.weights, net, weights)
        found = moved.simulate(in_times, state=state)
        fired = jnp.isfinite(found.times) & (found.sources < n)
        return jnp.sum(jnp.where(fired, jnp.sin(found.times), 0.0)), found

    gradient, given = quick(jax.value_and_grad(value, has_aux=True)), net.weights.weights
    first, second = (
        jnp.append(jnp.full(n, x), y)[:, None] for x, y in ((26.5, 40.0), (10.5, 24.5))
    )
    (_, start), _ = gradient(given, first, net.initial_state())
    assert np.sum(np.isfinite(start.state.waits)) == n
    (_, found), slope = gradient(given, second, start.state)
    assert found.stats["spikes"] == n + again
    direction, step = jnp.asarray(np.random.default_rng(4).normal(size=len(weights))), 1e-6
    above, below = (
        gradient(given + x * direction, second, start.state)[0][0] for x in (step, -step)
    )
    np.testing.assert_allclose(slope @ direction, (above - below) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize(
    ("sparse", "kind", "adjoint"),
    [
        (False, "synaptic", "EventProp"),
        (False, "synaptic", "Autodiff"),
        (True, "axonal", "EventProp"),
        (True, "synaptic", "EventProp"),
    ],
)
def test_gradients_treat_the_state_as_a_constant(sparse, kind, adjoint, rng):
    """Finite differences of a second part, whose state at the start is fixed."""
    net = network("refractory", kind, PART, sparse, adjoint=getattr(esn, adjoint)())
    first, second = in_parts(rng.uniform(0, 2 * PART, (N_IN, 6)), 2)
    arrays, static = eqx.partition(net, eqx.is_inexact_array)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), arrays)

    def value(step, scale, in_times, state):
        moved = jax.tree.map(lambda x, d: x + step * d, arrays, direction)
        varied = jax.tree.map(lambda x: scale * x if eqx.is_inexact_array(x) else x, state)
        found = eqx.combine(moved, static).simulate(in_times, state=varied)
        fired = jnp.isfinite(found.times) & (found.sources < N)
        return jnp.sum(jnp.where(fired, jnp.sin(found.times), 0.0)), found.state

    at, gradient = (jnp.zeros(()), jnp.ones(())), quick(jax.grad(value, (0, 1), has_aux=True))
    _, state = gradient(*at, first, net.initial_state())
    assert np.any(np.isfinite(state.waits))
    (slope, of_state), _ = gradient(*at, second, state)
    assert of_state == 0.0
    step, evaluate = 1e-6, quick(value)
    above, below = (evaluate(x, 1.0, second, state)[0] for x in (step, -step))
    expected = (above - below) / (2 * step)
    assert abs(expected) > 1.0
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_limits(sparse, rng):
    """Spikes that are left in transit occupy the queue; a failed sample has no state."""
    x = jnp.asarray(rng.uniform(5.0, PART, (2, N_IN, 6))).at[1].set(np.inf)
    net = network("refractory", "axonal", PART, sparse, queue_capacity=8)
    found = net.simulate(x, state=net.initial_state((2,)), throw=False)
    assert np.array_equal(found.status == esn.Status.queue_overflow, [True, False])
    assert np.all(np.isnan(found.state.neurons.left[0]))
    after = net.simulate(x, state=found.state, throw=False)
    assert np.array_equal(after.status == esn.Status.not_finite, [True, False])


def test_a_state_that_does_not_fit_is_refused():
    net = network("refractory", "axonal", PART)
    with pytest.raises(
        ValueError, match=r"state must be NetworkState.*f64\[12\].* got .*f64\[2,12\]"
    ):
        net.simulate(np.zeros((N_IN, 1)), state=net.initial_state((2,)))
