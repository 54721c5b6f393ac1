"""Resets to a given value, of all cells that have them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete, surrogates
from helpers.registry import CELLS, N, linear

T = 25
RESETTING = [*CELLS, "SLSTM"]
EXACT = surrogates.Custom(jnp.zeros_like)  # the derivative of the step function


def make(name, **options):
    rng, options = np.random.default_rng(0), {"surrogate": EXACT} | options
    if name == "SLSTM":
        lstm = eqx.filter_eval_shape(eqx.nn.LSTMCell, N, N, key=jax.random.key(0))
        lstm = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), lstm)
        return discrete.SLSTM(lstm, threshold=0.1, **options)
    return CELLS[name](rng, **{"reset_delay": True} | options if name == "Synaptic" else options)


@pytest.fixture(scope="module")
def solved():
    """Runs of all cells with resets to a value, and to 0 in two ways; the derivatives of a scalar
    with respect to the value, and finite differences of it."""
    rng = np.random.default_rng(1)
    xs, weights = rng.normal(0.4, 0.8, (T, N)), rng.normal(size=(T, N))
    values = rng.uniform(-0.5, 0.05, N)

    def run(name, v_reset, **options):
        cell = make(name, reset="set", **options)
        return discrete.run(eqx.tree_at(lambda to: to.v_reset, cell, v_reset), xs)

    def scalar(v_reset, name):
        out = run(name, v_reset)
        return jnp.sum(weights * out.membranes), out.spikes

    @jax.jit
    def solve(v_reset):
        found = {}
        for name in RESETTING:
            zero = [discrete.run(make(name, reset="zero"), xs), run(name, jnp.zeros(()))]
            nearby = [scalar(v_reset + e, name) for e in (1e-6, -1e-6)]
            derivative = jax.grad(scalar, has_aux=True)(v_reset, name)[0]
            found[name] = run(name, v_reset), zero, derivative, nearby
        return found

    return xs, values, solve(jnp.asarray(values))


@pytest.mark.parametrize("name", RESETTING)
def test_a_reset_to_0_is_a_reset_to_the_value_0(name, solved):
    _, _, found = solved
    zero, same = found[name][1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-16), zero, same)


@pytest.mark.parametrize("name", RESETTING)
def test_the_potential_after_a_spike_is_the_value(name, solved):
    """Of ALIF and Leaky, decay and input follow."""
    xs, values, found = solved
    out = found[name][0]
    spiked = np.asarray(out.spikes[:-1]) > 0
    assert 0.03 < spiked.mean() < 0.9 and np.all(np.any(spiked, 1).sum() > 3)
    decays = name in ("Leaky", "ALIF")
    expected = 0.8 * values + xs[1:] if decays else np.broadcast_to(values, spiked.shape)
    np.testing.assert_allclose(out.membranes[1:][spiked], expected[spiked], rtol=1e-12)


@pytest.mark.parametrize("name", RESETTING)
def test_the_value_is_learnable(name, solved):
    _, _, found = solved
    out, _, derivative, ((above, spikes), (below, _)) = found[name]
    np.testing.assert_array_equal(spikes, out.spikes)
    np.testing.assert_allclose(jnp.sum(derivative), (above - below) / 2e-6, rtol=1e-6)
    assert np.all((derivative != 0) == np.any(out.spikes[:-1] > 0, 0))


def test_an_alpha_neuron_decays_from_the_value():
    """Without further input, the potential decays from the value with alpha."""
    cell = discrete.Alpha(0.9, 0.7, threshold=0.3, reset="set", v_reset=-0.2)
    xs = jnp.zeros((12, 1)).at[0].set(2.0)
    out = discrete.run(cell, xs)
    at = int(np.argmax(out.spikes)) + 1
    np.testing.assert_allclose(out.membranes[at:, 0], -0.2 * 0.9 ** np.arange(12 - at), rtol=1e-12)


def test_a_reset_in_the_step_of_the_spike():
    cell = discrete.Leaky(0.5, reset="set", v_reset=-0.5, reset_delay=False)
    out = discrete.run(cell, jnp.array([[1.5], [1.0], [0.5]]))
    np.testing.assert_allclose(out.membranes[:, 0], [-0.5, 0.75, 0.875])


def test_values_that_have_no_effect_or_no_meaning_are_refused():
    for reset in ("subtract", "zero", "none"):
        with pytest.raises(ValueError, match=r'^v_reset must be 0 unless reset is "set", got 0\.5'):
            discrete.Leaky(0.9, reset=reset, v_reset=0.5)
    with pytest.raises(ValueError, match=r"^v_reset must be below threshold, got 1\.0"):
        discrete.RLeaky(0.9, linear(2, 2, np.random.default_rng(0)), reset="set", v_reset=1.0)
    with pytest.raises(ValueError, match=r"^v_reset must have a shape .* got shape \(3,\)"):
        discrete.Leaky(0.9, reset="set", v_reset=np.zeros(3), threshold=np.ones(2))
