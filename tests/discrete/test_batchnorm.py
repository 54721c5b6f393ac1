"""Batch normalisation against snnTorch (through time) and NumPy; statistics and inference."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import discrete
from helpers.recorded import recorded
from helpers.registry import linear

T, B, C = 5, 6, 3


def run(model, xs, state=None):
    return discrete.run_batch(model, xs, state=state)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2.0, shape)


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_normalisation_through_time_is_that_of_snntorch(kind):
    stored = {
        k: x.astype(float) for k, x in recorded("modules.npz", f"BatchNormTT-{kind}/").items()
    }
    scales = np.stack([stored[f"scale_{t}"] for t in range(3)])
    layer = discrete.BatchNorm(scales.shape[1], num_steps=3)

    def value(scales, x):
        out = run(eqx.tree_at(lambda to: to.scale, layer, scales), x)
        factors = jnp.cos(jnp.arange(x.size, dtype=float)).reshape(x.shape)
        return jnp.sum(factors * out.spikes), out

    gradients, out = jax.grad(value, argnums=(0, 1), has_aux=True)(scales, stored["x"])
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(out.spikes, stored["spikes"], **close)
    np.testing.assert_allclose(gradients[1], stored["grad_x"], **close)
    expected = [stored[f"grad_scale_{t}"] for t in range(3)]
    np.testing.assert_allclose(gradients[0], np.stack(expected), **close)
    layer = eqx.tree_at(lambda to: to.scale, layer, jnp.asarray(scales))
    found = discrete.with_statistics(layer, out.state)
    np.testing.assert_allclose(found.running_mean, stored["mean"], **close)
    np.testing.assert_allclose(found.running_var, stored["var"], **close)
    after = discrete.run_batch(eqx.nn.inference_mode(found), stored["x"])
    np.testing.assert_allclose(after.spikes, stored["after"], **close)


def test_normalisation_of_each_step_with_shared_statistics():
    x, layer = normal(T, B, C, 2, 2), discrete.BatchNorm(C)
    shift = jnp.arange(3.0)
    layer = eqx.tree_at(lambda to: (to.scale, to.shift), layer, (shift + 1, shift))
    out = run(layer, x)
    mean, var = x.mean((1, 3, 4)), x.var((1, 3, 4))
    put = lambda v: np.asarray(v)[..., None, :, None, None]  # noqa: E731
    expected = put(shift + 1) * (x - put(mean)) / np.sqrt(put(var) + 1e-5) + put(shift)
    np.testing.assert_allclose(out.spikes, expected, rtol=1e-10, atol=1e-10)
    n = B * 4
    for found, values in ((out.state.mean, mean), (out.state.var, var * n / (n - 1))):
        np.testing.assert_allclose(found, np.tile(values.mean(0), (B, 1)), rtol=1e-10)
    mixed = discrete.with_statistics(layer, out.state, momentum=0.1)
    np.testing.assert_allclose(mixed.running_mean, 0.1 * mean.mean(0), rtol=1e-10)
    expected = 0.9 + 0.1 * (var * n / (n - 1)).mean(0)
    np.testing.assert_allclose(mixed.running_var, expected, rtol=1e-10)
    short = run(layer, x.astype(np.float32))
    assert short.spikes.dtype == short.state.mean.dtype == np.float32


def test_a_network_with_normalised_layers():
    """Nested layers, chunks, training, and inference of single samples."""
    rng, xs = np.random.default_rng(0), normal(T, B, 4)
    inner = discrete.Sequential([discrete.BatchNorm(C, num_steps=T), discrete.Leaky(0.8)])
    model = discrete.Sequential(
        [linear(4, C, rng), inner, linear(C, 2, rng), discrete.BatchNorm(2)]
    )
    whole, first = run(model, xs), run(model, xs[:2])
    second = run(model, xs[2:], first.state)
    np.testing.assert_allclose(
        np.concatenate([first.spikes, second.spikes]), whole.spikes, rtol=1e-10, atol=1e-12
    )
    selected = discrete.trainable(model).layers
    assert selected[1].layers[0].scale and selected[3].shift
    assert not selected[3].running_mean and not selected[3].running_var
    found = discrete.with_statistics(model, whole.state)
    hidden = xs @ np.asarray(model.layers[0].weight).T + np.asarray(model.layers[0].bias)
    np.testing.assert_allclose(found.layers[1].layers[0].running_mean, hidden.mean(1), rtol=1e-9)
    tested = eqx.nn.inference_mode(found)
    batch, one = discrete.run_batch(tested, xs), discrete.run(tested, xs[:, 1])
    np.testing.assert_allclose(batch.spikes[:, 1], one.spikes, rtol=1e-12)


def test_what_cannot_be_normalised_is_refused():
    layer = discrete.BatchNorm(C)
    with pytest.raises(ValueError, match=r"must run on a batch .*, got one sample"):
        discrete.run(layer, normal(T, C))
    with pytest.raises(ValueError, match=r"^inputs must have 3 channels .* got shape \(4,\)"):
        discrete.run(layer, normal(T, 4))
    state = run(layer, normal(T, B, C)).state
    with pytest.raises(
        ValueError, match=r"^model must be a model with BatchNorm layers, got Leaky"
    ):
        discrete.with_statistics(discrete.Leaky(0.9), state)
    both = discrete.Sequential([layer, layer])
    with pytest.raises(ValueError, match=r"^state must be a state with 2 BatchNormStates, got "):
        discrete.with_statistics(both, state)
    with pytest.raises(ValueError, match=r"must run on a batch .*, got one sample"):
        discrete.run(layer, normal(T, C), lengths=2)


def test_statistics_of_steps_that_a_run_did_not_reach_are_kept():
    layer = discrete.BatchNorm(C, T)
    xs = normal(T - 2, B, C)
    found = discrete.with_statistics(layer, run(layer, xs).state)
    np.testing.assert_allclose(found.running_mean[: T - 2], xs.mean(1), rtol=1e-12)
    np.testing.assert_array_equal(found.running_mean[T - 2 :], layer.running_mean[T - 2 :])
    np.testing.assert_array_equal(found.running_var[T - 2 :], layer.running_var[T - 2 :])


def test_states_without_statistics_and_single_values_are_refused():
    layer, xs = discrete.BatchNorm(C), normal(T, B, C)
    tested = run(eqx.nn.inference_mode(layer), xs).state
    with pytest.raises(ValueError, match=r"^state must be that of a run in training, got 0"):
        discrete.with_statistics(layer, tested)
    with pytest.raises(ValueError, match=r"^state must be .* of shape \(5, 3\), got shape \(3,\)"):
        discrete.with_statistics(discrete.BatchNorm(C, T), run(layer, xs).state)
    with pytest.raises(ValueError, match=r"a batch for BatchNorm must have two or more values"):
        run(layer, xs[:, :1])


def test_measures_of_a_normalised_network():
    model = discrete.Sequential([linear(4, C, np.random.default_rng(0)), discrete.BatchNorm(C)])
    assert [row.output for row in esn.summary(model, (4,)).layers] == [(C,), (C,)]
    found = esn.operations(model, normal(T, B, 4))
    assert found.operations == T * 4 * C
