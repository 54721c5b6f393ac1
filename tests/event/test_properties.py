"""Properties of every model, for networks and inputs drawn by hypothesis.

The draws are the same in every run. A case is a model with its flow, and optionally delays. There
is one compiled program per case, for two samples: runs differ in numbers, not in shapes.
"""

import dataclasses
import functools as ft

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import eventsnn as esn
from eventsnn.event.solution import MEMBERS
from helpers import jitted
from helpers.draws import REPRODUCIBLE
from helpers.registry import (
    ALIF,
    LIF_SET,
    MASK,
    MIXTURE,
    N_IN,
    QIF,
    REFRACTORY_LIF,
    THETA,
    Case,
    K,
    N,
    network,
    problem,
    quick,
    rk4,
)

T_MAX, SHORT = 50.0, 27.5
INF = np.inf


@dataclasses.dataclass(frozen=True)
class Law:
    case: Case
    delays: bool = False
    atol: float = 1e-9  # ms

    def __str__(self):
        return f"{self.case}{'-delays' if self.delays else ''}"


LIF = Law(Case(LIF_SET, "exact"))
QUADRATIC = Law(Case(QIF, "exact"))
PULSED = Law(Case(THETA, "exact"))
DELAYED = Law(Case(REFRACTORY_LIF, "exact"), delays=True)
SOLVED = Law(Case(ALIF, "ode", rk4(0.1)), atol=1e-5)
LAWS = [LIF, QUADRATIC, PULSED, Law(Case(MIXTURE, "exact")), DELAYED, SOLVED]


TIME = st.one_of(st.floats(0.0, 40.0), st.integers(0, 40).map(float), st.just(INF))
DRAWS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**20),
        "gain": st.sampled_from([0.2, 1.0, 1.0, 2.0]),  # scale of the weights
        "ratio": st.sampled_from([0.3, 1.0, 1.0 + 1e-9, 2.5, 20.0]),  # scale of the time constants
        "times": st.lists(TIME, min_size=N_IN * K, max_size=N_IN * K),
    }
)


def drawn(law, draw):
    """Arrays by name, and a generator for the changes that a test makes."""
    rng = np.random.default_rng(draw["seed"])
    p = problem(law.case.model, draw["seed"], ratio=draw["ratio"])
    p["weights"] = p["weights"] * draw["gain"]
    other = p["in_times"]
    p["in_times"] = np.stack([np.reshape(draw["times"], (N_IN, K)), other])
    p["mask"] = MASK.copy()
    if law.delays:
        p["delays"] = np.round(rng.uniform(0.0, 6.0, MASK.shape), 1)
    return p, rng


@ft.cache
def compiled(law, query=None, **options):
    """Compiled function of the arrays; `query` is the name of a query, or the times of
    potentials."""

    @quick
    def of(p):
        p = dict(p)
        times = p.pop(query, None)
        p, options_of_arrays = split(p)
        net = network(law.case, p, **{"t_max": T_MAX, **options, **options_of_arrays})
        if query is not None:
            return net.potentials_at(p["in_times"], times, throw=False)
        solution = net.simulate(p["in_times"], throw=False)
        statuses = jnp.stack([solution.status == getattr(esn.Status, x) for x in MEMBERS], -1)
        return solution.times, solution.sources, statuses

    return of


def split(p):
    arguments = {k: v for k, v in p.items() if k in ("mask", "delays")}
    return {k: v for k, v in p.items() if k not in arguments}, arguments


def run(law, p, **options):
    """Spike trains of each sample, if all samples are complete."""
    times, sources, statuses = (np.asarray(x) for x in compiled(law, **options)(p))
    assume(np.all(statuses[:, MEMBERS.index("completed")]))
    return [[t[s == i] for i in range(N)] for t, s in zip(times, sources, strict=True)]


def assert_trains(law, found, expected, until=T_MAX, *, but=None):
    """Compare the trains of one sample for all neurons except one."""
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        if i != but:
            np.testing.assert_allclose(a[a <= until], b[b <= until], rtol=0, atol=law.atol)


def property_of(laws, examples=8, *cases, **more):
    """Decorate a test of a property with a draw, further arguments and, if given, cases."""

    def decorate(test):
        settled = settings(REPRODUCIBLE, max_examples=examples)
        test = given(draw=DRAWS, **more)(test)
        for one in cases:
            test = example(**one)(test)
        return pytest.mark.parametrize("law", laws, ids=str)(settled(test))

    return decorate


# ------------------------------------------------------------------ symmetries


def permuted_neurons(law, p, order):
    """Also for a mixture of pairs, in which the two neurons of each pair are exchanged."""
    rows = np.concatenate([order, np.arange(N, N + N_IN)])
    out = {k: x[order] if np.shape(x) == (N,) else x for k, x in p.items()}
    out |= {k: x[::-1] for k, x in p.items() if np.shape(x) == (2,)}
    return out | {k: p[k][rows][:, order] for k in ("weights", "mask", "delays") if k in p}


