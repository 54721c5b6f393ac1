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


def layer_of(rng, neuron=None, **options):
    neuron = esn.LIF(10.0, 5.0) if neuron is None else neuron
    weights = rng.normal(2.5, 1.5, (N_IN, N))
    return esn.EventLinear(neuron, weights, t_max=T_MAX, max_spikes=COUNT, **options)


def inputs(rng, *batch):
    x = rng.uniform(-5.0, 20.0, (*batch, N_IN, K))
    return jnp.asarray(np.where(x < 0, np.inf, x))


def functional(weights, x):
    """Functional of the spike times, and the times."""
    out = esn.EventLinear(esn.LIF(10.0, 5.0), weights, t_max=T_MAX, max_spikes=COUNT)(
        x, throw=False
    )
    factors = jnp.cos(jnp.arange(COUNT, dtype=out.dtype))
    return jnp.sum(jnp.where(jnp.isfinite(out), factors * out, 0.0)), out


gradients = jax.grad(functional, (0, 1), has_aux=True)
of_sample = quick(gradients)


# ------------------------------------------------------------------ parts


def uniform(rng, shape):
    return rng.uniform(0, 40.0, shape)


def ties(rng, shape):
    return np.round(uniform(rng, shape))


def almost_equal(rng, shape):
    return 30.0 * (1 + rng.integers(0, 9, shape) * 1.2e-7)


def very_different(rng, shape):
    return uniform(rng, shape) * 10.0 ** rng.integers(-30, 20, shape)


def one_late(rng, shape):
    times = uniform(rng, shape)
    times[0, 0] = 1e8
    return times


def assert_ordered(times, found, entries):
    """Compare with NumPy's stable sort. Padding has the number of entries as its entry."""
    flat = times.reshape(len(times), -1)
    for row, sorted_times, index in zip(flat, found, entries, strict=True):
        n = np.sum(row < np.inf)
        np.testing.assert_array_equal(index[:n], np.argsort(row, kind="stable")[:n])
        np.testing.assert_array_equal(sorted_times, np.sort(row))
        assert np.all(index[n:] == flat.shape[1])


_ordered = jax.jit(jax.vmap(order.ordered))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("draw", [uniform, ties, almost_equal, very_different, one_late])
@pytest.mark.parametrize("size", [1, 2, 200])
def test_the_order_of_times(dtype, draw, size, rng):
    """It is stable, for times in any order with padding anywhere."""
    times = draw(rng, (3, size)).astype(dtype)
    times[1, rng.random(size) < 0.5] = np.inf
    times[2] = np.inf
    assert_ordered(times, *_ordered(times[..., None]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("used", [0, 1, 50, 51, 100, 101, 200, 201, 600])
def test_the_order_of_trains(dtype, used, rng):
    """All sizes to which the entries are reduced; trains without spikes, and full ones."""
    times = np.full((2, 60, 10), np.inf, dtype)
    numbers = rng.multivariate_hypergeometric([10] * 60, used)
    for train, n in zip(times[0], numbers, strict=True):
        train[:n] = uniform(rng, n)
    times[1, 7, :9] = uniform(rng, 9)
    times[1, 7, 3] = np.inf  # padding in front of a spike
    assert_ordered(times, *_ordered(times))


def test_the_order_of_many_trains(rng):
    """More entries than indices fit into a key, and one late time."""
    times = np.full((1, 2000, 40), np.inf, np.float32)
    times[0, :, 0] = uniform(rng, 2000)
    times[0, 9, 1] = 1e8
    assert_ordered(times, *_ordered(times))


@pytest.mark.parametrize("size", [2, 10, 64, 65, 512, 3000])
def test_the_grid_alone_gives_the_order_of_distinct_times(size, rng):
    """No time needs to be sorted again. Times with a common factor stay apart on the grid."""
    times = rng.permuted(np.tile(np.arange(size, dtype=np.float32), (4, 1)), axis=1)
    times[1] *= 1e-3
    times[2, size // 2 :] = np.inf
    times[3] = np.inf
    found = np.asarray(jax.jit(order._on_grid)(times))
    np.testing.assert_array_equal(found, np.argsort(times, axis=1, kind="stable"))


@pytest.mark.parametrize("spikes", [30, 150, 2900])
def test_cotangents_of_sorted_times(spikes, rng):
    times = rng.uniform(0, 40.0, (2, 3000))
    for row in times:
        row[rng.permutation(3000)[spikes:]] = np.inf

    def weighted(times):
        found = order.ordered(times.reshape(60, 50)).times
        return jnp.sum(jnp.where(found < jnp.inf, jnp.arange(3000.0) * found, 0.0))

    of_batch = jax.grad(lambda times: jnp.sum(jax.vmap(weighted)(times)))
    expected = np.where(times < np.inf, np.argsort(np.argsort(times, axis=1), axis=1), 0.0)
    np.testing.assert_array_equal(jax.jit(of_batch)(jnp.asarray(times)), expected)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(jax.grad(weighted)))(jnp.asarray(times)), expected
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 5), (7, 9), (40, 33)])
def test_marked_lanes_are_found(share, shape, rng):
    mask = rng.random(shape) < share
    words = jax.jit(compact.pack)(jnp.asarray(mask))
    expected = np.flatnonzero(mask)
    assert compact.total(words) == len(expected)
    found = []
    for first in range(0, len(expected) + 1, 128):
        index, valid = _marked(words, jnp.asarray(first, jnp.int32))
        assert np.all((index >= 0) & (index < 32 * len(words)))
        found.extend(np.asarray(index)[np.asarray(valid)])
    np.testing.assert_array_equal(found, expected)


