"""Backpropagation through time, truncated to segments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from eventsnn import discrete, losses
from helpers.registry import CELLS, N, linear

T, B, N_IN = 7, 2, 3


def agree(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def loss_of(out):
    """Loss of spikes, membrane potentials and the final state."""
    return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(out))


def segments(model, xs, state, every):
    """Run in segments by hand. Each segment starts from a constant state."""
    outs = []
    for start in range(0, T, every):
        part = xs[start : start + every]
        out = discrete.run_batch(model, part, state=state, layers=(1, 4))
        state = jax.lax.stop_gradient(out.state)
        outs.append(out)
    spikes, membranes = (
        jax.tree.map(lambda *parts: jnp.concatenate(parts), *each)
        for each in ([out.spikes for out in outs], [out.membranes for out in outs])
    )
    return discrete.Run(spikes, membranes, outs[-1].state, {})


def test_gradients_of_segments(rng):
    cells = CELLS["RLeaky"](rng), CELLS["Synaptic"](rng)
    layers = [linear(N_IN, N, rng), cells[0], linear(N, N, rng), cells[1], linear(N, 2, rng)]
    model, xs = discrete.Sequential(layers), jnp.asarray(rng.normal(size=(T, B, N_IN)))
    state = jax.vmap(model.init_state)(xs[0])

    @eqx.filter_jit
    def solve(moving):
        def automatic(moving, **options):
            model, xs, state = moving
            out = discrete.run_batch(model, xs, state=state, layers=(1, 4), **options)
            return loss_of(out), out

        def by_hand(moving):
            out = segments(*moving, 3)
            return loss_of(out), out

        gradient = lambda fn: eqx.filter_value_and_grad(fn, has_aux=True)  # noqa: E731
        found = [
            gradient(automatic)(moving, truncate_every=3),
            gradient(automatic)(moving, truncate_every=3, checkpoint_every=2),
        ]
        whole = gradient(automatic)(moving), gradient(automatic)(moving, truncate_every=T)
        return gradient(by_hand)(moving), found, whole

    expected, found, (whole, one_segment) = solve((model, xs, state))
    for each in found:
        agree(each, expected)
    agree(one_segment, whole)
    agree(expected[0], whole[0])  # the values are those of the whole run
    cut, full = (g[1][0].layers[1].feedback.weight for g in (expected, whole))
    assert np.max(np.abs(cut - full)) > 1e-3 * np.max(np.abs(full))


def test_the_memory_is_that_of_a_segment(getkey):
    ends = eqx.nn.Linear(64, 100, key=getkey()), eqx.nn.Linear(100, 2, key=getkey())
    model = discrete.Sequential([ends[0], discrete.Leaky(0.9), ends[1]])
    arrays, other = eqx.partition(model, eqx.is_inexact_array)

    def temporary(every):
        def loss(arrays, xs):
            model = eqx.combine(arrays, other)
            out = discrete.run_batch(model, xs, truncate_every=every)
            return losses.ce_rate(out.spikes, jnp.zeros(8, int))

        xs = jax.ShapeDtypeStruct((2000, 8, 64), float)
        compiled = jax.jit(jax.grad(loss)).lower(arrays, xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = temporary(None)
    assert whole > 2000 * 8 * 100 * 8
    assert temporary(40) < whole / 20
