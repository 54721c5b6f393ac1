"""Neuron models other than LIF and QIF: general properties of all, and specific properties of each.

The loop and the adjoints, which are common to all models, are tested extensively on LIF and QIF.
"""

import functools as ft

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.engine.system import add_batch_axis
from eventsnn.event.flows import ExactIntegrator, PopulationsFlow, RefractoryFlow, exact_flow
from helpers import reference as ref
from helpers.jitted import events_of
from helpers.registry import (
    ALIF,
    EGRU,
    EIF,
    FLOWS,
    FURTHER,
    INTEGRATOR,
    IZHIKEVICH,
    LIF_SET,
    MIXTURE,
    QIF,
    REFRACTORY_OWN,
    REFRACTORY_QIF,
    THETA,
    TWO_COMPARTMENT,
    Case,
    N,
    mask_of,
    network,
    problem,
    quick,
    reference,
    rk4,
)

RATIO = np.array([2.0, 1.0, 0.5, 1.7, 1 - 1e-9, 4.0])
SHORT = {"t_max": 25.0, "max_events": 80}
COUNT = 3  # spikes per neuron
QUERY = np.array([21.0, 4.0, 14.5])
STEP = 1e-5
NONE = np.zeros((0, 0))
MIXED = (MIXTURE, FLOWS)
LOW = esn.TaylorQIF(order=8)
AUTODIFF = {  # series of low order in short segments: their derivatives compile quickly
    REFRACTORY_QIF: {"solver": RefractoryFlow(LOW), "max_steps": 2000},
    MIXTURE: {
        "solver": PopulationsFlow((esn.ExactLIF(), LOW, ExactIntegrator())),
        "max_steps": 2000,
    },
}


def draw(case, seed=3):
    """Draw a problem in which every input arrives, so that all times may be perturbed both ways."""
    params = problem(case.model, seed, RATIO, until=15.0)
    params["in_times"] = np.where(np.isfinite(params["in_times"]), params["in_times"], 9.0)
    return jax.tree.map(jnp.asarray, params)


def parameters_of(params):
    return {k: v for k, v in params.items() if k not in ("weights", "in_times")}


# ------------------------------------------------------------------ general properties


def loss(case, adjoint, params, functional, **options):
    """Linear functional of the spikes that occur, or of potentials if not all neurons fire."""
    net = network(case, params, **SHORT, adjoint=adjoint, **options)
    if case.model.fires:
        seen = net.spikes(params["in_times"], COUNT, throw=False)
    else:
        seen = net.potentials_at(params["in_times"], jnp.asarray(QUERY), throw=False)
    return jnp.sum(functional * jnp.where(jnp.isfinite(seen), seen, 0.0)), seen


def value_and_grad(case, adjoint, **options):
    run = jax.value_and_grad(ft.partial(loss, case, adjoint, **options), has_aux=True)
    return quick(run)


def expected(case, params):
    query = () if case.model.fires else QUERY
    record = reference(case.model, params, t_max=SHORT["t_max"], query=query)
    if not case.model.fires:
        assert np.max(record.seen) > 1.5
        return record.seen
    found = np.full((N, COUNT), np.inf)
    for i in range(N):
        found[i, : record.spikes(i).size] = record.spikes(i)[:COUNT]
    assert np.isfinite(found).sum() >= 2 * N
    return found


def close(grads, expected, atol):
    for name in expected:
        scale = np.max(np.abs(expected[name]))
        np.testing.assert_allclose(
            grads[name] / scale, expected[name] / scale, rtol=0, atol=atol, err_msg=name
        )


def samples_alone(run, params, functional, seen):
    """Gradients per sample, from batches of two copies; checks that the results are those of the
    batch."""
    grads = []
    for k, in_times in enumerate(params["in_times"]):
        twice = params | {"in_times": jnp.stack([in_times, in_times])}
        (_, twins), double = run(twice, functional[jnp.array([k, k])])
        np.testing.assert_allclose(twins, seen[jnp.array([k, k])], rtol=1e-14)
        grads.append({name: g[0] if name == "in_times" else g / 2 for name, g in double.items()})
    return grads


def central_difference(run, params, functional, name, way):
    moved = [params | {name: params[name] + k * STEP * way} for k in (1, -1, 2, -2)]
    near, near_minus, far, far_minus = (run(p, functional)[0][0] for p in moved)
    return (8 * (near - near_minus) - (far - far_minus)) / (12 * STEP)


