"""Sparse networks in rounds: spikes and gradients are those of the event loop with dense weights.

`test_nest.py` compares their spikes with those of NEST.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import eventsnn as esn
from eventsnn.event import queries
from eventsnn.event.engine.record import Record
from eventsnn.event.sparse import fan, rounds
from eventsnn.event.sparse.fan import fan_out
from eventsnn.event.sparse.ordering import order_by_time, order_of, sort_first
from eventsnn.event.sparse.requirements import reset_commutes
from helpers.registry import quick

N, N_IN, T_MAX = 40, 3, 30.0


def connections():
    """Random connections with several synapses of a pair, and a channel with many targets."""
    keys = jax.random.split(jax.random.key(1), 2)
    return esn.connect.join(
        [
            esn.connect.fixed_in_degree(keys[0], N, N, 6, multapses=True),
            esn.connect.fixed_probability(keys[1], range(N, N + N_IN - 1), N, 0.3),
            esn.connect.one_to_one(np.full(1, N + N_IN - 1), [0]),
            *(esn.connect.one_to_one([N + N_IN - 1], [k]) for k in range(1, N)),
        ]
    )


def synapses(longest=2.0, seed=0, kind="delayed"):
    rng, (sources, targets) = np.random.default_rng(seed), connections()
    scale = np.where(sources < N, 0.6, 1.5)
    weights = rng.normal(0.4 if kind == "delayed" else 0.2, 1.0, len(sources)) * scale
    delays = rng.uniform(0.5, longest, N + N_IN)
    if kind == "mixed":
        delays = np.where(rng.random(N + N_IN) < 0.5, 0.0, delays)
    delays = None if kind == "at once" else delays
    if kind == "synaptic":
        return with_synaptic_delays(sources, targets, weights, rng)
    return esn.Synapses(sources, targets, weights, shape=(N + N_IN, N), delays=delays)


def with_synaptic_delays(sources, targets, weights, rng):
    """Synapses with a delay each. Pairs of neurons have one synapse, other pairs may have two."""
    order = np.lexsort((targets, sources))
    sources, targets, weights = (np.asarray(x)[order] for x in (sources, targets, weights))
    first = (np.diff(sources, prepend=-1) != 0) | (np.diff(targets, prepend=-1) != 0)
    sources, targets, weights = (x[first] for x in (sources, targets, weights))
    twice = np.flatnonzero(sources >= N)[::2]
    sources, targets = (np.append(x, x[twice]) for x in (sources, targets))
    weights = np.append(weights, -0.5 * weights[twice])
    delays = rng.uniform(np.where(sources < N, 0.5, 0.0), 6.0)
    return esn.Synapses(sources, targets, weights, shape=(N + N_IN, N), delays=delays)


def as_dense(net):
    """Matrix of the same network, and the row of each synapse.

    The second synapse of an input channel is that of another channel with the same spikes.
    """
    own = net.weights
    if own.delays is None or own.axonal:
        return net.as_dense(), own.sources
    again = (np.diff(own.sources, prepend=-1) == 0) & (np.diff(own.targets, prepend=-1) == 0)
    rows = np.asarray(own.sources) + N_IN * again
    pairs, zero = (rows, own.targets), jnp.zeros((N + 2 * N_IN, N))
    dense = esn.EventNetwork(
        net.neuron,
        zero.at[pairs].set(own.weights),
        mask=zero.at[pairs].set(1.0) > 0,
        delays=zero.at[pairs].set(own.delays),
        outputs=net.outputs,
        t_max=net.t_max,
        max_events=net.max_events,
        queue_capacity=100,
    )
    return dense, rows


def inputs_of(net, x):
    """Input spikes of a network whose channels may be repeated."""
    return jnp.tile(x, (1, net.n_inputs // N_IN, 1))


def fired(events):
    """Times and sources of the spikes of neurons, padded with inf and N."""
    of_neurons = (events.sources >= 0) & (events.sources < N)
    order = jnp.argsort(jnp.where(of_neurons, events.times, jnp.inf), axis=-1, stable=True)
    columns = (
        jnp.where(of_neurons, events.times, jnp.inf),
        jnp.where(of_neurons, events.sources, N),
    )
    return tuple(jnp.take_along_axis(x, order, axis=-1) for x in columns)


def lif(reset_mode="set"):
    rng = np.random.default_rng(2)
    v_init, bias = rng.uniform(0, 0.9, N), rng.uniform(0.5, 1.6, N)
    v_init[:3] = 1.5, 2.7, 1.0  # start at or above the threshold
    return esn.LIF(rng.uniform(8.0, 12.0, N), 4.0, bias=bias, v_init=v_init, reset_mode=reset_mode)


NEURONS = {
    "lif": lambda: lif("subtract"),
    "refractory": lambda: esn.Refractory(lif(), 1.5),
    "qif": lambda: esn.QIF(8.0, 4.0, bias=np.linspace(0.0, 0.8, N), v_init=0.3),
    "theta": lambda: esn.Theta(4.0, bias=np.linspace(0.5, 2.0, N)),
    "populations": lambda: esn.Populations(
        [
            (esn.Refractory(esn.LIF(np.linspace(8.0, 12.0, 20), 4.0, v_init=1.5), 1.5), 20),
            (esn.Theta(4.0, bias=np.linspace(0.5, 2.0, 14)), 14),
            (esn.LeakyIntegrator(15.0, 4.0, bias=np.linspace(-0.2, 0.3, 6), v_init=0.4), 6),
        ]
    ),
}


def network(neuron, connectivity, **options):
    options = {"t_max": T_MAX, "max_events": 600, "outputs": range(N)} | options
    return esn.EventNetwork(neuron, connectivity, **options)


@pytest.fixture(autouse=True)
def narrow_chunks(monkeypatch):
    """Several chunks per source, although the networks are small."""
    monkeypatch.setattr(fan, "MIN_WIDTH", 16)


@pytest.fixture
def in_times(rng):
    x = rng.uniform(0, T_MAX, (2, N_IN, 3))
    x[1, 0, 1:] = np.inf
    return jnp.asarray(x)


def functional(net, x):
    """Random functional of the spike times of all neurons, and the events."""
    events = net.simulate(inputs_of(net, x))
    times, _ = fired(events)
    rng = np.random.default_rng(3)
    weights = jnp.asarray(rng.normal(size=(len(x), 1000)))[:, : times.shape[1]]
    return jnp.sum(jnp.where(jnp.isfinite(times), weights * times, 0.0)), events


CASES = [
    ("lif", "delayed"),
    ("refractory", "delayed"),
    ("lif", "mixed"),
    ("refractory", "at once"),
    ("refractory", "synaptic"),
    ("theta", "mixed"),
    ("populations", "at once"),
    ("populations", "synaptic"),
]


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_spikes_and_gradients_are_those_of_the_event_loop(model, kind, in_times):
    connectivity = synapses(kind=kind)
    net = network(NEURONS[model](), connectivity)
    assert net.in_rounds
    assert net._rounds.predicts == (kind in ("mixed", "at once"))
    if kind != "synaptic":
        assert net._rounds.most > 2  # chunks of the last channel
    dense, rows = as_dense(net)
    parts = [eqx.partition(x, eqx.is_inexact_array) for x in (net, dense)]

    @quick
    def both(arrays, x):
        return [
            jax.value_and_grad(
                lambda a, x, static=static: functional(eqx.combine(a, static), x),
                (0, 1),
                has_aux=True,
            )(own, x)
            for own, (_, static) in zip(arrays, parts, strict=True)
        ]

    (found, grads), (right, expected) = both([arrays for arrays, _ in parts], in_times)
    assert_same_spikes(found[1], right[1])
    assert np.all(found[1].status == esn.Status.completed)
    (of_net, of_inputs), (of_dense, of_dense_inputs) = grads, expected
    compare, pairs = [(of_inputs, of_dense_inputs)], (rows, connectivity.targets)
    if kind != "at once":
        delays = of_dense.delays[pairs] if kind == "synaptic" else of_dense.delays
        compare += [(of_net.weights.delays, delays)]
    compare += [(of_net.weights.weights, of_dense.weights[pairs])]
    assert all(np.any(other) for _, other in compare)
    compare += zip(jax.tree.leaves(of_net.neuron), jax.tree.leaves(of_dense.neuron), strict=True)
    for own, other in compare:
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-8 * np.max(np.abs(other)))


def assert_same_spikes(found, right, rtol=1e-11):
    (times, sources), (expected, expected_sources) = fired(found), fired(right)
    assert np.sum(np.isfinite(expected)) > N / 2
    many = min(times.shape[1], expected.shape[1])
    assert not np.any(np.isfinite(times[:, many:])) and not np.any(np.isfinite(expected[:, many:]))
    np.testing.assert_array_equal(sources[:, :many], expected_sources[:, :many])
    times, expected = times[:, :many], expected[:, :many]
    exists = np.isfinite(expected)
    np.testing.assert_allclose(times[exists], expected[exists], rtol=rtol)


@pytest.mark.parametrize("kind", ["delayed", "at once", "synaptic"])
def test_potentials_are_those_of_the_event_loop(kind, in_times):
    """Potentials at given times, maxima and integrals, and their gradients."""
    outputs = [36, 2, 7, 39]  # of two populations, in any order
    net = network(NEURONS["populations"](), synapses(kind=kind), outputs=outputs)
    assert net.in_rounds and net._rounds.observed.fits
    dense, rows = as_dense(net)
    parts = [eqx.partition(x, eqx.is_inexact_array) for x in (net, dense)]
    times = jnp.asarray([20.0, 0.0, T_MAX, 3.5])

    def answers(net, x, times):
        x = inputs_of(net, x)
        out = net.potentials_at(x, times), net.maxima(x), net.integrals(x)
        return sum(jnp.sum(jnp.sin(x)) for x in out), out

    @quick
    def both(arrays, *given):
        return [
            jax.value_and_grad(
                lambda a, *given, static=static: answers(eqx.combine(a, static), *given),
                (0, 1, 2),
                has_aux=True,
            )(own, *given)
            for own, (_, static) in zip(arrays, parts, strict=True)
        ]

    (found, grads), (right, expected) = both([arrays for arrays, _ in parts], in_times, times)
    for own, other in zip(found[1], right[1], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-10)
    (of_net, *others), (of_dense, *right) = grads, expected
    pairs = rows, net.weights.targets
    compare = [(of_net.weights.weights, of_dense.weights[pairs]), *zip(others, right, strict=True)]
    if kind != "at once":
        delays = of_dense.delays[pairs] if kind == "synaptic" else of_dense.delays
        compare += [(of_net.weights.delays, delays)]
    assert all(np.any(other) for _, other in compare)
    compare += zip(jax.tree.leaves(of_net.neuron), jax.tree.leaves(of_dense.neuron), strict=True)
    for own, other in compare:
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-8 * np.max(np.abs(other)))


@pytest.mark.parametrize("sparse", [True, False])
def test_potentials_that_are_infinite_at_a_spike(sparse):
    """Neuron 1 of two quadratic ones does not fire; the gradients of its readouts are finite."""
    whole = esn.Synapses([0, 2, 3], [1, 0, 1], [0.1, 20.0, 0.4], (4, 2), delays=1.0)
    net = esn.EventNetwork(esn.QIF(10.0, 5.0), whole, outputs=[0, 1], t_max=40.0)
    net = net if sparse else net.as_dense()
    x = jnp.asarray([[2.0], [3.0]])
    np.testing.assert_array_equal(net.counts(x), [1, 0])
    top, total = net.maxima(x), net.integrals(x)
    assert top[0] == jnp.inf and 0.0 < top[1] < 0.5
    assert jnp.isnan(total[0]) and 0.0 < total[1] < 20.0

    def of_the_other(x):
        return net.maxima(x)[1] + net.integrals(x)[1]

    grads, step = jax.grad(of_the_other)(x), jnp.asarray([[0.0], [1e-5]])
    difference = (of_the_other(x + step) - of_the_other(x - step)) / 2e-5
    np.testing.assert_allclose(grads[1, 0], difference, rtol=1e-6)
    assert np.all(np.isfinite(grads))


@pytest.mark.parametrize("delays", [None, 0.5, [0.5, 0.7]])
def test_potentials_of_outputs_without_synapses(delays):
    whole = esn.Synapses([0, 2], [1, 1], [0.3, 0.4], (3, 2), delays)
    neuron = esn.LIF(10.0, 5.0, v_init=0.5)
    net = esn.EventNetwork(neuron, whole, outputs=[0], t_max=20.0)
    assert net.in_rounds
    x = jnp.asarray([[2.0]])
    np.testing.assert_allclose(net.integrals(x), [5.0 * (1 - np.exp(-2.0))], rtol=1e-12)
    np.testing.assert_allclose(net.maxima(x), [0.5], rtol=1e-12)


def test_potentials_follow_the_spikes_of_a_model_whose_reset_clears_the_current():
    """A neuron is reset before it receives what arrives at the same time."""

    class Cleared(esn.LIF):
        def reset(self, state, spiked):
            return (
                super().reset(state, spiked)._replace(current=jnp.where(spiked, 0.0, state.current))
            )

    def of(sources, targets, weights, delays):
        whole = esn.Synapses(sources, targets, weights, (3, 2), delays)
        neuron = Cleared(10.0, 4.0, bias=jnp.asarray([1.5, 0.2]))
        steps = {"solver": diffrax.Tsit5(), "dt0": 0.05}
        return esn.EventNetwork(neuron, whole, outputs=[0, 1], t_max=15.0, **steps)

    synapses = [0, 1, 2, 2], [0, 0, 1, 0], [8.0, 0.5, 3.0, 0.3]
    assert not of(*synapses, None).in_rounds
    net, x = of(*synapses, [0.4, 0.0, 0.0]), jnp.asarray([[0.5, 2.0]])
    assert net.in_rounds
    spikes, times = net.spikes(x, 4)[0], jnp.asarray([11.5, 13.0, 15.0])
    assert np.isfinite(spikes).sum() > 2
    below = spikes[jnp.isfinite(spikes)] - 1e-6
    np.testing.assert_allclose(net.potentials_at(x, below)[0], 1.0, atol=1e-5)
    found, expected = net.potentials_at(x, times), net.as_dense().potentials_at(x, times)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_models_whose_reset_commutes_with_an_arrival():
    class Coupled(esn.LIF):  # the reset reads the current
        def reset(self, state, spiked):
            return state._replace(v=jnp.where(spiked, 0.1 * state.current, state.v))

    class Cleared(esn.LIF):
        def reset(self, state, spiked):
            return state._replace(current=jnp.where(spiked, 0.0, state.current))

    class Driven(esn.LIF):  # an arrival reads the potential
        def receive(self, state, weights):
            return state._replace(current=state.current + weights * (2.0 - state.v))

    lif = (10.0, 5.0)
    yes = [esn.LIF(*lif), esn.Refractory(esn.LIF(*lif, reset_mode="subtract"), 1.0)]
    yes += [
        esn.EIF(*lif),
        esn.ALIF(*lif, 20.0, 0.1),
        esn.Izhikevich(5.0),
        esn.LeakyIntegrator(*lif),
    ]
    yes += [esn.Populations([(esn.EIF(*lif), 1), (esn.LIF(*lif), 2)])]
    no = [Coupled(*lif), Cleared(*lif), Driven(*lif), Pulsed(), esn.Refractory(Cleared(*lif), 1.0)]
    assert all(reset_commutes(x.for_population(3, jnp.float64), 3) for x in yes)
    assert not any(reset_commutes(x.for_population(3, jnp.float64), 3) for x in no)


def test_potentials_of_samples_that_failed(in_times):
    net = network(lif(), synapses(), outputs=[3, 8], max_events=20)
    times = jnp.asarray([1.0, 29.0])
    found = net.potentials_at(in_times, times, throw=False)
    expected = net.as_dense().potentials_at(in_times, times, throw=False)
    np.testing.assert_array_equal(np.isnan(found), [[[False, True]] * 2] * 2)
    np.testing.assert_allclose(found[..., 0], expected[..., 0], rtol=1e-10)
    assert np.all(np.isnan(net.maxima(in_times, throw=False)))
    invalid = in_times.at[0, 0, 0].set(jnp.nan)
    found = net.potentials_at(invalid, times, throw=False)
    assert np.all(np.isnan(found[0])) and not np.any(np.isnan(found[1, :, 0]))


@pytest.mark.parametrize("kind", ["delayed", "at once", "synaptic"])
def test_spikes_of_a_flow_whose_segments_are_limited(kind, in_times):
    """The Taylor series of the QIF neuron limits rounds and predictions."""
    net = network(NEURONS["qif"](), synapses(kind=kind))
    assert net.in_rounds
    dense, _ = as_dense(net)
    found, expected = net.simulate(in_times), dense.simulate(inputs_of(dense, in_times))
    assert_same_spikes(found, expected)


@pytest.mark.parametrize(("model", "kind"), [("lif", "at once"), ("refractory", "synaptic")])
def test_steps_of_constant_size_converge_to_the_exact_flow(model, kind, in_times):
    """For spikes and gradients. The steps are a fortieth of a membrane time constant."""
    exact = network(NEURONS[model](), synapses(kind=kind))
    steps = network(NEURONS[model](), synapses(kind=kind), solver=diffrax.Tsit5(), dt0=0.25)
    assert steps.in_rounds
    parts = [eqx.partition(net, eqx.is_inexact_array) for net in (exact, steps)]

    @quick
    def both(arrays, x):
        def of(arrays, x, static):
            return functional(eqx.combine(arrays, static), x)

        return [
            jax.value_and_grad(of, (0, 1), has_aux=True)(own, x, static)
            for own, (_, static) in zip(arrays, parts, strict=True)
        ]

    (expected, right), (found, grads) = both([arrays for arrays, _ in parts], in_times)
    assert_same_spikes(found[1], expected[1], rtol=1e-8)
    for own, other in zip(jax.tree.leaves(grads), jax.tree.leaves(right), strict=True):
        scale = np.max(np.abs(other), initial=0.0)
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-6 * scale)


def test_spikes_of_an_exponential_neuron_with_steps_of_constant_size(in_times):
    """They are those of the event loop with steps of adaptive size."""
    neuron = esn.EIF(10.0, 4.0, bias=np.linspace(0.5, 1.6, N))
    net = network(neuron, synapses(), solver=diffrax.Tsit5(), dt0=0.05)
    assert net.in_rounds
    adaptive = diffrax.PIDController(rtol=1e-10, atol=1e-10)
    solver = {"solver": diffrax.Tsit5(), "stepsize_controller": adaptive}
    other = network(neuron, synapses(), **solver)
    assert not other.in_rounds
    assert_same_spikes(net.simulate(in_times), other.simulate(in_times), rtol=1e-5)


def test_gradients_of_quadratic_neurons_are_differences(in_times, rng):
    """In a random direction of all parameters and input times, by central differences."""
    both = network(NEURONS["qif"](), synapses()), in_times
    arrays, static = eqx.partition(both, eqx.is_inexact_array)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), arrays)

    @quick
    def value_and_grad(arrays):
        return jax.value_and_grad(lambda arrays: functional(*eqx.combine(arrays, static))[0])(
            arrays
        )

    def moved(step):
        return jax.tree.map(lambda x, dx: x + step * dx, arrays, direction)

    step = 1e-6
    (above, _), (below, _) = (value_and_grad(moved(x)) for x in (step, -step))
    _, grads = value_and_grad(arrays)
    assert all(np.any(x) for x in jax.tree.leaves(grads))
    along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grads, direction)))
    np.testing.assert_allclose((above - below) / (2 * step), along, rtol=1e-6)


@pytest.mark.parametrize("kind", ["delayed", "mixed", "synaptic"])
def test_short_rounds_have_the_same_spikes(kind, in_times, monkeypatch):
    """A round ends early after a few arrivals; a delay may be longer than the simulation."""
    connectivity = synapses(longest=12.0, kind=kind)
    if kind == "synaptic":  # long rounds
        longer = connectivity.delays + 5.0
        connectivity = eqx.tree_at(lambda x: x.delays, connectivity, longer)
    whole = network(NEURONS["refractory"](), connectivity).simulate(in_times)
    monkeypatch.setattr(rounds.Rounds, "max_chunks", 3)
    monkeypatch.setattr(rounds, "_ARRIVALS", (1, 1))  # at least those of one spike
    short = network(NEURONS["refractory"](), connectivity, max_steps=3000).simulate(in_times)
    assert np.all(short.stats["steps"] > whole.stats["steps"])
    np.testing.assert_array_equal(short.sources, whole.sources)
    fired = np.isfinite(whole.times)
    np.testing.assert_allclose(short.times[fired], whole.times[fired], rtol=1e-11)


def test_queries_of_many_outputs(rng, monkeypatch):
    """Above a number of comparisons, the events are sorted by source."""
    rows, outputs = 60, (5, 0, 39, 7)
    sources = jnp.asarray(rng.choice([0, 5, 7, 20, 60], rows), jnp.int32)
    nothing = dict.fromkeys(Record._fields)
    record = Record(**nothing | {"times": jnp.sort(rng.uniform(0, 9, rows)), "sources": sources})
    few = ask(record, outputs)
    monkeypatch.setattr(queries, "_COMPARISONS", 0)
    assert few[2].tolist() == [int(np.sum(sources == k)) for k in outputs]
    for one, many in zip(few, ask(record, outputs), strict=True):
        np.testing.assert_array_equal(one, many)


def ask(record, outputs):
    first = queries.first_spikes(record, outputs)
    return first, queries.spikes(record, outputs, 3), queries.counts(record, outputs)


def test_queries_models_and_precision(in_times):
    net = network(lif(), synapses(), outputs=range(4))
    dense = net.as_dense()
    np.testing.assert_allclose(net.ttfs(in_times), dense.ttfs(in_times), rtol=1e-11)
    np.testing.assert_allclose(net.spikes(in_times, 3), dense.spikes(in_times, 3), rtol=1e-11)
    np.testing.assert_array_equal(net.counts(in_times), dense.counts(in_times))
    np.testing.assert_allclose(net.integrals(in_times), dense.integrals(in_times), rtol=1e-11)

    def first(weights):
        changed = eqx.tree_at(lambda x: x.weights.weights, net, weights)
        return changed.ttfs(in_times, throw=False)

    several = net.weights.weights * jnp.array([[1.0], [0.8]])
    found = jax.vmap(first)(several)
    np.testing.assert_allclose(found, jnp.stack([first(x) for x in several]), rtol=1e-12)
    single = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, net)
    single = single.ttfs(in_times.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, net.ttfs(in_times), rtol=1e-4)


LIMITS = {
    "completed": {},
    "max_events": {"max_events": 10},
    "max_steps": {"max_steps": 3, "t_max": 90.0},
    "queue_overflow": {"queue_capacity": 2},
}
CASES_OF_LIMITS = [(name, "delayed") for name in LIMITS]
CASES_OF_LIMITS += [(name, "at once") for name in LIMITS if name != "queue_overflow"]
CASES_OF_LIMITS += [(name, "synaptic") for name in LIMITS]


@pytest.mark.parametrize(("name", "kind"), CASES_OF_LIMITS)
def test_limits(name, kind, in_times):
    net = network(lif(), synapses(kind=kind), **LIMITS[name])
    assert np.all(net.simulate(in_times, throw=False).status == getattr(esn.Status, name))
    if name == "completed" and kind != "at once":
        wrong = eqx.tree_at(lambda x: x.weights.delays, net, net.weights.delays - 1.0)
        found = wrong.simulate(in_times, throw=False).status
        assert np.all(found == esn.Status.invalid_parameters)
        unknown = net.weights.weights.at[0].set(jnp.nan)
        wrong = eqx.tree_at(lambda x: x.weights.weights, net, unknown)
        assert np.all(wrong.simulate(in_times, throw=False).status == esn.Status.not_finite)


@pytest.mark.parametrize("kind", ["delayed", "at once", "synaptic"])
def test_gradients_of_a_sample_that_failed_with_max_events(kind, in_times):
    """Spikes beyond the limit have no part in them."""
    limit = 25
    net = network(lif(), synapses(kind=kind), max_events=limit)
    dense, rows = as_dense(network(lif(), synapses(kind=kind)))

    @quick
    def gradients(nets, x):
        return [eqx.filter_grad(first_spikes)(net, x) for net in nets]

    def first_spikes(net, x):
        times, _ = fired(net.simulate(inputs_of(net, x), throw=False))
        return jnp.sum(jnp.sin(times[:, :limit]))

    assert np.all(net.simulate(in_times, throw=False).status == esn.Status.max_events)
    of_net, of_dense = gradients([net, dense], in_times)
    expected = of_dense.weights[rows, net.weights.targets]
    assert np.any(expected != 0)
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(of_net.weights.weights, expected, rtol=1e-8, atol=1e-8 * largest)


def test_networks_that_need_the_event_loop(in_times):
    whole = synapses()
    zero = eqx.tree_at(lambda x: x.delays, whole, whole.synaptic_delays().at[0].set(0.0))
    net = network(
        lif(),
        esn.Synapses(whole.sources, whole.targets, whole.weights, whole.shape, zero.delays),
        t_max=10.0,
    )
    own = network(esn.ALIF(10.0, 4.0, 20.0, 0.1), whole)
    autodiff = network(lif(), whole, adjoint=esn.Autodiff())
    constant = {"solver": diffrax.Tsit5(), "dt0": 0.5}
    pulses = [network(x, whole, **constant) for x in (Pulsed(), esn.Refractory(Pulsed(), 1.0))]
    assert all(not x.in_rounds for x in (net, own, autodiff, *pulses))


class Pulsed(esn.AbstractClampable):
    """Leaky neuron whose potential an arrival changes at once, so that it may fire there."""

    tau: float | jax.Array = 10.0

    def init_state(self, n):
        return (jnp.zeros(n),)

    def vector_field(self, state):
        return (-state[0] / self.tau,)

    def threshold_gap(self, state):
        return 1.0 - state[0]

    def receive(self, state, weights):
        return (state[0] + weights,)

    def reset(self, state, spiked):
        return (jnp.where(spiked, 0.0, state[0]),)

    def observe(self, state):
        return state[0]

    def advance_clamped(self, state, dt):
        return state


def test_ties():
    """Neurons that cross at the same time all fire, and do not prevent each other's spikes."""
    n, t_max = 20, 30.0
    pairs = np.nonzero(~np.eye(n, dtype=bool))
    inhibition = esn.Synapses(*pairs, -0.1, shape=(n, n))
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=1.5), inhibition, outputs=range(n), t_max=t_max, max_events=200
    )
    in_times = jnp.zeros((0, 1))
    assert net.in_rounds
    found, expected = net.simulate(in_times), net.as_dense().simulate(in_times)
    np.testing.assert_array_equal(found.sources, expected.sources)
    np.testing.assert_allclose(found.times, expected.times, rtol=1e-12)
    np.testing.assert_array_equal(found.sources[: 2 * n], [*range(n), *range(n)])


