"""The adaptive-threshold cell against a loop in NumPy, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete, surrogates

T, N = 30, 5


def by_hand(x, beta, rho, strength, threshold, reset):
    """Spikes, membrane potentials and adaptation of all steps."""
    spk, mem, a = np.zeros((3, N))
    found = []
    for now in x:
        a = rho * a + spk
        if reset == "zero":
            mem = beta * np.where(spk > 0, 0, mem) + now
        else:
            mem = beta * mem + now - (threshold * spk if reset == "subtract" else 0)
        spk = (mem > threshold + strength * a).astype(float)
        found.append((spk, mem, a))
    return map(np.stack, zip(*found, strict=True))


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_against_a_loop(reset):
    rng = np.random.default_rng(0)
    beta, rho, strength, threshold = rng.uniform(0.3, 0.9, (4, N))
    x = rng.uniform(0.0, 1.0, (T, N))
    cell = discrete.ALIF(beta, rho, strength, threshold=threshold, reset=reset)
    out = discrete.run(cell, x)
    spikes, membranes, adaptation = by_hand(x, beta, rho, strength, threshold, reset)
    assert 0.1 < spikes.mean() < 0.9
    np.testing.assert_array_equal(out.spikes, spikes)
    np.testing.assert_allclose(out.membranes, membranes, rtol=1e-12)
    np.testing.assert_allclose(out.state.adaptation, adaptation[-1], rtol=1e-12)


def test_adaptation_lowers_the_rate_and_without_it_the_cell_is_leaky():
    x = jnp.full((T, 1), 0.6)
    counts = [
        discrete.run(discrete.ALIF(0.9, 0.95, strength), x).spikes.sum() for strength in (0, 0.3, 3)
    ]
    leaky = discrete.run(discrete.Leaky(0.9), x).spikes
    assert counts[0] == leaky.sum() > counts[1] > counts[2] > 0


def test_gradients_through_the_adaptation():
    """Two steps, with a spike at the first one: the derivatives are those of the equations."""
    cell, slope = discrete.ALIF(0.5, 0.8, 0.25), surrogates.ATan()

    def second(cell, x):
        return discrete.run(cell, x).spikes[1, 0]

    x = jnp.array([[1.5], [0.7]])
    grad_cell, grad_x = jax.grad(second, argnums=(0, 1))(cell, x)
    u1, u2 = 1.5, 0.5 * 1.5 + 0.7 - 1.0
    ds1, ds2 = jax.grad(slope)(u1 - 1.0), jax.grad(slope)(u2 - 1.0 - 0.25)
    np.testing.assert_allclose(grad_x[:, 0], [ds2 * (0.5 - 0.25 * ds1), ds2], rtol=1e-12)
    np.testing.assert_allclose(grad_cell.strength, -ds2, rtol=1e-12)
    np.testing.assert_allclose(grad_cell.beta, ds2 * u1, rtol=1e-12)
    np.testing.assert_allclose(grad_cell.threshold, ds2 * (-2 + 0.25 * ds1), rtol=1e-12)
    assert grad_cell.rho == 0  # no adaptation before the first spike


def test_the_parameters_of_the_adaptation_are_trained_by_name():
    cell = discrete.ALIF(0.5, 0.8, 0.25)
    assert not any(jax.tree.leaves(discrete.trainable(cell)))
    selected = discrete.trainable(cell, "rho", "strength")
    assert selected.rho and selected.strength and not selected.beta
