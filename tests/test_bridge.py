"""The scan of an event network converges to the event mode as the step goes to zero."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import surrogates
from helpers import jitted
from helpers.registry import (
    LIF_SET,
    LIF_SUBTRACT,
    MASK,
    N_IN,
    QIF,
    RATIOS,
    Case,
    N,
    network,
    problem,
)

T_MAX, K = 40.0, 25
DTS = (0.1, 0.05, 0.025, 0.0125, 0.00625)
TAU_MEM = np.array([8.0, 10.0, 12.0, 9.0, 20.0, 15.0])
TIMES = jnp.linspace(0.0, T_MAX, 401)  # multiples of the longest step

# Networks whose spikes also exist at the longest steps. In others a membrane potential passes so
# close to its threshold that only a shorter step decides whether it fires.
SEEDS = (0, 3, 9, 11, 12, 14, 16)
LAYERED_SEEDS = (0, 3, 4, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19)


# A scan of these steps is compiled once for all networks, independently of their parameters.
@eqx.filter_jit
def query(scan, in_times):
    return scan.spikes(in_times, K), scan.potentials_at(in_times, TIMES)


def recurrent(model, seed, **options):
    """Heterogeneous neurons; some synapses and an input are masked."""
    params = problem(model, seed, ratio=RATIOS["mixed"], tau_mem=TAU_MEM, until=T_MAX)
    options = {"t_max": T_MAX, "outputs": (4, 0, 5, 1, 2, 3)} | options
    return network(Case(model, "exact"), params, **options), jnp.asarray(params["in_times"])


def forward(seed):
    """The same neurons in layers of 3, 2 and 1."""
    params = problem(LIF_SET, seed, ratio=RATIOS["mixed"], tau_mem=TAU_MEM, until=T_MAX)
    params["weights"] = np.abs(params["weights"])  # also at masked synapses
    mask = esn.feedforward_mask((N_IN, 3, 2, 1))
    options = {"mask": mask, "t_max": T_MAX, "outputs": (4, 0, 5, 1, 2, 3)}
    return network(Case(LIF_SET, "exact"), params, **options), jnp.asarray(params["in_times"])


def orders(errors):
    """Slope of each network's errors, (networks, steps), over the steps, on logarithmic axes."""
    return np.polyfit(np.log(DTS), np.log(errors).T, 1)[0]


def of_first_order(errors):
    """Check first-order convergence: approximately for each network, because the positions of
    spikes within steps vary, and closely for the mean of all networks."""
    slopes, mean = orders(errors), np.mean(errors, axis=0)
    assert np.all(np.abs(slopes - 1) < 0.3), slopes
    assert abs(np.mean(slopes) - 1) < 0.06, slopes
    np.testing.assert_allclose(mean[:-1] / mean[1:], 2, rtol=0.2)


def spike_errors(net, in_times, first=False):
    """Errors per step size, of all spikes or of each neuron's first spike; all spikes must
    exist."""
    exact = np.asarray(jitted.spikes(net, in_times, K))
    fired = np.isfinite(exact)
    assert fired.sum() >= 10 and fired.sum(axis=1).max() < K
    found = [np.asarray(query(esn.discretise(net, dt), in_times)[0]) for dt in DTS]
    for times in found:
        np.testing.assert_array_equal(np.isfinite(times), fired)
    some = fired & (np.arange(K) == 0) if first else fired
    return [np.abs(times[some] - exact[some]) for times in found]


def reduced(by, errors):
    return [[by(e) for e in of_net] for of_net in errors]


@pytest.mark.parametrize("model", [LIF_SET, LIF_SUBTRACT], ids=lambda m: m.name)
def test_spike_times_converge_at_first_order(model):
    errors = [spike_errors(*recurrent(model, seed)) for seed in SEEDS]
    of_first_order(reduced(np.mean, errors))
    of_first_order(reduced(np.max, errors))


