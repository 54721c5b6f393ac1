"""Layers in sequence."""

import itertools
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.registry import quick

INF = np.inf
T_MAX, COUNT = 25.0, 20
SIZES = 3, 4, 3, 2


def params_of(rng):
    first, second, third = (
        jnp.asarray(rng.normal(1.2, 0.6, pair)) for pair in itertools.pairwise(SIZES)
    )
    return {
        "first": first,
        "second": second,
        "third": third,
        "axonal": jnp.asarray(rng.uniform(0, 2.0, SIZES[0])),
        "synaptic": jnp.asarray(rng.uniform(0, 2.0, SIZES[2:])),
        "threshold": jnp.linspace(0.8, 1.2, SIZES[1]),
    }


def inputs(rng, *batch):
    x = rng.uniform(-5.0, 15.0, (*batch, SIZES[0], 3))
    return jnp.asarray(np.where(x < 0, INF, x))


def model_of(params):
    options = {"t_max": T_MAX, "max_spikes": COUNT}
    return esn.EventSequential(
        [
            esn.EventLinear(
                esn.LIF(10.0, 5.0, threshold=params["threshold"]),
                params["first"],
                delays=params["axonal"],
                **options,
            ),
            esn.EventLinear(esn.LIF(10.0, 5.0), params["second"], **options),
            esn.EventLinear(
                esn.LeakyIntegrator(20.0, 5.0),
                params["third"],
                t_max=T_MAX,
                delays=params.get("synaptic"),
            ),
        ]
    )


def test_synapses_of_the_network_of_a_sequence(rng):
    """Neurons are numbered layer by layer, and the rows are neurons, then inputs."""
    params = params_of(rng)
    net = model_of(params).as_network(200)
    assert net.mask is not None and net.delays is not None
    first, second, third = slice(0, 4), slice(4, 7), slice(7, 9)
    blocks = {
        "first": (slice(9, 12), first, params["axonal"][:, None]),
        "second": (first, second, 0.0),
        "third": (second, third, params["synaptic"]),
    }
    rest = np.ones(net.weights.shape, bool)
    for name, (rows, columns, delays) in blocks.items():
        np.testing.assert_array_equal(net.weights[rows, columns], params[name])
        assert np.all(net.mask[rows, columns]) and np.all(net.delays[rows, columns] == delays)
        rest[rows, columns] = False
    assert not np.any(net.mask[rest]) and net.outputs == (7, 8) and net.t_max == T_MAX


@pytest.fixture(scope="module")
def model():
    params = params_of(np.random.default_rng(0))
    return model_of(params | {"synaptic": None})


def test_parts_of_a_sequence(model):
    assert len(model) == 3 and model[1] is model.layers[1] and model[-1] is model[2]
    assert isinstance(model[:2], esn.EventSequential) and len(model[:2]) == 2
    assert model[1:].layers == model.layers[1:]
    with pytest.raises(ValueError, match=r"^layers must be a sequence of at least one layer"):
        _ = model[3:]
    with pytest.raises(ValueError, match=r"^layers\[1\] must be .*, got 3"):
        esn.EventSequential([model[0], 3])  # pyright: ignore[reportArgumentType]


class Last:
    """Layer that returns the name and the arguments of each query."""

    def __call__(self, trains):
        return trains

    def __getattr__(self, name):
        return lambda *args, **options: (name, *args, options)


@pytest.mark.parametrize("throw", [True, False])
def test_queries_are_those_of_the_last_layer(throw):
    model = esn.EventSequential([lambda t: t + 1, lambda t: 2 * t, Last()])
    assert model.trains(1, throw=throw) == [2, 4, 4] and model(1, throw=throw) == 4
    for name in ("ttfs", "counts", "integrals", "maxima", "simulate"):
        assert getattr(model, name)(1, throw=throw) == (name, 4, {"throw": throw})
    assert model.spikes(1, 3, throw=throw) == ("spikes", 4, 3, {"throw": throw})
    found = model.potentials_at(1, [5.0], throw=throw)
    assert found == ("potentials_at", 4, [5.0], {"throw": throw})


def test_a_sequence_without_the_query_is_refused(model, rng):
    x = inputs(rng)
    last = esn.EventSequential([model[0], esn.EventFlatten()])
    with pytest.raises(ValueError, match=r"^layers\[-1\] must have the query maxima, got EventFla"):
        last.maxima(x)
    with pytest.raises(ValueError, match=r"^max_spikes must be given .*, got None"):
        jax.eval_shape(model, x)
    other = esn.EventSequential([model[0], last])
    with pytest.raises(ValueError, match=r"^layers\[1\] must be an EventLinear with one receptor"):
        other.as_network()


