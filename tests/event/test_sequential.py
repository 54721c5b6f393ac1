"""Layers in sequence."""

import functools as ft
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.differences import assert_equal_gradients
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
                delays=params.get("axonal"),
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


def test_a_sequence_is_one_network(rng):
    params, x = params_of(rng), inputs(rng, 2)
    free = {name: value for name, value in params.items() if name not in ("axonal", "synaptic")}

    def of(form):
        def functional(params, x):
            model = model_of(params)
            model = model.as_network(200) if form == "network" else model
            out = model.maxima(x, throw=False)
            return jnp.sum(out * jnp.array([[1.0, -2.0], [0.5, 3.0]])), out

        run = quick(jax.value_and_grad(functional, (0, 1), has_aux=True))
        (_, out), (grads, d_x) = run(free, x)
        return out, grads | {"x": d_x}

    (found, grads), (expected, right) = of("layers"), of("network")
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert_equal_gradients(grads, right, 1e-9)
    assert all(np.any(g != 0) for g in grads.values())


def test_delays_of_both_kinds_are_those_of_one_network(rng):
    model, x = model_of(params_of(rng)), inputs(rng)
    found, expected = quick(lambda x: (model.maxima(x), model.as_network(200).maxima(x)))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


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


def test_queries_are_those_of_the_last_layer(model, rng):
    x, hidden = inputs(rng, 2), model[:2]

    trains = hidden.trains(x)
    assert [t.shape for t in trains] == [(2, 4, COUNT), (2, 3, COUNT)]
    np.testing.assert_array_equal(hidden(x), trains[1])
    np.testing.assert_array_equal(hidden.ttfs(x), trains[1][..., 0])
    np.testing.assert_array_equal(hidden.spikes(x, 2), trains[1][..., :2])
    counts = hidden.counts(x)
    np.testing.assert_array_equal(counts, np.isfinite(trains[1]).sum(axis=-1))
    np.testing.assert_array_equal(hidden.simulate(x).stats["spikes"], counts.sum(axis=-1))
    assert np.all(counts > 0)
    readout = model[2]
    np.testing.assert_array_equal(model.maxima(x), readout.maxima(trains[1]))
    np.testing.assert_array_equal(model.integrals(x), readout.integrals(trains[1]))
    found = model.potentials_at(x, [5.0, 9.0])
    np.testing.assert_array_equal(found, readout.potentials_at(trains[1], [5.0, 9.0]))


def test_a_sequence_without_the_query_is_refused(model, rng):
    x = inputs(rng)
    last = esn.EventSequential([model[0], esn.EventFlatten()])
    with pytest.raises(ValueError, match=r"^layers\[-1\] must have the query maxima, got EventFla"):
        last.maxima(x)
    with pytest.raises(ValueError, match=r"^max_spikes must be given .*, got None"):
        model(x)
    other = esn.EventSequential([model[0], last])
    with pytest.raises(ValueError, match=r"^layers\[1\] must be an EventLinear with one receptor"):
        other.as_network()


def test_functions_and_networks_in_a_sequence(model, rng):
    """An arbitrary function, a recurrent network, another sequence, and a branch by `merge`."""
    x = inputs(rng, 2)
    weights = np.concatenate([rng.normal(0.0, 0.5, (4, 4)), np.abs(rng.normal(1.5, 0.5, (4, 4)))])
    loop = esn.EventNetwork(
        esn.LIF(10.0, 5.0), weights, outputs=(3, 0), t_max=T_MAX, max_spikes=COUNT, max_events=200
    )
    mixed = esn.EventSequential(
        [model[:1], lambda trains: esn.merge([trains, trains + 1.0]), loop, lambda t: t[..., :3]]
    )

    @quick
    def both(x):
        first = model[0](x, throw=False)
        direct = loop.spikes(jnp.concatenate([first, first + 1.0], axis=-1), COUNT, throw=False)
        return mixed(x, throw=False), direct[..., :3]

    found, expected = both(x)
    assert found.shape == (2, 2, 3) and np.isfinite(found).any()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_network_as_a_layer_has_max_spikes(rng):
    options = {"outputs": (0,), "t_max": 40.0}
    neuron = esn.LIF(10.0, 5.0, bias=2.0)
    net = esn.EventNetwork(neuron, np.zeros((1, 1)), max_spikes=2, **options)
    x = np.zeros((0, 1))
    with pytest.raises(RuntimeError, match=r"^1 of 1 samples: .* more than max_spikes times"):
        net(x)
    assert np.all(np.isnan(net(x, throw=False)))
    np.testing.assert_allclose(net.spikes(x, 2)[0, 1], 20 * np.log(2.0), rtol=1e-12)
    with pytest.raises(ValueError, match=r"^max_spikes must be given .*, got None"):
        esn.EventNetwork(neuron, np.zeros((1, 1)), **options)(x)
    with pytest.raises(ValueError, match=r"^max_spikes must be .*, got 0"):
        esn.EventNetwork(neuron, np.zeros((1, 1)), max_spikes=0, **options)


def test_a_sample_that_fails_in_a_hidden_layer_is_nan_at_the_end(model, rng):
    """Under jit and outside of it, also after functions of trains."""
    hidden = esn.EventLinear(esn.LIF(10.0, 5.0), np.full((2, 2), 9.0), t_max=T_MAX, max_spikes=1)
    readout = esn.EventLinear(esn.LeakyIntegrator(10.0, 5.0), np.ones((2, 1)), t_max=T_MAX)
    model = esn.EventSequential([hidden, lambda trains: esn.merge([trains, trains]), readout])
    x = jnp.array([[[1.0], [2.0]], [[INF], [INF]]])
    eager = model.integrals(x, throw=False)
    np.testing.assert_array_equal(np.isnan(eager)[:, 0], [True, False])
    np.testing.assert_array_equal(jax.jit(ft.partial(model.integrals, throw=False))(x), eager)
    with pytest.raises(RuntimeError, match=r"^1 of 2 samples: .* more than max_spikes times"):
        model.integrals(x)


def test_constrained_leaves_are_those_of_the_free_layer(rng):
    """Of a convolution and of a layer: kernel, weights, delays and time constants."""
    conv = esn.EventConv2d(
        esn.LIF(10.0, 5.0),
        np.full((2, 1, 2, 2), 3.0),
        t_max=T_MAX,
        max_spikes=8,
    )
    layer = esn.EventLinear(
        esn.LIF(10.0, 5.0), np.full((2, 1), 0.9), t_max=T_MAX, max_spikes=16, delays=np.ones(2)
    )
    free = esn.EventSequential([conv, esn.EventFlatten(), layer])

    def where(model):
        return [
            model.layers[0].kernel,
            model.layers[0].neuron.tau_syn,
            model.layers[2].weights,
            model.layers[2].delays,
        ]

    bound = esn.constrain(free, where)
    x = jnp.array([[[[1.0], [3.0]], [[INF], [2.0]]]])
    run = lambda model: model.trains(x)[-1]  # noqa: E731
    np.testing.assert_allclose(run(bound), run(free), rtol=1e-9)
    assert np.isfinite(run(free)).any()
    grads = eqx.filter_grad(lambda model: model(x)[0, 0])(bound)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    again = esn.EventLinear(bound[2].neuron, bound[2].weights, t_max=T_MAX, delays=bound[2].delays)
    assert isinstance(again.weights, type(bound[2].weights))


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