def test_spike_times_of_layers_converge_at_first_order():
    errors = [spike_errors(*forward(seed)) for seed in LAYERED_SEEDS]
    of_first_order(reduced(np.mean, errors))


def test_first_spikes_converge_at_first_order():
    errors = [spike_errors(*forward(seed), first=True) for seed in LAYERED_SEEDS]
    of_first_order(reduced(np.mean, errors))


@pytest.mark.parametrize("model", [LIF_SET, LIF_SUBTRACT], ids=lambda m: m.name)
def test_membranes_converge_at_first_order(model):
    errors = []
    for seed in SEEDS:
        net, in_times = recurrent(model, seed)
        exact = jitted.potentials_at(net, in_times, TIMES)
        spikes = np.asarray(jitted.spikes(net, in_times, K))
        # Excludes times at which only one mode has been reset.
        apart = np.all(np.abs(spikes[..., None] - TIMES) > 0.7, axis=1)
        found = [query(esn.discretise(net, dt), in_times)[1] for dt in DTS]
        errors.append([np.mean(np.abs(v - exact)[apart]) for v in found])
    of_first_order(errors)


def test_gradients_of_silent_membranes_converge():
    """Without spikes no surrogate is needed: both modes have the same derivative.

    With inputs at the ends of steps, whose charge is exact, the error is of second order.
    """
    rng = np.random.default_rng(0)
    net, in_times = recurrent(LIF_SET, 0)
    in_times = jnp.round(in_times, 1)
    net = eqx.tree_at(lambda net: net.neuron.threshold, net, jnp.full(N, 1e9))
    seen = jnp.asarray(rng.normal(size=(N, len(TIMES))))
    arrays, rest = eqx.partition(net, eqx.is_inexact_array)
    way = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), arrays)

    def event_loss(h):
        moved = eqx.combine(jax.tree.map(lambda x, d: x + h * d, arrays, way), rest)
        return jnp.sum(seen * jitted.potentials_at(moved, in_times, TIMES))

    @eqx.filter_jit
    @jax.grad
    def gradient(arrays, dt):
        scan = esn.discretise(eqx.combine(arrays, rest), dt)
        return jnp.sum(seen * scan.potentials_at(in_times, TIMES))

    exact = (event_loss(1e-5) - event_loss(-1e-5)) / 2e-5
    errors = []
    for dt in DTS[:3]:
        along = jax.tree.map(jnp.vdot, gradient(arrays, dt), way)
        errors.append((sum(jax.tree.leaves(along)) - exact) / exact)
    assert 0 < abs(errors[0]) < 1e-3
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.05)


def test_gradients_pass_spikes_and_leave_out_masked_weights():
    net, in_times = recurrent(LIF_SET, 0)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(net):
        out = esn.discretise(net, 0.5).simulate(in_times)
        return jnp.sum(out.spikes) + jnp.sum(out.membranes[-1])

    grads = gradient(net)
    for leaf in jax.tree.leaves(eqx.filter(grads, eqx.is_inexact_array)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)
    spikes = esn.discretise(net, 0.5).simulate(in_times).spikes
    fires = np.append(np.any(spikes, axis=0), [True, True])
    assert fires.sum() == N + 1  # one neuron is silent
    np.testing.assert_array_equal(grads.weights != 0, MASK & fires[:, None])


def test_the_surrogate_is_that_of_the_spikes():
    surrogate = surrogates.FastSigmoid(10.0)
    for given, expected in ((None, surrogates.ATan()), (surrogate, surrogate)):
        scan = esn.discretise(lone(), 0.1, surrogate=given)
        assert eqx.tree_equal(scan.model.layers[1].surrogate, expected)


def test_masked_weights_do_not_act():
    net, in_times = recurrent(LIF_SET, 0)
    other = eqx.tree_at(lambda net: net.weights, net, jnp.where(MASK, net.weights, 7.0))
    one, two = (query(esn.discretise(n, DTS[0]), in_times)[0] for n in (net, other))
    np.testing.assert_array_equal(one, two)


