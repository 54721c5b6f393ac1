"""Single neurons with a closed form, for quantities that no other test covers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn
from eventsnn import losses
from helpers import jitted

INF = jnp.inf


# ------------------------------------------------------------------ maxima with delays


def response(t, tau_mem, tau_syn):
    """V at t after an input spike of weight 1 at 0."""
    rise = np.exp(-t / tau_mem) - np.exp(-t / tau_syn)
    return np.where(t > 0, tau_syn / (tau_mem - tau_syn) * rise, 0.0)


def peak_time(tau_mem, tau_syn):
    return np.log(tau_mem / tau_syn) * tau_mem * tau_syn / (tau_mem - tau_syn)


def test_the_maximum_may_lie_before_or_after_an_arrival():
    """Neuron 0 has its maximum between two of its arrivals, neuron 1 after its last. The two
    arrivals at neuron 2 end a segment at 3 ms, so the next segment contains the maximum of neuron
    0, then its second arrival; the delays of all arrivals differ."""
    tau_mem, tau_syn = 10.0, 4.0
    weights = jnp.array([[0.0] * 3] * 3 + [[0.6, 0.2, 0.1], [-0.3, 0.7, 0.1]])
    delays = jnp.zeros((5, 3)).at[3:].set(jnp.array([[1.0, 1.5, 2.0], [20.0, 21.0, 3.0]]))
    net = esn.EventNetwork(
        esn.LIF(tau_mem, tau_syn), weights, delays=delays, outputs=(0, 1), t_max=60.0
    )
    at = peak_time(tau_mem, tau_syn)
    first = 0.6 * response(at, tau_mem, tau_syn)
    # V of neuron 1 after both: c exp(-t/tau_mem) - d exp(-t/tau_syn), t from the second arrival.
    lag, ratio = 21.0 - 1.5, tau_syn / (tau_mem - tau_syn)
    c = ratio * (0.2 * np.exp(-lag / tau_mem) + 0.7)
    d = ratio * (0.2 * np.exp(-lag / tau_syn) + 0.7)
    at = np.log(d * tau_mem / (c * tau_syn)) * tau_mem * tau_syn / (tau_mem - tau_syn)
    second = c * np.exp(-at / tau_mem) - d * np.exp(-at / tau_syn)
    found = jax.jit(lambda x: net.maxima(x, throw=False))(jnp.zeros((2, 1)))
    np.testing.assert_allclose(found, [first, second], rtol=1e-13)


# ------------------------------------------------------------------ the integral of a refractory


def test_the_integral_includes_the_refractory_period():
    """A constant current; V is clamped at its reset. The last period ends before, at, or after
    t_max, and one period starts at t_max."""
    tau, bias, t_max = 10.0, 2.0, 20.0

    @jax.jit
    @jax.vmap
    def integral(v_reset, period):
        lif = esn.LIF(tau, 5.0, bias=bias, v_reset=v_reset, v_init=0.0)
        net = esn.EventNetwork(
            esn.Refractory(lif, period), jnp.zeros((2, 1)), outputs=(0,), t_max=t_max, max_events=9
        )
        return net.integrals([[INF]], throw=False)[0]

    cases = [(v, period) for v in (-0.7, 0.4) for period in (0.0, 3.0, 10.0, 30.0)]
    cases.append((-0.7, t_max - tau * np.log(2.0)))
    expected = np.zeros(len(cases))
    for k, (v_reset, period) in enumerate(cases):
        t, v = 0.0, 0.0
        while t < t_max:
            rise = min(tau * np.log((bias - v) / (bias - 1.0)), t_max - t)
            expected[k] += bias * rise + (bias - v) * tau * np.expm1(-rise / tau)
            t += rise
            expected[k] += v_reset * min(period, t_max - t)
            t, v = t + period, v_reset
    found = integral(*(jnp.array(x) for x in zip(*cases, strict=True)))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


# ------------------------------------------------------------------ pseudospikes


def test_inputs_after_t_max_do_not_act_on_pseudospikes():
    """After t_max only the drive acts, on a neuron at rest."""
    net = esn.EventNetwork(
        esn.LIF(10.0, 5.0),
        jnp.array([[0.0], [40.0]]),
        outputs=(0,),
        t_max=10.0,
        pseudospikes=esn.Pseudospikes(drive=1.2, duration=60.0),
    )
    times = jitted.ttfs(net, jnp.array([[[10.0 + 1e-12]], [[11.0]], [[25.0]], [[INF]], [[9.0]]]))
    np.testing.assert_allclose(times[:4, 0], 10.0 + 10.0 * np.log(1.2 / 0.2), rtol=1e-14)
    assert times[4, 0] < 10.0


# ------------------------------------------------------------------ slow crossings

BIAS, THRESHOLD, TAU, MIN_SPEED = jnp.array([3.0, 1.5, 1.001, 1.0002]), 1.0, 10.0, 0.05


@eqx.filter_jit
def slow_gradient(bias):
    """d/dtheta of the sum of the first spikes of neurons without synapses."""

    def total(threshold):
        net = esn.EventNetwork(
            esn.LIF(TAU, 5.0, threshold=threshold, bias=bias),
            jnp.zeros((3, 2)),
            outputs=(0, 1),
            t_max=100.0,
            adjoint=esn.EventProp(min_speed=MIN_SPEED),
        )
        return jnp.sum(jnp.where(bias > 1.0, net.ttfs([[INF]], throw=False), 0.0))

    return jax.grad(total)(jnp.full(2, THRESHOLD))


def test_min_speed_bounds_the_gradient_of_a_slow_crossing():
    """V = b (1 - exp(-t/tau)) reaches theta with the speed (b - theta)/tau, and dt/dtheta is the
    inverse of the speed; below `min_speed`, it is the inverse of `min_speed`."""
    for bias in BIAS:
        speed = max((bias - THRESHOLD) / TAU, MIN_SPEED)
        grads = slow_gradient(jnp.array([bias, -1.0]))
        np.testing.assert_allclose(grads, [1 / speed, 0.0], rtol=1e-9)


def test_min_speed_leaves_the_gradients_of_other_neurons_exact():
    """A neuron without synapses fires before the slow one and is independent of it."""
    grads = slow_gradient(BIAS[jnp.array([0, 2])])
    np.testing.assert_allclose(grads, [TAU / 2.0, 1 / MIN_SPEED], rtol=1e-9)


# ------------------------------------------------------------------ losses at t_max


def test_a_spike_at_t_max_has_the_whole_gradient():
    times, targets, t_max = jnp.array([20.0, 20.0 + 1e-9, 5.0, INF]), jnp.full(4, 15.0), 20.0
    square = jax.grad(lambda t: losses.mse_time(t, targets, t_max=t_max))(times)
    np.testing.assert_allclose(square, [2 * 5 / 400 / 4, 0.0, 2 * -10 / 400 / 4, 0.0], rtol=1e-14)
    absolute = jax.grad(lambda t: losses.mae_time(t, targets, t_max=t_max))(times)
    np.testing.assert_array_equal(absolute, [0.25, 0.0, -0.25, 0.0])