def test_sparse_matrices_and_errors():
    matrix = np.zeros((4, 3))
    matrix[0, 1], matrix[3, 0] = 0.5, 2.0
    net = esn.EventNetwork(lif_of_three(), BCOO.fromdense(matrix), outputs=[0], t_max=20.0)
    np.testing.assert_array_equal(net.as_dense().weights, matrix)
    assert net.n_inputs == 1
    for name in ("mask", "delays"):
        with pytest.raises(ValueError, match=f"{name} must be None with sparse weights"):
            esn.EventNetwork(
                lif_of_three(),
                net.weights,
                outputs=[0],
                t_max=20.0,
                **{name: np.ones((4, 3))},
            )
    with pytest.raises(ValueError, match="weights must be a matrix for a neuron model with"):
        esn.EventNetwork(esn.EGRU(5.0, 2.0), net.weights, outputs=[0], t_max=20.0)


def lif_of_three():
    return esn.LIF(10.0, 5.0)


@pytest.mark.parametrize("repeats", [1, 3])
def test_chunks_contain_every_synapse_once_and_no_target_twice(repeats, rng):
    sources = np.repeat(rng.integers(0, 9, 200), repeats)
    targets = np.repeat(rng.integers(0, 30, 200), repeats)
    by_source = np.lexsort((targets, sources))
    sources, targets = sources[by_source], targets[by_source]
    found, order, width, most = fan_out(sources, targets, 10, 30)
    order = np.arange(len(sources)) if order is None else order
    found = jax.tree.map(np.asarray, found)
    seen = []
    for source in range(10):
        chunks = range(found.offsets[source], found.offsets[source + 1])
        assert len(chunks) <= most
        for k in chunks:
            part = slice(found.starts[k], found.starts[k] + found.lengths[k])
            assert found.lengths[k] <= width
            assert len(set(found.targets[part])) == found.lengths[k]
            assert np.all(sources[order[part]] == source)
            np.testing.assert_array_equal(targets[order[part]], found.targets[part])
            seen += list(order[part])
    assert sorted(seen) == list(range(len(sources)))