@pytest.mark.parametrize("case", FURTHER, ids=str)
def test_general_properties(case, getkey):
    """General properties: a batch equals its samples; spikes equal the reference; EventProp
    equals central differences along a random direction in each parameter separately; Autodiff =
    EventProp."""
    params, functional = draw(case), jax.random.normal(getkey(), (2, N, COUNT))
    params["in_times"] = params["in_times"] * jnp.array([1.0, 0.7])[:, None, None]
    run = value_and_grad(case, esn.EventProp())
    (value, seen), grads = run(params, functional)

    alone = samples_alone(run, params, functional, seen)
    total = {name: alone[0][name] + alone[1][name] for name in params}
    total["in_times"] = jnp.stack([one["in_times"] for one in alone])
    close(grads, total, 1e-12)

    first = params | {"in_times": params["in_times"][0]}
    exact = case.flow == "exact"
    np.testing.assert_allclose(seen[0], expected(case, first), rtol=1e-10 if exact else 1e-7)

    for name, grad in grads.items():
        acts = grad.size
        if name == "weights":
            acts = mask_of(case.model)[N if case.model is INTEGRATOR else 0 :].sum()
        assert np.sum(np.abs(grad) > 1e-9) > 0.4 * acts, name
        way = jax.random.normal(getkey(), grad.shape)
        slope = central_difference(run, params, functional, name, way)
        atol = 2e-8 * jnp.linalg.norm(grad) * jnp.linalg.norm(way) + 4 * np.spacing(value) / STEP
        np.testing.assert_allclose(jnp.vdot(grad, way), slope, rtol=0, atol=atol, err_msg=name)

    if exact or case.model in (EGRU, FLOWS):  # the others, like LIF with a solver
        (_, found), autodiff = value_and_grad(case, esn.Autodiff(), **AUTODIFF.get(case.model, {}))(
            first, functional[0]
        )
        np.testing.assert_allclose(found, seen[0], rtol=1e-13)
        close(alone[0], autodiff, 1e-10)


def neuron_of(case):
    return case.model.neuron(**parameters_of(draw(case)))


def spread(state, getkey, size):
    return jax.tree.map(lambda x: x[:, None] + jax.random.normal(getkey(), (N, size)), state)


@pytest.mark.parametrize("case", [case for case in FURTHER if case.model not in MIXED], ids=str)
def test_methods_are_elementwise(case, getkey):
    """On a batch in the last axis, with reshaped parameters, they act as on each sample."""
    neuron = neuron_of(case)
    batch = spread(neuron.init_state(N), getkey, 3)
    current = jax.random.normal(getkey(), (neuron.receptors, N, 3))
    current = current[0] if neuron.receptors == 1 else current
    spiked = jax.random.bernoulli(getkey(), shape=(N, 3))

    def all_of(neuron, state, current, spiked):
        after = neuron.reset(neuron.receive(state, current), spiked)
        return after, neuron.vector_field(state), neuron.threshold_gap(state), neuron.observe(state)

    together = all_of(add_batch_axis(neuron), batch, current, spiked)
    for k in range(3):
        state = jax.tree.map(lambda x, k=k: x[:, k], batch)
        alone = all_of(neuron, state, current[..., k], spiked[:, k])
        jax.tree.map(
            lambda a, b, k=k: np.testing.assert_allclose(a[:, k], b, rtol=1e-14), together, alone
        )


HOLD = (LIF_SET, QIF, THETA, ALIF, EIF, IZHIKEVICH, EGRU, TWO_COMPARTMENT)
HELD = [Case(model, "exact") for model in HOLD]


@pytest.mark.parametrize("case", HELD, ids=lambda case: case.model.name)
def test_a_clamped_potential_is_constant_while_other_components_evolve(case, getkey):
    neuron = neuron_of(case)
    state, neuron = spread(neuron.init_state(N), getkey, 3), add_batch_axis(neuron)
    for held, before in zip(neuron.advance_clamped(state, jnp.zeros(3)), state, strict=True):
        np.testing.assert_allclose(held, before, rtol=1e-14)
    dt = jax.random.uniform(getkey(), (N, 3), maxval=9.0)
    held, rate = jax.jvp(lambda dt: neuron.advance_clamped(state, dt), (dt,), (jnp.ones_like(dt),))
    velocity = neuron.vector_field(held)
    for name in state._fields:
        moves = name not in ("v", "y", "c", "soma")
        expected = getattr(velocity, name) if moves else np.zeros((N, 3))
        np.testing.assert_allclose(getattr(rate, name), expected, atol=1e-13)