def test_functions_and_networks_in_a_sequence(model, rng):
    """An arbitrary function, a recurrent network, another sequence, and a branch by `merge`."""
    weights = np.concatenate([rng.normal(0.0, 0.5, (4, 4)), np.abs(rng.normal(1.5, 0.5, (4, 4)))])
    loop = esn.EventNetwork(
        esn.LIF(10.0, 5.0), weights, outputs=(3, 0), t_max=T_MAX, max_spikes=COUNT, max_events=200
    )
    mixed = esn.EventSequential(
        [model[:1], lambda trains: esn.merge([trains, trains + 1.0]), loop, lambda t: t[..., :3]]
    )
    x = inputs(rng, 2)
    first, merged, sent, found = quick(lambda x: mixed.trains(x, throw=False))(x)
    assert first.shape == (2, 4, COUNT) and sent.shape == (2, 2, COUNT) and np.isfinite(found).any()
    np.testing.assert_array_equal(merged, np.concatenate([first, first + 1.0], axis=-1))
    np.testing.assert_array_equal(found, sent[..., :3])


def test_a_network_as_a_layer_has_max_spikes():
    def network(bias=2.0, max_spikes: int | None = 2):
        neuron, options = esn.LIF(10.0, 5.0, bias=bias), {"outputs": (0,), "t_max": 40.0}
        return esn.EventNetwork(neuron, np.zeros((1, 1)), max_spikes=max_spikes, **options)

    found = quick(jax.vmap(lambda bias: network(bias)(np.zeros((0, 1)), throw=False)))(
        jnp.array([2.0, 1.1, 1.0])
    )
    expected = [[np.nan] * 2, [10 * np.log(11), INF], [INF] * 2]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^max_spikes must be given .*, got None"):
        network(max_spikes=None)(np.zeros((0, 1)))
    with pytest.raises(ValueError, match=r"^max_spikes must be .*, got 0"):
        network(max_spikes=0)


def test_a_sample_that_fails_in_a_hidden_layer_is_nan_at_the_end():
    """Also after functions of trains. With `throw`, invalid times raise an error."""
    hidden = esn.EventLinear(esn.LIF(10.0, 5.0), np.full((2, 2), 9.0), t_max=T_MAX, max_spikes=1)
    readout = esn.EventLinear(esn.LeakyIntegrator(10.0, 5.0), np.ones((2, 1)), t_max=T_MAX)
    model = esn.EventSequential([hidden, lambda trains: esn.merge([trains, trains]), readout])
    x = jnp.array([[[1.0], [2.0]], [[INF], [INF]]])
    found = quick(lambda x: model.integrals(x, throw=False))(x)
    np.testing.assert_array_equal(np.isnan(found)[:, 0], [True, False])
    assert jax.eval_shape(lambda: model.integrals(-x, throw=False)).shape == (2, 1)
    with pytest.raises(ValueError, match=r"^in_times must be >= 0"):
        model.integrals(-x)


def test_constrained_leaves_are_those_of_the_free_layer():
    """Of a convolution and of a readout: kernel, weights, delays and time constants."""
    neuron = esn.LeakyIntegrator(10.0, 5.0)
    conv = esn.EventConv2d(neuron, np.full((2, 1, 2, 2), 3.0), t_max=T_MAX)
    linear = esn.EventLinear(neuron, np.full((4, 1), 0.9), t_max=T_MAX, delays=np.ones(4))
    free = esn.EventSequential([conv, linear])

    def where(model):
        return [model[0].kernel, model[0].neuron.tau_syn, model[1].weights, model[1].delays]

    def integrals(model):
        x = jnp.array([[[[1.0], [3.0]], [[INF], [2.0]]]])
        out = [model[0].integrals(x, throw=False), model[1].integrals(x.reshape(4, 1), throw=False)]
        return jnp.sum(jnp.concatenate(out, axis=None)), out

    bound = esn.constrain(free, where)
    grads, found = eqx.filter_jit(eqx.filter_grad(integrals, has_aux=True))(bound)
    _, expected = eqx.filter_jit(integrals)(free)
    for actual, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, value, rtol=1e-9)
    assert all(np.all(np.isfinite(g.raw)) and np.any(g.raw != 0) for g in where(grads))
    last = bound[1]
    again = esn.EventLinear(last.neuron, last.weights, t_max=T_MAX, delays=last.delays)
    assert isinstance(again.weights, esn.Positive) and isinstance(again.delays, esn.Positive)


def test_parameters_are_selected_by_name(model):
    spec = esn.trainable(model, "weights", "tau_mem")
    paths, _ = jax.tree_util.tree_flatten_with_path(spec)
    chosen = [jax.tree_util.keystr(path) for path, on in paths if on]
    expected = [f".layers[{i}].{name}" for i in range(3) for name in ("neuron.tau_mem", "weights")]
    assert chosen == expected


def test_leaves_are_saved_and_loaded(model, tmp_path):
    path = str(tmp_path / "model.eqx")
    eqx.tree_serialise_leaves(path, model)
    blank = jax.tree.map(lambda x: jnp.zeros_like(x) if eqx.is_array(x) else x, model)
    assert eqx.tree_equal(eqx.tree_deserialise_leaves(path, blank), model)


def test_layers_are_pickled(model, rng):
    x = inputs(rng, 2)
    expected = eqx.filter_jit(model.maxima)(x)
    again = pickle.loads(pickle.dumps(model))
    assert eqx.tree_equal(again, model)
    np.testing.assert_array_equal(eqx.filter_jit(again.maxima)(x), expected)
