"""Accepted forms of input, errors for invalid input, and per-sample status codes."""

import inspect
import re
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.jitted import events_of, potentials_at, simulate, spikes, ttfs
from helpers.registry import EXACT, N_IN, ODE, K, N, network, problem

CASE = EXACT[0]
INF = jnp.inf


def net_of(case=CASE, seed=2, **options):
    options = {"t_max": 25.0, "max_events": 80, "outputs": (4, 0, 2)} | options
    return network(case, problem(case.model, seed, until=15.0), **options)


TIMES = jnp.array([[7.0, 1.0, 12.0], [3.0, INF, 5.0]])


# ------------------------------------------------------------------ accepted arguments


def test_any_order_within_a_channel():
    net = net_of()
    expected = events_of(net, TIMES)
    for moved in (TIMES[:, ::-1], jnp.roll(TIMES, 1, axis=1), jnp.sort(TIMES, axis=1)):
        for a, b in zip(events_of(net, moved), expected, strict=True):
            np.testing.assert_array_equal(a, b)


ONES = {"t_max": 10.0, "init": lambda key, shape, dtype: jnp.ones(shape, dtype)}
ARCHITECTURES = {
    "feedforward_network": {"sizes": (1, 2, 1)},
    "recurrent": {"inputs": 1, "hidden": 2, "outputs": 1},
}


def test_architectures_pass_options_to_the_network():
    given = {"max_events": 9, "max_steps": 70, "queue_capacity": 3, "adjoint": esn.Autodiff()}
    given["max_spikes"] = 4
    drive = esn.Pseudospikes(np.array([0.0, 0.0, 2.0]), 5.0)
    options = {"delays": np.arange(4.0), "pseudospikes": drive, "key": jax.random.key(0)}
    for name, sizes in ARCHITECTURES.items():
        net = getattr(esn, name)(esn.LIF(10.0, 5.0), **sizes, **ONES, **options, **given)
        np.testing.assert_array_equal(net.delays, np.arange(4.0))
        assert eqx.tree_equal(net.pseudospikes, drive)
        assert {name: getattr(net, name) for name in given} == given
        assert net.outputs == (2,)


def test_feedforward_passes_options_to_the_layers():
    """Parameters of neurons, weights and delays are those of the network in one event loop."""
    given = {"max_events": 9, "max_steps": 70, "adjoint": esn.Autodiff(), "max_spikes": 4}
    neuron = esn.LIF(10.0, 5.0, bias=np.array([0.1, 0.2, 0.3]))
    drive = esn.Pseudospikes(np.array([0.0, 1.0, 2.0]), 5.0)
    options = {"sizes": (1, 2, 1), "t_max": 10.0, "init": jax.nn.initializers.normal(1.0)}
    options |= {"pseudospikes": drive, "key": jax.random.key(0)}
    for delays in (np.arange(4.0), np.arange(12.0).reshape(4, 3)):
        model = esn.feedforward(neuron, truncate=True, delays=delays, **options, **given)
        for layer in model.layers:
            assert {name: getattr(layer, name) for name in given} == given
            assert layer.truncate and layer.t_max == 10.0
        net = model.as_network()
        expected = esn.feedforward_network(neuron, delays=delays, **options)
        np.testing.assert_array_equal(net.weights, expected.weights)
        np.testing.assert_array_equal(net.mask, expected.mask)
        spread = np.broadcast_to(delays.reshape(4, -1), (4, 3))
        np.testing.assert_array_equal(net.delays, np.where(net.mask, spread, 0.0))
        assert eqx.tree_equal(net.pseudospikes, drive)
        biases = [layer.neuron.bias for layer in model.layers]
        np.testing.assert_array_equal(np.concatenate(biases), neuron.bias)


@pytest.mark.parametrize("name", ["feedforward", *ARCHITECTURES])
def test_architectures_take_every_option_of_a_network(name):
    built = esn.EventLinear if name == "feedforward" else esn.EventNetwork
    own, network = (inspect.signature(f).parameters for f in (getattr(esn, name), built))
    shared = set(network) - {"weights", "mask", "outputs"}  # created by the architecture
    # Delays are those of the sources of a network, also for layers.
    for option in shared - ({"delays"} if name == "feedforward" else set()):
        assert str(own[option]) == str(network[option])