@pytest.mark.parametrize("count", [0, 3, 70, 1000])
def test_sort_of_the_first_rows(count, rng):
    keys = rng.integers(0, 50, 1000).astype(float)
    keys[count:] = np.inf
    values = rng.permutation(1000)
    values[count:] = 5000
    found = sort_first(jnp.asarray(count), (jnp.asarray(keys), jnp.asarray(values)), keys=2)
    order = np.lexsort((values, keys))
    np.testing.assert_array_equal(found[0], keys[order])
    np.testing.assert_array_equal(found[1], values[order])


def test_a_delay_that_becomes_0_has_a_status(in_times):
    """The network was built with positive delays, for which spikes are not predicted."""
    net = network(NEURONS["refractory"](), synapses())
    zero = eqx.tree_at(lambda net: net.weights.delays, net, replace_fn=lambda d: d.at[0].set(0.0))
    found = zero.simulate(in_times, throw=False)
    assert np.all(found.status == esn.Status.invalid_parameters)
    built = network(NEURONS["refractory"](), zero.weights)
    assert np.all(built.simulate(in_times).status == esn.Status.completed)


def test_too_many_arrivals_at_the_same_time(monkeypatch):
    """They are never lost: a sample with more of them than the list of a round fails."""
    monkeypatch.setattr(rounds, "_ARRIVALS", (1, 1))
    n = 6
    sources, targets = np.repeat(np.arange(n, 2 * n), n), np.tile(np.arange(n), n)
    synapses = esn.Synapses(sources, targets, 0.1, shape=(2 * n, n), delays=np.full(n * n, 2.0))
    net = esn.EventNetwork(esn.LIF(10.0, 5.0), synapses, outputs=[0], t_max=10.0)
    assert net._rounds.max_arrivals == n
    found = net.simulate(np.stack([np.ones((n, 1)), np.arange(n)[:, None] / n]), throw=False)
    assert list(found.status == esn.Status.queue_overflow) == [True, False]
    assert list(found.status == esn.Status.completed) == [False, True]


