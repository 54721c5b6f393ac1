"""Times, gradients and errors of networks with transmission delays.

Times are compared with `helpers.reference_delays`, which simulates each neuron separately.
Gradients are compared with central differences of fourth order of the package's own times, entry by
entry, and with Autodiff.
"""

import functools as ft
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers import reference as ref
from helpers import reference_delays as rd
from helpers.delta_lif import DeltaLIF
from helpers.differences import STEP, assert_equal_gradients
from helpers.jitted import simulate
from helpers.registry import RK4, quick

N, N_IN, K, T_MAX, COUNT = 4, 2, 2, 32.0, 5
MASK = np.ones((N + N_IN, N), bool)  # with self-connections
MASK[0, 2] = MASK[1, 1] = MASK[N, 3] = False
QUERY = np.array([23.0, 7.0, 30.5])
SOLVER = {"solver": esn.ODEFlow(RK4(), dt0=0.05, nodes=1), "max_steps": 1000}


# ------------------------------------------------------------------ the cases


class TwoPorts(esn.AbstractNeuron):
    """Neuron with two receptors: tau V' = -V + I, I' = -I/5 for receptor 0; input at receptor 1
    increments
    V."""

    tau: jax.Array
    threshold: jax.Array
    receptors = 2

    def init_state(self, n):
        return jnp.zeros(n), jnp.zeros(n)

    def vector_field(self, s):
        return (s[1] - s[0]) / self.tau, -s[1] / 5.0

    def threshold_gap(self, s):
        return self.threshold - s[0]

    def receive(self, s, current):
        return s[0] + current[1], s[1] + current[0]

    def reset(self, s, spiked):
        return jnp.where(spiked, 0.0, s[0]), s[1]

    def observe(self, s):
        return s[0]


class TwoPortsReference(rd.LIF):
    def receive(self, y, weight):
        return y + np.array([weight[1], weight[0], 0.0])


class Case(NamedTuple):
    """Neurons, given by two functions of the same parameters, and a function that draws the
    parameters."""

    name: str
    axonal: bool
    neuron: Callable
    reference: Callable
    parameters: Callable
    scale: Any  # scale of the weights: a number, or one per column
    options: Mapping[str, Any] = MappingProxyType({})
    receptors: int = 1

    def __str__(self):
        return f"{self.name}-{'axonal' if self.axonal else 'synaptic'}"


def _lif(rng):
    return {
        "tau_mem": rng.uniform(8.0, 12.0, N),
        "tau_syn": rng.uniform(3.0, 6.0, N),
        "threshold": rng.uniform(0.8, 1.2, N),
        "v_reset": rng.uniform(-0.3, 0.3, N),
        "bias": rng.uniform(0.2, 0.9, N),
    }


def _starts_at_reset(p):
    return p | {"v_init": p["v_reset"]}


def _qif(rng):
    return {
        "tau_mem": rng.uniform(8.0, 12.0, N),
        "tau_syn": rng.uniform(3.0, 6.0, N),
        "bias": rng.uniform(0.0, 0.9, N),
    }


def _delta(rng):
    return {
        "tau": rng.uniform(8.0, 12.0, N),
        "bias": rng.uniform(0.9, 1.6, N),
        "threshold": rng.uniform(0.9, 1.1, N),
    }


def _two_ports(rng):
    return {"tau": rng.uniform(8.0, 12.0, N), "threshold": rng.uniform(0.8, 1.2, N)}


def _four_kinds(rng):
    return {
        "tau_mem": rng.uniform(8.0, 12.0, N),
        "tau_syn": rng.uniform(3.0, 6.0, N - 1),
        "period": rng.uniform(2.0, 4.0),
        "bias": rng.uniform(1.2, 3.0),
    }


def mixture(tau_mem, tau_syn, period, bias):
    """Two LIF neurons with a refractory period, a QIF neuron and a theta neuron."""
    lif = esn.Refractory(esn.LIF(tau_mem[:2], tau_syn[:2]), period)
    qif, theta = esn.QIF(tau_mem[2:3], tau_syn[2:3]), esn.Theta(tau_mem[3:], bias)
    return esn.Populations([(lif, 2), (qif, 1), (theta, 1)])


def mixture_reference(tau_mem, tau_syn, period, bias):
    return [
        *(rd.LIF(tau_mem[i], tau_syn[i], period=float(period)) for i in range(2)),
        rd.Solved(ref.QIF(tau_mem[2], tau_syn[2])),
        rd.Solved(ref.Theta(tau_mem[3], bias=bias)),
    ]


