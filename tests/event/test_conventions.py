"""Rules of docs/events.md, for every flow and for both modes."""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import eventsnn as esn
from helpers.jitted import simulate, spikes, ttfs

NO_INPUT = jnp.zeros((0, 1))
CONSTANT = {"solver": diffrax.Dopri5(), "dt0": 0.25}
ADAPTIVE = {"solver": diffrax.Tsit5()}


def lif(**parameters):
    return esn.LIF(10.0, 5.0, **parameters)


def resting(**parameters):
    return esn.Refractory(lif(**parameters), 2.0)


CASES = [
    pytest.param(lif, {}, id="lif"),
    pytest.param(lambda **kw: lif(reset_mode="subtract", **kw), {}, id="subtract"),
    pytest.param(resting, {}, id="refractory"),
    pytest.param(lambda **kw: esn.Populations([(lif(**kw), 1)]), {}, id="mixture"),
    pytest.param(lif, CONSTANT, id="constant-steps"),
    pytest.param(lambda **kw: esn.ALIF(10.0, 5.0, 30.0, 0.5, **kw), ADAPTIVE, id="adaptive-steps"),
]


def alone(neuron, t_max, **options):
    """Network of one neuron without inputs."""
    return esn.EventNetwork(neuron, jnp.zeros((1, 1)), outputs=(0,), t_max=t_max, **options)


@pytest.mark.parametrize(("model", "options"), CASES)
def test_a_potential_that_approaches_its_threshold_never_fires(model, options):
    """The membrane potential is V = b (1 - exp(-t/tau)) < b."""
    for scale in (1.0, 0.7, 3.0):
        net = alone(model(bias=scale, threshold=scale), 500.0, **options)
        assert ttfs(net, NO_INPUT) == jnp.inf


LOOSE = diffrax.PIDController(rtol=1e-4, atol=1e-4)
SHORT = diffrax.PIDController(rtol=1e-6, atol=1e-6, dtmax=5.0)
APPROACHES = [
    pytest.param(lif, {}, None, id="lif"),
    pytest.param(resting, {}, 1.0, id="refractory-delayed"),
    pytest.param(lif, CONSTANT, None, id="constant"),
    pytest.param(lif, ADAPTIVE, 1.0, id="tsit5-delayed"),
    pytest.param(resting, ADAPTIVE, None, id="refractory-tsit5"),
    pytest.param(lif, {"solver": diffrax.Heun(), "stepsize_controller": LOOSE}, None, id="heun"),
    pytest.param(
        lif, {"solver": diffrax.Kvaerno3(), "stepsize_controller": SHORT}, None, id="kvaerno3"
    ),
]


@pytest.mark.parametrize(("model", "options", "delays"), APPROACHES)
def test_a_potential_at_its_threshold_waits_for_an_input(model, options, delays):
    """Neurons relax to their threshold for tens of time constants, from below.

    Neither solver steps, nor spikes of another neuron, nor weak early inhibition or excitation make
    them fire. A late input makes them fire at once.
    """
    n, late = 6, 900.0
    tau = jnp.array([6.0, 8.0, 10.0, 13.0, 17.0, 25.0, 20.0])
    neuron = model(bias=jnp.array([1.0] * n + [1.5]))
    neuron = eqx.tree_at(lambda x: getattr(x, "neuron", x).tau_mem, neuron, tau)
    weights = np.zeros((n + 4, n + 1))
    weights[n + 1, :n] = -0.5, 0.0, -3.0, -0.1, 0.0, -1.0
    weights[n + 2, :n] = 0.0, 0.01, 0.0, 0.0, 0.01, 0.02
    weights[n + 3, :n] = 0.1
    where = {} if delays is None else {"delays": jnp.full((n + 4, n + 1), delays)}
    net = esn.EventNetwork(
        neuron, weights, outputs=range(n + 1), t_max=1500.0, max_steps=20_000, **where, **options
    )
    times = jnp.array([[3.0], [11.0], [late]])
    found = eqx.filter_jit(lambda net, times: net.spikes(times, 40))(net, times)
    np.testing.assert_allclose(found[:n, 0], late + (delays or 0.0), rtol=1e-9)
    assert np.all(found[:n, 1] == jnp.inf)
    assert np.all(np.isfinite(found[n]))


CARRIED = [
    pytest.param(lif, {}, None, 1e-12, id="lif"),
    pytest.param(lif, {}, 1.5, 1e-12, id="lif-delayed"),
    pytest.param(resting, ADAPTIVE, None, 2e-5, id="refractory-tsit5"),
]


