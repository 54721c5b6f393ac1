"""Delays in steps against shifts in NumPy; their gradients and how they are learnt."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eventsnn import discrete
from helpers.registry import linear

T, N, D = 20, 4, 6


def shifted(x, steps):
    """The input `steps` earlier, 0 before the first step."""
    return np.concatenate([np.zeros((steps, *x.shape[1:])), x])[: len(x)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def both_ways(cell, x):
    """Outputs of a run, the same step by step and in parallel, with equal last states."""
    one, other = (discrete.run(cell, x, parallel=parallel) for parallel in (False, True))
    np.testing.assert_allclose(one.spikes, other.spikes, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(one.state.buffer, other.state.buffer)
    return one.spikes


def test_integer_delays_are_exact():
    x, delays = normal(T, N), np.array([0, 1, 4, D])
    out = both_ways(discrete.Delay(delays, max_delay=D), x)
    expected = [shifted(x[:, k], d) for k, d in enumerate(delays)]
    np.testing.assert_array_equal(out, np.stack(expected, 1))
    image = normal(T, 2, 3, 3)
    out = both_ways(discrete.Delay(np.array([2.0, 0.0])[:, None, None], max_delay=2), image)
    np.testing.assert_array_equal(out[:, 0], shifted(image[:, 0], 2))
    np.testing.assert_array_equal(out[:, 1], image[:, 1])


def test_a_delay_between_two_steps_is_interpolated():
    x = normal(T, 1)
    for dtype, tolerance in ((float, 1e-12), (np.float32, 1e-6)):
        out = both_ways(discrete.Delay(2.3, max_delay=3), x.astype(dtype))
        expected = 0.7 * shifted(x, 2) + 0.3 * shifted(x, 3)
        assert out.dtype == dtype
        np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def test_a_wide_triangle():
    x, steps = normal(T, 1), np.arange(D + 1)
    for d in (0.0, 2.0, 3.7):
        shares = np.maximum(1 - np.abs(steps - d) / 2.5, 0)
        shares /= shares.sum()
        expected = sum(share * shifted(x, s) for s, share in enumerate(shares))
        out = both_ways(discrete.Delay(d, max_delay=D, width=2.5), x)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (N,), (3, 1), (3, N)])
def test_a_layer_of_delayed_synapses(shape):
    layer, x = linear(N, 3, np.random.default_rng(0)), normal(T, N)
    delays = np.random.default_rng(1).uniform(0, D, shape)
    out = both_ways(discrete.DelayedLinear(layer, delays, max_delay=D), x)
    each, expected = np.broadcast_to(delays, (3, N)), np.tile(layer.bias, (T, 1))
    for i, j in np.ndindex(3, N):
        low, rest = int(each[i, j]), each[i, j] % 1
        now, before = shifted(x[:, j], low), shifted(x[:, j], low + 1)
        expected[:, i] += layer.weight[i, j] * ((1 - rest) * now + rest * before)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)


def test_without_delays_or_bias_the_layer_is_linear():
    layer, x = eqx.nn.Linear(N, 3, use_bias=False, key=jax.random.key(0)), normal(T, N)
    out = both_ways(discrete.DelayedLinear(layer, 0.0, max_delay=1), x)
    np.testing.assert_allclose(out, x @ np.asarray(layer.weight).T, rtol=1e-12)


def test_gradients_are_finite_differences():
    """Of delays that are not integers, with weights and biases."""
    layer, x = linear(N, 3, np.random.default_rng(0)), normal(T, N)
    delays, weights = np.random.default_rng(1).uniform(0.2, 0.8, (3, N)) + 2, normal(T, 3, seed=2)
    cell = discrete.DelayedLinear(layer, delays, max_delay=D, width=1.3)

    @eqx.filter_jit
    def value(cell, parallel):
        return jnp.sum(weights * discrete.run(cell, x, parallel=parallel).spikes)

    gradients = [eqx.filter_grad(value)(cell, parallel) for parallel in (False, True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), *gradients)
    assert gradients[0].width == 0
    for place in ((0, 0), (2, 3)):
        for where in (lambda c: c.delays, lambda c: c.linear.weight):
            near = [
                value(eqx.tree_at(where, cell, where(cell).at[place].add(e)), False)
                for e in (1e-5, -1e-5)
            ]
            expected = (near[0] - near[1]) / 2e-5
            np.testing.assert_allclose(where(gradients[0])[place], expected, rtol=1e-6)


def test_the_derivative_at_an_integer_is_the_mean_of_both_sides():
    x = normal(T, 1)

    def last(delay):
        cell = eqx.tree_at(lambda to: to.delays, discrete.Delay(1.0, max_delay=D), delay)
        return discrete.run(cell, x).spikes[-1, 0]

    derivative = jax.grad(last)
    np.testing.assert_allclose(derivative(3.0), (x[-5, 0] - x[-3, 0]) / 2, rtol=1e-12)
    np.testing.assert_allclose(derivative(3.5), x[-5, 0] - x[-4, 0], rtol=1e-12)
    assert derivative(-0.5) == derivative(D + 0.5) == 0
    assert last(-0.5) == x[-1, 0] and last(D + 0.5) == x[-1 - D, 0]


def test_delays_of_spikes_are_learnt_with_a_width_that_decreases():
    """From 3 steps away. With a width of 1 throughout, they are not found."""
    x = (np.random.default_rng(0).uniform(size=(200, 2)) < 0.1).astype(float)
    target = np.stack([shifted(x[:, 0], 8), shifted(x[:, 1], 2)], 1)
    start, optimizer = jnp.array([5.0, 5.0]), optax.adam(0.1)

    def loss(delays, width):
        cell = discrete.Delay(delays, max_delay=10)
        cell = eqx.tree_at(lambda to: to.width, cell, width)
        return jnp.mean((discrete.run(cell, x, parallel=True).spikes - target) ** 2)

    @jax.jit
    def train(widths):
        def step(carry, width):
            delays, state = carry
            updates, state = optimizer.update(jax.grad(loss)(delays, width), state)
            return (delays + updates, state), None

        return jax.lax.scan(step, (start, optimizer.init(start)), widths)[0][0]

    with jax.numpy_dtype_promotion("standard"):
        wide, narrow = train(np.linspace(6.0, 1.0, 150)), train(np.ones(150))
    np.testing.assert_allclose(wide, [8.0, 2.0], atol=0.1)
    assert np.all(np.abs(narrow - np.array([8.0, 2.0])) > 1)


def test_delays_train_by_default_and_widths_do_not():
    layer = linear(N, 3, np.random.default_rng(0))
    selected = discrete.trainable(discrete.DelayedLinear(layer, 1.0, max_delay=2))
    assert selected.delays and selected.linear.weight and not selected.width


def test_delays_that_do_not_fit_are_refused():
    layer = linear(N, 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^delays must be .*shape \(3, 4\).* got shape \(3,\)"):
        discrete.DelayedLinear(layer, np.ones(3), max_delay=2)
    with pytest.raises(ValueError, match=r"^delays must be at most max_delay = 2, got 3\.0"):
        discrete.DelayedLinear(layer, 3.0, max_delay=2)
    with pytest.raises(ValueError, match=r"^delays must be a scalar or have one value per neuron"):
        discrete.run(discrete.Delay(np.ones(3), max_delay=2), jnp.ones((T, 2)))
    with pytest.raises(ValueError, match=r"^inputs must have shape \(4,\) .* got shape \(2,\)"):
        discrete.run(discrete.DelayedLinear(layer, 1.0, max_delay=2), jnp.ones((T, 2)))