@property_of(LAWS)
def test_the_order_of_neurons_has_no_influence(law, draw):
    p, rng = drawn(law, draw)
    order = np.array([1, 0, 3, 2, 5, 4]) if law.case.model is MIXTURE else rng.permutation(N)
    found = run(law, permuted_neurons(law, p, order))
    for a, b in zip(found, run(law, p), strict=True):
        assert_trains(law, a, [b[i] for i in order])


@property_of(LAWS)
def test_the_order_of_inputs_and_of_samples_has_no_influence(law, draw):
    p, rng = drawn(law, draw)
    rows = np.concatenate([np.arange(N), N + np.arange(N_IN)[::-1]])
    swapped = p | {k: p[k][rows] for k in ("weights", "mask", "delays") if k in p}
    swapped["in_times"] = rng.permuted(p["in_times"][::-1, ::-1], axis=-1)
    for a, b in zip(run(law, swapped), run(law, p)[::-1], strict=True):
        assert_trains(law, a, b)


@property_of(LAWS, examples=4)
def test_a_sample_does_not_depend_on_the_others(law, draw):
    p, _ = drawn(law, draw)
    expected = run(law, p)[0]
    for other in (p["in_times"][0], np.full((N_IN, K), np.nan), np.full((N_IN, K), INF)):
        times, sources, statuses = compiled(law)(
            p | {"in_times": np.stack([p["in_times"][0], other])}
        )
        bad = "invalid_input" if np.isnan(other).any() else "completed"
        assert statuses[0, MEMBERS.index("completed")] and statuses[1, MEMBERS.index(bad)]
        found = [np.asarray(times[0])[np.asarray(sources[0]) == i] for i in range(N)]
        assert_trains(law, found, expected)


def at_rest(p):
    """Initial state that is stationary until the first arrival (a theta neuron has none)."""
    p = dict(p)
    for key in [k for k in p if k.endswith("bias")]:
        start = key.removesuffix("bias")
        threshold = p.get(f"{start}threshold")
        if threshold is not None:
            p[key] = np.minimum(p[key], threshold - 0.05)
        if threshold is not None or start == "integrator_":
            p[f"{start}v_init"] = p[key]
        else:
            p[key] = np.minimum(p[key], 0.2)
            p[f"{start}v_init"] = 0.5 - np.sqrt(0.25 - p[key])
    return p


@property_of([law for law in LAWS if law is not PULSED], shift=st.floats(0.0, 25.0))
def test_a_shift_of_all_inputs_shifts_all_spikes(law, draw, shift):
    p = at_rest(drawn(law, draw)[0])
    later = run(law, p | {"in_times": p["in_times"] + shift})
    for a, b in zip(later, run(law, p), strict=True):
        assert_trains(law, [t - shift for t in a], b, T_MAX - shift)


# (The steps of a solver are not scaled, nor is its error.)
@property_of([law for law in LAWS if law is not SOLVED], factor=st.sampled_from([2.0, 1.3, 3.7]))
def test_slower_time_constants_scale_all_times(law, draw, factor):
    p, _ = drawn(law, draw)
    keys = [k for k in p if "tau_" in k or k in ("period", "delays", "in_times")]
    slower = run(law, p | {k: factor * p[k] for k in keys})
    for a, b in zip(slower, run(law, p), strict=True):
        assert_trains(law, [t / factor for t in a], b, T_MAX / factor)


# ------------------------------------------------------------------ changes without influence


@property_of(LAWS)
def test_an_input_without_weights_has_no_influence(law, draw):
    p, rng = drawn(law, draw)
    p["weights"][N + 1] = 0.0
    other = p["in_times"].copy()
    other[:, 1] = rng.uniform(0.0, T_MAX, other[:, 1].shape)
    for a, b in zip(run(law, p | {"in_times": other}), run(law, p), strict=True):
        assert_trains(law, a, b)


@property_of(LAWS)
def test_the_weights_of_a_silent_source_have_no_influence(law, draw):
    p, rng = drawn(law, draw)
    trains = run(law, p)
    silent = [all(sample[i].size == 0 for sample in trains) for i in range(N)]
    silent += np.all(np.isinf(p["in_times"]), axis=(0, 2)).tolist()
    other = np.where(np.array(silent)[:, None], rng.normal(size=MASK.shape), p["weights"])
    for a, b in zip(run(law, p | {"weights": other}), trains, strict=True):
        assert_trains(law, a, b)