def test_architectures_pass_the_solver_to_the_network():
    control = diffrax.PIDController(rtol=1e-4, atol=1e-5)
    options = {"solver": diffrax.Heun(), "dt0": 0.3, "stepsize_controller": control}
    options |= {"key": jax.random.key(0)}
    for name, sizes in (*ARCHITECTURES.items(), ("feedforward", {"sizes": (1, 2)})):
        built = getattr(esn, name)(esn.LIF(10.0, 5.0), **sizes, **ONES, **options)
        flow = (built[0] if name == "feedforward" else built).flow
        assert isinstance(flow, esn.ODEFlow) and isinstance(flow.solver, diffrax.Heun)
        assert flow.dt0 == 0.3 and flow.controller == control


def test_no_input_at_all():
    net = net_of()
    times, sources = events_of(net, jnp.full((N_IN, K), INF))
    assert times.size > 0 and np.all(sources < N)  # bias only
    np.testing.assert_array_equal(
        net_of().ttfs(jnp.zeros((N_IN, 0))), ttfs(net, jnp.full((N_IN, K), INF))
    )


def test_a_network_without_input_channels():
    weights = problem(CASE.model, 2)["weights"]
    net = esn.EventNetwork(
        neuron=esn.LIF(10.0, 5.0, bias=1.5),
        weights=weights[:N],
        outputs=(0, 1),
        t_max=25.0,
        max_events=80,
    )
    assert np.all(np.isfinite(net.ttfs(jnp.zeros((0, 0)))))


