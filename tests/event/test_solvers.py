"""Every diffrax solver: reported times are roots of its own step map, and gradients are those of
the computed values; supported solvers; thresholds that move within a step."""

import functools as ft
import inspect
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import eventsnn as esn
from eventsnn.event.flows import Segment
from helpers.jitted import simulate, ttfs
from helpers.registry import careful, quick

EXPLICIT = {
    "Euler": dfx.Euler(),
    "Heun": dfx.Heun(),
    "Midpoint": dfx.Midpoint(),
    "Ralston": dfx.Ralston(),
    "Bosh3": dfx.Bosh3(),
    "Tsit5": dfx.Tsit5(),
    "Dopri5": dfx.Dopri5(),
    "Dopri8": dfx.Dopri8(),
    "ReversibleHeun": dfx.ReversibleHeun(),
    "HalfSolver": dfx.HalfSolver(dfx.Euler()),
}
IMPLICIT = {
    "ImplicitEuler": dfx.ImplicitEuler(),
    "Kvaerno3": dfx.Kvaerno3(),
    "Kvaerno4": dfx.Kvaerno4(),
    "Kvaerno5": dfx.Kvaerno5(),
}
SOLVERS = EXPLICIT | IMPLICIT
REFUSED = {  # stochastic, semi-implicit and IMEX solvers take several terms; others are multistep
    *("ALIGN", "EulerHeun", "GeneralShARK", "ItoMilstein", "QUICSORT", "SEA", "SPaRK", "SRA1"),
    *("ShARK", "ShOULD", "SlowRK", "StratonovichMilstein"),
    *("KenCarp3", "KenCarp4", "KenCarp5", "Sil3", "SemiImplicitEuler", "LeapfrogMidpoint"),
}
CONTROL = dfx.PIDController(rtol=1e-3, atol=1e-4)  # so coarse that the steps affect the spikes

NO_INPUT = jnp.zeros((0, 1))


def test_every_solver_of_diffrax_is_offered_or_refused():
    found = {
        name
        for name, kind in vars(dfx).items()
        if inspect.isclass(kind) and issubclass(kind, dfx.AbstractSolver)
        if not name.startswith("Abstract")
    }
    assert found == set(SOLVERS) | REFUSED


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_solver_of_another_kind_is_refused_in_one_line(name):
    for solver in (getattr(dfx, name)(), dfx.HalfSolver(getattr(dfx, name)())):
        with pytest.raises(ValueError, match=f"^solver must .*, got {name}, [^\n]*$"):
            esn.ODEFlow(solver, dt0=0.1)


@pytest.mark.parametrize(
    ("argument", "options"),
    [("dt0", {"dt0": value}) for value in (np.inf, np.nan, 0, -0.1, "0.1", True, 1j, [0.1])]
    + [("dt0", {"stepsize_controller": dfx.ConstantStepSize()})]
    + [("nodes", {"nodes": value}) for value in (np.nan, np.inf, 1.5, 0, -2, "8", None, True)]
    + [("solver", {"solver": value}) for value in (dfx.Tsit5, "Tsit5", 5)]
    + [
        ("stepsize_controller", {"stepsize_controller": value})
        for value in (
            *(dfx.PIDController, 1e-6, dfx.StepTo(jnp.array([0.0, 1.0]))),
            dfx.ClipStepSizeController(CONTROL, step_ts=jnp.array([1.0])),
            dfx.PIDController(rtol=1e-3, atol=1e-3, dtmin=0.1, force_dtmin=False),
        )
    ]
    + [("stepsize_controller", {"solver": dfx.Euler(), "stepsize_controller": CONTROL})],
)
def test_bad_arguments_are_refused_in_one_line(argument: str, options: dict[str, Any]):
    with pytest.raises(ValueError, match=rf"\A{argument} must [^\n]*, got [^\n]*\.\Z"):
        esn.ODEFlow(**options)


PARAMETERS = {
    "tau_mem": jnp.array([10.0, 8.0]),
    "bias": jnp.array([1.0, 1.0]),
    "weights": jnp.array([[0.0, 2.0], [-0.3, 0.0], [2.0, 0.5]]),
    "in_times": jnp.array([[1.13, 9.27]]),
}