@property_of(LAWS, who=st.integers(0, N - 1))
def test_a_neuron_without_targets_has_no_influence(law, draw, who):
    p, rng = drawn(law, draw)
    p["weights"][who] = 0.0
    other = p["weights"].copy()
    other[:, who] = rng.normal(size=N + N_IN) * law.case.model.scale
    for a, b in zip(run(law, p | {"weights": other}), run(law, p), strict=True):
        assert_trains(law, a, b, but=who)


@property_of(LAWS)
def test_a_synapse_that_does_not_exist_has_weight_zero(law, draw):
    p, rng = drawn(law, draw)
    mask = rng.random(MASK.shape) < 0.6
    zero = p | {"mask": np.ones_like(MASK), "weights": np.where(mask, p["weights"], 0.0)}
    for a, b in zip(run(law, p | {"mask": mask}), run(law, zero), strict=True):
        assert_trains(law, a, b)


# ------------------------------------------------------------------ interrupted and continued runs


@property_of([LIF, DELAYED])
def test_a_shorter_run_is_the_beginning_of_a_longer_one(law, draw):
    p, _ = drawn(law, draw)
    for a, b in zip(run(law, p, t_max=SHORT), run(law, p), strict=True):
        assert_trains(law, a, b, SHORT)


@property_of([LIF, DELAYED], times=st.lists(st.floats(0.0, T_MAX), min_size=6, max_size=6))
def test_states_do_not_depend_on_when_else_they_are_observed(law, draw, times):
    p, rng = drawn(law, draw)
    run(law, p)
    first, second = (
        np.array(compiled(law, query="query")(p | {"query": np.concatenate([times, others])}))
        for others in (rng.uniform(0.0, T_MAX, 6), np.linspace(0.0, T_MAX, 6))
    )
    assert np.all(np.isfinite(first))
    np.testing.assert_allclose(first[..., :6], second[..., :6], rtol=0, atol=1e-9)


@property_of([PULSED], cut=st.floats(1.0, 30.0))
def test_a_run_continues_from_its_state(law, draw, cut):
    """The state of a theta neuron is its potential, which serves as the initial state of a second
    run."""
    p, _ = drawn(law, draw)
    p["in_times"][1] = p["in_times"][0]
    p["in_times"] = np.where(p["in_times"] == cut, INF, p["in_times"])
    states = compiled(law, query="query")(p | {"query": np.full(12, cut)})[0, :, 0]
    later = np.where(p["in_times"] > cut, p["in_times"] - cut, INF)
    found = run(law, p | {"v_init": np.asarray(states), "in_times": later})[0]
    whole = [t[t > cut] - cut for t in run(law, p)[0]]
    assert_trains(law, found, whole, T_MAX - cut)


# ------------------------------------------------------------------ statuses, precision

BAD = st.sampled_from([np.nan, INF, -INF, -1.0, 0.0, 5e-324, 1e-300, 1e12, 1e300])


BUSY = {"seed": 3, "gain": 1.0, "ratio": 2.5, "times": [1.0, 2.0, 3.0, 1.5, 2.5, INF]}
SUBNORMAL = {"seed": 0, "gain": 0.2, "ratio": 0.3, "times": [0.0, 0.0, 0.0, 0.0, 2e-311, 0.0]}
LIMITS = {"max_events": 12, "queue_capacity": 8}


def spoilt(p, value, where):
    """Replace one entry by the given value; return the array's name, and whether its synapse
    exists."""
    names = sorted(k for k in p if k != "mask")
    name, place = names[where % len(names)], where // len(names) % p[names[where % len(names)]].size
    array = p[name].copy()
    array.reshape(-1)[place] = value
    exists = p["mask"].reshape(-1)[place] if name in ("weights", "delays") else True
    return p | {name: array}, name, exists


def expected_status(name, value, exists):
    """Expected statuses of both samples, where they can be predicted."""
    if exists and name not in ("in_times", "delays") and not np.isfinite(value):
        return "not_finite"
    not_negative = exists and name in ("delays", "period")
    if (name in ("tau_mem", "tau_syn") and value <= 0) or (not_negative and not value >= 0):
        return "invalid_parameters"
    return None


@property_of([LIF, DELAYED], 40, value=BAD, where=st.integers(0, 10**6))
def test_a_status_is_always_set(law, draw, value, where):
    p, name, exists = spoilt(drawn(law, draw)[0], value, where)
    statuses = np.asarray(compiled(law, **LIMITS)(p)[2])
    np.testing.assert_array_equal(np.sum(statuses, axis=1), 1)
    expected = expected_status(name, value, exists)
    if expected is not None:
        assert np.all(statuses[:, MEMBERS.index(expected)])
    if name == "in_times":
        invalid = statuses[:, MEMBERS.index("invalid_input")]
        bad = np.isnan(p["in_times"]) | (p["in_times"] < 0)
        np.testing.assert_array_equal(invalid, np.any(bad, axis=(1, 2)))


