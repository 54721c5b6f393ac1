"""Convolution, pooling and other functions of images of spike trains."""

import functools as ft
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import eventsnn as esn
from eventsnn.event.lanes import groups
from helpers.differences import assert_equal_gradients
from helpers.registry import quick

INF, NAN = np.inf, np.nan
C_IN, H, W, K, C_OUT, KERNEL, STRIDE, PADDING, COUNT = 2, 5, 4, 2, 3, (3, 2), (2, 1), (1, 0), 12
ROWS, COLUMNS = 3, 3
T_MAX = 25.0


def images(rng, *batch):
    x = rng.uniform(-15.0, 15.0, (*batch, C_IN, H, W, K))
    return jnp.asarray(np.where(x < 0, INF, x))


def conv_of(params):
    return esn.EventConv2d(
        esn.LIF(10.0, 5.0, threshold=params["threshold"]),
        params["kernel"],
        params["mask"],
        t_max=T_MAX,
        delays=params["delays"],
        max_spikes=COUNT,
        stride=STRIDE,
        padding=PADDING,
    )


def parameters(rng):
    shape = C_OUT, C_IN, *KERNEL
    return {
        "kernel": jnp.asarray(rng.normal(1.0, 1.0, shape)),
        "threshold": jnp.array([1.0, 0.8, 1.2]),
        "delays": jnp.asarray(rng.uniform(0, 3.0, shape)),
        "mask": jnp.asarray(rng.random(shape) < 0.9),
    }


def entries():
    """Indices of the input and of the neuron of each synapse, and its entry of the kernel."""
    inputs = np.arange(C_IN * H * W).reshape(C_IN, H, W)
    neurons = np.arange(C_OUT * ROWS * COLUMNS).reshape(C_OUT, ROWS, COLUMNS)
    spans = map(range, (C_OUT, ROWS, COLUMNS, C_IN, *KERNEL))
    for o, y, x, c, i, j in itertools.product(*spans):
        row, column = y * STRIDE[0] + i - PADDING[0], x * STRIDE[1] + j - PADDING[1]
        if 0 <= row < H and 0 <= column < W:
            yield inputs[c, row, column], neurons[o, y, x], (o, c, i, j)


def dense_spikes(params):
    """Spikes of a fully connected layer with one input channel for each synapse."""
    sources, targets, kernel = map(np.array, zip(*entries(), strict=True))
    own, n = tuple(kernel.T), C_OUT * ROWS * COLUMNS
    weights = jnp.where(params["mask"], params["kernel"], 0.0)[own]
    layer = esn.EventLinear(
        esn.LIF(10.0, 5.0, threshold=jnp.repeat(params["threshold"], ROWS * COLUMNS)),
        jnp.zeros((len(sources), n)).at[np.arange(len(sources)), targets].set(weights),
        t_max=T_MAX,
        max_spikes=COUNT,
    )
    trains = lax.collapse(params["x"], 1, 4)[:, sources] + params["delays"][own][:, None]
    return layer(trains, throw=False).reshape(-1, C_OUT, ROWS, COLUMNS, COUNT)


def conv_spikes(params):
    return conv_of(params)(params["x"], throw=False)


def value_and_grad(spikes_of, mask, factors):
    """Functional of the spikes, its gradients, and the spikes."""

    def functional(params):
        out = spikes_of(params | {"mask": mask})
        return jnp.sum(jnp.where(jnp.isfinite(out), factors * out, 0.0)), out

    return quick(jax.value_and_grad(functional, has_aux=True))


def test_a_convolution_is_a_sparse_dense_layer(rng, monkeypatch):
    """Spikes, and gradients in the kernel, its delays, a vector parameter and the input.

    Without delays, the samples are simulated in several groups.
    """
    params = parameters(rng) | {"x": images(rng, 2)}
    mask, factors = params.pop("mask"), rng.normal(size=(2, C_OUT, ROWS, COLUMNS, COUNT))
    dense, conv = (value_and_grad(spikes, mask, factors) for spikes in (dense_spikes, conv_spikes))
    monkeypatch.setattr(groups, "_LANES", 16)
    zero = jnp.zeros_like(params["delays"])
    for delays, same in ((params["delays"], params["delays"]), (None, zero)):
        (_, found), grads = conv(params | {"delays": delays})
        (_, expected), right = dense(params | {"delays": same})
        if delays is None:
            del right["delays"]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert_equal_gradients(grads, right, 1e-9)
        assert np.isfinite(found).sum() > 40
        assert np.all((grads["kernel"] != 0) == mask)


@quick
def results(kernel, x):
    """Spikes, counts and solution of a convolution."""
    conv = conv_of({"kernel": kernel, "threshold": 1.0, "delays": None, "mask": None})
    return conv(x, throw=False), conv.counts(x, throw=False), conv.simulate(x, throw=False)


def test_queries_of_a_convolution(rng):
    """Batch axes, counts and the solution, whose sources are numbered by channel, row, column."""
    x = images(rng, 2, 2)
    spikes, counts, solution = results(parameters(rng)["kernel"], x)
    assert spikes.shape == (2, 2, C_OUT, ROWS, COLUMNS, COUNT)
    np.testing.assert_array_equal(counts, np.isfinite(spikes).sum(axis=-1))
    n, n_in = C_OUT * ROWS * COLUMNS, C_IN * H * W
    assert solution.times.shape == (2, 2, n * COUNT + n_in * K)
    assert np.all(solution.status == esn.Status.completed)
    times, sources = np.asarray(solution.times[0, 1]), np.asarray(solution.sources[0, 1])
    assert np.all(np.diff(times[sources >= 0]) >= 0)
    for i, train in enumerate(np.asarray(spikes[0, 1]).reshape(n, COUNT)):
        np.testing.assert_array_equal(times[sources == i], train[train < INF])
    for i, train in enumerate(np.asarray(x[0, 1]).reshape(n_in, K)):
        np.testing.assert_array_equal(times[sources == n + i], np.sort(train[train < INF]))
    np.testing.assert_array_equal(solution.stats["spikes"], np.sum(counts, axis=(2, 3, 4)))