def two_neurons(params, **options):
    """Neuron 0 excites neuron 1, which inhibits neuron 0; both fire twice."""
    neuron = esn.EIF(params["tau_mem"], 5.0, threshold=1.6, bias=params["bias"])
    size = {"t_max": 40.0, "max_events": 12, "max_steps": 300}
    return esn.EventNetwork(neuron, params["weights"], outputs=(0, 1), **size, **options)


def assert_gradients_equal_differences(**options):
    """Compare along random directions at random points, to the precision of fourth-order
    differences.

    A point may lie at a jump, where a controller selects the next step size: there, differences
    with two step sizes disagree. Most points do not.
    """

    @(careful if isinstance(options["solver"], dfx.AbstractImplicitSolver) else quick)
    @jax.value_and_grad
    def loss(params):
        spikes = two_neurons(params, **options).spikes(params["in_times"], 2, throw=False)
        return jnp.sum(spikes * jnp.array([[1.0, 0.5], [-0.7, 0.3]]))

    rng, h, jumps = np.random.default_rng(4), 5e-7, 0
    for _ in range(5):
        way = {name: jnp.asarray(rng.normal(size=x.shape)) for name, x in PARAMETERS.items()}
        place = jax.tree.map(lambda x: x + 1e-3 * rng.normal(size=x.shape), PARAMETERS)

        def at(step, place=place, way=way):
            return loss({name: place[name] + step * way[name] for name in way})

        near, far = ((at(s * h)[0] - at(-s * h)[0]) / (2 * s * h) for s in (1, 2))
        slope = sum(jnp.vdot(way[name], d) for name, d in at(0.0)[1].items())
        if abs(near - far) > 1e-3 * abs(near):
            jumps += 1
            continue
        np.testing.assert_allclose(slope, (4 * near - far) / 3, rtol=1e-6)
    assert jumps <= (2 if "stepsize_controller" in options else 0)


# An implicit solver takes several seconds to compile: each is tested with one kind of steps only.
# With coarse tolerances, failures of Newton's method set the steps of Kvaerno5.
@pytest.mark.parametrize("name", [*EXPLICIT, "Kvaerno5"])
def test_gradients_equal_differences_by_constant_steps(name):
    assert_gradients_equal_differences(solver=SOLVERS[name], dt0=0.5)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in ("Euler", "Kvaerno5")])
def test_gradients_equal_differences_by_adaptive_steps(name):
    assert_gradients_equal_differences(solver=SOLVERS[name], stepsize_controller=CONTROL)


def test_gradients_by_autodiff_equal_differences_for_an_implicit_solver():
    solver = {"solver": dfx.Kvaerno3(), "stepsize_controller": CONTROL}
    assert_gradients_equal_differences(adjoint=esn.Autodiff(), **solver)


def test_an_implicit_solver_has_the_right_time():
    """With default and with given tolerances of its root finder."""
    exact = 10 * np.log(6.0)
    given = dfx.ImplicitEuler(root_finder=dfx.VeryChord(rtol=1e-6, atol=1e-6))
    control = dfx.PIDController(rtol=1e-6, atol=1e-6)
    cases: list[dict[str, Any]] = [
        {"solver": dfx.Kvaerno5(), "stepsize_controller": control},
        {"solver": given, "dt0": 0.01},
    ]
    for case, error in zip(cases, (1e-5, 1e-3), strict=True):
        neuron = esn.LIF(10.0, 5.0, bias=1.2)
        size = {"outputs": (0,), "t_max": 20.0, "max_steps": 3000}
        net = esn.EventNetwork(neuron, jnp.zeros((1, 1)), **size, **case)
        np.testing.assert_allclose(ttfs(net, NO_INPUT), [exact], rtol=error)


class Power(esn.EIF):
    """EIF neuron with the same threshold in another form: a power of the gap."""

    power: jax.Array

    def __init__(self, power, **parameters):
        super().__init__(10.0, 5.0, **parameters)
        self.power = jnp.float64(power)

    def threshold_gap(self, state):
        gap = super().threshold_gap(state)
        return jnp.sign(gap) * jnp.abs(gap) ** self.power