def each(model):
    return lambda **p: rd.single(model, **p)


LIF = Case("lif", False, esn.LIF, lambda **p: rd.single(rd.LIF, **_starts_at_reset(p)), _lif, 0.7)
LIF_AXONAL = LIF._replace(axonal=True)
QIF = Case("qif", False, esn.QIF, each(lambda **p: rd.Solved(ref.QIF(**p))), _qif, 9.0)
LIF_BY_SOLVER = LIF._replace(name="lif-ode", options=SOLVER)
DELTA = Case(
    "delta",
    False,
    DeltaLIF,
    each(lambda tau, **p: rd.Delta(tau, **p)),
    _delta,
    0.35,
    SOLVER,
)
PORTS = Case(
    "receptors",
    False,
    TwoPorts,
    each(lambda tau, threshold: TwoPortsReference(tau, 5.0, threshold)),
    _two_ports,
    np.repeat([0.8, 0.15], N),
    SOLVER,
    receptors=2,
)
MIXTURE = Case(
    "mixture", True, mixture, mixture_reference, _four_kinds, np.array([1.2, 1.2, 14.0, 0.5])
)
CASES = [LIF, LIF_AXONAL, LIF_BY_SOLVER, QIF, DELTA, PORTS, MIXTURE]


def problem(case, seed=0):
    """Parameters by name, with `weights`, `delays`, `in_times`."""
    rng = np.random.default_rng(seed)
    columns = case.receptors * N
    weights = case.scale * rng.normal(0.0, 1.0, (N + N_IN, columns))
    weights[N:] = 4 * np.abs(weights[N:])
    delays = rng.uniform(0.5, 7.0, N + N_IN if case.axonal else (N + N_IN, N))
    in_times = rng.uniform(0.0, 12.0, (N_IN, K))
    params = {"weights": weights, "delays": delays, "in_times": in_times}
    arrays = jax.tree.map(np.asarray, params | case.parameters(rng))  # including plain numbers
    return jax.tree.map(jnp.asarray, arrays)


def network(case, params, adjoint=None, **options):
    outer = ("weights", "delays", "in_times")
    return esn.EventNetwork(
        case.neuron(**{k: v for k, v in params.items() if k not in outer}),
        params["weights"],
        np.tile(MASK, case.receptors),
        delays=params.get("delays"),
        outputs=range(N),
        **{
            "t_max": T_MAX,
            "max_events": 60,
            "max_steps": 400,
            "adjoint": adjoint,
            **case.options,
            **options,
        },
    )


def loss(case, adjoint, read, params, functional):
    """Linear functional of the results, and the results."""
    net = network(case, params, adjoint)
    if read == "spikes":
        values = net.spikes(params["in_times"], COUNT, throw=False)
    else:
        values = net.potentials_at(params["in_times"], jnp.asarray(QUERY), throw=False)
    return jnp.sum(functional * jnp.where(jnp.isfinite(values), values, 0.0)), values


@ft.cache
def compiled(key, adjoint, read):
    """Loss, results and gradients in one compiled function."""
    grad = jax.value_and_grad(ft.partial(loss, BY_NAME[key], adjoint, read), has_aux=True)
    return quick(grad)


BY_NAME = {str(case): case for case in CASES}


def run(case, params, functional, adjoint=None, read="spikes"):
    (value, values), grads = compiled(str(case), adjoint, read)(params, functional)
    return float(value), np.asarray(values), grads


def functional_of(read="spikes"):
    shape = (N, COUNT if read == "spikes" else len(QUERY))
    return jax.random.normal(jax.random.key(7), shape)


def by_reference(case, params, **options):
    outer = ("weights", "delays", "in_times")
    p = {k: np.asarray(v) for k, v in params.items()}
    weights = np.moveaxis(p["weights"].reshape(N + N_IN, case.receptors, N), 1, 2)
    return rd.simulate(
        case.reference(**{k: v for k, v in p.items() if k not in outer}),
        weights[..., 0] if case.receptors == 1 else weights,
        p["delays"],
        p["in_times"],
        T_MAX,
        mask=MASK,
        **options,
    )


def padded(trains):
    out = np.full((len(trains), COUNT), np.inf)
    for row, train in zip(out, trains, strict=True):
        row[: len(train[:COUNT])] = train[:COUNT]
    return out


def along(case, params, functional, read, name, way):
    """Central difference with respect to a parameter in one direction."""

    def at(s):
        moved = params | {name: params[name] + s * STEP * way}
        return run(case, moved, functional, read=read)[0]

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * STEP)