def test_learnt_delays_change_the_order_of_synapses(in_times):
    """The synapses are sorted by delay when the network is built, and again if they change."""
    net = network(NEURONS["refractory"](), synapses(kind="synaptic"))
    turned = eqx.tree_at(lambda x: x.weights.delays, net, net.weights.delays[::-1] + 0.5)
    built = network(NEURONS["refractory"](), turned.weights)
    assert not np.array_equal(net._rounds.order, built._rounds.order)
    found, expected = turned.simulate(in_times), built.simulate(in_times)
    np.testing.assert_array_equal(found.sources, expected.sources)
    np.testing.assert_allclose(found.times, expected.times, rtol=1e-12)


@pytest.mark.parametrize("wide", [True, False])
def test_orders_of_integers_and_times(wide, rng):
    """Also of times whose differences are lost when they are rounded to integers."""
    rows = 3000
    groups, close = rng.integers(0, 50, rows), 1e-12 * rng.permutation(rows // 2)
    times = np.concatenate([0.5 + close, rng.uniform(0, 1.0, rows - rows // 2)])
    with jax.enable_x64(wide):
        by_time = order_by_time(
            jnp.asarray(groups, jnp.int32), 50, jnp.asarray(times), jnp.ones(())
        )
        by_group = order_of(jnp.asarray(groups, jnp.int32), 50)
        times = np.asarray(jnp.asarray(times))
    np.testing.assert_array_equal(by_time, np.lexsort((times, groups)))
    np.testing.assert_array_equal(by_group, np.argsort(groups, kind="stable"))


@pytest.mark.parametrize("kind", ["delayed", "at once", "synaptic"])
def test_gradients_of_an_exponential_neuron_are_differences(kind, rng):
    """The derivative is that of the computed spike times, also for large steps."""
    n, steps = 6, {"solver": diffrax.Tsit5(), "dt0": 0.1}
    sources, targets = np.nonzero(rng.random((n + 2, n)) < 0.6)
    weights = rng.normal(0.1, 0.6, len(sources)) * np.where(sources < n, 1.0, 2.0)
    shape = {"delayed": n + 2, "synaptic": len(sources)}.get(kind)
    delays = None if shape is None else rng.uniform(0.5, 2.0, shape)
    net = esn.EventNetwork(
        esn.EIF(np.full(n, 10.0), 4.0, bias=rng.uniform(0.7, 1.6, n)),
        esn.Synapses(sources, targets, weights, (n + 2, n), delays),
        outputs=range(n),
        t_max=20.0,
        **steps,
    )
    assert net.in_rounds
    arrays, static = eqx.partition((net, jnp.asarray(rng.uniform(0, 20, (2, 3)))), eqx.is_array)
    floats, rest = eqx.partition(arrays, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(floats)
    along = [jnp.asarray(rng.normal(size=x.shape)) for x in leaves]

    def loss(leaves):
        net, x = eqx.combine(jax.tree.unflatten(tree, leaves), rest, static)
        times = net.spikes(x, 4)
        return jnp.sum(jnp.where(times < jnp.inf, jnp.sin(0.3 * times), 0.0))

    grads, value = quick(jax.grad(loss))(leaves), quick(loss)
    found = sum(jnp.sum(x * y) for x, y in zip(grads, along, strict=True))
    ends = [value([x + h * y for x, y in zip(leaves, along, strict=True)]) for h in (1e-6, -1e-6)]
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["axonal", "synaptic", "at once"])
def test_an_arrival_carries_neurons_at_their_thresholds_through(kind):
    """By rounding, a potential that approaches the threshold may come to lie at it."""
    rng, n = np.random.default_rng(0), 400
    tau, threshold = rng.uniform(0.4, 2.0, n), rng.uniform(0.5, 3.0, n)
    delays = {"axonal": 0.7, "synaptic": np.full(n, 0.7), "at once": None}[kind]
    net = esn.EventNetwork(
        esn.LIF(tau, 0.5, bias=threshold, threshold=threshold, v_init=0.9 * threshold),
        esn.Synapses(np.full(n, n), np.arange(n), 2.0, (n + 1, n), delays),
        outputs=range(n),
        t_max=82.0,
        solver=diffrax.Tsit5(),
        dt0=0.25,
    )
    assert net.in_rounds
    arrival = 80.0 if delays is None else 80.7
    np.testing.assert_allclose(net.ttfs(jnp.asarray([[80.0]])), arrival, atol=1e-5)


@pytest.mark.parametrize("refractory", [True, False])
@pytest.mark.parametrize("way", ["rounds", "event loop", "autodiff"])
def test_gradients_of_events_at_time_0(way, refractory):
    """Two neurons start above their thresholds. An input spike arrives there after their spikes."""
    neuron = esn.LIF(10.0, 5.0, bias=0.9, v_init=1.5)
    neuron = esn.Refractory(neuron, 1.5) if refractory else neuron
    whole = esn.Synapses([2, 2, 0, 1], [0, 1, 1, 0], [1.5, 2.0, 6.0, 0.3], (3, 2))
    net = esn.EventNetwork(neuron, whole, outputs=[0, 1], t_max=30.0)
    net = net if way == "rounds" else net.as_dense()
    if way == "autodiff":
        weights = net.weights, net.mask
        options = {"outputs": [0, 1], "t_max": 30.0, "adjoint": esn.Autodiff()}
        net = esn.EventNetwork(neuron, *weights, **options)

    def loss(values):
        x, changes = values
        neuron = jax.tree.map(lambda a, b: a + b, net.neuron, changes)
        changed = eqx.tree_at(lambda net: net.neuron, net, neuron)
        times = changed.spikes(x, 6)
        return jnp.sum(jnp.where(times < jnp.inf, jnp.sin(0.3 * times), 0.0))

    values = jnp.asarray([[0.0, 7.0]]), jax.tree.map(jnp.zeros_like, net.neuron)
    leaves, tree = jax.tree.flatten(values)
    grads, value = jax.tree.leaves(quick(jax.grad(loss))(values)), quick(loss)
    for k, grad in enumerate(grads):
        change = jnp.zeros_like(leaves[k]).at[(0,) * leaves[k].ndim].set(1e-7)
        moved = [x + change if k == j else x for j, x in enumerate(leaves)]
        difference = (value(jax.tree.unflatten(tree, moved)) - value(values)) / 1e-7
        np.testing.assert_allclose(np.ravel(grad)[0], difference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("delays", [None, 0.3])
def test_a_refractory_period_of_0_lets_a_neuron_fire_twice(delays):
    neuron = esn.LIF(10.0, 5.0, bias=0.5, v_init=2.031, reset_mode="subtract")
    whole = esn.Synapses([0, 1], [0, 0], [0.1, 0.1], (2, 1), delays)
    net = esn.EventNetwork(esn.Refractory(neuron, 0.0), whole, outputs=[0], t_max=20.0)
    assert net.in_rounds
    np.testing.assert_array_equal(net.spikes(jnp.asarray([[9.0]]), 3), [[0.0, 0.0, np.inf]])


@pytest.mark.parametrize("kind", ["axonal", "synaptic", "at once"])
def test_neurons_above_threshold_at_the_start(kind):
    """One fires at time 0, when an input spike arrives, and again at the end of its period."""
    delays = {"axonal": [1.0, 1.5, 0.0], "synaptic": [1.0, 1.5, 0.0, 0.0], "at once": None}[kind]
    connectivity = esn.Synapses(
        [0, 1, 2, 2], [1, 0, 0, 1], [30.0, 0.5, 1.0, 2.0], shape=(3, 2), delays=delays
    )
    neuron = esn.LIF(10.0, 5.0, v_init=np.array([2.7, 0.2]), reset_mode="subtract")
    net = esn.EventNetwork(
        esn.Refractory(neuron, 1.0), connectivity, outputs=[0], t_max=10.0, max_events=50
    )
    assert net.in_rounds
    x = np.array([[0.0, 9.0]])
    (times, sources), (expected, right) = (fired(y.simulate(x)) for y in (net, net.as_dense()))
    many, of_first = int(np.sum(np.isfinite(expected))), right == 0
    np.testing.assert_array_equal(expected[of_first][:2], [0.0, 1.0])
    np.testing.assert_array_equal(sources[sources < N], right[:many])
    np.testing.assert_allclose(times[: many + 1], expected[: many + 1], rtol=1e-12)


def test_a_delay_longer_than_the_simulation_occupies_no_queue():
    """Also without input channels."""
    bias = np.array([1.5, 1.6, 1.7])
    synapses = esn.Synapses(
        [0, 0, 1, 2], [1, 2, 2, 0], 0.1, shape=(3, 3), delays=np.array([100.0, 1.0, 1.0, 1.0])
    )
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=bias), synapses, outputs=[0], t_max=60.0, queue_capacity=8
    )
    dense, nothing = net.as_dense(), np.zeros((0, 1))
    (times, sources), (expected, right) = (fired(x.simulate(nothing)) for x in (net, dense))
    many = int(np.sum(np.isfinite(expected)))
    assert many > 2 * net.queue_capacity
    np.testing.assert_array_equal(sources[:many], right[:many])
    np.testing.assert_allclose(times[: many + 1], expected[: many + 1], rtol=1e-11)


def test_delays_that_are_not_known_need_the_event_loop():
    connectivity = synapses(kind="synaptic")

    def build(delays):
        traced = eqx.tree_at(lambda x: x.delays, connectivity, delays)
        net = network(lif(), traced)
        assert not net.in_rounds
        return net.weights.delays

    jax.eval_shape(build, connectivity.delays)