@eqx.filter_jit
def next_segment(flow, neuron, state, horizon, flow_state):
    return flow.next_spike(neuron, state, horizon, flow_state)


@eqx.filter_jit
def gap_after(flow, neuron, state, dt):
    return neuron.threshold_gap(flow.advance(neuron, state, dt))[0, 0]


class Run(NamedTuple):
    time: float | jax.Array
    start: Any
    dt: jax.Array


def crossings(flow, neuron, dt0, t_max):
    """Crossings of one neuron that is never reset, and the segments that end in them."""
    state = jax.tree.map(lambda x: x[:, None], neuron.init_state(1))
    time, found = 0.0, []
    flow_state = flow.init_state(neuron, state, jnp.array([t_max]))._replace(dt=jnp.array([dt0]))
    while time < t_max:
        segment = next_segment(flow, neuron, state, jnp.array([t_max - time]), flow_state)
        time += float(segment.dt[0])
        if segment.spiked[0]:
            found.append(Run(time, state, segment.dt))
        state, flow_state = segment.end, segment.flow_state
    return found


@eqx.filter_jit
def first_crossing(flow, neuron, dt0, t_max):
    """First crossing of one neuron, by a compiled loop over many short segments."""
    start = jax.tree.map(lambda x: x[:, None], neuron.init_state(1))
    flow_state = flow.init_state(neuron, start, jnp.array([t_max]))._replace(dt=jnp.array([dt0]))

    def advance(carry):
        _, time, segment = carry
        start = segment.end
        segment = flow.next_spike(neuron, start, t_max - time, segment.flow_state)
        return start, time + segment.dt, segment

    def before(carry):
        _, time, segment = carry
        return ~segment.spiked[0] & (time[0] < t_max)

    zero = jnp.zeros(1)
    none = Segment(zero, jnp.zeros(1, jnp.int32), zero > 0, start, flow_state)
    start, time, segment = jax.lax.while_loop(before, advance, (start, zero, none))
    return Run(time[0], start, segment.dt)


@ft.cache
def eif_spike():
    def drift(t, y):
        return (0.2 * np.exp((y - 1) / 0.2) + 1.2 - y) / 10

    def gap(t, y):
        return 2.842 - y[0]

    options = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-12, "events": gap}
    return solve_ivp(drift, (0, 23.83), [0.0], **options).t_events[0][0]


def test_a_crossing_is_a_root_of_the_step_map_whatever_the_form_of_the_condition():
    """Near its peak the potential doubles within 1e-3 ms, so these steps are very coarse."""
    flow = esn.ODEFlow(dt0=0.1)
    for dt0, error in ((0.1, 1e-3), (0.05, 1e-3), (0.02, 1e-4), (0.01, 1e-4)):
        times = []
        for power in (1.0, 3.0, 1 / 3, 8.0):
            neuron = Power(power, threshold=2.842, bias=1.2)
            run = first_crossing(flow, neuron, dt0, 23.9)
            times.append(run.time)
            assert gap_after(flow, neuron, run.start, run.dt - 1e-15) > 0
            assert gap_after(flow, neuron, run.start, run.dt + 1e-15) < 0
        np.testing.assert_allclose(times, times[0], rtol=1e-14)
        assert abs(times[0] - eif_spike()) < error


class Oscillator(NamedTuple):
    v: jax.Array
    phase: jax.Array


class Oscillating(esn.AbstractNeuron):
    """Leaky neuron with an oscillating threshold, which its vector field does not contain."""

    period: jax.Array

    def init_state(self, n):
        return Oscillator(jnp.zeros(n), jnp.zeros(n))

    def vector_field(self, state):
        turns = 2 * jnp.pi / self.period
        return Oscillator((0.9 - state.v) / 10.0, turns * jnp.ones_like(state.phase))

    def threshold_gap(self, state):
        return 1.2 + 0.4 * jnp.sin(state.phase) - state.v

    def receive(self, state, current):
        return state

    def reset(self, state, spiked):
        return state._replace(v=jnp.where(spiked, 0.0, state.v))

    def observe(self, state):
        return state.v


