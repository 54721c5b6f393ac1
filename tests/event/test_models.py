"""`jax.vmap` over models: one simulation of all models, with the results of each by itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn

LIF, READOUT = esn.LIF(20.0, 5.0), esn.LeakyIntegrator(20.0, 5.0)
MODELS, SAMPLES = 3, 4


def recurrent(key):
    options = {"init": jax.nn.initializers.normal(0.8), "max_events": 400}
    sizes = {"inputs": 6, "hidden": 10, "outputs": 3}
    return esn.recurrent(LIF, **sizes, readout=READOUT, key=key, t_max=30.0, **options)


def layers(key):
    options = {"init": jax.nn.initializers.normal(1.5), "max_spikes": 8, "truncate": True}
    return esn.feedforward(LIF, sizes=(6, 10, 3), readout=READOUT, key=key, t_max=30.0, **options)


CASES = [(recurrent, "maxima"), (layers, "integrals")]


@pytest.fixture
def in_times(rng):
    return jnp.asarray(rng.uniform(0.0, 20.0, (SAMPLES, 6, 2)))


def stack(build):
    models = [build(key) for key in jax.random.split(jax.random.key(1), MODELS)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *models)
    return models, stacked


def over_models(fn):
    return eqx.filter_vmap(fn, in_axes=(eqx.if_array(0), None))


def same(a, b, rtol=1e-10):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize(("build", "query"), CASES)
def test_gradients_of_several_models(build, query, in_times):
    """The gradient of each model; the sum of their losses has the same gradients."""
    models, stacked = stack(build)

    def loss(model, x):
        return jnp.sum(getattr(model, query)(x) ** 2)

    each = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    found = eqx.filter_jit(over_models(eqx.filter_value_and_grad(loss)))(stacked, in_times)
    for k, model in enumerate(models):
        same(jax.tree.map(lambda x, k=k: x[k], found), each(model, in_times))
    total = eqx.filter_grad(lambda models: jnp.sum(over_models(loss)(models, in_times)))
    same(eqx.filter_jit(total)(stacked), found[1])


@pytest.mark.parametrize(("build", "query"), CASES)
def test_gradients_of_single_samples(build, query, in_times):
    """The gradient of each sample, as differential privacy and curvature estimates need it."""
    model = build(jax.random.key(1))

    def loss(model, x):
        return jnp.sum(getattr(model, query)(x) ** 2)

    grads = eqx.filter_jit(eqx.filter_vmap(eqx.filter_grad(loss), in_axes=(None, 0)))
    each = grads(model, in_times)
    whole = eqx.filter_jit(eqx.filter_grad(loss))(model, in_times)
    same(jax.tree.map(lambda x: jnp.sum(x, axis=0), each), whole)
    one = eqx.filter_jit(eqx.filter_grad(loss))(model, in_times[2])
    same(jax.tree.map(lambda x: x[2], each), one)


@pytest.mark.parametrize("build", [recurrent, layers])
def test_nested_vmap(build, in_times):
    """Samples outside of models, models outside of models, and several models per sample."""
    _, stacked = stack(build)

    def integrals(model, x):
        return model.integrals(x)

    found = eqx.filter_jit(over_models(integrals))(stacked, in_times)

    @eqx.filter_jit
    def samples_outside(models, x):
        return jax.vmap(lambda sample: over_models(integrals)(models, sample))(x)

    same(jnp.swapaxes(samples_outside(stacked, in_times), 0, 1), found)

    @eqx.filter_jit
    def two_axes(models, x):
        pairs = jax.tree.map(
            lambda y: jnp.stack([y, 1.1 * y if eqx.is_inexact_array(y) else y]), models
        )
        return eqx.filter_vmap(lambda pair: over_models(integrals)(pair, x))(pairs)

    same(two_axes(stacked, in_times)[0], found)
    paired = eqx.filter_jit(eqx.filter_vmap(integrals))(stacked, in_times[:MODELS])
    same(paired, jnp.stack([found[k, k] for k in range(MODELS)]))


@pytest.mark.parametrize("build", [recurrent, layers])
def test_no_samples_and_no_models(build, in_times):
    _, stacked = stack(build)

    def value(model, x):
        return jnp.sum(model.integrals(x, throw=False))

    run = eqx.filter_jit(over_models(eqx.filter_value_and_grad(value)))
    loss, grads = run(stacked, in_times[:0])
    np.testing.assert_array_equal(loss, np.zeros(MODELS))
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(grads))
    none = jax.tree.map(lambda x: x[:0] if eqx.is_array(x) else x, stacked)
    assert eqx.filter_jit(over_models(value))(none, in_times).shape == (0,)


def test_one_loop_for_all_models(in_times, monkeypatch):
    """Conditions of loops are equal for all models: otherwise all carried arrays are copied."""

    def selections(build):
        arrays, rest = eqx.partition(stack(build)[1], eqx.is_array)

        def run(arrays, x):
            return over_models(lambda m, x: m.integrals(x))(eqx.combine(arrays, rest), x)

        return jax.jit(run).lower(arrays, in_times).as_text().count("stablehlo.select")

    def not_found(name):
        raise NameError(name)

    found = [selections(build) for build in (recurrent, layers)]
    monkeypatch.setattr(jax.lax, "axis_size", not_found)
    jax.clear_caches()  # traces are cached
    separate = [selections(build) for build in (recurrent, layers)]
    assert all(a < b for a, b in zip(found, separate, strict=True)), (found, separate)
