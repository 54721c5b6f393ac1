"""Sparse connectivity: order, values, conversions from and to matrices, and errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.sparse import BCOO

import eventsnn as esn
from eventsnn.event.connectivity import stable_order

SHAPE = (7, 4)  # four neurons, three input channels


def entries(n=30, seed=0):
    """Random sources, targets, weights and delays; some pairs have several synapses."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, SHAPE[0], n), rng.integers(0, SHAPE[1], n)
    return *pairs, rng.normal(size=n), rng.random(n)


def reference(sources, targets):
    """Order by source, then target, then place in the list."""
    return sorted(range(len(sources)), key=lambda k: (sources[k], targets[k], k))


def dense(sources, targets, values):
    out = np.zeros(SHAPE)
    for j, i, value in zip(sources, targets, values, strict=True):
        out[j, i] += value
    return out


def test_entries_are_sorted_and_values_follow():
    pre, post, w, d = entries()
    synapses = esn.Synapses(pre, post, w, SHAPE, d)
    order = reference(pre, post)
    for found, given in zip(
        (synapses.sources, synapses.targets, synapses.weights, synapses.delays),
        (pre, post, w, d),
        strict=True,
    ):
        np.testing.assert_array_equal(found, given[order])
    np.testing.assert_array_equal(w[np.lexsort((post, pre))], synapses.weights)
    assert synapses.sources.dtype == synapses.targets.dtype == jnp.int32
    assert (synapses.n_neurons, synapses.n_inputs, synapses.n_synapses) == (4, 3, 30)
    offsets = np.asarray(synapses.offsets)
    assert offsets.shape == (8,) and offsets[0] == 0 and offsets[-1] == 30
    for j in range(7):
        assert np.all(np.asarray(synapses.sources)[offsets[j] : offsets[j + 1]] == j)
    np.testing.assert_array_equal(synapses.out_degrees(), [np.sum(pre == j) for j in range(7)])
    np.testing.assert_array_equal(synapses.in_degrees(), [np.sum(post == i) for i in range(4)])


def test_sorted_entries_stay_and_share_no_memory():
    pre, post, w, d = (x[reference(*entries()[:2])] for x in entries())
    pre, post = pre.astype(np.int32), post.astype(np.int32)
    synapses = esn.Synapses(pre, post, w, SHAPE, d)
    before = jax.tree.map(np.array, synapses)
    for x in (pre, post, w, d):
        x[:] = 1
    assert eqx.tree_equal(before, jax.tree.map(np.array, synapses))


def test_the_order_of_large_matrices():
    """The place in the matrix and the index in the list no longer fit into one integer."""
    pre, post, *_ = entries()
    np.testing.assert_array_equal(stable_order(pre, post, 2**57), reference(pre, post))
    assert stable_order(np.arange(3), np.zeros(3, int), 2**57) == slice(None)


def test_numbers_stand_for_equal_values():
    pre, post, *_ = entries()
    synapses = esn.Synapses(pre, post, 1, SHAPE, delays=2)
    np.testing.assert_array_equal(synapses.weights, np.ones(30))
    assert synapses.axonal and synapses.delays.shape == (7,)
    assert synapses.weights.dtype == synapses.delays.dtype == jnp.float64
    np.testing.assert_array_equal(synapses.synaptic_delays(), np.full(30, 2.0))
    short = esn.Synapses(pre, post, np.ones(30, np.float32), SHAPE, delays=np.arange(7))
    assert short.weights.dtype == short.delays.dtype == jnp.float32
    np.testing.assert_array_equal(short.synaptic_delays(), np.sort(pre))
    none = esn.Synapses(pre, post, 1.0, SHAPE)
    assert none.delays is none.synaptic_delays() is none.dense_delays() is None
    assert not none.axonal


def test_memory_is_that_of_the_synapses():
    """The matrix would have 10**12 elements."""
    synapses = esn.Synapses([1_999_999, 0], [999_999, 3], [1.0, 2.0], (2_000_000, 1_000_000))
    assert synapses.n_synapses == 2 and synapses.out_degrees().sum() == 2
    empty = esn.Synapses(np.zeros(0, int), np.zeros(0, int), 1.0, SHAPE, 1.0)
    assert empty.n_synapses == 0 and not np.any(empty.mask()) and not np.any(empty.in_degrees())


def test_the_dense_matrix():
    pre, post, w, d = entries()
    synapses = esn.Synapses(pre, post, w, SHAPE)
    np.testing.assert_allclose(synapses.to_dense(), dense(pre, post, w), rtol=1e-14)
    np.testing.assert_array_equal(synapses.mask(), dense(pre, post, w) != 0)
    delayed = esn.Synapses(pre, post, w, SHAPE, d)
    with pytest.raises(
        ValueError, match=r"^delays must agree for synapses of the same pair.*, got"
    ):
        delayed.dense_delays()
    assert np.isnan(jax.jit(esn.Synapses.dense_delays)(delayed)).any()
    by_pair = np.random.default_rng(1).random(SHAPE)
    agreed = esn.Synapses(pre, post, w, SHAPE, by_pair[pre, post])
    expected = np.where(synapses.mask(), by_pair, 0)
    np.testing.assert_array_equal(agreed.dense_delays(), expected)
    np.testing.assert_array_equal(jax.jit(esn.Synapses.dense_delays)(agreed), expected)
    axonal = esn.Synapses(pre, post, w, SHAPE, np.arange(7.0))
    np.testing.assert_array_equal(axonal.dense_delays(), np.arange(7.0))