def oscillating_spikes(period, t_max):
    def gap(t, last):
        v = 0.9 * (1 - np.exp(-(t - last) / 10))
        return 1.2 + 0.4 * np.sin(2 * np.pi * t / period) - v

    fine = min(period, 10.0) / 1000
    times, last, grid = [], 0.0, np.arange(0.0, t_max, fine)
    while np.any(over := gap(grid, last) <= 0):
        after = grid[np.argmax(over)]
        last = float(brentq(gap, after - fine, after, args=(last,), xtol=1e-13))  # pyright: ignore
        times.append(last)
        grid = grid[grid > last]
    return times


@pytest.mark.parametrize("options", [{}, {"dt0": 3.0}], ids=["adaptive", "constant"])
def test_a_threshold_that_oscillates_within_a_step(options):
    for period in (50.0, 5.0, 2.0, 1.1, 0.5, 0.3):
        net = esn.EventNetwork(
            Oscillating(jnp.array(period)), jnp.zeros((1, 1)), outputs=(0,), t_max=300.0, **options
        )
        solution = simulate(net, NO_INPUT)
        expected = oscillating_spikes(period, 300.0)
        assert len(expected) == {50.0: 6, 5.0: 12}.get(period, 13)
        found = np.asarray(solution.times)
        np.testing.assert_allclose(found[found < np.inf], expected, atol=2e-5, rtol=0)


class FitzHughNagumo(esn.AbstractNeuron):
    """Neuron that fires without a reset: it leaves its threshold by its own dynamics."""

    current: jax.Array

    def init_state(self, n):
        return Oscillator(jnp.full(n, -1.2), jnp.full(n, -0.6))

    def vector_field(self, state):
        v, w = state
        return Oscillator(v - v**3 / 3 - w + self.current, 0.08 * (v + 0.7 - 0.8 * w))

    def threshold_gap(self, state):
        return 1.0 - state.v

    def receive(self, state, current):
        return state

    def reset(self, state, spiked):
        return state

    def observe(self, state):
        return state.v


@pytest.mark.parametrize(
    "flow", [esn.ODEFlow(), esn.ODEFlow(dt0=0.5), esn.ODEFlow(dfx.Bosh3(), dt0=0.5, nodes=1)]
)
def test_a_neuron_past_its_threshold_crosses_it_again_only_after_it_has_returned(flow):
    def drift(t, y):
        return [y[0] - y[0] ** 3 / 3 - y[1] + 0.5, 0.08 * (y[0] + 0.7 - 0.8 * y[1])]

    def gap(t, y):
        return 1.0 - y[0]

    gap.direction = -1
    options = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-11, "events": gap}
    expected = solve_ivp(drift, (0, 200), [-1.2, -0.6], **options).t_events[0]
    found = crossings(flow, FitzHughNagumo(jnp.array(0.5)), flow.dt0 or 0.1, 200.0)
    np.testing.assert_allclose([run.time for run in found], expected, rtol=2e-3)
    assert len(expected) == 5


def test_short_steps_of_a_controller_have_room_in_the_record():
    control = dfx.PIDController(rtol=1e-6, atol=1e-6, dtmax=0.005)
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0, bias=1.2),
        jnp.zeros((1, 1)),
        outputs=(0,),
        t_max=40.0,
        solver=dfx.Heun(),
        stepsize_controller=control,
    )
    solution = simulate(net, NO_INPUT)
    assert int(solution.stats["steps"]) > 8000
    np.testing.assert_allclose(solution.times[:2], 10 * np.log(6.0) * np.arange(1, 3), rtol=1e-5)
    assert int(solution.stats["spikes"]) == 2


def test_the_maximum_by_an_implicit_solver():
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0),
        jnp.array([[0.0], [3.0]]),
        outputs=(0,),
        t_max=20.0,
        solver=dfx.Kvaerno5(),
        dt0=1.0,
    )
    found = eqx.filter_jit(lambda net: net.maxima(jnp.array([[0.3]]), throw=False))(net)
    np.testing.assert_allclose(found, [0.75], rtol=1e-6)  # of 3 (x - x^2), at x = 1/2
