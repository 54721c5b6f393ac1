"""Properties of the discrete-time mode for parameters and inputs drawn by hypothesis.

The draws are the same in every run. The model is a stack of all cells with heterogeneous neurons.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eventsnn import discrete
from helpers.draws import REPRODUCIBLE
from helpers.registry import CELLS, N, stack

T, B, N_IN = 10, 3, 4
BASE = stack(N_IN, np.random.default_rng(0))
CELL_LAYERS = tuple(range(1, 2 * len(CELLS) + 2, 2))


@eqx.filter_jit
def run(model, xs, state=None):
    return discrete.run_batch(model, xs, layers=CELL_LAYERS, state=state)


def property_of(examples=25, **more):
    """Decorate a test of a seed and further drawn arguments."""

    def decorate(test):
        settled = settings(REPRODUCIBLE, max_examples=examples)
        return settled(given(seed=st.integers(0, 2**20), **more)(test))

    return decorate


def changed(tree, change):
    """Apply a function to the real arrays of a tree."""
    return jax.tree.map(
        lambda x: jnp.asarray(change(np.asarray(x))) if eqx.is_inexact_array(x) else x, tree
    )


def of_layers(model, change):
    """Apply a function of index and layer to the layers of a model."""
    return discrete.Sequential([change(k, layer) for k, layer in enumerate(model.layers)])


def drawn(seed):
    """Draw a model and its inputs; also return a generator for the changes that a test makes."""
    rng = np.random.default_rng(seed)

    def vary(x):
        return x * rng.uniform(0.8, 1.2, x.shape if x.ndim else N)

    return changed(BASE, vary), jnp.asarray(rng.normal(size=(T, B, N_IN))), rng


def assert_equal_runs(found, expected, rtol=1e-11):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def spikes_and_membranes(out):
    return np.stack(out.spikes), np.stack(out.membranes)


@property_of()
def test_the_order_of_neurons_has_no_influence(seed):
    model, xs, rng = drawn(seed)
    order, before = rng.permutation(N), np.arange(N_IN)

    def cell(x):
        x = x[order] if x.ndim else x
        return x[:, order] if x.ndim == 2 else x  # feedback

    def permute(k, layer):
        if k in CELL_LAYERS:
            return changed(layer, cell)
        columns = order if k else before
        return changed(layer, lambda x: x[order][:, columns] if x.ndim == 2 else x[order])

    found = spikes_and_membranes(run(of_layers(model, permute), xs))
    assert_equal_runs(found, [x[..., order] for x in spikes_and_membranes(run(model, xs))])


@property_of()
def test_a_sample_does_not_depend_on_the_others(seed):
    model, xs, rng = drawn(seed)
    order, out = rng.permutation(B), spikes_and_membranes(run(model, xs))
    moved = spikes_and_membranes(run(model, xs[:, order]))
    assert_equal_runs(moved, [x[:, :, order] for x in out])
    bad = spikes_and_membranes(run(model, xs.at[:, 1].set(jnp.nan)))
    assert_equal_runs([x[:, :, ::2] for x in bad], [x[:, :, ::2] for x in out])


@property_of(factor=st.sampled_from([4.0, 3.0, 0.1]))
def test_potentials_scale_with_thresholds_and_currents(seed, factor):
    """Currents are the outputs of layers and feedback; the input of a layer is spikes of fixed
    size."""
    model, xs, _ = drawn(seed)

    def scale(k, layer):
        if k not in CELL_LAYERS:
            return changed(layer, lambda x: factor * x)
        for name in ("threshold", "strength", "feedback"):
            if hasattr(layer, name):
                part = changed(getattr(layer, name), lambda x: factor * x)
                layer = eqx.tree_at(lambda to, name=name: getattr(to, name), layer, part)
        return layer

    spikes, membranes = spikes_and_membranes(run(model, xs))
    found = spikes_and_membranes(run(of_layers(model, scale), xs))
    scaled = np.concatenate([spikes[:-1], factor * spikes[-1:]])  # the last cell is an integrator
    assert_equal_runs(found, (scaled, factor * membranes))


@property_of()
def test_a_run_in_chunks_is_one_run(seed):
    model, xs, _ = drawn(seed)
    whole, first = run(model, xs), run(model, xs[: T // 2])
    second = run(model, xs[T // 2 :], first.state)
    parts = zip(*map(spikes_and_membranes, (first, second)), strict=True)
    chunks = [np.concatenate(x, axis=1) for x in parts]
    assert_equal_runs((*chunks, second.state), (*spikes_and_membranes(whole), whole.state))


@property_of(step=st.integers(1, T - 1))
def test_a_later_input_has_no_influence_on_earlier_steps(seed, step):
    model, xs, rng = drawn(seed)
    other = xs.at[step:].set(rng.normal(size=(T - step, B, N_IN)))
    found, expected = (spikes_and_membranes(run(model, x)) for x in (other, xs))
    assert_equal_runs([x[:, :step] for x in found], [x[:, :step] for x in expected])


@property_of(who=st.integers(0, N - 1))
def test_the_weights_of_a_silent_neuron_have_no_influence(seed, who):
    """One silent neuron per cell, with a threshold that is out of reach."""
    model, xs, rng = drawn(seed)

    def silence(k, layer):
        if k in CELL_LAYERS[:-1]:
            threshold = layer.threshold.at[who].set(1e6)
            return eqx.tree_at(lambda to: to.threshold, layer, threshold)
        return layer

    def other(x):
        if x.ndim == 2 and x.shape[1] == N:
            x = x.copy()
            x[:, who] = rng.normal(size=N)
        return x

    silent = of_layers(model, silence)
    expected = run(silent, xs)
    assert all(np.all(s[..., who] == 0) for s in expected.spikes[:-1])
    moved = of_layers(silent, lambda k, layer: changed(layer, other) if k else layer)
    assert_equal_runs(run(moved, xs), expected)


@property_of()
def test_float32_is_close_to_float64(seed):
    """The spikes are equal, unless a relative change of the weights by 1e-5 changes them."""
    model, xs, _ = drawn(seed)
    spikes, membranes = spikes_and_membranes(run(model, xs))
    fires = spikes[:-1] > 0  # the last cell is an integrator
    for e in (1e-5, -1e-5):
        moved = run(of_layers(model, lambda k, x, e=e: changed(x, lambda x: x * (1 + e))), xs)
        assume(np.array_equal(np.stack(moved.spikes[:-1]) > 0, fires))
    single = run(changed(model, np.float32), xs.astype(np.float32))
    np.testing.assert_array_equal(np.stack(single.spikes[:-1]) > 0, fires)
    np.testing.assert_allclose(np.stack(single.membranes), membranes, rtol=1e-4, atol=1e-4)