_marked = jax.jit(lambda words, first: compact.marked(words, first, 128))


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
    """Axes of the input, samples of a vmap with gradients of their own, and models of a vmap."""
    weights = layer_of(rng).weights
    models, x = jnp.stack([weights, 0.8 * weights]), inputs(rng, 2, 3)
    over_samples = jax.vmap(gradients, in_axes=(None, 1), out_axes=((0, 1), 1))
    (d_weights, d_x), times = quick(jax.vmap(over_samples, in_axes=(0, None)))(models, x)
    assert times.shape == (2, 2, 3, N, COUNT)
    assert len(np.unique(np.isfinite(times).sum(axis=-1))) > 3
    for m, j in np.ndindex(2, 3):
        summed = 0.0
        for i in range(2):
            (own, d_own), alone = of_sample(models[m], x[i, j])
            np.testing.assert_allclose(times[m, i, j], alone, rtol=1e-13)
            assert_equal_gradients({"x": d_x[m, i, j]}, {"x": d_own}, 1e-11)
            summed += own
        assert_equal_gradients({"weights": d_weights[m, j]}, {"weights": summed}, 1e-11)


@pytest.mark.parametrize("neuron", [esn.LIF(10.0, 5.0), esn.LeakyIntegrator(10.0, 5.0)])
def test_forward_mode_and_second_derivatives_are_refused(rng, neuron):
    layer, x = layer_of(rng, neuron), inputs(rng, 1)

    def loss(x):
        return jnp.sum(layer.ttfs(x) if isinstance(neuron, esn.LIF) else layer.maxima(x))

    message = "EventProp gives reverse-mode first derivatives only"
    for derivative in (lambda x: jax.jvp(loss, (x,), (x,)), jax.hessian(loss)):
        with pytest.raises(NotImplementedError, match=message):
            jax.jit(derivative).lower(x)


def test_autodiff_has_a_forward_mode(rng):
    layer, x = layer_of(rng, adjoint=esn.Autodiff()), inputs(rng)
    lowered = jax.jit(lambda x: jax.jvp(lambda x: layer.ttfs(x, throw=False), (x,), (x,))).lower(x)
    assert [out.shape for out in lowered.out_info] == [(N,)] * 2


def test_float32(rng):
    """Times and gradients are those of float64 to rounding."""
    low = layer_of(rng).weights.astype(jnp.float32), inputs(rng).astype(jnp.float32)
    grads, times = of_sample(*low)
    right, expected = of_sample(*(x.astype(float) for x in low))
    assert times.dtype == grads[0].dtype == grads[1].dtype == jnp.float32
    np.testing.assert_allclose(times, expected, rtol=3e-6)
    for name, actual, exact in zip(("weights", "in_times"), grads, right, strict=True):
        assert_equal_gradients({name: np.asarray(actual)}, {name: np.asarray(exact)}, 2e-4)
