"""Neuron models of users: parameters that are floats, and methods with results of a wrong kind."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn


class State(NamedTuple):
    v: jax.Array
    i: jax.Array


class Leaky(esn.AbstractNeuron):
    """LIF neuron, whose parameters are floats unless they are given otherwise."""

    tau: Any
    threshold: Any
    bias: Any = 0.0
    order: Any = 1
    kind: str = "leaky"
    damped: bool = True

    def init_state(self, n):
        return State(jnp.zeros(n), jnp.zeros(n))

    def vector_field(self, s):
        return State((-s.v + s.i + self.bias) / self.tau, -s.i / self.tau)

    def threshold_gap(self, s):
        return self.threshold - s.v

    def receive(self, s, weights):
        return s._replace(i=s.i + weights)

    def reset(self, s, spiked):
        return s._replace(v=jnp.where(spiked, 0.0, s.v))

    def observe(self, s):
        return s.v


def net_of(neuron, **options):
    return esn.EventNetwork(neuron, jnp.full((3, 2), 3.0), outputs=(0, 1), t_max=20.0, **options)


def test_floats_are_parameters():
    floats, numpy = Leaky(20.0, np.array([1.0, 1.1]), np.float32(0.25)), np.array([1.0, 1.1])
    net = net_of(floats)
    arrays = net_of(Leaky(jnp.asarray(20.0), jnp.asarray(numpy), jnp.asarray(0.25)))
    assert eqx.tree_equal(net.neuron, arrays.neuron)
    assert (net.neuron.order, net.neuron.kind, net.neuron.damped) == (1, "leaky", True)
    layer = esn.EventLinear(floats, jnp.ones((1, 2)), t_max=20.0)
    assert isinstance(layer.neuron.tau, jax.Array) and isinstance(layer.neuron.bias, jax.Array)
    trained = eqx.filter(net, esn.trainable(net, "weights", "tau", "threshold"))
    assert len(jax.tree.leaves(trained)) == 3
    assert eqx.filter(net, esn.trainable(net)).neuron.bias is not None  # also by default
    grads = eqx.filter_grad(lambda net: jnp.sum(net.ttfs(jnp.array([[1.0]]))))(net)
    assert grads.neuron.tau != 0 and np.all(grads.neuron.threshold != 0)
    mixed = net_of(esn.Populations([(Leaky(20.0, 1.0), 1), (esn.LIF(20.0, 5.0), 1)]))
    assert mixed.neuron.parts[0].tau.dtype == net.weights.dtype


def test_the_critical_drive_of_a_neuron_with_floats():
    drive = esn.init.critical_drive(Leaky(20.0, 1.0), t_max=20.0)
    assert drive == esn.init.critical_drive(Leaky(jnp.array(20.0), jnp.array(1.0)), t_max=20.0)


def test_an_integer_is_not_trained_and_the_error_says_so():
    with pytest.raises(ValueError, match="among bias, tau, threshold, weights, got 'order', which"):
        esn.trainable(net_of(Leaky(20.0, 1.0, order=3)), "order")
    with pytest.raises(ValueError, match=r"got 'ordr'.$"):
        esn.trainable(net_of(Leaky(20.0, 1.0)), "ordr")


class Scalar(Leaky):
    def init_state(self, n):
        return State(jnp.zeros(n), jnp.zeros(()))


class Counts(Leaky):
    def init_state(self, n):
        return State(jnp.zeros(n), jnp.zeros(n, int))


class Pair(Leaky):
    def vector_field(self, s):
        return -s.v, -s.i


class Constant(Leaky):
    def vector_field(self, s):
        return State(-s.v, 0.0)


class Half(Leaky):
    def receive(self, s, weights):
        return State(s.v, (s.i + weights).astype(jnp.float16))


class Nothing(Leaky):
    def reset(self, s, spiked):
        return None


class Sum(Leaky):
    def threshold_gap(self, s):
        return 1.0 - jnp.sum(s.v)


class First(Leaky):
    def observe(self, s):
        return s.v[0]


class PerSample(Leaky):
    """A model that is correct for one sample only."""

    def reset(self, s, spiked):
        return s._replace(v=s.v * jnp.array([0.0, 1.0]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Scalar,
            r"Scalar.init_state must return one or .* of shape \(2,\), got State\(v=f64\[2\], ",
        ),
        (Counts, r"Counts.init_state must return .* floating-point .* i=i64\[2\]\)"),
        (Pair, r"Pair.vector_field must return State.* for .* in 3 samples, got \(f64\[2,3\], f64"),
        (Constant, r"Constant.vector_field must return State.*, got State\(v=f64\[2,3\], i=0.0\)"),
        (Half, r"Half.receive must return State.*, got State\(v=f64\[2,3\], i=f16\[2,3\]\)"),
        (Nothing, "Nothing.reset must return State.*, got None"),
        (Sum, r"Sum.threshold_gap must return f64\[2,3\] for a state State.*, got f64\[\]"),
        (First, r"First.observe must return f64\[2,3\] .*, got f64\[3\]"),
    ],
)
def test_a_wrong_result_names_class_and_method(model, message):
    for make in (net_of, lambda neuron: esn.EventLinear(neuron, jnp.ones((1, 2)), t_max=20.0)):
        with pytest.raises(ValueError, match=message):
            make(model(20.0, 1.0))


def test_an_error_within_a_method_has_its_name_as_a_note():
    with pytest.raises((TypeError, ValueError), match="shape") as caught:
        net_of(PerSample(20.0, 1.0))
    assert caught.value.__notes__[-1] == "The error occurred in PerSample.reset."