def test_a_failure_at_one_position_is_one_of_its_sample(rng):
    kernel = 60.0 * jnp.abs(parameters(rng)["kernel"])
    failed = np.array([[False, False], [True, False]])
    for value, status in ((1.0, esn.Status.max_spikes), (NAN, esn.Status.invalid_input)):
        x = jnp.full((2, 2, C_IN, H, W, K), INF, float).at[1, 0, 0, 2, 2, 0].set(value)
        spikes, counts, solution = results(kernel, x)
        np.testing.assert_array_equal(np.all(np.isnan(spikes), axis=(2, 3, 4, 5)), failed)
        np.testing.assert_array_equal(np.any(np.isnan(spikes), axis=(2, 3, 4, 5)), failed)
        np.testing.assert_array_equal(solution.status == status, failed)
        few = (counts >= 0) & (counts <= COUNT)
        np.testing.assert_array_equal(np.all(few, axis=(2, 3, 4)), ~failed)


def test_no_times_and_empty_batches(rng):
    conv = conv_of(parameters(rng) | {"delays": None})
    for shape, expected in (((C_IN, H, W, 0), ()), ((0, C_IN, H, W, K), (0,))):
        out = jax.eval_shape(ft.partial(conv.ttfs, throw=False), np.zeros(shape))
        assert out.shape == (*expected, C_OUT, ROWS, COLUMNS)
    assert esn.EventFlatten()(np.zeros((0, 2, 3, 4, 5))).shape == (0, 24, 5)
    assert esn.EventPool2d(2, max_spikes=3)(np.zeros((1, 4, 4, 0))).shape == (1, 2, 2, 3)


# ------------------------------------------------------------------ pooling and the like


@pytest.mark.parametrize("max_spikes", [None, 1, 3, 40])
def test_pooling(max_spikes, rng):
    x = images(rng, 2)
    pool = esn.EventPool2d((2, 3), stride=(2, 1), padding=(1, 0), max_spikes=max_spikes)
    found = np.asarray(pool(x))
    for y, column in itertools.product(range(3), range(2)):
        rows = slice(max(2 * y - 1, 0), 2 * y + 1)
        window = np.asarray(x)[..., rows, column : column + 3, :].reshape(2, C_IN, -1)
        expected = np.sort(window, axis=-1)
        own = np.sort(found[:, :, y, column], axis=-1)
        expected, own = (
            np.pad(a, [(0, 0)] * 2 + [(0, 40)], constant_values=INF) for a in (expected, own)
        )
        if max_spikes:
            expected[..., max_spikes:] = INF
        np.testing.assert_array_equal(own[..., :40], expected[..., :40])
    if max_spikes:
        assert found.shape == (2, C_IN, 3, 2, max_spikes)
        assert np.array_equal(found, np.sort(found, axis=-1))


@pytest.mark.parametrize("max_spikes", [None, 1, 2])
def test_gradients_of_pooling_pass_to_the_spikes_that_pass(max_spikes):
    x = jnp.asarray([[[[3.0, INF], [1.0, 2.0]], [[INF, INF], [5.0, 0.5]]]])
    pool = esn.EventPool2d(2, max_spikes=max_spikes)

    def total(x):
        out = pool(x)
        return jnp.sum(jnp.where(jnp.isfinite(out), out, 0.0) ** 2)

    passes = np.isfinite(x) & (x <= {None: INF, 1: 0.5, 2: 1.0}[max_spikes])
    np.testing.assert_array_equal(jax.grad(total)(x), 2 * np.where(passes, x, 0.0))


@pytest.mark.parametrize("max_spikes", [1, 2])
def test_of_equal_times_the_first_one_passes_a_pool(max_spikes):
    x = jnp.asarray([[[[3.0], [1.0]], [[1.0], [5.0]]]])
    first = jax.grad(lambda x: esn.EventPool2d(2, max_spikes=max_spikes)(x)[0, 0, 0, 0])(x)
    np.testing.assert_array_equal(first[0, :, :, 0], [[0, 1], [0, 0]])


def test_a_failed_sample_stays_so_in_pooling():
    """NaN is not lost between silent channels."""
    x = np.array([NAN, NAN])[None, None, None]
    for max_spikes in (None, 1, 2):
        out = esn.EventPool2d(2, padding=1, max_spikes=max_spikes)(x)
        assert np.all(np.any(np.isnan(out), axis=-1))


def test_flatten_and_merge(rng):
    x = images(rng, 2)
    flat = esn.EventFlatten()(x)
    np.testing.assert_array_equal(flat, np.asarray(x).reshape(2, C_IN * H * W, K))
    merged = esn.merge([flat, flat[..., :1], np.full((2, C_IN * H * W, 0), 1.0)])
    np.testing.assert_array_equal(merged, np.concatenate([flat, flat[..., :1]], axis=-1))
    with pytest.raises(ValueError, match=r"^trains must be .*, got shapes \[\(2, 1\), \(3, 1\)\]"):
        esn.merge([np.ones((2, 1)), np.ones((3, 1))])


@pytest.mark.parametrize("bad", [(C_IN + 1, H, W, K), (C_IN, 0, W, K), (H, W, K)])
def test_an_image_of_another_shape_is_refused(rng, bad):
    with pytest.raises(ValueError, match=r"^in_times must have shape \(\.\.\., 2, h, w, k\)"):
        conv_of(parameters(rng))(np.ones(bad))
