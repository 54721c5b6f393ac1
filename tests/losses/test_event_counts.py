"""Losses on spike counts in the event mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.losses import mse_soft_count, soft_counts


def test_the_formula():
    times = np.array([[2.0, 9.0, np.inf], [np.inf] * 3, [10.0, 12.0, 1.0]])
    expected = [2 - np.exp(-8 / 3) - np.exp(-1 / 3), 0, 1 - np.exp(-9 / 3)]
    counts = soft_counts(times, t_max=10.0, tau=3.0)
    np.testing.assert_allclose(counts, expected, rtol=1e-14)
    np.testing.assert_allclose(soft_counts(times, t_max=10.0, tau=1e-3), [2, 0, 1])
    loss = mse_soft_count(times, np.array([1, 1, 1]), t_max=10.0, tau=3.0)
    np.testing.assert_allclose(loss, np.mean((counts - 1) ** 2), rtol=1e-14)


def test_padding_has_no_gradient_and_nan_stays():
    times = jnp.array([1.0, jnp.inf, 10.0])
    gradient = jax.grad(lambda t: soft_counts(t, t_max=10.0, tau=2.0))(times)
    np.testing.assert_allclose(gradient, [-np.exp(-4.5) / 2, 0, 0])
    assert jnp.isnan(soft_counts(jnp.array([jnp.nan, 1.0]), t_max=10.0, tau=2.0))


def test_a_neuron_learns_how_often_to_fire():
    """A QIF neuron, whose spikes appear only at the end: the loss is continuous in its bias."""

    def loss(bias):
        net = esn.EventNetwork(
            esn.QIF(10.0, 5.0, bias=bias), jnp.zeros((2, 1)), outputs=(0,), t_max=100.0
        )
        times = net.spikes(jnp.full((1, 1), jnp.inf), 8)
        return mse_soft_count(times, jnp.array([4]), t_max=100.0, tau=10.0), times

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    bias = jnp.asarray(0.8)
    (_, before), _ = step(bias)
    for _ in range(60):
        (value, times), slope = step(bias)
        bias = bias - 0.1 * jnp.clip(slope, -1.0, 1.0)
    assert np.sum(np.isfinite(before)) < 3
    assert np.sum(np.isfinite(times)) >= 4
    assert value < 1e-4


@pytest.mark.parametrize("name", ["t_max", "tau"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_constants_out_of_range_are_refused(name, value):
    constants = {"t_max": 10.0, "tau": 1.0, name: value}
    with pytest.raises(ValueError, match=rf"{name} must be a finite number > 0, got {value!r}"):
        soft_counts(np.zeros(3), **constants)


def test_targets_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"targets must have shape \(2,\)"):
        mse_soft_count(np.zeros((2, 3)), np.zeros(3), t_max=10.0, tau=1.0)