@pytest.mark.parametrize("adjoint", [esn.EventProp(), esn.Autodiff()], ids=["prop", "auto"])
@pytest.mark.parametrize(("model", "options", "delay", "atol"), CARRIED)
def test_a_current_carries_a_neuron_at_its_threshold_through_it(
    model, options, delay, atol, adjoint
):
    """The derivatives are those of a crossing, for a potential however close to its threshold.

    In float64 a bias equal to the threshold is reached to rounding after 37 time constants.
    """

    @jax.jit
    @jax.value_and_grad
    def fires(x):
        neuron = model(bias=x["bias"], threshold=x["threshold"])
        weights = jnp.zeros((2, 1)).at[1, 0].set(x["weight"])
        where = {} if delay is None else {"delays": jnp.full((2, 1), delay)}
        net = esn.EventNetwork(
            neuron, weights, outputs=(0,), t_max=800.0, adjoint=adjoint, **where, **options
        )
        return net.ttfs((x["arrival"] - (delay or 0.0))[None, None])[0]

    for arrival in (60.0, 362.0, 370.0, 375.0, 390.0, 500.0):
        x = {"bias": 1.0, "threshold": 1.0, "weight": 2.0, "arrival": arrival}
        value, grads = fires(jax.tree.map(jnp.asarray, x))
        # The gap is 1 - (1 - e^{-t/10}) - 2 k with k = e^{-s/10} - e^{-s/5} and s = t - arrival.
        left = mpmath.exp(-arrival / 10) / 2  # 1 - e^{-s/10} = left: quadratic
        s = -10 * mpmath.log1p(-left)
        rise = (2 * mpmath.exp(-s / 5) - mpmath.exp(-s / 10)) / 5
        speed = mpmath.exp(-(arrival + s) / 10) / 10 + rise
        right = {
            "bias": -(1 - mpmath.exp(-(arrival + s) / 10)) / speed,
            "threshold": 1 / speed,
            "weight": -(mpmath.exp(-s / 10) - mpmath.exp(-s / 5)) / speed,
            "arrival": rise / speed,
        }
        np.testing.assert_allclose(value, float(arrival + s), rtol=1e-15, atol=atol)
        for name, grad in grads.items():
            np.testing.assert_allclose(grad, float(right[name]), atol=atol, err_msg=name)


@pytest.mark.parametrize(
    ("dtype", "shares", "t_max"),
    [
        (jnp.float32, (8e-6, 1.2e-5, 2e-5, 2.5e-5), 200.0),
        (jnp.float64, (2e-14, 5e-14, 8e-14, 1e-12), 600.0),
    ],
)
def test_inhibition_just_before_a_crossing_delays_it(dtype, shares, t_max):
    """The inhibition arrives when V is
    below threshold by little more than rounding; a second inhibition does not stop the neuron."""
    net = esn.EventNetwork(
        lif(bias=1.5), jnp.asarray([[0.0], [-1.0]], dtype), outputs=(0,), t_max=t_max
    )
    crossing = 10 * math.log(3.0)
    times = jnp.asarray([[[crossing * (1 - share), 150.0]] for share in shares], dtype)
    found = net.spikes(times, 80)[:, 0]
    # From V = 1 and I = -1, V = 1.5 - 0.5 x - (x - x^2) with x = e^{-t/10} is 1 again at x = 1/2.
    first = crossing + 10 * math.log(2.0)
    rtol = 1e-4 if dtype == jnp.float32 else 1e-9
    np.testing.assert_allclose(found[:, 0], first, rtol=rtol)
    counts = np.isfinite(found).sum(axis=1)
    assert np.all(counts == counts[0]) and counts[0] > 10