# ------------------------------------------------------------------ one step, and the queries


def test_a_step_is_an_exponential_euler_step():
    net, in_times = recurrent(LIF_SET, 0)
    scan, dt, neuron = esn.discretise(net, DTS[0]), DTS[0], net.neuron
    weights = np.where(MASK, net.weights, 0)
    keep, decay = np.exp(-dt / np.array([neuron.tau_mem, neuron.tau_syn]))
    charge = (1 - decay) * neuron.tau_syn / dt  # preserves the integral of a spike's current
    v, current, spikes = np.array(neuron.v_init), np.zeros(N), np.zeros(N)
    trains, membranes = [], []
    for count in np.asarray(scan.bin(in_times)):
        current = decay * current + charge * (np.concatenate([spikes, count]) @ weights)
        drop = np.where(v > neuron.threshold, neuron.threshold - neuron.v_reset, 0)
        v = keep * v + (1 - keep) * (current + neuron.bias) - drop
        # The leak is towards the reset potential, the reset one step after the spike.
        spikes = (v > neuron.threshold).astype(float)
        trains.append(spikes)
        membranes.append(v)
    out = eqx.filter_jit(scan.simulate)(in_times)
    np.testing.assert_array_equal(out.spikes, trains)
    np.testing.assert_allclose(out.membranes + neuron.v_reset, membranes, atol=1e-12)
    assert np.sum(trains) > 30


def lone(dtype=jnp.float64, t_max=2.0, inputs=2, **neuron):
    """One neuron that fires spontaneously."""
    neuron = esn.LIF(**{"tau_mem": 10.0, "tau_syn": 5.0, "bias": 20.0} | neuron)
    weights = jnp.ones((1 + inputs, 1), dtype).at[0].set(0)
    return esn.EventNetwork(neuron, weights, outputs=(0,), t_max=t_max, max_events=50)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_inputs_are_counted_in_the_steps_they_fall_into(dtype):
    scan = esn.discretise(lone(dtype), 0.1)
    # 3 * 0.1 is not 0.3, yet the spike at 0.3 counts as the start of a step. The last never arrive.
    in_times = jnp.array([[0.3, 0.05, 0.0, 0.35], [1.99, 2.0, jnp.inf, 7.0]], dtype)
    counts = np.zeros((20, 2))
    counts[0, 0] = counts[3, 0] = 2
    counts[19, 1] = 1
    binned = eqx.filter_jit(scan.bin)(in_times)
    assert binned.dtype == dtype
    np.testing.assert_array_equal(binned, counts)


def test_the_time_that_a_lone_neuron_takes():
    scan = esn.discretise(lone(inputs=0, v_reset=-0.5), 1e-3)
    times = eqx.filter_jit(scan.spikes)(jnp.zeros((0, 1)), 5)
    period = 10 * np.log((20 + 0.5) / (20 - 1))
    np.testing.assert_allclose(times[0, :2], period * np.arange(1, 3), atol=3e-3)
    assert times.shape == (1, 5) and np.all(np.isinf(times[0, 2:]))
    np.testing.assert_allclose(times[0, :2] / 1e-3, np.round(times[0, :2] / 1e-3), atol=1e-9)


def test_the_number_of_steps():
    for t_max, dt, steps in ((80.0, 0.1, 800), (0.3, 0.1, 3), (1.0, 0.3, 4), (2.0, 2.0, 1)):
        scan = esn.discretise(lone(t_max=t_max), dt)
        in_times = jnp.full((2, 1), jnp.inf)
        assert scan.num_steps == steps
        assert jax.eval_shape(scan.simulate, in_times).spikes.shape == (steps, 1)
        assert jax.eval_shape(lambda x, scan=scan: scan.spikes(x, 4), in_times).shape == (1, 4)
    silent = esn.discretise(lone(bias=0.0), 0.1)
    assert np.isinf(eqx.filter_jit(silent.ttfs)(in_times))


