"""The task with delays: initial values, trained parameters and their rates, training of delays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn.constraints import unwrap
from eventsnn.tasks.delays import Delays
from eventsnn.tasks.epochs import snapshot_models

KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("as_users_do")


@pytest.fixture(scope="module")
def trained():
    task = Delays(**Delays.quick_settings, n_hidden=15)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        return task, task.train(task.load(), progress=False)


def leaves(tree):
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize(("kind", "shape"), [("synaptic", (38, 33)), ("axonal", (38,))])
def test_delays_are_drawn_from_their_range(kind, shape):
    drawn = [
        np.asarray(unwrap(Delays(delays=which, delay_kind=kind).build(KEY)).delays)
        for which in ("learnt", "fixed")
    ]
    np.testing.assert_array_equal(*drawn)
    low, high = Delays().delay_min, Delays().delay_max
    assert drawn[0].shape == shape
    assert low <= drawn[0].min() < low + 1.5 and high - 1.5 < drawn[0].max() <= high
    without = Delays(delays="none", delay_kind=kind).build(KEY)
    assert without.delays is None
    np.testing.assert_array_equal(without.weights, Delays(delay_kind=kind).build(KEY).weights)


@pytest.mark.parametrize(
    ("delays", "expected"),
    [("learnt", {".weights", ".delays.raw"}), ("fixed", {".weights"}), ("none", {".weights"})],
)
def test_what_trains(delays, expected):
    task = Delays(delays=delays)
    net = task.build(KEY)
    assert leaves(eqx.filter(net, task.trainable(net))) == expected


@pytest.mark.parametrize("kind", ["synaptic", "axonal"])
def test_weights_and_delays_have_separate_learning_rates_that_decay_to_0(kind):
    task = Delays(delay_kind=kind)
    net = task.build(KEY)
    params = eqx.filter(net, task.trainable(net))
    ones, optimizer = jax.tree.map(jnp.ones_like, params), task.optimizer(3, 3)
    state, found = optimizer.init(params), []
    for _ in range(4):
        step, state = optimizer.update(ones, state, params)
        # A step of Adam equals the rate if the gradient is constant.
        assert all(len(np.unique(leaf)) == 1 for leaf in jax.tree.leaves(step))
        found.append((-step.weights.max(), -step.delays.raw.max()))
    rates = task.learning_rate, task.delay_learning_rate
    fall = 0.5 + 0.5 * np.cos(np.pi * np.arange(4) / 3)
    np.testing.assert_allclose(found, np.outer(fall, rates), rtol=1e-4, atol=1e-8)


def test_delays_learn_and_stay_positive(trained):
    _, fitted = trained
    assert fitted.losses[-5:].mean() < 0.7 * fitted.losses[:2].mean()
    first = next(snapshot_models(fitted))
    before, after = (np.asarray(unwrap(net).delays) for net in (first, fitted.model))
    mask = np.asarray(fitted.model.mask)
    # A missing synapse has no gradient, and Adam then takes no step.
    np.testing.assert_array_equal(before[~mask], after[~mask])
    weights = np.asarray(first.weights - fitted.model.weights)[mask]
    moved = np.abs(after - before)[mask]
    # If a spike has an effect, its weight is trained, and so is its delay.
    np.testing.assert_array_equal(moved > 0, weights != 0)
    assert np.mean(moved > 0.01) > 0.3 and np.all(after > 0)
    # Delays do not become negative, for any step size.
    pushed = eqx.tree_at(lambda net: net.delays.raw, fitted.model, replace_fn=lambda r: r - 50)
    assert 0 < unwrap(pushed).delays.max() < 1e-12


def test_no_sample_is_cut_short(trained):
    task, fitted = trained
    in_times = task.event_inputs(task.load().test.xy[:32])
    first_spikes = eqx.filter_jit(lambda net, x: net.ttfs(x, throw=False))  # inf if one is
    for net in (next(snapshot_models(fitted)), fitted.model):
        assert np.all(np.isfinite(first_spikes(net, in_times)))
