"""The sweep of a layer: order, compaction, memory, transformations and precision."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.lanes import compact, order
from helpers.differences import assert_equal_gradients
from helpers.registry import quick

T_MAX, COUNT, N_IN, N, K = 30.0, 12, 3, 4, 3


def layer_of(rng, neuron=None, dtype: Any = np.float64, **options):
    neuron = esn.LIF(10.0, 5.0) if neuron is None else neuron
    weights = rng.normal(2.5, 1.5, (N_IN, N)).astype(dtype)
    return esn.EventLinear(neuron, weights, t_max=T_MAX, max_spikes=COUNT, **options)


def inputs(rng, *batch):
    x = rng.uniform(-5.0, 20.0, (*batch, N_IN, K))
    return jnp.asarray(np.where(x < 0, np.inf, x))


def functional(layer, x):
    out = layer(x, throw=False)
    weights = jnp.cos(jnp.arange(COUNT, dtype=out.dtype))
    return jnp.sum(jnp.where(jnp.isfinite(out), weights * out, 0.0))


# ------------------------------------------------------------------ parts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("size", "spikes"), [(1, 1), (200, 200), (3000, 400), (3000, 2900)])
def test_the_order_of_times(dtype, size, spikes, rng):
    """It is stable: ties, and times that differ in any of their bits."""
    times = rng.uniform(0, 40.0, (3, size)).astype(dtype)
    times[0] = np.round(times[0])
    times[1, ::3] = times[1, 0] * (1 + rng.integers(0, 4, times[1, ::3].size) * np.finfo(dtype).eps)
    times[2, : size // 5] *= 1e-30
    for row in times:
        row[rng.permutation(size)[spikes:]] = np.inf
    found = jax.vmap(order.increasing)(jnp.asarray(times))
    finite = np.sum(times < np.inf, axis=1)
    for row, own, n in zip(times, found, finite, strict=True):
        np.testing.assert_array_equal(own[:n], np.argsort(row, kind="stable")[:n])
        assert np.all(row[own[n:]] == np.inf)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 5), (7, 9), (40, 33)])
def test_marked_lanes_are_found(share, shape, rng):
    mask = rng.random(shape) < share
    words = jax.jit(compact.pack)(jnp.asarray(mask))
    expected = np.flatnonzero(mask)
    assert compact.total(words) == len(expected)
    found = []
    for first in range(0, len(expected) + 1, 128):
        index, valid = compact.marked(words, jnp.asarray(first, jnp.int32), 128)
        assert np.all((index >= 0) & (index < 32 * len(words)))
        found.extend(np.asarray(index)[np.asarray(valid)])
    np.testing.assert_array_equal(found, expected)


def test_the_memory_of_a_backward_pass_is_that_of_the_spikes(rng):
    """States at the arrivals are stored only if a parameter of the neuron is differentiated."""
    batch, n_in, n, k = 2, 4, 64, 64
    layer = esn.EventLinear(
        esn.LIF(10.0, 5.0), np.ones((n_in, n)), t_max=T_MAX, max_spikes=2, truncate=True
    )
    x = jnp.asarray(rng.uniform(0, 20.0, (batch, n_in, k)))

    def largest(layer: Any, what):
        def run(part):
            return eqx.tree_at(what, layer, part)(x, throw=False)

        pulled = jax.eval_shape(lambda part: jax.vjp(run, part)[1], what(layer))
        return max(leaf.size for leaf in jax.tree.leaves(pulled))

    rows, states = n_in * k + 2, -(-(n_in * k + 2) // 16) * batch * n
    assert largest(layer, lambda layer: layer.weights) <= max(rows * batch, (n_in + 1) * n) < states
    assert largest(layer, lambda layer: layer.neuron.tau_mem) == states  # pyright: ignore[reportAttributeAccessIssue]


# ------------------------------------------------------------------ transformations


def test_batch_axes_are_loops(rng):
    layer, x = layer_of(rng), inputs(rng, 2, 3)
    times = layer(x)
    assert times.shape == (2, 3, N, COUNT)
    counts = np.isfinite(times).sum(axis=-1)
    np.testing.assert_array_equal(layer.counts(x), counts)
    assert len(np.unique(counts)) > 2
    assert np.all(np.diff(np.where(times < np.inf, times, 1e3 + np.arange(COUNT)), axis=-1) > 0)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(layer(x[i, j]), times[i, j], rtol=1e-13)
    vmapped = jax.jit(jax.vmap(lambda x: layer(x, throw=False), in_axes=1, out_axes=1))(x)
    np.testing.assert_allclose(vmapped, times, rtol=1e-13)


def test_vmap_of_gradients_and_gradients_of_vmap(rng):
    """Over samples and over models."""
    layer, x = layer_of(rng), inputs(rng, 3)

    @jax.grad
    def of(params):
        own = eqx.tree_at(lambda m: m.weights, layer, params["weights"])
        return functional(own, params["in_times"])

    params = {"weights": layer.weights}
    single, samples = quick(of), {"weights": None, "in_times": 0}
    one = [single(params | {"in_times": own}) for own in x]
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *one)
    assert np.all(stacked["weights"] != 0)
    by_vmap = quick(jax.vmap(of, in_axes=(samples,)))(params | {"in_times": x})
    assert_equal_gradients(by_vmap, stacked, 1e-11)
    summed = {name: g if name == "in_times" else g.sum(0) for name, g in stacked.items()}
    assert_equal_gradients(single(params | {"in_times": x}), summed, 1e-11)

    models = {"weights": jnp.stack([layer.weights, 0.8 * layer.weights])}
    by_vmap = quick(jax.vmap(of, in_axes=({**samples, "weights": 0, "in_times": None},)))
    right = [single({n: v[i] for n, v in models.items()} | {"in_times": x[0]}) for i in range(2)]
    right = jax.tree.map(lambda *g: jnp.stack(g), *right)
    assert_equal_gradients(by_vmap(models | {"in_times": x[0]}), right, 1e-11)


def test_autodiff_and_min_speed_are_those_of_the_event_loop(rng):
    """All spikes of this layer are slow, so that the limit changes their gradients."""
    rng_state = rng.bit_generator.state
    plain, x = layer_of(rng), inputs(rng, 2)

    def of(adjoint, as_network=False):
        rng.bit_generator.state = rng_state
        layer = layer_of(rng, adjoint=adjoint)

        def loss(weights, x):
            model = eqx.tree_at(lambda m: m.weights, layer, weights)
            if as_network:
                out = model.as_network(60).spikes(x, COUNT, throw=False)
                weights = jnp.cos(jnp.arange(COUNT, dtype=out.dtype))
                return jnp.sum(jnp.where(jnp.isfinite(out), weights * out, 0.0))
            return functional(model, x)

        found = quick(jax.grad(loss, (0, 1)))(plain.weights, x)
        return dict(zip(("weights", "in_times"), found, strict=True))

    exact, limited = of(esn.Autodiff()), of(esn.EventProp(min_speed=0.3))
    assert_equal_gradients(limited, of(esn.EventProp(min_speed=0.3), True), 1e-10)
    assert np.max(np.abs(limited["weights"])) < 0.9 * np.max(np.abs(exact["weights"]))


@pytest.mark.parametrize("neuron", [esn.LIF(10.0, 5.0), esn.LeakyIntegrator(10.0, 5.0)])
def test_forward_mode_and_second_derivatives_are_refused(rng, neuron):
    layer, x = layer_of(rng, neuron), inputs(rng, 1)

    def loss(x):
        return jnp.sum(layer.ttfs(x) if isinstance(neuron, esn.LIF) else layer.maxima(x))

    message = "EventProp gives reverse-mode first derivatives only"
    for derivative in (lambda x: jax.jvp(loss, (x,), (x,)), jax.hessian(loss)):
        with pytest.raises(NotImplementedError, match=message):
            jax.jit(derivative).lower(x)


def test_float32(rng):
    """Times and gradients are those of float64 to rounding."""
    layer, x = layer_of(rng, dtype=np.float32), inputs(rng, 2)

    def run(dtype):
        def of(weights, x):
            own = eqx.tree_at(lambda m: m.weights, layer, weights)
            return functional(own, x), own(x, throw=False)

        args = layer.weights.astype(dtype), x.astype(jnp.float32).astype(dtype)
        (_, times), grads = quick(jax.value_and_grad(of, (0, 1), has_aux=True))(*args)
        assert times.dtype == grads[0].dtype == grads[1].dtype == dtype
        return np.asarray(times), dict(zip("wx", map(np.asarray, grads), strict=True))

    (times, grads), (expected, right) = run(jnp.float32), run(jnp.float64)
    np.testing.assert_allclose(times, expected, rtol=3e-6)
    assert_equal_gradients(grads, right, 2e-4)