def test_states_are_those_after_the_last_step():
    scan, in_times = esn.discretise(lone(v_init=0.25, v_reset=-0.5), 0.1), jnp.full((2, 1), jnp.inf)
    membranes = eqx.filter_jit(scan.simulate)(in_times).membranes[:, 0] - 0.5
    times = jnp.array([0.3, 0.0, 0.09, 2.0, 0.39, 2.5])
    *found, late = eqx.filter_jit(scan.potentials_at)(in_times, times)[0]
    np.testing.assert_array_equal(found, [membranes[2], 0.25, 0.25, membranes[19], membranes[2]])
    assert np.isnan(late)
    with pytest.raises(ValueError, match=r"times must lie in \[0, t_max = 2.0\], got .*2\.5"):
        scan.potentials_at(in_times, times)


def test_a_batch_is_a_loop():
    net, in_times = recurrent(LIF_SET, 0)
    scan = esn.discretise(net, DTS[0])
    batch = in_times + jnp.arange(6.0).reshape(2, 3, 1, 1)
    every = [batch[i, j] for i in range(2) for j in range(3)]
    alone = zip(*(query(scan, x) for x in every), strict=True)
    found = query(scan, batch)
    for of_batch, of_each in zip(found, alone, strict=True):
        assert of_batch.shape[:2] == (2, 3)
        expected = np.stack(of_each).reshape(of_batch.shape)
        np.testing.assert_allclose(of_batch, expected, rtol=1e-12)
    ttfs = eqx.filter_jit(lambda x: jax.vmap(jax.vmap(scan.ttfs))(x))(batch)
    np.testing.assert_array_equal(ttfs, found[0][..., 0])


# The membrane potential decays by 0.99 per step, which bfloat16 resolves to 0.004.
@pytest.mark.parametrize(("dtype", "rtol"), [(jnp.float32, 1e-6), (jnp.bfloat16, 0.2)])
def test_the_dtype_is_that_of_the_weights(dtype, rtol):
    in_times, times = jnp.zeros((2, 1)), jnp.array([0.4])

    @eqx.filter_jit
    def query(scan):
        return (
            scan.simulate(in_times),
            scan.spikes(in_times, 2),
            scan.potentials_at(in_times, times),
        )

    scan = esn.discretise(lone(dtype), 0.1)
    run, spikes, v = query(scan)
    arrays = jax.tree.leaves(eqx.filter((scan, run, spikes, v), eqx.is_inexact_array))
    assert {array.dtype for array in arrays} == {jnp.dtype(dtype)}
    _, *exact = query(esn.discretise(lone(), 0.1))
    for ours, expected in zip((spikes, v), exact, strict=True):
        np.testing.assert_allclose(ours.astype(float), expected, rtol=rtol)


# ------------------------------------------------------------------ what is refused


def refused(message):
    return pytest.raises(ValueError, match=re.escape(message))


def test_what_does_not_fit_is_refused():
    params = problem(QIF, 0)
    with refused("net must be a network of LIF neurons, got QIF neurons."):
        esn.discretise(network(Case(QIF, "exact"), params), 0.1)
    for dt, shown in ((0.0, "0.0"), (-1, "-1"), (np.nan, "nan"), (np.inf, "inf"), ("1", "'1'")):
        with refused(f"dt must be a finite number > 0, got {shown}."):
            esn.discretise(lone(), dt)
    with refused("dt must be at most t_max = 2.0, got 2.5."):
        esn.discretise(lone(), 2.5)
    for v_init in (1.0, 1.5):
        with refused("v_init must be below threshold, got 1."):
            esn.discretise(lone(v_init=v_init), 0.1)
    with refused("surrogate must be a callable"):
        esn.discretise(lone(), 0.1, surrogate="atan")
    scan = esn.discretise(lone(), 0.1)
    with refused("max_spikes must be an integer >= 1, got 0."):
        scan.spikes(jnp.zeros((2, 1)), 0)
    with refused("in_times must have shape (..., 2, k)"):
        scan.ttfs(jnp.zeros((3, 1)))
    with refused("in_times must be >= 0 (inf: no spike) and not NaN, got -1.0"):
        scan.ttfs(jnp.full((2, 1), -1.0))
    with refused("net must be an EventNetwork, got LIF("):
        esn.discretise(esn.LIF(10.0, 5.0), 0.1)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["tau_mem", "tau_syn", "threshold", "v_reset", "bias", "v_init"])
