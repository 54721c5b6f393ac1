"""Batch normalisation of samples of different lengths, against NumPy and runs without padding."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import axes, discrete
from helpers.registry import linear

T, C = 6, 3
LENGTHS = np.array([4, 2, 5, 1, 4, 2])  # one sample in step 4, none in step 5
B = len(LENGTHS)
VALID = np.arange(T)[:, None] < LENGTHS  # (T, batch)
SCALE, SHIFT = np.arange(1.0, C + 1), np.arange(C) / 2


def agree(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def layer():
    to = discrete.BatchNorm(C)
    return eqx.tree_at(lambda to: (to.scale, to.shift), to, (jnp.array(SCALE), jnp.array(SHIFT)))


def inputs(*shape, fill=1e6):
    """Random inputs, followed by `fill` after the end of each sample."""
    xs = np.random.default_rng(0).normal(0.5, 2.0, (T, B, C, *shape))
    return np.where(VALID.reshape(T, B, 1, *[1] * len(shape)), xs, fill)


def normalised(xs):
    """Outputs of `layer()`, and mean and pooled variance of all steps before the ends, in NumPy."""
    within, one = tuple(range(2, xs.ndim - 1)), (C, *[1] * (xs.ndim - 3))
    out, squares, freedom = np.zeros_like(xs), 0.0, 0
    for t in range(LENGTHS.max()):
        x = xs[t, VALID[t]]
        away = x - x.mean((0, *within), keepdims=True)
        var = np.mean(away**2, (0, *within), keepdims=True)
        out[t, VALID[t]] = SCALE.reshape(one) * away / np.sqrt(var + 1e-5) + SHIFT.reshape(one)
        squares = squares + np.sum(away**2, (0, *within))
        freedom += x[:, 0].size - 1
    return out, xs[VALID].mean((0, *within)), squares / freedom


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_statistics_and_gradients_are_those_of_the_valid_steps(shape):
    rng, xs = np.random.default_rng(1), inputs(*shape)
    factors, direction = rng.normal(size=(2, *xs.shape))

    @jax.jit
    def solve(xs):
        def loss(xs):
            run = discrete.run_batch(layer(), xs, lengths=LENGTHS)
            return jnp.sum(factors * run.spikes), run

        return jax.grad(loss, has_aux=True)(xs)

    gradient, run = solve(xs)
    out, mean, var = normalised(xs)
    agree(run.spikes, out)
    expected = discrete.BatchNormState(5, 5, LENGTHS.sum(), mean, var)
    agree(run.state, jax.tree.map(lambda x: np.stack([x] * B), expected))
    assert np.all(np.asarray(gradient)[~VALID] == 0)
    ahead, behind = (np.sum(factors * normalised(xs + h * direction)[0]) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(np.sum(gradient * direction), (ahead - behind) / 2e-5, rtol=1e-7)
    again = solve(inputs(*shape, fill=np.nan))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves((gradient, run)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_valid_steps_are_counted_on_all_devices():
    """Two parts of the batch; all samples of the first end before step 3."""
    order = np.argsort(LENGTHS)
    xs, lengths = inputs()[:, order].reshape(T, 2, B // 2, C), LENGTHS[order].reshape(2, -1)

    def part(xs, lengths):
        return discrete.run_batch(layer(), xs, lengths=lengths)

    runs = jax.vmap(part, (1, 0), axis_name=axes.DEVICES)(xs, lengths)
    out, mean, var = normalised(inputs())
    agree(np.moveaxis(runs.spikes, 0, 1).reshape(T, B, C), out[:, order])
    for device in range(2):
        state = jax.tree.map(lambda x, d=device: x[d], runs.state)
        found = discrete.with_statistics(layer(), state)
        agree((found.running_mean, found.running_var), (mean, var))


@pytest.mark.parametrize("options", [{"checkpoint_every": 2}, {"parallel": True}])
def test_samples_of_equal_length_are_as_without_padding(options):
    rng, n = np.random.default_rng(0), 4
    inner = discrete.Sequential([discrete.BatchNorm(C, num_steps=T), discrete.Leaky(0.8)])
    cells = [linear(C, C, rng), discrete.Leaky(0.9), discrete.BatchNorm(C), inner]
    model, xs = discrete.Sequential(cells), np.concatenate([inputs()[:1]] * T)
    xs = xs * np.cos(np.arange(T))[:, None, None]
    padded = np.concatenate([xs[:n], np.full_like(xs[n:], 1e6)])
    found = discrete.run_batch(model, padded, lengths=[n] * B, layers=(2, 3), **options)
    expected = discrete.run_batch(model, xs[:n], layers=(2, 3))
    agree([s[:n] for s in found.spikes], expected.spikes)
    agree(found.state, expected.state)
    assert np.any(expected.spikes[1]) and not any(np.any(s[n:]) for s in found.spikes)


def test_steps_with_a_single_value_keep_the_statistics_of_the_step():
    xs, layer = inputs(), discrete.BatchNorm(C, num_steps=T)
    run = discrete.run_batch(layer, xs, lengths=LENGTHS)
    found = discrete.with_statistics(layer, run.state)
    rows = [xs[t, VALID[t]] for t in range(4)]
    agree(found.running_mean, np.stack([*(x.mean(0) for x in rows), *np.zeros((2, C))]))
    agree(found.running_var, np.stack([*(x.var(0, ddof=1) for x in rows), *np.ones((2, C))]))
    np.testing.assert_array_equal(run.spikes[4:], 0)
    tested = discrete.run_batch(eqx.nn.inference_mode(found), xs, lengths=LENGTHS)
    np.testing.assert_array_equal(tested.state.step, LENGTHS)
    away = (xs[0] - rows[0].mean(0)) / np.sqrt(rows[0].var(0, ddof=1) + 1e-5)
    agree(tested.spikes[0], away)
    assert np.all(np.asarray(tested.spikes)[~VALID] == 0)


def test_infinite_values_after_the_end_have_no_gradient():
    """In a parallel run, the cell returns 0 after the end, and the next layer inf instead of 0."""
    stack = [discrete.LeakyIntegrator(0.5), lambda x: jnp.where(x == 0, jnp.inf, x), layer()]

    def loss(model, parallel):
        run = discrete.run_batch(model, inputs(), lengths=LENGTHS, parallel=parallel)
        return jnp.sum(jnp.sin(run.spikes))

    gradient = eqx.filter_jit(eqx.filter_grad(loss))
    found, expected = (gradient(discrete.Sequential(stack), parallel) for parallel in (True, False))
    agree(found, expected)
    assert np.all(np.asarray(expected.layers[2].scale) != 0)