@pytest.mark.parametrize("case", FURTHER[:2], ids=str)
def test_the_exact_flow_is_the_ode_flow(case, getkey):
    neuron = case.model.neuron(**parameters_of(draw(case)))
    start = jax.tree.map(lambda x: jax.random.normal(getkey(), (N, 3)), neuron.init_state(N))
    neuron, dt, steps = add_batch_axis(neuron), jnp.array([0.0, 1.0, 23.0]), 40
    end, step = start, jax.jit(ft.partial(esn.ODEFlow(dfx.Dopri8(), dt0=1.0).advance, neuron))
    for _ in range(steps):
        end = step(end, dt / steps)
    exact = exact_flow(neuron).advance(neuron, start, dt)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), exact, end)


# ------------------------------------------------------------------ theta


TAU = 8.0


def one_theta(weight=0.0, bias=1.25):
    """Theta neuron from V = 1/2, the middle of the cycle; for b = 5/4, V = 1/2 + tan(t/TAU)."""
    return esn.EventNetwork(
        esn.Theta(TAU, bias, v_init=0.5),
        jnp.array([[0.0], [weight]]),
        outputs=(0,),
        t_max=100.0,
        max_events=40,
    )


def test_theta_oscillates():
    period = TAU * np.pi / np.sqrt(0.75)
    times, _ = events_of(one_theta(bias=1.0), [[np.inf, np.inf]])
    np.testing.assert_allclose(times, period * (np.arange(times.size) + 0.5), rtol=1e-13)
    assert times.size == 3


@pytest.mark.parametrize("weight", [0.7, -3.0, 1e6, -1e6])
def test_theta_phase_response(weight):
    at = 5.0
    times, sources = events_of(one_theta(weight), [[at, np.inf]])
    assert sources[0] == 1 and times[1] > at  # no pulse of any size makes it fire
    first = at + TAU * (np.pi / 2 - np.arctan(np.tan(at / TAU) + weight))
    np.testing.assert_allclose(times[1], first, rtol=1e-11)
    np.testing.assert_allclose(np.diff(times[1:]), TAU * np.pi, rtol=1e-13)


