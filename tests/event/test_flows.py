"""Exact flows against diffrax: they agree as the tolerance decreases, and no crossing is lost."""

import functools as ft
from types import SimpleNamespace
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import eventsnn as esn
from eventsnn.event.flows import membrane
from helpers import reference as ref
from helpers.jitted import simulate, ttfs
from helpers.registry import LIF_SET, QIF, Case, N, network, problem, tolerance


@pytest.mark.parametrize("model", [LIF_SET, QIF], ids=lambda m: m.name)
def test_ode_tends_to_the_exact_flow(model):
    params = problem(model, 2, np.array([2.0, 1.0, 0.5, 1.7, 1 - 1e-9, 4.0]), until=15.0)
    in_times = jnp.asarray(params["in_times"])
    exact = ttfs(network(Case(model, "exact"), params, t_max=25.0, max_events=80), in_times)
    assert np.sum(np.isfinite(exact)) >= N - 1
    errors = []
    for rtol in (1e-3, 1e-6, 1e-9):
        case = Case(model, "ode", lambda rtol=rtol: tolerance(jnp.asarray(rtol)))
        found = ttfs(network(case, params, t_max=25.0, max_events=80), in_times)
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(exact))
        fired = np.isfinite(exact)
        errors.append(np.max(np.abs(found - exact)[fired] / exact[fired]))
    assert errors[0] > 30 * errors[1] > 900 * errors[2], errors
    assert errors[0] < 1e-2 and errors[1] < 1e-5 and errors[2] < 1e-8, errors


@pytest.mark.parametrize(
    ("neuron", "flow"),
    [
        (esn.LIF(10.0, 5.0, bias=np.linspace(0.8, 1.6, N)), esn.ExactLIF),
        (esn.QIF(10.0, 5.0, bias=np.linspace(0.2, 0.6, N)), esn.TaylorQIF),
        (esn.Theta(10.0, bias=np.linspace(0.3, 0.6, N)), esn.ExactTheta),
    ],
)
def test_segments_from_the_crossing_of_each_neuron(neuron, flow, rng):
    """`AbstractLaneFlow.next_spike`, which a flow need not implement, finds the same spikes."""

    class Other(flow):
        next_spike = esn.AbstractLaneFlow.next_spike

    weights = rng.normal(0.2, 0.5, (N + 2, N))
    in_times = jnp.asarray(rng.uniform(0.0, 40.0, (2, 4)))
    nets = [
        esn.EventNetwork(
            neuron, weights, outputs=range(N), t_max=50.0, solver=solver, delays=delays
        )
        for delays in (None, np.full((N + 2, N), 2.0))
        for solver in (flow(), Other())
    ]
    for right, other in zip(nets[::2], nets[1::2], strict=True):
        expected, found = simulate(right, in_times), simulate(other, in_times)
        assert np.sum(np.asarray(expected.sources) >= 0) > 2 * N
        np.testing.assert_array_equal(found.sources, expected.sources)
        np.testing.assert_allclose(found.times, expected.times, rtol=1e-12)


@pytest.mark.parametrize(
    ("tau_mem", "tau_syn"),
    [(1.0, 100.0), (0.1, 1000.0), (100.0, 1.0), (10.0, 10.0), (10.0, 10.01)],
)
def test_time_derivatives_of_the_synaptic_kernel_in_float32(tau_mem, tau_syn):
    """Up to the third order, early and late: no cancellation for any ratio of time constants."""
    neuron = SimpleNamespace(tau_mem=jnp.float32(tau_mem), tau_syn=jnp.float32(tau_syn))
    mem, syn = (mpmath.mpf(float(x)) for x in (neuron.tau_mem, neuron.tau_syn))

    def exact(t, order):
        with mpmath.workdps(60):
            late = syn + mpmath.mpf(10) ** -25  # the limit of equal time constants
            slow, fast = (mpmath.exp(-t / x) * (-1 / x) ** order for x in (late, mem))
            return float(late / (late - mem) * (slow - fast))

    derivative = ft.partial(membrane.kernel, neuron)
    for order in range(4):
        for t in (0.3 * min(tau_mem, tau_syn), 2.3 * max(tau_mem, tau_syn)):
            time = jnp.float32(t)
            expected = exact(mpmath.mpf(float(time)), order)
            np.testing.assert_allclose(derivative(time), expected, rtol=2e-5)
        derivative = jax.grad(derivative)


