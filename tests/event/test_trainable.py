"""Selection of parameters by name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import eventsnn as esn


def network():
    parts = [(esn.LIF(10.0, 5.0), 1), (esn.Refractory(esn.ALIF(10.0, 5.0, 30.0, 0.1), 2.0), 1)]
    return esn.EventNetwork(
        esn.Populations(parts), jnp.ones((3, 2)), outputs=(0,), t_max=20.0, delays=jnp.ones((3, 2))
    )


def selected(model, *names):
    paths, _ = jax.tree_util.tree_flatten_with_path(esn.trainable(model, *names))
    return [jax.tree_util.keystr(path) for path, chosen in paths if chosen]


def test_a_name_selects_all_arrays_that_are_stored_under_it():
    net = network()
    assert selected(net, "weights") == [".weights"]
    assert selected(net, "weights", "delays", "tau_mem", "period") == [
        ".neuron.parts[0].tau_mem",
        ".neuron.parts[1].neuron.tau_mem",
        ".neuron.parts[1].period",
        ".weights",
        ".delays",
    ]


def test_a_wrapped_parameter_has_its_own_name():
    net = esn.constrain(network(), lambda net: [net.delays, net.neuron.parts[0].tau_syn])
    assert selected(net, "delays", "tau_syn") == [
        ".neuron.parts[0].tau_syn.raw",
        ".neuron.parts[1].neuron.tau_syn",
        ".delays.raw",
    ]


def test_a_tree_of_networks():
    nets = {"a": network(), "b": [network()]}
    assert selected(nets, "weights") == ["['a'].weights", "['b'][0].weights"]


def test_the_filter_splits_the_model():
    net = network()
    spec = esn.trainable(net, "weights")
    chosen, rest = eqx.partition(net, spec)
    assert chosen.weights is not None and rest.weights is None
    assert eqx.tree_equal(eqx.combine(chosen, rest), net)


def test_an_unknown_name_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"^names must be among .*, tau_mem, .*, got 'tau'\.$"):
        esn.trainable(network(), "weights", "tau")
    with pytest.raises(ValueError, match=r"^model must be a tree with floating-point arrays"):
        esn.trainable({"number": 3})


def test_by_default_weights_biases_and_delays_train():
    net = network()
    net = esn.constrain(net, lambda net: net.delays)
    late = esn.EventLinear(
        esn.LIF(10.0, 5.0), jnp.ones((1, 2)), t_max=20.0, pseudospikes=esn.Pseudospikes(2.0, 9.0)
    )
    model = {"net": net, "layer": late, "linear": eqx.nn.Linear(2, 3, key=jax.random.key(0))}
    assert selected(model) == [
        "['layer'].neuron.bias",
        "['layer'].weights",
        "['linear'].weight",
        "['linear'].bias",
        "['net'].neuron.parts[0].bias",
        "['net'].neuron.parts[1].neuron.bias",
        "['net'].weights",
        "['net'].delays.raw",
    ]