@pytest.mark.parametrize("t_max", [374.0, 2e4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_bias_equal_to_the_threshold_causes_no_spike(t_max, dtype):
    """Also with inhibition, or with excitation that is too weak."""
    for bias, v_reset in [(1.0, 0.0), (1.0, -7.3), (-0.5, -1.0), (1e3, 0.0)]:
        neuron = lif(bias=bias, threshold=bias, v_reset=v_reset)
        weights = jnp.asarray([[0.0], [-2.0], [0.01 * abs(bias)]], dtype)
        net = esn.EventNetwork(neuron, weights, outputs=(0,), t_max=t_max)
        assert ttfs(net, jnp.array([[3.0], [1.0]])) == jnp.inf


def test_a_silent_neuron_at_rheobase_does_not_spoil_gradients():
    weights = jnp.zeros((3, 2)).at[2, 1].set(8.0).at[0, 1].set(1.0)
    net = esn.EventNetwork(lif(bias=jnp.array([1.0, 0.0])), weights, outputs=(1,), t_max=400.0)
    grads = eqx.filter_jit(eqx.filter_grad(lambda n: n.ttfs(jnp.array([[380.0]]))[0]))(net)
    # V = w (e^{-t/10} - e^{-t/5}) with w = 8 is quadratic in e^{-t/10}.
    z = lambda w: (1 + math.sqrt(1 - 4 / w)) / 2  # noqa: E731
    slope = (-10 * math.log(z(8 + 1e-6)) + 10 * math.log(z(8 - 1e-6))) / 2e-6
    np.testing.assert_allclose(grads.weights[2, 1], slope, rtol=1e-8)
    assert np.all(np.asarray(grads.weights[:2]) == 0)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(grads))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_an_event_elsewhere_does_not_make_a_neuron_fire(dtype):
    """A bias within a few units in the last place below the threshold, and an input at any time
    that reaches only another neuron."""
    below = 1.0 - np.finfo(dtype).eps * np.array([0.5, 1.0, 3.0, 8.0, 100.0, 0.0])
    weights = np.zeros((7, 6))
    weights[6, 5] = 1.0
    neuron = lif(bias=jnp.asarray(below, dtype))
    net = esn.EventNetwork(neuron, jnp.asarray(weights, dtype), outputs=range(5), t_max=2000.0)
    times = jnp.asarray(np.array([[150.0, 200.0, 300.0, 371.0, 400.0, 1500.0]]))
    assert np.all(np.isinf(ttfs(net, times)))


@pytest.mark.parametrize(("model", "options"), CASES)
def test_a_start_at_the_threshold_or_above_fires_at_once(model, options):
    for bias, above in [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (0.5, 1e-3)]:
        sol = simulate(alone(model(bias=bias, v_init=1.0 + above), 20.0, **options), NO_INPUT)
        assert sol.status == esn.Status.completed
        assert sol.times[0] == 0.0
        assert sol.sources[0] == 0


@pytest.mark.parametrize(("model", "options"), CASES)
def test_a_crossing_at_t_max_counts(model, options):
    """T = tau log(b/(b - 1)); the adaptive neuron has no adaptation before its first spike."""
    time = float(ttfs(alone(model(bias=2.0), 20.0, **options), NO_INPUT)[0])
    np.testing.assert_allclose(time, 10 * math.log(2.0), rtol=1e-6)
    if options:  # steps of a solver that end elsewhere are rounded differently
        assert np.isfinite(ttfs(alone(model(bias=2.0), time * (1 + 1e-5), **options), NO_INPUT))
        assert np.isinf(ttfs(alone(model(bias=2.0), time * (1 - 1e-5), **options), NO_INPUT))
    else:
        at_the_end = ttfs(alone(model(bias=2.0), time), NO_INPUT)[0]
        assert time - 2 * np.spacing(time) <= at_the_end <= time
        assert np.isinf(ttfs(alone(model(bias=2.0), time * (1 - 1e-14)), NO_INPUT))


@pytest.mark.parametrize(("model", "options"), CASES)
@pytest.mark.parametrize("delays", [None, 1.0], ids=["instant", "delayed"])
def test_a_crossing_comes_before_an_arrival_at_the_same_instant(model, options, delays):
    """Inhibition that arrives at the crossing does not prevent the spike; slightly earlier, it
    does."""
    time = float(ttfs(alone(model(bias=2.0), 20.0, **options), NO_INPUT)[0])
    late = 0.0 if delays is None else delays
    net = esn.EventNetwork(
        model(bias=2.0),
        jnp.array([[0.0], [-1e9]]),
        outputs=(0,),
        t_max=20.0,
        delays=None if delays is None else jnp.full(2, delays),
        **options,
    )
    # The result of a solver depends on where its steps end, within its precision.
    sooner, within = (1e-3, 1e-6) if options else (1e-6, 1e-12)
    assert ttfs(net, jnp.array([[time - late - sooner]])) == jnp.inf
    if not options:
        assert ttfs(net, jnp.array([[time - late]])) == pytest.approx(time, rel=within)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_width_of_a_tie_does_not_grow_with_time(dtype):
    """A neuron that fires regularly for 2 * 10^4 ms is stopped by inhibition that arrives a few
    units in the last place of the time before a crossing."""
    neuron = lif(bias=jnp.asarray(1e3, dtype), v_reset=0.0)
    refractory = esn.Refractory(neuron, jnp.asarray(50.0, dtype))
    net = esn.EventNetwork(
        refractory, jnp.asarray([[0.0], [-1e6]], dtype), outputs=(0,), t_max=2e4, max_events=450
    )
    free = np.asarray(simulate(net, jnp.full((1, 1), jnp.inf, dtype)).times)
    last = free[np.isfinite(free)][-1]
    sooner = last - 2 * np.spacing(last)
    sol = simulate(net, jnp.asarray([[sooner]], dtype))
    times = np.asarray(sol.times)[np.asarray(sol.sources) == 0]
    assert len(times) == np.isfinite(free).sum() - 1
    np.testing.assert_array_equal(times, free[: len(times)])


def test_a_model_without_a_reset_is_named():
    class Saddle(esn.LIF):
        def reset(self, state, spiked):
            return state

    for neuron in (
        Saddle(10.0, 5.0, bias=2.0),
        esn.Populations([(Saddle(10.0, 5.0, bias=2.0), 1)]),
    ):
        sol = alone(neuron, 50.0).simulate(NO_INPUT, throw=False)
        assert sol.status == esn.Status.no_reset
        np.testing.assert_allclose(sol.times[0], 10 * math.log(2.0), rtol=1e-12)
        with pytest.raises(RuntimeError, match="reset"):
            alone(neuron, 50.0).spikes(NO_INPUT, 2)


@pytest.mark.parametrize("delays", [None, 1.0])
def test_totals_of_a_sample_that_was_cut_short_are_refused(delays):
    """Two of six spikes, and the integral over a part of the time, are not valid results."""
    neuron, options = lif(bias=2.0), {"t_max": 45.0}
    if delays is not None:
        options["delays"] = jnp.full(1, delays)
    whole, cut = alone(neuron, **options), alone(neuron, max_events=2, **options)

    @eqx.filter_jit
    def totals(net, in_times):
        readings = (net.counts, net.integrals, net.maxima)
        return [reading(in_times, throw=False) for reading in readings]

    period = 10 * math.log(2.0)
    assert whole.counts(NO_INPUT) == math.floor(45.0 / period)
    broken = eqx.tree_at(lambda net: net.weights, whole, jnp.nan * whole.weights)
    assert broken.counts(NO_INPUT, throw=False) == -1
    counts, *others = totals(cut, NO_INPUT)
    assert counts == -1 and all(np.all(np.isnan(x)) for x in others)
    train = spikes(cut, NO_INPUT, 4)[0]
    np.testing.assert_allclose(train, [period, 2 * period, np.inf, np.inf], rtol=1e-12)
    assert np.all(cut.counts(jnp.zeros((2, 0, 1)), throw=False) == -1)


def test_with_delays_the_record_has_room_for_all_input_spikes():
    """600 input spikes; in an earlier version, every spike of the neuron took the place of one."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(np.sort(rng.uniform(0, 1000.0, (1, 600))))
    options = {"outputs": (0,), "t_max": 1000.0, "max_events": 300}
    delayed = esn.EventNetwork(lif(), jnp.array([[0.0], [0.9]]), delays=jnp.ones(2), **options)
    direct = esn.EventNetwork(lif(), jnp.array([[0.0], [0.9]]), **options | {"max_events": 1000})
    # The neuron receives the same 1 ms later, so only arrivals up to 999 ms count.
    expected = np.asarray(direct.spikes(x, 300, throw=False))[0]
    expected = expected[expected <= 999.0] + 1.0
    sol = delayed.simulate(x)
    times, sources = np.asarray(sol.times), np.asarray(sol.sources)
    assert sol.status == esn.Status.completed
    np.testing.assert_allclose(times[sources == 0], expected, rtol=1e-12)
    np.testing.assert_array_equal(times[sources == 1], x[0])
    assert sol.stats["spikes"] == len(expected) == delayed.counts(x)[0]
    assert sol.stats["events"] == len(expected) + 600
    assert np.all(np.diff(times[sources >= 0]) >= 0)
    cut = esn.EventNetwork(
        lif(),
        jnp.array([[0.0], [0.9]]),
        delays=jnp.ones(2),
        **options | {"max_events": 10},
    ).simulate(x, throw=False)
    last = np.asarray(cut.times)[np.asarray(cut.sources) == 0].max()
    assert cut.status == esn.Status.max_events
    assert np.asarray(cut.times)[np.asarray(cut.sources) >= 0].max() == last == expected[9]