TAU, STEP, ARRIVAL = 10.0, 5.0, 1.0


def peaked(weight, **solver):
    # After one input the potential is w (x - x^2) in x = exp(-t/TAU): above threshold from w = 4
    # on.
    return esn.EventNetwork(
        neuron=esn.LIF(TAU, TAU / 2, v_reset=-50.0, v_init=0.0),
        weights=np.array([[0.0], [weight]]),
        outputs=(0,),
        t_max=40.0,
        max_events=10,
        **solver,
    )


END = ARRIVAL + 5 * STEP


@eqx.filter_jit
def dense_output(weight, solver, times):
    """V from diffrax's own dense output, with the same constant steps from the arrival on."""

    def drift(t, y, args):
        v, current = y
        return (current - v) / TAU, -current / (TAU / 2)

    out = dfx.diffeqsolve(
        dfx.ODETerm(drift),
        solver,
        ARRIVAL,
        END,
        STEP,
        (jnp.asarray(0.0), weight),
        saveat=dfx.SaveAt(dense=True),
    )
    return jax.vmap(lambda t: out.evaluate(t)[0])(times)


def test_coarse_steps_do_not_lose_a_double_crossing():
    solver = dfx.Tsit5()
    in_times = jnp.array([[ARRIVAL]])
    lost = 0
    for weight in (3.99, 4.02, 4.05, 4.1, 4.2, 4.5):
        grid = ARRIVAL + STEP * np.arange(5 * 400 + 1) / 400
        v = np.asarray(dense_output(jnp.asarray(weight), solver, jnp.asarray(grid)))
        over = v > 1.0
        sol = simulate(peaked(weight, solver=solver, dt0=STEP), in_times)
        fired = int(sol.stats["spikes"])
        assert fired == over.any(), f"weight {weight}"
        if fired:
            # A spike is at the crossing, within the resolution of these steps.
            assert grid[over][0] - 0.1 < sol.times[1] < grid[over][-1]
            np.testing.assert_allclose(np.interp(sol.times[1], grid, v), 1.0, atol=1e-3)
            lost += not over[::400].any()
    assert lost >= 2  # crossings that are not visible in the values at the steps


def test_a_peak_between_two_nodes_is_found():
    """Only the cubic between the nodes shows the peak: at the nodes the potential is below
    threshold."""
    step = 4.0
    flow = esn.ODEFlow(dfx.Tsit5(), dt0=step, nodes=1)
    for weight in (3.99, 4.01, 4.02, 4.03):
        at_nodes = np.exp(-np.array([0.382, 1.0, 1.382, 2.0]) * step / TAU)
        assert np.all(weight * (at_nodes - at_nodes**2) < 1)
        (found,) = ttfs(peaked(weight, solver=flow), jnp.array([[ARRIVAL]]))
        if weight < 4:
            assert found == np.inf
            continue
        x = np.exp(-(found - ARRIVAL) / TAU)
        assert x > 0.5  # on the rising side
        np.testing.assert_allclose(weight * (x - x**2), 1.0, atol=3e-4)  # resolution of the steps


class Quadratic(esn.AbstractBiased):
    """Custom model: a quadratic neuron with a finite threshold and its own reset."""

    tau_mem: jax.Array
    tau_syn: jax.Array
    bias: jax.Array
    threshold: jax.Array
    v_reset: jax.Array

    def init_state(self, n):
        return {"v": jnp.zeros(n), "i": jnp.zeros(n)}

    def vector_field(self, state):
        v, i = state["v"], state["i"]
        return {"v": (v * (v - 1) + i + self.bias) / self.tau_mem, "i": -i / self.tau_syn}

    def threshold_gap(self, state):
        return self.threshold - state["v"]

    def receive(self, state, current):
        return {"v": state["v"], "i": state["i"] + current}

    def reset(self, state, spiked):
        return {"v": jnp.where(spiked, self.v_reset, state["v"]), "i": state["i"]}

    def observe(self, state):
        return state["v"]


