"""Rematerialisation in blocks of steps: the same results in a fraction of the memory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete, losses
from helpers.registry import N, linear, stack

T, B, N_IN = 10, 3, 4


def agree(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def with_dropout(rng):
    """Stack of all cells with random layers before, between and after them."""
    layers = list(stack(N_IN, rng).layers)
    dropout = eqx.nn.Dropout(0.2)
    return discrete.Sequential([dropout, *layers[:3], dropout, *layers[3:], dropout])


def test_every_cell_has_the_same_values_and_gradients_in_blocks(rng, getkey):
    model, key = with_dropout(rng), getkey()
    xs, layers = jnp.asarray(rng.normal(size=(T, B, N_IN))), (1, 2, -2, -1)
    state = jax.vmap(model.init_state)(xs[0])

    def loss(moving, every):
        model, xs, state = moving
        options = {"layers": layers, "key": key, "checkpoint_every": every}
        out = discrete.run_batch(model, xs, state=state, **options)
        kept = [out.spikes, [m for m in out.membranes if m is not None], out.state]
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(kept)), out

    @eqx.filter_jit
    def solve(moving):
        return [eqx.filter_value_and_grad(loss, has_aux=True)(moving, n) for n in (None, 4)]

    whole, in_blocks = solve((model, xs, state))
    for path, g in jax.tree_util.tree_leaves_with_path(eqx.filter(whole[1][0], eqx.is_array)):
        unused = jax.tree_util.keystr(path).endswith(".v_reset")  # without reset="set"
        assert np.any(g != 0) != unused, path
    assert np.any(np.asarray(whole[0][1].spikes[1]) != 0)
    agree(in_blocks, whole)


@pytest.mark.parametrize("parallel", [False, True])
def test_constant_inputs_and_parallel_runs_in_blocks(rng, parallel):
    cells = discrete.Leaky(0.9, threshold=0.5), discrete.Leaky(0.8, reset="none")
    model = discrete.Sequential([linear(N_IN, N, rng), *cells])
    x = jnp.asarray(rng.normal(size=N_IN))

    @eqx.filter_jit
    def solve(model, x):
        def loss(model, **options):
            out = discrete.run(model, x, num_steps=T, layers=(0, 2), parallel=parallel, **options)
            return jnp.sum(jnp.sin(out.membranes[1])), out

        value = eqx.filter_value_and_grad(loss, has_aux=True)
        return [value(model), *(value(model, checkpoint_every=n) for n in (3, 5, 20))]

    whole, *in_blocks = solve(model, x)
    for found in in_blocks:
        agree(found, whole)


def test_memory_of_the_backward_pass(getkey):
    """A tenth of the memory at 5000 steps, also if the blocks do not divide the run."""
    model = discrete.Sequential(
        [
            eqx.nn.Linear(64, 100, key=getkey()),
            discrete.RLeaky(0.9, eqx.nn.Linear(100, 100, key=getkey())),
            eqx.nn.Linear(100, 10, key=getkey()),
            discrete.Leaky(0.9),
        ]
    )
    arrays, other = eqx.partition(model, eqx.is_inexact_array)
    xs, labels = jax.ShapeDtypeStruct((5000, 32, 64), float), jnp.zeros(32, int)

    def temporary(every):
        def loss(arrays, xs):
            model = eqx.combine(arrays, other)
            out = discrete.run_batch(model, xs, checkpoint_every=every)
            return losses.ce_count(out.spikes, labels)

        compiled = jax.jit(jax.grad(loss)).lower(arrays, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = temporary(None)
    assert whole > 5000 * 32 * 100 * 8
    assert max(temporary(50), temporary(70)) < whole / 20