@pytest.mark.parametrize("shape", [(), (7,), (7, 4)])
def test_from_dense_and_back(shape):
    rng = np.random.default_rng(2)
    w, mask = rng.normal(size=SHAPE), rng.random(SHAPE) < 0.5
    w[1] = 0
    mask[1] = True
    d = rng.random(shape)
    masked = esn.Synapses.from_dense(w, mask, d)
    np.testing.assert_array_equal(masked.mask(), mask)
    np.testing.assert_array_equal(masked.to_dense(), np.where(mask, w, 0))
    wide = np.where(mask, d, 0) if shape == SHAPE else np.broadcast_to(d, 7)
    np.testing.assert_array_equal(masked.dense_delays(), wide)
    assert masked.axonal == (shape != SHAPE)
    found = esn.Synapses.from_dense(w.tolist())
    np.testing.assert_array_equal(found.mask(), w != 0)
    np.testing.assert_array_equal(found.to_dense(), w)
    traced = jax.jit(lambda w, d: esn.Synapses.from_dense(w, mask, d).weights)(w, d)
    np.testing.assert_array_equal(traced, w[mask])


def test_axonal_delays_of_a_matrix_with_as_many_synapses_as_sources():
    """As delays of `Synapses` their shape would be that of synaptic delays."""
    w, d = np.array([[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]]), np.array([1.0, 2.0, 3.0])
    for made in (esn.Synapses.from_dense(w, None, d), esn.Synapses.from_bcoo(padded(w), d)):
        np.testing.assert_array_equal(made.synaptic_delays(), [1.0, 2.0, 2.0])


def padded(w):
    """Sparse matrix of JAX with two entries of padding, as `BCOO.fromdense` makes it."""
    values = np.concatenate([w[w != 0], [0.0, 0.0]])
    return BCOO((values, np.concatenate([np.argwhere(w), [w.shape, w.shape]])), shape=w.shape)


def test_from_a_sparse_matrix_of_jax():
    pre, post, w, d = entries()
    matrix = BCOO((w, np.stack([pre, post], 1)), shape=SHAPE)
    found = esn.Synapses.from_bcoo(matrix, d)
    assert eqx.tree_equal(found, esn.Synapses(pre, post, w, SHAPE, d))
    np.testing.assert_allclose(found.to_dense(), dense(pre, post, w), rtol=1e-14)
    values = dense(*entries(n=12)[:3])
    some = padded(values)
    each = np.arange(some.nse, dtype=float)
    found = esn.Synapses.from_bcoo(some, each)
    assert found.n_synapses == np.count_nonzero(values) == some.nse - 2
    np.testing.assert_array_equal(found.to_dense(), values)
    inside = np.asarray(some.indices[:, 0]) < 7
    np.testing.assert_array_equal(np.sort(found.delays), each[inside])
    assert esn.Synapses.from_bcoo(some, 1.0).axonal


@pytest.mark.parametrize("wrap", [esn.Positive, lambda x: esn.Bounded(x, 0.0, 9.0)])
def test_wrapped_values_are_sorted_and_stay_wrapped(wrap):
    pre, post, w, d = entries()
    w = np.abs(w)
    plain = esn.Synapses(pre, post, w, SHAPE, d)
    wrapped = esn.Synapses(pre, post, wrap(w), SHAPE, wrap(d))
    later = esn.constrain(plain, lambda s: (s.weights, s.delays), wrap)
    for made in (wrapped, later):
        assert isinstance(made.weights, esn.AbstractWrapper)
        values = esn.unwrap(made)
        np.testing.assert_allclose(values.weights, plain.weights, rtol=1e-12)
        np.testing.assert_allclose(values.delays, plain.delays, rtol=1e-12)
        np.testing.assert_allclose(made.to_dense(), plain.to_dense(), rtol=1e-12)
        assert made.n_synapses == 30 and not made.axonal
    one = esn.Synapses(pre, post, wrap(1.0), SHAPE, wrap(2.0))
    assert one.weights.shape == (30,) and one.delays.shape == (7,)
    matrix = dense(pre, post, w)
    again = esn.Synapses.from_dense(wrap(np.maximum(matrix, 0.1)), matrix > 0, wrap(np.ones(SHAPE)))
    np.testing.assert_allclose(again.to_dense(), np.where(matrix > 0, matrix, 0), atol=0.1)