def test_tied_theta_neurons_stay_synchronous():
    weights = np.array([[0.0, -9.0, 3.0], [-9.0, 0.0, 3.0], [1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    neuron = esn.Theta(TAU, np.array([1.25, 1.25, 0.9]))
    net = esn.EventNetwork(neuron, weights, outputs=(0, 1, 2), t_max=200.0)
    times, sources = events_of(net, [[3.0, 40.0]])
    pair = times[sources == 0]
    np.testing.assert_array_equal(times[sources == 1], pair)
    # Their pulses arrive during the spike: together they act as one neuron.
    weights = np.array([[0.0, 6.0], [1.0, 0.0], [2.0, 0.0]])
    record = ref.simulate(ref.Theta(TAU, bias=np.array([1.25, 0.9])), weights, [[3.0, 40.0]], 200.0)
    assert pair.size >= 7
    np.testing.assert_allclose(pair, record.spikes(0), rtol=1e-10)
    np.testing.assert_allclose(times[sources == 2], record.spikes(1), rtol=1e-10)


def test_theta_in_float32():
    case, low = FURTHER[1], jnp.float32
    params = draw(case)
    small = jax.tree.map(lambda x: x.astype(low), params)
    found = quick(lambda p: network(case, p, **SHORT).spikes(p["in_times"], COUNT))(small)
    assert found.dtype == low
    np.testing.assert_allclose(found, expected(case, params), rtol=1e-4)


def test_a_pulse_at_the_spike_has_no_effect():
    spike = TAU * np.pi / 2
    times, sources = events_of(one_theta(5.0), [[spike, np.inf]])
    assert sources[:2].tolist() == [0, 1] and times[0] == times[1]
    np.testing.assert_allclose(times[sources == 0], spike * (2 * np.arange(4) + 1), rtol=1e-13)


# ------------------------------------------------------------------ adaptive LIF


def test_alif_resets():
    at = jnp.array([1.4, 1.4])  # threshold + beta * adaptation
    for reset, after in (("set", -0.2), ("subtract", 1.4 - 1.1)):
        neuron = esn.ALIF(10.0, 5.0, 20.0, 0.5, threshold=1.1, v_reset=-0.2, reset_mode=reset)
        state = neuron.init_state(2)._replace(v=at, adaptation=jnp.array([0.6, 0.6]))
        np.testing.assert_allclose(neuron.threshold_gap(state), 0.0, atol=1e-15)
        state = neuron.reset(state, jnp.array([True, False]))
        np.testing.assert_allclose(state.v, [after, 1.4])
        np.testing.assert_allclose(state.adaptation, [1.6, 0.6])


def test_alif_without_adaptation_is_lif():
    params = parameters_of(draw(Case(ALIF, "ode")))
    alif = ALIF.neuron(**params | {"beta": jnp.zeros(N)})
    lif = esn.LIF(**{k: v for k, v in params.items() if k not in ("beta", "tau_adapt")})
    state = alif.init_state(N)._replace(adaptation=jnp.ones(N), current=params["bias"])
    same = lif.init_state(N)._replace(current=params["bias"])
    np.testing.assert_array_equal(alif.threshold_gap(state), lif.threshold_gap(same))
    for name in ("v", "current"):
        drifts = (
            getattr(neuron.vector_field(x), name) for neuron, x in ((alif, state), (lif, same))
        )
        np.testing.assert_array_equal(*drifts)


# ------------------------------------------------------------------ exponential


EXPONENTIAL = {"sharpness": 0.25, "v_rheobase": 0.9, "v_rest": -0.2}
RHEOBASE = 0.9 + 0.2 - 0.25


def test_eif_fires_above_its_rheobase():
    v = jnp.linspace(0.0, 2.0, 2001)
    for excess in (-1e-3, 1e-3):
        neuron = esn.EIF(10.0, 5.0, **EXPONENTIAL, bias=RHEOBASE + excess)
        speed = neuron.vector_field(neuron.init_state(v.size)._replace(v=v)).v
        np.testing.assert_allclose(np.min(speed), excess / 10.0, rtol=1e-9)
        np.testing.assert_allclose(v[np.argmin(speed)], 0.9)


@pytest.mark.parametrize(
    "neuron", [esn.EIF(10.0, 5.0, **EXPONENTIAL, threshold=4.0), esn.Izhikevich(5.0, threshold=4.0)]
)
def test_nothing_overflows_beyond_the_peak(neuron):
    """The equation holds up to the peak and continues smoothly beyond, so that solver steps may
    pass it."""

    def speed(v, neuron=neuron):
        return neuron.vector_field(neuron.init_state(1)._replace(v=v.reshape(1))).v[0]

    low = jax.tree.map(lambda x: x.astype(jnp.float32), neuron)
    assert all(np.isfinite(speed(jnp.float32(v), low)) for v in (5.0, 1e6, 1e30))
    h = jnp.array([-1e-9, 0.0, 1e-9])
    (below, peak, above), slopes = jax.vmap(jax.value_and_grad(speed))(4.0 + h)
    np.testing.assert_allclose([below, above], [peak, peak], rtol=1e-7)
    np.testing.assert_allclose(slopes, slopes[1], rtol=1e-6)
    v = jnp.linspace(-2.0, 4.0, 7)
    if isinstance(neuron, esn.EIF):
        equation = (-0.2 - v + 0.25 * np.exp((v - 0.9) / 0.25)) / 10.0
    else:
        equation = 0.04 * v**2 + 5 * v + 140 + 0.2 * 65.0
    np.testing.assert_allclose(jax.vmap(speed)(v), equation, rtol=1e-12)


# ------------------------------------------------------------------ gated recurrent unit


def test_egru_gates():
    """With activations that do not decay, everything has a closed form."""
    w_u, w_r, w_z, tau, threshold = -0.7, 1.5, 2.0, 4.0, 0.3
    net = esn.EventNetwork(
        esn.EGRU(tau, 1e12, threshold),
        np.vstack([np.zeros((1, 3)), np.diag([w_u, w_r, w_z])]),  # one unit, one receptor per input
        outputs=(0,),
        t_max=30.0,
        **rk4(0.02)(),
    )
    times = quick(lambda at: net.spikes(at[:, None], 2))(jnp.array([1.0, 2.0, 3.0]))[0]
    update, reset = 1 / (1 + np.exp(-np.array([w_u, w_r])))
    wait = -tau / update * np.log(1 - threshold / np.tanh(reset * w_z))
    np.testing.assert_allclose(times, 3.0 + wait * np.array([1, 2]), rtol=1e-8)


def test_an_event_passes_the_reset_gate_before_it_changes():
    unit, row = esn.EGRU(4.0, 5.0), jnp.array([[0.3], [1.0], [2.0]])
    before = unit.init_state(1)._replace(a_r=jnp.array([-0.4]), a_z=jnp.array([0.1]))
    after = unit.receive(before, row)
    np.testing.assert_allclose(after.a_z, 0.1 + 2.0 / (1 + np.exp(0.4)), rtol=1e-14)
    np.testing.assert_allclose([after.a_u, after.a_r], [[0.3], [0.6]], rtol=1e-14)
    np.testing.assert_array_equal(unit.with_current(0.7).bias_z, 0.7)
    low = unit.for_population(1, jnp.bfloat16)
    state = low.receive(low.init_state(1), row.astype(jnp.bfloat16))
    moves = low.vector_field(
        low.advance_clamped(low.reset(state, jnp.array([True])), jnp.bfloat16(2.0))
    )
    assert all(x.dtype == jnp.bfloat16 for x in (*moves, low.threshold_gap(state)))


# ------------------------------------------------------------------ Izhikevich


def test_firing_patterns_of_the_paper():
    # Regular spiking, intrinsically bursting, chattering, fast spiking, at a constant current.
    neuron = esn.Izhikevich(
        5.0,
        a=np.array([0.02, 0.02, 0.02, 0.1]),
        c=np.array([-65.0, -55.0, -50.0, -65.0]),
        d=np.array([8.0, 4.0, 2.0, 2.0]),
        bias=10.0,
    )
    net = esn.EventNetwork(neuron, np.zeros((4, 4)), outputs=range(4), t_max=130.0, **rk4(0.02)())
    solution = quick(lambda: net.simulate(NONE, throw=False))()
    assert solution.status == esn.Status.completed
    regular, bursting, chattering, fast = (
        np.diff(solution.times[solution.sources == i]) for i in range(4)
    )
    assert regular.size == 3 and regular[1] > 1.9 * regular[0]  # adapts
    assert bursting[0] < 6 < 15 < np.min(bursting[1:])  # a burst, then single spikes
    assert np.sum(chattering > 15) == 2 and np.sum(chattering < 6) >= 6  # burst after burst
    np.testing.assert_allclose(fast[4:], fast[-1], rtol=1e-3)  # regular spikes at a high rate
    assert fast.size > 10


# ------------------------------------------------------------------ errors


REFUSED = [
    (lambda: esn.EIF(10.0, 5.0, sharpness=0.0), "sharpness must be > 0, got 0"),
    (lambda: esn.EIF(-1.0, 5.0), "tau_mem must be > 0, got -1"),
    (lambda: esn.EIF(1.0, 5.0, threshold=-1.0), "threshold must be above v_reset, got -1"),
    (lambda: esn.Izhikevich(0.0), "tau_syn must be > 0, got 0"),
    (lambda: esn.Izhikevich(5.0, c=30.0), "threshold must be above c, got 30"),
    (lambda: esn.Izhikevich(5.0, a=np.ones((2, 2))), "a must be a scalar or have shape"),
    (lambda: esn.ALIF(9.0, 5.0, 0.0, 0.1), "tau_adapt must be > 0, got 0"),
    (lambda: esn.ALIF(9.0, 5.0, 9.0, -0.1), "beta must be >= 0, got -0.1"),
    (lambda: esn.ALIF(9.0, 5.0, 9.0, 0.1, v_reset=2.0), "threshold must be above v_reset, got 1"),
    (
        lambda: esn.ALIF(9.0, 5.0, 9.0, 0.1, 0.0, reset_mode="subtract"),
        "threshold must be > 0 with",
    ),
    (lambda: esn.ALIF(9.0, 5.0, 9.0, 0.1, reset_mode="zero"), "reset_mode must be .* got 'zero'"),
    (lambda: esn.EGRU(9.0, 0.0), "tau_syn must be > 0, got 0"),
    (lambda: esn.EGRU(9.0, 5.0, [0.5, 0.0]), "threshold must be > 0, got .0.5, 0"),
    (lambda: esn.Theta(0.0), "tau_mem must be > 0, got 0"),
    (lambda: esn.Theta(1.0, bias=[0.25, 1.0]), "bias must be > 1/4.* got .0.25, 1"),
    (lambda: esn.LeakyIntegrator(1.0, float("nan")), "tau_syn must be > 0, got nan"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


OURS = [case for case in FURTHER if case.model not in (*MIXED, REFRACTORY_OWN)]


@pytest.mark.parametrize("case", OURS, ids=str)
def test_parameters_out_of_range_are_seen_while_running(case):
    neuron = neuron_of(case)
    assert neuron.parameters_valid()
    for name in ("tau_mem", "tau_syn", "tau_adapt", "sharpness", "threshold", "beta", "period"):
        if hasattr(neuron, name):
            bad = getattr(neuron, name).at[2].set(-99.0)
            assert not eqx.tree_at(
                lambda x, name=name: getattr(x, name), neuron, bad
            ).parameters_valid()
    if case.model is THETA:
        assert not eqx.tree_at(
            lambda x: x.bias, neuron, neuron.bias.at[2].set(0.25)
        ).parameters_valid()
