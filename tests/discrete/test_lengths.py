"""Batches of sequences of different lengths: each sample as if it were alone, whatever follows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete
from helpers.registry import CELLS, N, linear

T, N_IN = 9, 4
LENGTHS = np.array([9, 4, 1])
AFTER = np.arange(T)[:, None] >= LENGTHS  # (T, batch)


def agree(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def network(rng, **options):
    """Random layers before, between and after the cells."""
    cells = [CELLS[name](rng, **options) for name in ("RLeaky", "Synaptic")]
    drop = eqx.nn.Dropout(0.2)
    between = [linear(N, N, rng), drop]
    layers = [drop, linear(N_IN, N, rng), cells[0], *between, cells[1], linear(N, 2, rng)]
    return discrete.Sequential(layers)


def inputs(rng):
    """Inputs with NaN after the end of each sample."""
    xs = rng.normal(size=(T, len(LENGTHS), N_IN))
    return jnp.asarray(np.where(AFTER[..., None], np.nan, xs))


def test_each_sample_is_as_if_alone(rng, getkey):
    model, xs, keys = network(rng), inputs(rng), jax.random.split(getkey(), len(LENGTHS))
    layers = (2, 5, 6)

    def loss(moving, run, **options):
        out = run(moving[0], moving[1], layers=layers, **options)
        # Values that do not depend on how long zeros are appended or states are held.
        kept = out.spikes, [jnp.max(m, axis=0) for m in out.membranes[:2]], out.state
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(kept)), out

    gradient = eqx.filter_value_and_grad(loss, has_aux=True)

    @eqx.filter_jit
    def of_batch(moving, lengths, keys, every):
        options = {"lengths": lengths, "key": keys, "checkpoint_every": every}
        return gradient(moving, discrete.run_batch, **options)

    @eqx.filter_jit
    def alone(moving, key):
        return gradient(moving, discrete.run, key=key)

    whole, of_model = of_batch((model, xs), LENGTHS, keys, None)
    agree(of_batch((model, xs), LENGTHS, keys, 2), (whole, of_model))
    out, (d_model, d_xs) = whole[1], of_model
    assert np.all(np.asarray(d_xs)[AFTER] == 0)
    each = []
    for b, n in enumerate(LENGTHS):
        (_, expected), (d_alone, d_x) = alone((model, xs[:n, b]), keys[b])
        agree([s[:n, b] for s in out.spikes], expected.spikes)
        agree([m[:n, b] for m in out.membranes[:2]], expected.membranes[:2])
        agree(jax.tree.map(lambda x, b=b: x[b], out.state), expected.state)
        assert all(np.all(s[n:, b] == 0) for s in out.spikes)
        assert all(np.all(m[n:, b] == m[n - 1, b]) for m in out.membranes[:2])
        agree(d_xs[:n, b], d_x)
        each.append(d_alone)
    assert any(np.any(s[1:3] != 0) for s in out.spikes[:2])
    agree(d_model, jax.tree.map(lambda *parts: sum(parts), *each))


@pytest.mark.parametrize("every", [None, 2])
def test_parallel_runs_have_the_same_ends(rng, every):
    cells = discrete.Leaky(0.9, reset="none"), discrete.LeakyIntegrator(0.8)
    model, xs = discrete.Sequential([linear(N_IN, N, rng), *cells]), inputs(rng)

    @eqx.filter_jit
    def solve(model, xs, lengths):
        def loss(moving, **options):
            out = discrete.run_batch(*moving, layers=(1, 2), lengths=lengths, **options)
            return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(out)), out

        value = eqx.filter_value_and_grad(loss, has_aux=True)
        moving = model, xs
        return value(moving), value(moving, parallel=True, checkpoint_every=every)

    expected, found = solve(model, xs, LENGTHS)
    agree(found, expected)
    (_, out), (_, d_xs) = found
    assert np.all(np.asarray(d_xs)[AFTER] == 0) and np.any(np.asarray(d_xs)[~AFTER] != 0)
    np.testing.assert_array_equal(out.state[2].mem, out.membranes[1][-1])
    assert np.all(np.asarray(out.spikes[1])[AFTER] == 0)


def test_a_constant_input_and_one_sample(rng):
    cell, x = discrete.Leaky(0.9), jnp.asarray([0.3, 0.6])
    found = discrete.run(cell, x, num_steps=8, lengths=5)
    expected = discrete.run(cell, x, num_steps=5)
    agree((found.spikes[:5], found.membranes[:5], found.state), expected)
    assert np.all(found.spikes[5:] == 0) and np.all(found.membranes[5:] == found.state.mem)


def test_layers_that_are_not_differentiable_at_zero(rng):
    model = discrete.Sequential(
        [lambda x: x / jnp.linalg.norm(x), linear(N_IN, 2, rng), discrete.Leaky(0.9)]
    )

    def loss(model):
        run = discrete.run_batch(model, inputs(rng), lengths=LENGTHS, checkpoint_every=4)
        return jnp.sum(jnp.sin(run.membranes))

    grads = eqx.filter_jit(eqx.filter_grad(loss))(model)
    assert np.all(np.isfinite(grads.layers[1].weight)) and np.any(grads.layers[1].weight != 0)