def test_inputs_after_t_max_have_no_influence():
    net = net_of()
    late = TIMES.at[1, 1].set(25.0 + 1e-9)
    for a, b in zip(events_of(net, late), events_of(net, TIMES), strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_inputs_at_one_instant():
    net = net_of()
    times, sources = events_of(net, jnp.full((N_IN, K), 4.0))
    at = times == 4.0
    assert at.sum() == N_IN * K and sorted(sources[at]) == [N] * K + [N + 1] * K


def test_input_at_time_zero():
    times, sources = events_of(net_of(), TIMES.at[0, 0].set(0.0))
    assert times[0] == 0.0 and sources[0] == N


def test_scalars_and_lists_and_integers():
    weights: Any = [[0, 1], [2, 0], [3, 4]]
    in_times: Any = [[3, 1]]
    by_lists = esn.EventNetwork(
        neuron=esn.LIF(10, 5, bias=1),
        weights=weights,
        outputs=[1, 0],
        t_max=30,
        max_events=20,
    )
    by_arrays = esn.EventNetwork(
        neuron=esn.LIF(jnp.full(2, 10.0), jnp.full(2, 5.0), bias=jnp.ones(2)),
        weights=jnp.array([[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]]),
        outputs=(1, 0),
        t_max=30.0,
        max_events=20,
    )
    a, b = by_lists.ttfs(in_times), by_arrays.ttfs(jnp.array([[3.0, 1.0]]))
    assert a.dtype == b.dtype == jnp.float64
    np.testing.assert_allclose(a, b, rtol=1e-14)
    assert np.all(np.isfinite(a))


# ------------------------------------------------------------------ errors


def refuses(argument, value, expected):
    """Check for a ValueError that names the argument, the expectation and the value."""
    value = f"{value:g}" if isinstance(value, float) else str(value)
    argument, value, expected = (re.escape(str(x)) for x in (argument, value, expected))
    return pytest.raises(ValueError, match=f"(?is)(?=.*{argument})(?=.*{expected}).*got.*{value}")


@pytest.mark.parametrize("bad", [np.nan, -np.inf, -1.5])
def test_input_times_refused(bad):
    with refuses("in_times", bad, ">= 0"):
        net_of().ttfs(TIMES.at[1, 2].set(bad))


@pytest.mark.parametrize("shape", [(N_IN,), (N_IN + 1, K), (4, N_IN - 1, K), ()])
def test_input_shapes_refused(shape):
    with refuses("in_times", shape, f"(..., {N_IN}, k)"):
        net_of().simulate(jnp.ones(shape), throw=False)


@pytest.mark.parametrize("bad", [np.nan, -1.0, 25.5, np.inf])
def test_observation_times_refused(bad):
    with refuses("times", bad, "25"):
        net_of().potentials_at(TIMES, jnp.array([3.0, bad]))


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_counts_refused(bad):
    with refuses("max_spikes", bad, "integer >= 1"):
        net_of().spikes(TIMES, bad)
    for name in ("max_events", "max_steps"):
        with refuses(name, bad, "integer >= 1"):
            net_of(**{name: bad})


@pytest.mark.parametrize("bad", [0.0, -3.0])
@pytest.mark.parametrize("name", ["tau_mem", "tau_syn"])
@pytest.mark.parametrize("kind", [esn.LIF, esn.QIF])
def test_time_constants_refused(kind, name, bad):
    taus = {"tau_mem": 10.0, "tau_syn": 5.0}
    with refuses(name, bad, "> 0"):
        kind(**taus | {name: bad})
    with refuses(name, bad, "> 0"):
        kind(**taus | {name: np.array([1.0, bad])})


def test_threshold_refused():
    for threshold, v_reset in ((1.0, 1.0), (0.5, 0.7), (np.array([1.0, -1.0]), 0.0)):
        with refuses("threshold", float(np.min(threshold)), "v_reset"):
            esn.LIF(10.0, 5.0, threshold=threshold, v_reset=v_reset)


def test_reset_refused():
    hard: Any = "hard"
    with refuses("reset", "'hard'", "subtract"):
        esn.LIF(10.0, 5.0, reset_mode=hard)


@pytest.mark.parametrize("shape", [(N,), (N - 1, N), (2, N + 2, N), (0, 0)])
def test_weights_refused(shape):
    with refuses("weights", shape, "(n + n_in, n)"):
        esn.EventNetwork(esn.LIF(10.0, 5.0), np.zeros(shape), outputs=(0,), t_max=10.0)


def test_mask_refused():
    for mask in (np.ones((N, N), bool), np.ones((N + N_IN, N))):
        with refuses("mask", mask.shape if mask.dtype == bool else "float", (N + N_IN, N)):
            net_of(mask=mask)


@pytest.mark.parametrize("outputs", [(N,), (-1,), (0, 0), ()])
def test_outputs_refused(outputs):
    with refuses("outputs", list(outputs), f"0 ... {N - 1}"):
        net_of(outputs=outputs)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_t_max_refused(bad):
    with refuses("t_max", bad, "> 0"):
        net_of(t_max=bad)


def test_parameters_of_a_wrong_shape_refused():
    with refuses("bias", (N + 1,), f"({N},)"):
        network(CASE, problem(CASE.model, 2) | {"bias": np.zeros(N + 1)})
    with refuses("tau_mem", (2, 2), "(n,)"):
        esn.QIF(np.ones((2, 2)), 1.0)


def test_misplaced_options_refused():
    with refuses("dt0", 0.5, "diffrax solver"):
        net_of(dt0=0.5)
    for name in ("solver", "adjoint", "neuron"):
        parts: dict[str, Any] = {"neuron": esn.LIF(10.0, 5.0), "weights": np.zeros((1, 1))}
        parts[name] = "wrong"
        with refuses(name, "'wrong'", "eventsnn" if name != "solver" else "diffrax"):
            esn.EventNetwork(**parts, outputs=(0,), t_max=9.0)


# ------------------------------------------------------------------ errors at run time


STATUSES = (
    "completed",
    "outputs_fired",
    "max_events",
    "max_steps",
    "not_finite",
    "invalid_input",
    "invalid_parameters",
)


def statuses(sol):
    is_it = np.array([(sol.status == getattr(esn.Status, name)).ravel() for name in STATUSES])
    assert np.all(is_it.sum(0) == 1)
    return [STATUSES[k] for k in is_it.argmax(0)]


def test_status_of_input_under_jit():
    good = jnp.array([[3.0, 1.0, 2.0], [4.0, INF, INF]])
    x = jnp.stack(
        [good, good.at[0, 1].set(jnp.nan), good, good.at[1, 0].set(-1.0), good.at[1, 2].set(-INF)]
    )
    net = net_of()
    sol = simulate(net, x)  # compiled: values are unknown during tracing
    bad = "invalid_input"
    assert statuses(sol) == ["completed", bad, "completed", bad, bad]
    alone = simulate(net, good)
    for k in (0, 2):
        np.testing.assert_allclose(sol.times[k], alone.times, rtol=1e-14)
        np.testing.assert_array_equal(sol.sources[k], alone.sources)
    first = ttfs(net, x)
    assert np.all(np.isnan(first[jnp.array([1, 3, 4])])) and not np.any(
        np.isnan(first[jnp.array([0, 2])])
    )


def test_status_of_parameters_under_jit():
    for name, bad in (
        ("tau_mem", -1.0),
        ("tau_syn", 0.0),
        ("threshold", -5.0),
        ("tau_syn", jnp.nan),
    ):
        net = eqx.tree_at(
            lambda net, name=name: getattr(net.neuron, name),
            net_of(),
            replace_fn=lambda leaf, bad=bad: leaf.at[3].set(bad),
        )
        sol = simulate(net, TIMES)
        assert statuses(sol) == ["not_finite" if np.isnan(bad) else "invalid_parameters"]
        assert np.all(np.isnan(ttfs(net, TIMES)))


@pytest.mark.parametrize("case", [*EXACT[::2], ODE[0]], ids=str)
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_weights_that_are_not_finite_are_reported(case, bad):
    net = net_of(case)
    for row in (1, N):  # weights of a neuron, weights of a channel
        sick = eqx.tree_at(lambda net: net.weights, net, net.weights.at[row, 3].set(bad))
        assert statuses(simulate(sick, TIMES)) == ["not_finite"]
        if case.flow == "exact":  # (the same read of the record for all flows)
            assert np.all(np.isnan(ttfs(sick, TIMES)))  # never reported as "no spike"


def test_a_bias_that_is_nan_is_reported():
    sick = eqx.tree_at(
        lambda net: net.neuron.bias, net_of(), replace_fn=lambda b: b.at[1].set(jnp.nan)
    )
    assert statuses(simulate(sick, TIMES)) == ["not_finite"]


def busy_and_quiet():
    """Three samples; the second has by far the most events."""
    quiet = jnp.full((N_IN, K), INF).at[0, 0].set(20.0)
    busy = jnp.array([[1.0, 1.5, 2.0], [1.2, 2.2, 3.0]])
    return jnp.stack([quiet, busy, quiet.at[1, 1].set(18.0)])


LIMIT = 14


@pytest.mark.parametrize("case", EXACT[::2], ids=str)
def test_a_sample_over_max_events(case):
    x = busy_and_quiet()
    full = simulate(net_of(case), x)
    counts = np.asarray(full.stats["events"])
    assert counts[1] > LIMIT and max(counts[0], counts[2]) <= LIMIT
    net = net_of(case, max_events=LIMIT)
    sol = simulate(net, x)
    assert sol.times.shape == (3, LIMIT)
    assert statuses(sol) == ["completed", "max_events", "completed"]
    np.testing.assert_array_equal(sol.sources, full.sources[:, :LIMIT])  # its record is kept
    np.testing.assert_allclose(sol.times, full.times[:, :LIMIT], rtol=1e-13)
    for k in (0, 2):  # the others are bitwise equal to those in a batch without it
        among_equals = simulate(net, jnp.stack([x[k]] * 3))
        np.testing.assert_array_equal(sol.times[k], among_equals.times[k])
        np.testing.assert_array_equal(sol.sources[k], among_equals.sources[k])


def test_exactly_max_events_is_enough():
    count = int(simulate(net_of(), TIMES).stats["events"])
    assert statuses(simulate(net_of(max_events=count), TIMES)) == ["completed"]
    assert statuses(simulate(net_of(max_events=count - 1), TIMES)) == ["max_events"]


def test_max_steps():
    sol = simulate(net_of(max_steps=5), busy_and_quiet())
    assert "max_steps" in statuses(sol)
    assert int(sol.stats["events"][1]) in range(1, 6)


def test_errors_name_the_number_of_samples_and_the_limit():
    x = busy_and_quiet()
    net = net_of(max_events=LIMIT)
    with pytest.raises(RuntimeError, match=r"1 of 3 samples.*[Rr]aise `max_events`"):
        net.simulate(x)
    with pytest.raises(RuntimeError, match=r"2 of 3 samples.*[Rr]aise `max_events`"):
        net.simulate(x[jnp.array([1, 0, 1])])
    net.simulate(x, throw=False)
    with pytest.raises(RuntimeError, match=r"1 of 1 samples.*`max_steps`"):
        net_of(max_steps=5).simulate(x[1])


def test_throw_under_jit():
    net = net_of(max_events=LIMIT)
    run = eqx.filter_jit(lambda net, x: net.simulate(x).times)
    assert np.all(np.isfinite(run(net, busy_and_quiet()[jnp.array([0, 2, 2])])[:, 0]))
    with pytest.raises(RuntimeError, match=r"Some samples.*[Rr]aise `max_events`"):
        run(net, busy_and_quiet())
    with pytest.raises(RuntimeError, match="input time"):
        run(net, busy_and_quiet().at[0, 0, 0].set(jnp.nan))


def test_an_early_stop_is_not_a_failure():
    # All outputs have fired before the events run out, so no error is raised.
    full = simulate(net_of(), TIMES)
    first = ttfs(net_of(), TIMES)
    assert np.all(np.isfinite(first))
    needed = int(jnp.sum(full.times <= jnp.max(first) * (1 + 1e-12)))
    assert needed < int(full.stats["events"])
    np.testing.assert_allclose(net_of(max_events=needed).ttfs(TIMES), first, rtol=1e-14)


def test_a_limit_leaves_inf_where_nothing_is_known():
    x = busy_and_quiet()
    all_known = spikes(net_of(), x, 3)
    some = spikes(net_of(max_events=LIMIT), x, 3)
    known = np.isfinite(some)
    assert not np.any(np.isnan(some)) and known.sum() < np.isfinite(all_known).sum()
    np.testing.assert_allclose(some[known], all_known[known], rtol=1e-13)


def test_potentials_after_a_limit_are_nan():
    v = potentials_at(net_of(max_events=LIMIT), busy_and_quiet(), jnp.array([24.0, 0.5]))
    whole = potentials_at(net_of(), busy_and_quiet(), jnp.array([24.0, 0.5]))
    assert np.all(np.isnan(v[1, :, 0]))  # the simulation stopped earlier
    np.testing.assert_allclose(v[:, :, 1], whole[:, :, 1], rtol=1e-13)
    np.testing.assert_allclose(v[::2], whole[::2], rtol=1e-13)


# ------------------------------------------------------------------ leaves that were replaced


KINDS = (esn.LIF, esn.ALIF, esn.EIF, esn.EGRU, esn.Izhikevich, esn.LeakyIntegrator, esn.QIF)
KINDS += (esn.Theta, lambda tau_mem, tau_syn: esn.Refractory(esn.LIF(tau_mem, tau_syn), tau_syn))


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_leaves_share_a_buffer(kind):
    """A buffer can be donated only once (`donate="all"`)."""
    names = ("tau_mem", "tau_syn", "tau_adapt", "beta")
    shared = dict.fromkeys(names, jnp.array(4.0))
    neuron = kind(
        **{name: shared[name] for name in inspect.signature(kind).parameters if name in shared}
    )
    both = esn.Populations([(neuron, 1), (neuron, 1)])
    net = esn.EventNetwork(both, jnp.ones((3, 2 * both.receptors)), outputs=(0,), t_max=9.0)
    for tree in (neuron, net):
        leaves = [x for x in jax.tree.leaves(tree) if eqx.is_array(x)]
        assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)


def test_a_network_can_be_donated():
    net = esn.EventNetwork(esn.LIF(20.0, 5.0), jnp.ones((2, 1)), outputs=(0,), t_max=10.0)
    step = eqx.filter_jit(lambda net: jax.tree.map(lambda x: x * 2, net), donate="all")
    assert step(net).neuron.tau_mem == 40.0


def test_replaced_weights_set_the_dtype():
    """First spike of a neuron under a constant current b: tau ln(b / (b - 1))."""
    neuron = esn.LIF(10.0, 5.0, bias=1.5)
    net = esn.EventNetwork(neuron, jnp.zeros((1, 1)), outputs=(0,), t_max=20.0, delays=jnp.ones(1))
    other = eqx.tree_at(lambda net: net.weights, net, jnp.zeros((1, 1), jnp.float32))
    found = ttfs(other, jnp.zeros((0, 0)))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 10.0 * np.log(3.0), rtol=1e-6)
