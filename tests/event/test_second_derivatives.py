"""Second derivatives by Autodiff against closed forms and central differences of EventProp's
gradients.

test_gradients.py compares those gradients with differences of the spike times.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.neurons import LIFState
from helpers.delta_lif import ClosedDelta, DeltaLIF
from helpers.jitted import unsimplified

SILENT = jnp.zeros((0, 1))
TAU = 20.0


def net_of(neuron, weights, **options):
    options = {"t_max": 100.0, "max_events": 12, "adjoint": esn.Autodiff()} | options
    outputs = tuple(range(np.shape(weights)[1]))
    return esn.EventNetwork(neuron, jnp.asarray(weights), outputs=outputs, **options)


def period(bias, tau=TAU):
    """Time that a membrane potential takes from 0 to the threshold 1."""
    return tau * jnp.log(bias / (bias - 1))


def response(weight):
    """Time from an input to the spike of a neuron at rest with tau_syn = tau_mem / 2."""
    return -TAU * jnp.log((1 + jnp.sqrt(1 - 4 / weight)) / 2)


def refractory(p):
    neuron = esn.Refractory(esn.LIF(p[1], 5.0, bias=p[0]), p[2])
    return net_of(neuron, [[0.0]]).spikes(SILENT, 3, throw=False)[0, 2]


def tied(p):
    """Two neurons without synapses that fire at the same times; at p = (1.5, 1.5)."""
    spikes = net_of(esn.LIF(TAU, 5.0, bias=p), jnp.zeros((2, 2))).spikes(SILENT, 2, throw=False)
    return jnp.sum(spikes * jnp.array([[1.0, 2.0], [-0.5, 0.7]]))


def delayed(p):
    """A neuron that fires spontaneously and, after a delay, makes a second one fire."""
    neuron = esn.LIF(TAU, TAU / 2, bias=jnp.array([1.0, 0.0]) * p[0])
    weights, delay = (jnp.array([[0.0, 1.0], [0.0, 0.0]]) * x for x in p[1:])
    return net_of(neuron, weights, delays=delay).ttfs(SILENT, throw=False)[1]


def state(p):
    """Membrane potential some time after its first spike."""
    net = net_of(esn.LIF(TAU, 5.0, bias=p[0]), [[0.0]], t_max=60.0)
    return net.potentials_at(SILENT, p[1:], throw=False)[0, 0]


def lifted(p):
    """A neuron that fires spontaneously; its pulse immediately pushes a second one over its
    threshold.

    (The second neuron would fire later by itself, and its parameters have no influence.)
    """
    neuron = DeltaLIF(jnp.array([TAU, 30.0]), p, jnp.ones(2))
    net = net_of(neuron, [[0.0, 0.9], [0.0, 0.0]], solver=ClosedDelta(), max_events=4)
    return net.ttfs(SILENT, throw=False)[1]


def highest(measure):
    """Maximum of V = v x + w (x - x^2), x = exp(-t / tau)."""

    def value(p):
        state = LIFState(p[1].reshape(1, 1), p[0].reshape(1, 1))
        return measure(esn.LIF(TAU, TAU / 2), state, jnp.array([20.0]))[0, 0]

    return value


def peak(p):
    return (p[1] + p[0]) ** 2 / (4 * p[0])


CLOSED = {
    "refractory": (refractory, lambda p: 3 * period(p[0], p[1]) + 2 * p[2], (1.5, 20.0, 3.0)),
    "tied": (tied, lambda p: 5.0 * period(p[0]) + 0.9 * period(p[1]), (1.5, 1.5)),
    "delayed": (delayed, lambda p: period(p[0]) + p[2] + response(p[1]), (1.5, 5.0, 2.0)),
    "state": (
        state,
        lambda p: p[0] * (1 - jnp.exp(-(p[1] - period(p[0])) / TAU)),
        (1.5, 31.0),
    ),
    "maximum": (highest(esn.ExactLIF().maximum), peak, (3.0, 0.4)),
    "lifted": (lifted, lambda p: period(p[0]) + 0.0 * p[1], (1.5, 1.2)),
}


def twice_reverse(f):
    return jax.jacrev(jax.jacrev(f, has_aux=True), has_aux=True)


WAYS = {"forward": lambda f: jax.hessian(f, has_aux=True), "reverse": twice_reverse}


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "forward") for name in CLOSED), ("lifted", "reverse"), ("maximum", "reverse")],
)
def test_closed_forms(name, way):
    *functions, at = CLOSED[name]
    # Second derivatives and value in one program.
    (second, value), (expected, closed) = (
        unsimplified(WAYS[way](lambda p, f=f: (f(p),) * 2))(jnp.array(at)) for f in functions
    )
    np.testing.assert_allclose(value, closed, rtol=1e-9)
    scale = np.max(np.abs(expected))
    assert scale > 1e-3
    np.testing.assert_allclose(second / scale, expected / scale, rtol=0, atol=1e-7)


EVENTPROP = "EventProp gives reverse-mode first derivatives only; use adjoint=esn.Autodiff()"


@pytest.mark.parametrize("way", [jax.jacfwd, jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))])
@pytest.mark.parametrize("compiled", [False])
def test_eventprop_has_reverse_mode_first_derivatives_only(way, compiled):
    def first(weight):
        net = net_of(
            esn.LIF(TAU, TAU / 2), jnp.array([[0.0], [1.0]]) * weight, adjoint=esn.EventProp()
        )
        return net.ttfs(jnp.ones((1, 1)), throw=False)[0]

    derivative = way(jax.vmap(first))
    with pytest.raises(NotImplementedError, match=EVENTPROP) as error:
        (jax.jit(derivative) if compiled else derivative)(jnp.full(2, 5.0))
    assert "\n" not in str(error.value)