def test_weights_and_delays_are_trained_and_nothing_else(tmp_path):
    pre, post, w, d = entries()
    synapses = esn.Synapses(pre, post, w, SHAPE, d)
    learnt = eqx.filter(synapses, eqx.is_inexact_array)
    assert len(jax.tree.leaves(learnt)) == 2
    optimiser = optax.sgd(0.1)

    @eqx.filter_jit
    def step(synapses):
        def loss(synapses):
            return jnp.sum(synapses.to_dense() ** 2) + jnp.sum(synapses.synaptic_delays())

        grads = eqx.filter_grad(loss)(synapses)
        updates, _ = optimiser.update(grads, optimiser.init(learnt))
        return eqx.apply_updates(synapses, updates)

    after, order = step(synapses), reference(pre, post)
    slopes = 2 * dense(pre, post, w)[pre, post]
    np.testing.assert_allclose(after.weights, (w - 0.1 * slopes)[order], rtol=1e-12)
    np.testing.assert_allclose(after.delays, d[order] - 0.1, rtol=1e-12)
    same = eqx.tree_at(lambda s: (s.weights, s.delays), after, (synapses.weights, synapses.delays))
    assert eqx.tree_equal(same, synapses)
    eqx.tree_serialise_leaves(tmp_path / "synapses.eqx", after)
    assert eqx.tree_equal(eqx.tree_deserialise_leaves(tmp_path / "synapses.eqx", synapses), after)


def test_transformations_of_weights():
    pre, post, w, d = entries()
    many = jnp.stack([w, 2 * w, -w])
    made = jax.vmap(lambda w: esn.Synapses(pre, post, w, SHAPE, d).to_dense())(many)
    expected = dense(pre, post, w)
    np.testing.assert_allclose(made, [expected, 2 * expected, -expected], rtol=1e-14)
    synapses = esn.Synapses(pre, post, w, SHAPE, d)
    stacked = eqx.tree_at(lambda s: s.weights, synapses, many[:, reference(pre, post)])
    axes = jax.tree.map(lambda x: 0 if x.ndim == 2 else None, stacked)
    dense_of = eqx.filter_vmap(esn.Synapses.to_dense, in_axes=(axes,))
    np.testing.assert_allclose(dense_of(stacked), made, rtol=1e-14)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (r"sources and targets must have the same length, got shapes \(2,\) and", {"sources": 2}),
        (
            r"sources must be integers in 0 \.\.\. 6, one per synapse, got 7 at index \(29,\)",
            {7: 0},
        ),
        (r"targets must be integers in 0 \.\.\. 3, one per synapse, got -1 at index", {-1: 1}),
        (r"weights must be a number or have shape \(30,\), one value per synapse, got", {"w": 29}),
        (r"weights must be finite, got nan at index \(0,\)", {"w": np.nan}),
        (
            r"delays must be .* shape \(30,\), one value per synapse or \(7,\), one .*source",
            {"d": 8},
        ),
        (r"delays must be finite and >= 0, got -1\.0", {"d": -1.0}),
        (r"shape must be two integers \(n \+ n_in, n\) with .*, got \[?\(?3, 4", {"shape": (3, 4)}),
    ],
)
def test_errors(message, change):
    pre, post, w, d = entries()
    shape, ((what, value),) = SHAPE, change.items()
    if what == "sources":
        pre = pre[:value]
    elif what == "w":
        w = w[:value] if isinstance(value, int) else np.full(30, value)
    elif what == "d":
        d = np.zeros(value) if isinstance(value, int) else value
    elif what == "shape":
        shape = value
    else:
        (pre, post)[value][-1] = what
    with pytest.raises(ValueError, match="^" + message):
        esn.Synapses(pre, post, w, shape, d)


def test_the_structure_must_be_known():
    pre, post, w, _ = entries()
    with pytest.raises(ValueError, match=r"^sources must be .*not traced by JAX, got a traced"):
        jax.jit(lambda pre: esn.Synapses(pre, post, w, SHAPE).weights)(pre)
    with pytest.raises(ValueError, match=r"^weights must be .*not traced by JAX, got a traced"):
        jax.jit(lambda w: esn.Synapses.from_dense(w).weights)(np.ones(SHAPE))
    known = jnp.asarray(pre)
    jax.jit(lambda w: esn.Synapses(known, post, w, SHAPE).weights)(w)


@pytest.mark.parametrize("delays", [None, 0.5, "synaptic"])
def test_a_network_made_inside_jit_is_simulated_in_rounds(delays):
    """Known indices and delays stay known there."""
    pre, post, w, d = entries()
    delays = d + 0.5 if delays == "synaptic" else delays

    def spikes(w):
        synapses = esn.Synapses(pre, post, w, SHAPE, delays)
        neuron, limits = esn.LIF(10.0, 5.0), {"t_max": 9.0, "max_events": 9}
        net = esn.EventNetwork(neuron, synapses, outputs=[0], **limits)
        assert net.in_rounds
        return net.spikes(jnp.zeros((net.n_inputs, 1)), 2)

    assert jax.eval_shape(spikes, w).shape[-1] == 2