def assert_differences(case, params, functional, grads, read="spikes", rtol=3e-8):
    """Entry by entry for LIF neurons; for other neurons along one random direction per parameter,
    because a run takes longer."""
    rng, entries = np.random.default_rng(5), case.neuron is esn.LIF and not case.options
    for name, grad in grads.items():
        ways = np.eye(grad.size) if entries else [rng.normal(size=grad.shape)]
        ways = [np.reshape(way, grad.shape) for way in ways]
        slopes = np.array([along(case, params, functional, read, name, way) for way in ways])
        found = np.array([np.vdot(grad, way) for way in ways])
        scale = np.linalg.norm(grad) * np.linalg.norm(ways[0]) + 1e-300
        np.testing.assert_allclose(found / scale, slopes / scale, rtol=0, atol=rtol, err_msg=name)


# ------------------------------------------------------------------ times and gradients


@pytest.mark.parametrize("case", CASES, ids=str)
def test_times_and_gradients_are_those_of_the_reference(case):
    """Times of three networks against the reference; gradients of one network against
    differences."""
    for seed in range(3):
        params, functional = problem(case, seed), functional_of()
        times, sources, _ = by_reference(case, params)
        assert len(times) >= 4
        _, spikes, grads = run(case, params, functional)
        expected = padded(rd.trains(times, sources, N))
        np.testing.assert_allclose(spikes, expected, rtol=1e-8 if case.options else 1e-10)
        if seed == 0:
            check_gradients(case, params, functional, grads)


def test_membranes_and_their_gradients_are_those_of_the_reference(case=LIF):
    params, functional = problem(case), functional_of("states")
    _, _, seen = by_reference(case, params, query=QUERY)
    _, found, grads = run(case, params, functional, read="states")
    np.testing.assert_allclose(found, seen, rtol=1e-11, atol=1e-13)
    check_gradients(case, params, functional, grads, "states")


def check_gradients(case, params, functional, grads, read="spikes"):
    assert_differences(case, params, functional, grads, read)
    hidden = np.tile(MASK, case.receptors)
    assert np.all(grads["weights"][~hidden] == 0) and np.any(grads["weights"][hidden] != 0)
    if not case.axonal:
        assert np.all(grads["delays"][~MASK] == 0)
    assert np.sum(grads["delays"] != 0) >= (4 if case.axonal else 9)


@pytest.mark.parametrize(
    ("case", "read"),
    [
        (LIF, "spikes"),
        (LIF, "states"),
        (LIF_AXONAL, "spikes"),
    ],
    ids=str,
)
def test_eventprop_is_autodiff(case, read):
    params, functional = problem(case, 1), functional_of(read)
    _, _, actual = run(case, params, functional, read=read)
    _, _, expected = run(case, params, functional, esn.Autodiff(), read)
    assert_equal_gradients(actual, expected, 1e-10)


# ------------------------------------------------------------------ zero delays


def test_no_delay_is_a_delay_of_zero():
    """Zero delays equal no delays, also in the gradients and for both kinds of delays."""
    params, functional = problem(LIF), functional_of()
    without = {k: v for k, v in params.items() if k != "delays"}
    none = quick(jax.value_and_grad(ft.partial(loss, LIF, None, "spikes"), has_aux=True))
    (_, expected), grads = none(without, functional)
    for case, shape in ((LIF, (N + N_IN, N)), (LIF_AXONAL, N + N_IN)):
        _, spikes, found = run(case, without | {"delays": jnp.zeros(shape)}, functional)
        np.testing.assert_allclose(spikes, expected, rtol=1e-13)
        found.pop("delays")
        assert_equal_gradients(found, grads, 1e-11)


@pytest.mark.parametrize("case", [LIF, LIF_AXONAL], ids=str)
def test_the_derivative_at_zero_delay_is_the_right_sided_one(case):
    params, functional = problem(case), functional_of()
    params["delays"] = jnp.zeros_like(params["delays"])
    base, _, grads = run(case, params, functional)
    h, slopes = 1e-4, []
    for k in range(params["delays"].size):
        way = jnp.zeros(params["delays"].size).at[k].set(h).reshape(params["delays"].shape)
        f = [run(case, params | {"delays": m * way}, functional)[0] for m in (1, 2, 3)]
        slopes.append((-11 * base + 18 * f[0] - 9 * f[1] + 2 * f[2]) / (6 * h))
    slopes = np.reshape(slopes, grads["delays"].shape)
    assert np.sum(np.abs(slopes) > 1e-2) >= 4
    assert_equal_gradients(grads, {"delays": slopes}, 1e-7)


