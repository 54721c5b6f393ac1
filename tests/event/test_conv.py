"""Convolution, pooling and other functions of images of spike trains."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from helpers.differences import assert_equal_gradients
from helpers.registry import quick

INF, NAN = np.inf, np.nan
C_IN, H, W, K, C_OUT, KERNEL, STRIDE, PADDING, COUNT = 2, 5, 4, 2, 3, (3, 2), (2, 1), (1, 0), 12
ROWS, COLUMNS = 3, 3
T_MAX = 25.0


def images(rng, *batch):
    x = rng.uniform(-15.0, 15.0, (*batch, C_IN, H, W, K))
    return jnp.asarray(np.where(x < 0, INF, x))


def conv_of(params, **options):
    neuron = esn.LIF(10.0, params.get("tau_syn", 5.0), threshold=params["threshold"])
    options = {"max_spikes": COUNT, "stride": STRIDE, "padding": PADDING, **options}
    return esn.EventConv2d(
        neuron, params["kernel"], params["mask"], t_max=T_MAX, delays=params["delays"], **options
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
    """Indices in a dense matrix of inputs and outputs, and the entry of the kernel."""
    inputs = np.arange(C_IN * H * W).reshape(C_IN, H, W)
    neurons = np.arange(C_OUT * ROWS * COLUMNS).reshape(C_OUT, ROWS, COLUMNS)
    spans = map(range, (C_OUT, ROWS, COLUMNS, C_IN, *KERNEL))
    for o, y, x, c, i, j in itertools.product(*spans):
        row, column = y * STRIDE[0] + i - PADDING[0], x * STRIDE[1] + j - PADDING[1]
        if 0 <= row < H and 0 <= column < W:
            yield inputs[c, row, column], neurons[o, y, x], (o, c, i, j)


def dense_of(params):
    """Fully connected layer with the same synapses, in the event loop."""
    sources, targets, kernel = zip(*entries(), strict=True)
    own = tuple(np.array(kernel).T)
    zero = jnp.zeros((C_IN * H * W, C_OUT * ROWS * COLUMNS))
    at = np.array(sources), np.array(targets)
    mask = zero.astype(bool).at[at].set(params["mask"][own])
    return esn.EventLinear(
        esn.LIF(10.0, 5.0, threshold=jnp.repeat(params["threshold"], ROWS * COLUMNS)),
        zero.at[at].set(params["kernel"][own]),
        mask,
        t_max=T_MAX,
        max_spikes=COUNT,
        delays=zero.at[at].set(params["delays"][own]),
        max_events=400,
    )


def test_a_convolution_is_a_sparse_dense_layer(rng):
    """Spikes, counts, and gradients in the kernel, its delays, a vector parameter and the input."""
    params, x = parameters(rng), images(rng, 2)
    shape = (2, C_OUT, ROWS, COLUMNS, COUNT)
    weights = jnp.asarray(rng.normal(size=shape))
    learnt = {k: v for k, v in params.items() if k != "mask"} | {"x": x}

    def run(dense):
        def functional(learnt):
            own = learnt | {"mask": params["mask"]}
            if dense:
                flat = learnt["x"].reshape(2, -1, K)
                out = dense_of(own)(flat, throw=False).reshape(shape)
            else:
                out = conv_of(own)(learnt["x"], throw=False)
            return jnp.sum(jnp.where(jnp.isfinite(out), weights * out, 0.0)), out

        return quick(jax.value_and_grad(functional, has_aux=True))(learnt)

    (_, found), grads = run(False)
    (_, expected), right = run(True)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert_equal_gradients(grads, right, 1e-9)
    assert np.isfinite(found).sum() > 40
    assert np.all((grads["kernel"] != 0) == params["mask"])


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(4)
    params = parameters(rng) | {"delays": None, "mask": None}
    return conv_of(params), images(rng, 2, 2)


def test_queries_of_a_convolution(sample):
    """Batch axes, counts and the solution, whose sources are numbered by channel, row, column."""
    conv, x = sample
    spikes, counts = eqx.filter_jit(lambda conv, x: (conv(x), conv.counts(x)))(conv, x)
    assert spikes.shape == (2, 2, C_OUT, ROWS, COLUMNS, COUNT)
    np.testing.assert_array_equal(counts, np.isfinite(spikes).sum(axis=-1))
    solution = eqx.filter_jit(lambda conv, x: conv.simulate(x))(conv, x)
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


def test_a_failure_at_one_position_is_one_of_its_sample(sample):
    conv, x = sample
    x = jnp.full_like(x, INF).at[1, 0, 0, 2, 2, 0].set(1.0)
    short = eqx.tree_at(lambda conv: conv.kernel, conv, 60.0 * jnp.abs(conv.kernel))
    short = esn.EventConv2d(short.neuron, short.kernel, t_max=T_MAX, max_spikes=1)
    with pytest.raises(RuntimeError, match=r"^1 of 4 samples: .* more than max_spikes times"):
        short(x)
    failed = [[False, False], [True, False]]
    for out in (short(x, throw=False), short(x.at[1, 0, 1, 0, 0].set(NAN), throw=False)):
        np.testing.assert_array_equal(np.all(np.isnan(out), axis=(2, 3, 4, 5)), failed)
        np.testing.assert_array_equal(np.any(np.isnan(out), axis=(2, 3, 4, 5)), failed)


def test_no_times_and_empty_batches(sample):
    conv, _ = sample
    assert np.all(conv.ttfs(np.zeros((C_IN, H, W, 0))) == INF)
    assert conv.ttfs(np.zeros((0, C_IN, H, W, K))).shape == (0, C_OUT, ROWS, COLUMNS)
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
def test_an_image_of_another_shape_is_refused(sample, bad):
    with pytest.raises(ValueError, match=r"^in_times must have shape \(\.\.\., 2, h, w, k\)"):
        sample[0](np.ones(bad))