def test_a_network_with_parameters_out_of_range_is_refused(name):
    for value in (np.nan, np.inf, *((0.0, -1.0) if name.startswith("tau") else ())):
        pick = lambda net: getattr(net.neuron, name)  # noqa: E731
        net = eqx.tree_at(pick, lone(), jnp.asarray(value))
        with refused(f"{name} must be finite"):
            esn.discretise(net, 0.1)


def test_weights_that_are_nan_are_refused_where_there_is_a_synapse():
    net, _ = recurrent(LIF_SET, 0)
    hidden = eqx.tree_at(lambda net: net.weights, net, jnp.where(MASK, net.weights, jnp.nan))
    esn.discretise(hidden, 0.1)
    broken = eqx.tree_at(lambda net: net.weights, net, net.weights.at[N, 1].set(jnp.nan))
    assert MASK[N, 1]
    with refused("weights must be finite, got nan at index ("):
        esn.discretise(broken, 0.1)


# ------------------------------------------------------------------ NaN, wrapped parameters


def test_nan_is_no_silence():
    """Under jit no error can be raised: NaN parameters give NaN times, in their sample."""
    net = lone()
    times = jnp.zeros((4, 2, 1)).at[1, 0, 0].set(jnp.nan).at[2, 1, 0].set(-1.0)

    @eqx.filter_jit
    def query(net, times):
        scan = esn.discretise(net, 0.1)
        return scan.bin(times), scan.ttfs(times), scan.spikes(times, 3)

    counts, first, three = query(net, times)
    bad = np.array([False, True, True, False])
    np.testing.assert_array_equal(np.isnan(counts).any(axis=(1, 2)), bad)
    np.testing.assert_array_equal(np.isnan(first)[:, 0], bad)
    np.testing.assert_array_equal(np.isnan(three).all(axis=(1, 2)), bad)
    assert np.all(np.isfinite(first[~bad])) and not np.any(np.isnan(three[~bad]))
    broken = eqx.tree_at(lambda net: net.weights, net, net.weights.at[1, 0].set(jnp.nan))
    assert np.all(np.isnan(query(broken, times)[1]))


def test_a_wrapped_network_gives_the_same_scan():
    net, in_times = recurrent(LIF_SET, 0)
    wrapped = esn.constrain(net, lambda net: (net.neuron.tau_mem, net.neuron.tau_syn))
    scan, of_wrapped = (esn.discretise(n, 0.1) for n in (net, wrapped))
    tight = esn.constrain(of_wrapped, lambda s: s.model.layers[1].beta, esn.Bounded)
    tight = esn.constrain(tight, lambda s: s.model.layers[1].threshold)
    for other in (of_wrapped, tight):
        for ours, expected in zip(query(other, in_times), query(scan, in_times), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_half_precision_counts_steps_beyond_its_integers():
    """bfloat16 has no integer between 256 and 258."""
    in_times = jnp.array([[25.65, 30.55, 39.95], [25.75, 0.05, 39.85]])
    counts = {}
    for dtype in (jnp.bfloat16, jnp.float32):
        scan = esn.discretise(lone(dtype, t_max=40.0), 0.1)
        counts[dtype] = eqx.filter_jit(scan.bin)(in_times)
        assert counts[dtype].dtype == dtype
    np.testing.assert_array_equal(*(np.asarray(c, float) for c in counts.values()))
    expected = np.zeros((400, 2))
    expected[[256, 305, 399], 0] = expected[[257, 0, 398], 1] = 1
    np.testing.assert_array_equal(counts[jnp.float32], expected)