# ------------------------------------------------------------------ simultaneous arrivals


@pytest.mark.parametrize("case", [LIF, LIF_AXONAL], ids=str)
def test_arrivals_at_one_instant(case):
    """Equal integer delays, two inputs at the same time, in any order of the channels."""
    functional = functional_of()
    for seed, delay in itertools.product((0, 1), (None, 3.0)):
        params = problem(case, seed)
        whole = jnp.round(params["delays"]) if delay is None else delay
        params["delays"] = jnp.zeros_like(params["delays"]) + whole
        params["in_times"] = jnp.array([[2.0, 5.0], [5.0, 2.0]])
        times, sources, _ = by_reference(case, params)
        _, spikes, grads = run(case, params, functional)
        np.testing.assert_allclose(spikes, padded(rd.trains(times, sources, N)), rtol=1e-10)
        assert_differences(case, params, functional, grads)
        _, again, swapped = run(
            case, params | {"in_times": params["in_times"][:, ::-1]}, functional
        )
        np.testing.assert_allclose(again, spikes, rtol=1e-13)
        np.testing.assert_allclose(swapped["in_times"][:, ::-1], grads["in_times"], rtol=1e-9)


def test_an_arrival_at_the_instant_of_a_crossing_comes_after_it():
    """Strong inhibition that reaches a neuron as it fires does not prevent the spike; earlier, it
    does."""

    @quick
    def spikes(delay):
        weights = jnp.array([[0.0, 0.0], [0.0, 0.0], [6.0, 0.0], [-50.0, 0.0]])
        delays = jnp.stack([1.0, 1.0, 2.0, delay])
        net = esn.EventNetwork(
            esn.LIF(10.0, 5.0), weights, delays=delays, outputs=(0,), t_max=30.0, max_events=9
        )
        return net.spikes(jnp.array([[1.0], [0.0]]), 2, throw=False)[0]

    crossing = spikes(jnp.asarray(25.0))[0]
    np.testing.assert_array_equal(spikes(crossing), [crossing, jnp.inf])
    assert np.all(np.isinf(spikes(crossing - 1e-7)))


def test_a_crossing_soon_after_an_arrival():
    """For any interval, however short: the search for the crossing starts at the arrival."""

    def first(delayed, at):
        in_times = jnp.stack([jnp.array([4.0]), at[None] - 1.0])
        delays = jnp.array([0.0, 1.0, 1.0]) if delayed else None
        net = esn.EventNetwork(
            esn.QIF(10.0, 5.0, bias=0.15),
            jnp.array([[0.0], [40.0], [30.0]]),
            delays=delays,
            outputs=(0,),
            t_max=30.0,
        )
        return net.ttfs(in_times if delayed else in_times + 1.0, throw=False)[0]

    late, at_once = (quick(ft.partial(first, delayed)) for delayed in (True, False))
    crossing = at_once(jnp.asarray(25.0))
    for before in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9):
        at = crossing - before
        np.testing.assert_allclose(late(at), at_once(at), rtol=1e-13)


# ------------------------------------------------------------------ number of iterations


def fanned_out(n, axonal=False):
    """One input spike that reaches each neuron after a different delay."""
    weights = jnp.zeros((n + 1, n)).at[n].set(jnp.linspace(2.0, 6.0, n))
    delays = jnp.zeros((n + 1, n)).at[n].set(jnp.linspace(1.0, 9.0, n))
    return esn.EventNetwork(
        esn.LIF(10.0, 5.0), weights, delays=delays, outputs=(0,), t_max=20.0, max_events=200
    )


def test_a_spike_that_arrives_at_many_times_is_not_many_segments():
    solution = simulate(fanned_out(24), jnp.array([[1.0]]))
    assert bool(solution.status == esn.Status.completed)
    silent = int(solution.stats["spikes"])
    assert int(solution.stats["steps"]) <= silent + 4
    quiet = eqx.tree_at(lambda net: net.weights, fanned_out(24), replace_fn=lambda w: 0.1 * w)
    assert int(simulate(quiet, jnp.array([[1.0]])).stats["steps"]) <= 3


# ------------------------------------------------------------------ dropped arrivals, full queues