class ReferenceQuadratic(ref.LIF):
    def speed(self, v, current):
        return (v * (v - 1) + current + self.bias) / self.tau_mem


def quadratic_net(params, **options):
    options = {"solver": dfx.Dopri8(), "dt0": 0.5} | options
    return esn.EventNetwork(
        neuron=Quadratic(**{k: v for k, v in params.items() if k not in ("weights", "in_times")}),
        weights=params["weights"],
        outputs=(0, 1, 2),
        t_max=30.0,
        max_events=60,
        **options,
    )


QUADRATIC = {
    "weights": jnp.array(
        [[0.0, 6.0, -1.0], [4.0, 0.0, 3.0], [-2.0, 2.0, 0.0], [9.0, 0.0, 3.0], [0.0, 8.0, 5.0]]
    ),
    "in_times": jnp.array([[9.0, 1.0], [6.0, 12.0]]),
    "tau_mem": jnp.array([5.0, 6.0, 7.0]),
    "tau_syn": jnp.float64(4.0),
    "bias": jnp.array([0.1, 0.2, 0.45]),
    "threshold": jnp.array([3.0, 4.0, 2.5]),
    "v_reset": jnp.array([-1.0, -2.0, 0.0]),
}


def quadratic_record():
    neuron: dict[str, Any] = {
        k: np.asarray(v) for k, v in QUADRATIC.items() if k not in ("weights", "in_times")
    }
    model = ReferenceQuadratic(**neuron, v_init=0.0)
    return ref.simulate(model, QUADRATIC["weights"], QUADRATIC["in_times"], 30.0)


def test_a_users_neuron(getkey):
    """Spike times against the reference, and gradients against central differences."""
    functional = jax.random.normal(getkey(), (3, 2))

    @jax.jit
    @ft.partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        spikes = quadratic_net(params).spikes(params["in_times"], 2, throw=False)
        return jnp.sum(functional * spikes), spikes

    (_, spikes), grads = loss(QUADRATIC)
    record = quadratic_record()
    expected = [record.spikes(i)[:2] for i in range(3)]
    np.testing.assert_allclose(spikes, expected, rtol=1e-7)  # accuracy of these steps
    h = 1e-5
    for name, value in QUADRATIC.items():  # along a random direction in each parameter separately
        way = jax.random.normal(getkey(), value.shape)
        above, below = (loss(QUADRATIC | {name: value + s * h * way})[0][0] for s in (1, -1))
        slope = (above - below) / (2 * h)
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(jnp.vdot(grads[name], way), slope, rtol=1e-6, err_msg=name)


def test_a_users_neuron_without_a_solver():
    record = quadratic_record()
    found = ttfs(quadratic_net(QUADRATIC, solver=None, dt0=0.2), QUADRATIC["in_times"])
    np.testing.assert_allclose(found, [record.spikes(i)[0] for i in range(3)], rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{"order": 6}, {"order": 12, "max_turn": 1.5, "max_decay": 9.0}]
)
def test_a_series_of_any_order_is_exact(options):
    """Compared with tau y' = v, tau v' = (1/4 - b - I) y, integrated by SciPy up to the zero of
    y."""
    tau_mem, tau_syn, bias, arrival, weight, until = 10.0, 4.0, 0.8, 2.0, 1.5, 60.0

    def drift(t, x):
        current = weight * np.exp(-(t - arrival) / tau_syn) if t >= arrival else 0.0
        return [x[1] / tau_mem, (0.25 - bias - current) * x[0] / tau_mem]

    precise = {"rtol": 1e-12, "atol": 1e-13, "method": "DOP853"}
    before = solve_ivp(drift, (0, arrival - 1e-15), [1.0, 0.5], **precise).y[:, -1]
    found = solve_ivp(drift, (arrival, until), before, events=lambda t, x: x[0], **precise)
    series = {"solver": esn.TaylorQIF(**options), "max_steps": 20_000}
    weights = np.array([[0.0], [weight]])
    net = esn.EventNetwork(
        esn.QIF(tau_mem, tau_syn, bias=bias), weights, outputs=(0,), t_max=until, **series
    )
    np.testing.assert_allclose(ttfs(net, jnp.array([[arrival]])), found.t_events[0][0], rtol=1e-10)