@property_of(
    [LIF, DELAYED],
    40,
    {"draw": BUSY, "value": -1.0, "where": 2},
    {"draw": SUBNORMAL, "value": -1.0, "where": 0},
    value=BAD,
    where=st.integers(0, 10**6),
)
def test_the_record_is_in_order_and_padded(law, draw, value, where):
    p, _, _ = spoilt(drawn(law, draw)[0], value, where)
    times, sources, _ = (np.asarray(x) for x in compiled(law, **LIMITS)(p))
    events = sources >= 0
    np.testing.assert_array_equal(events, np.isfinite(times))
    assert np.all(np.diff(events.astype(int), axis=1) <= 0)  # the padding comes last
    assert np.all(np.diff(np.where(events, times, 1e9), axis=1) >= 0)
    assert np.all((sources >= -1) & (sources < N + N_IN))
    assert np.all((times >= 0) & ((times <= T_MAX) | ~events))


@property_of(
    [LIF, DELAYED],
    20,
    {"draw": BUSY},
)
def test_a_run_that_is_complete_has_all_spikes(law, draw):
    p, _ = drawn(law, draw)
    times, sources, statuses = (np.asarray(x) for x in compiled(law, **LIMITS)(p))
    for k, whole in enumerate(run(law, p)):
        if statuses[k, MEMBERS.index("completed")]:
            assert_trains(law, [times[k][sources[k] == i] for i in range(N)], whole)


@property_of([LIF, QUADRATIC, DELAYED])
def test_float32_is_close_to_float64(law, draw):
    """To the accuracy given by the effect of a relative change of all numbers by 1e-6 on the
    times."""
    p, _ = drawn(law, draw)
    exact = run(law, p)
    numbers = {k: x for k, x in p.items() if k != "mask"}
    moved = [run(law, p | {k: x * (1 + e) for k, x in numbers.items()}) for e in (1e-6, -1e-6)]
    found = run(law, p | {k: np.asarray(x, np.float32) for k, x in numbers.items()})
    for k, sample in enumerate(exact):
        for i, train in enumerate(sample):
            assume(all(other[k][i].size == train.size for other in moved))
            spread = max(np.max(np.abs(m[k][i] - train), initial=0.0) for m in moved)
            np.testing.assert_allclose(found[k][i], train, rtol=0, atol=2e-4 + 20 * spread)


# ------------------------------------------------------------------ regression cases


@eqx.filter_jit
def first_spikes(bias, arrivals):
    """First spikes of an LIF neuron with the given bias, for each of these inputs to another
    neuron."""
    weights = jnp.zeros((3, 2), bias.dtype).at[2, 1].set(0.5)
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=bias), weights, outputs=(0,), t_max=2000.0, max_events=300
    )
    return net.ttfs(arrivals[:, None, None], throw=False)[:, 0]


APPROACHES = [(np.float64, 1.0), (np.float64, 12.0), (np.float64, 0.0)]
APPROACHES += [(np.float32, 1.0), (np.float32, 12.0), (np.float32, 0.0)]


@pytest.mark.parametrize("dtype, ulps", APPROACHES)
def test_a_potential_that_approaches_its_threshold_never_fires(dtype, ulps):
    """V = b (1 - exp(-t/tau)) < b, which is at the threshold or some ulps below it."""
    bias = np.full(2, 1.0 - ulps * np.finfo(dtype).epsneg, dtype)
    assert np.all(np.isinf(first_spikes(bias, np.array([150.0, 1500.0, INF], dtype))))


def test_a_bias_just_above_the_threshold_fires():
    """At tau log(b / (b - 1)), where V has a rounding error of about 1e-16 and the speed is the
    excess."""
    for excess in (1e-3, 1e-6, 1e-9):
        expected = 10.0 * np.log((1.0 + excess) / ((1.0 + excess) - 1.0))
        found = first_spikes(np.full(2, 1.0 + excess), np.array([150.0, 1500.0, INF]))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 / excess)


@pytest.mark.parametrize("delays", [None, np.full(2, 0.5, np.float32)], ids=["at once", "delays"])
def test_float32_times_do_not_drift(delays):
    """A neuron that fires regularly for 1e4 ms; the times are accurate to their own rounding."""
    period = 10.0 * np.log(float(np.float32(1.7)) / (float(np.float32(1.7)) - 1.0))
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=np.array([1.7], np.float32)),
        np.zeros((2, 1), np.float32),
        delays=delays,
        outputs=(0,),
        t_max=1e4,
        max_events=1500,
    )
    solution = jitted.simulate(net, np.full((1, 1), INF, np.float32))
    count = int(1e4 / period)
    assert solution.stats["spikes"] == count
    expected = period * np.arange(1, count + 1)
    np.testing.assert_allclose(solution.times[:count], expected, rtol=2e-7, atol=5e-4)