def test_arrivals_after_t_max_are_dropped():
    params, functional = problem(LIF), functional_of()
    params["delays"] = params["delays"].at[N].set(T_MAX).at[0].set(1e6)
    times, sources, _ = by_reference(LIF, params)
    _, spikes, grads = run(LIF, params, functional)
    np.testing.assert_allclose(spikes, padded(rd.trains(times, sources, N)), rtol=1e-10)
    for name in ("weights", "delays"):
        assert np.all(grads[name][jnp.array([0, N])] == 0)
    assert np.all(grads["in_times"][0] == 0)


def bursts(queue_capacity, delay=10.0):
    """One neuron that fires after each input spike, and a second one that receives its spikes
    later."""
    return esn.EventNetwork(
        esn.LIF(10.0, 2.0),
        jnp.array([[0.0, 1.0], [0.0, 0.0], [12.0, 0.0]]),
        delays=jnp.array([delay, 0.0, 0.5]),
        outputs=(0, 1),
        t_max=30.0,
        max_events=40,
        queue_capacity=queue_capacity,
    )


BURSTS = np.array([[[np.inf] * 3], [[1.0, 5.0, 8.0]], [[2.0, np.inf, np.inf]]])  # three samples


def test_a_full_queue_is_a_status_of_its_sample():
    narrow, wide = (bursts(capacity).simulate(BURSTS, throw=False) for capacity in (2, 30))
    full = narrow.status == esn.Status.queue_overflow
    np.testing.assert_array_equal(full, [False, True, False])
    assert np.all(wide.status == esn.Status.completed)
    for sample in (0, 2):
        np.testing.assert_array_equal(narrow.times[sample], wide.times[sample])
    assert int(wide.stats["spikes"][1]) > 3
    with pytest.raises(RuntimeError, match=r"^1 of 3 samples: .*queue_capacity"):
        bursts(2).simulate(BURSTS)


def test_spikes_that_arrive_after_t_max_occupy_no_slot():
    solution = bursts(2, delay=40.0).simulate(BURSTS, throw=False)
    assert np.all(solution.status == esn.Status.completed)
    assert int(solution.stats["spikes"][1]) >= 3


def test_a_batch_is_a_loop_is_a_vmap():
    params = problem(LIF)
    net = network(LIF, params)
    batch = jnp.stack([params["in_times"] + k for k in range(3)])

    @eqx.filter_jit
    def together(net, batch):
        return net.spikes(batch, 3, throw=False), jax.vmap(lambda x: net.spikes(x, 3, throw=False))(
            batch
        )

    whole, mapped = together(net, batch)
    np.testing.assert_array_equal(whole, mapped)
    for sample, in_times in zip(whole, batch, strict=True):
        _, alone, _ = run(LIF, params | {"in_times": in_times}, functional_of())
        np.testing.assert_allclose(sample, alone[:, :3], rtol=1e-13)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("delays", "message"),
    [
        (np.full(3, -1.0), "delays must be finite and >= 0, got"),
        (np.array([0.0, np.nan, 1.0]), "delays must be finite and >= 0, got"),
        (np.array([0.0, np.inf, 1.0]), "delays must be finite and >= 0, got"),
        (np.zeros(2), r"delays must have shape \(3,\) \(axonal\) or \(3, 2\) \(synaptic\), got"),
        (np.zeros((2, 3)), r"delays must have shape \(3,\)"),
    ],
)
def test_delays_that_cannot_be_are_refused(delays, message):
    with pytest.raises(ValueError, match=f"^{message}") as error:
        esn.EventNetwork(
            esn.LIF(10.0, 5.0), np.zeros((3, 2)), delays=delays, outputs=(0,), t_max=9.0
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, "many"])
def test_a_queue_has_room_for_a_whole_number_of_spikes(capacity):
    with pytest.raises(ValueError, match=r"^queue_capacity must be an integer >= 1, got"):
        esn.EventNetwork(
            esn.LIF(10.0, 5.0), np.zeros((3, 2)), outputs=(0,), t_max=9.0, queue_capacity=capacity
        )


def test_under_jit_they_are_a_status():
    @quick
    def solve(delay):
        net = esn.EventNetwork(
            esn.LIF(10.0, 5.0),
            jnp.array([[0.0], [6.0]]),
            delays=jnp.stack([1.0, delay]),
            outputs=(0,),
            t_max=9.0,
            max_events=5,
        )
        return net.simulate(jnp.array([[1.0]]), throw=False).status

    for delay in (-1.0, jnp.nan):
        assert bool(solve(jnp.asarray(delay)) == esn.Status.invalid_parameters)
    assert bool(solve(jnp.asarray(0.5)) == esn.Status.completed)
