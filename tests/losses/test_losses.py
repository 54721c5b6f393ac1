"""Losses of the discrete-time mode against snnTorch 1.0.0: values in `fixtures/functional.npz`.

`fixtures/make_functional.py` generates the file in an environment with snnTorch.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import losses
from helpers.recorded import recorded

FIXTURE = recorded("functional.npz", "loss_")
SPIKES, MEMBRANES, LABELS = FIXTURE["spikes"], FIXTURE["membranes"], FIXTURE["labels"]
FEW, WEIGHT = FIXTURE["few_labels"], FIXTURE["weight"]
T, B, C = SPIKES.shape
IN_TIME = np.repeat(FIXTURE["labels_in_time"][:, None], B, axis=1)
TWO = {"on_target": (1, 4), "off_target": (6, 9)}


def spikes(loss, second=LABELS, **options):
    return partial(loss, **options), SPIKES, second


def membranes(loss, second=LABELS, **options):
    return partial(loss, **options), MEMBRANES, second


# For each case of the fixture: the loss, its differentiated argument, its second argument.
PEERS = {
    "ce_rate": spikes(losses.ce_rate),
    "ce_rate_weight": spikes(losses.ce_rate, weight=WEIGHT),
    # snnTorch's population code has no effect on this loss, so eventsnn has none.
    "ce_rate_population": spikes(losses.ce_rate, FEW),
    "ce_count": spikes(losses.ce_count),
    "ce_count_weight": spikes(losses.ce_count, weight=WEIGHT),
    "ce_count_population": spikes(
        losses.ce_count, FEW, num_classes=3, weight=FIXTURE["few_weight"]
    ),
    "mse_count": spikes(losses.mse_count),
    "mse_count_rates": spikes(losses.mse_count, correct_rate=0.7, incorrect_rate=0.15),
    "mse_count_population": spikes(
        losses.mse_count, FEW, correct_rate=0.77, incorrect_rate=0.15, num_classes=3
    ),
    "ce_max_membrane": membranes(losses.ce_max_membrane),
    "ce_max_membrane_weight": membranes(losses.ce_max_membrane, weight=WEIGHT),
    "ce_membrane": membranes(losses.ce_membrane),
    "mse_membrane": membranes(losses.mse_membrane),
    "mse_membrane_on_off": membranes(losses.mse_membrane, on_target=0.9, off_target=0.2),
    "mse_membrane_in_time": membranes(losses.mse_membrane, IN_TIME),
    "mse_temporal_on_off": spikes(losses.mse_temporal, on_target=1, off_target=9),
    "mse_temporal_from_end": spikes(losses.mse_temporal, on_target=-6, off_target=-2),
    "mse_temporal_tolerance": spikes(losses.mse_temporal, on_target=2, off_target=7, tolerance=2),
    "mse_temporal_steps": spikes(losses.mse_temporal, FIXTURE["steps"]),
    "mse_temporal_two_alone": (losses.mse_temporal, FIXTURE["alone"], FIXTURE["steps_alone"]),
    "ce_temporal": spikes(losses.ce_temporal),
    "ce_temporal_reciprocal": spikes(losses.ce_temporal, inverse="reciprocal"),
    "l1_rate_sparsity": spikes(lambda s, _: losses.l1_rate_sparsity(s, 1e-3)),
    # Arguments with which eventsnn reproduces the errors of snnTorch.
    "mse_membrane_negative": membranes(losses.mse_membrane, off_target=0.0),
    "mse_temporal": spikes(losses.mse_temporal, off_target=0),
    "ce_temporal_weight": spikes(
        lambda s, y: losses.ce_temporal(s, y, weight=WEIGHT) * float(B / np.sum(WEIGHT[LABELS]))
    ),
}
# With labels, one number per sample.
PER_SAMPLE = [
    name
    for name, (loss, _, second) in PEERS.items()
    if second is not IN_TIME and name not in ("l1_rate_sparsity", "mse_temporal_two_alone")
]


@jax.jit
def values_and_grads(arguments):
    return {name: jax.value_and_grad(PEERS[name][0])(*a) for name, a in arguments.items()}


def of_all(change=lambda x: x):
    return values_and_grads({name: (change(x), y) for name, (_, x, y) in PEERS.items()})


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("name", PEERS)
def test_the_same_as_snntorch(name):
    value, grad = of_all()[name]
    assert value.shape == () and value.dtype == grad.dtype == jnp.float32
    np.testing.assert_allclose(value, FIXTURE[f"{name}_value"], rtol=1e-5)
    theirs = FIXTURE[f"{name}_grad"]
    assert np.any(theirs != 0)
    np.testing.assert_allclose(grad, theirs, rtol=1e-5, atol=1e-5 * np.max(np.abs(theirs)))


def test_all_of_the_fixture_is_used():
    names = {name.removesuffix("_value") for name in FIXTURE if name.endswith("_value")}
    assert names == {*PEERS, "mse_temporal_two"}


# ------------------------------------------------------------------ where snnTorch is no reference


def right_is(on, off, labels=LABELS):
    return np.where(labels[..., None] == np.arange(C), on, off)


def first_spikes(record, count):
    """Steps of the first spikes by a plain loop, `(count, batch, outputs)`."""
    steps = np.full((count, *record.shape[1:]), len(record) - 1)
    for where in np.ndindex(record.shape[1:]):
        fired = np.flatnonzero(record[(slice(None), *where)])[:count]
        steps[(slice(len(fired)), *where)] = fired
    return steps


OFF_BY = first_spikes(SPIKES, 1)[0] - right_is(0, T - 1)
GOALS = np.stack([right_is(1, 6), right_is(4, 9)])
OFF_BY_TWO = first_spikes(SPIKES, 2) - GOALS
NEAR = np.where(np.abs(OFF_BY_TWO) < 3, 0, OFF_BY_TWO)
EACH = WEIGHT[LABELS][:, None]
WAVES = np.sin(np.arange(T * B * C).reshape(T, B, C)).astype(np.float32)
RATES = SPIKES.mean((0, 1))
GOAL_RATES = np.linspace(0.1, 0.3, C).astype(np.float32)
LOW, HIGH = np.quantile(RATES, [0.3, 0.7]).tolist()
OUTSIDE = np.where(RATES < LOW, LOW - RATES, np.where(RATES > HIGH, RATES - HIGH, 0))

# A loss and its arguments, and the expected value.
BY_HAND = {
    "negative": (
        membranes(losses.mse_membrane, off_target=-0.5),
        np.mean((MEMBRANES - right_is(1, -0.5)) ** 2),
    ),
    "last_step": (spikes(losses.mse_temporal), np.mean(OFF_BY**2) / T**2),
    "two": (spikes(losses.mse_temporal, **TWO), np.mean(OFF_BY_TWO**2) / T**2),
    "two_steps": (spikes(losses.mse_temporal, GOALS), np.mean(OFF_BY_TWO**2) / T**2),
    "tolerance": (spikes(losses.mse_temporal, tolerance=3, **TWO), np.mean(NEAR**2) / T**2),
    "weight_count": (
        spikes(losses.mse_count, weight=WEIGHT),
        np.mean(EACH * (SPIKES.sum(0) - right_is(T, 0)) ** 2) / T,
    ),
    "weight_membrane": (
        membranes(losses.mse_membrane, weight=WEIGHT),
        np.mean(EACH * (MEMBRANES - right_is(1, 0)) ** 2),
    ),
    "weight_membrane_in_time": (
        membranes(losses.mse_membrane, IN_TIME, weight=WEIGHT),
        np.mean(WEIGHT[IN_TIME][..., None] * (MEMBRANES - right_is(1, 0, IN_TIME)) ** 2),
    ),
    "weight_temporal": (
        spikes(losses.mse_temporal, weight=WEIGHT, **TWO),
        np.mean(EACH * OFF_BY_TWO**2) / T**2,
    ),
    "waves": (membranes(losses.mse_membrane, WAVES), np.mean((MEMBRANES - WAVES) ** 2)),
    "wave": (membranes(losses.mse_membrane, WAVES[0]), np.mean((MEMBRANES - WAVES[0]) ** 2)),
    "rate": (spikes(losses.target_rate, 0.2), np.mean((RATES - 0.2) ** 2)),
    "rates": (spikes(losses.target_rate, GOAL_RATES), np.mean((RATES - GOAL_RATES) ** 2)),
    "range": (
        spikes(lambda s, _: losses.rate_range(s, lower=LOW, upper=HIGH)),
        np.mean(OUTSIDE**2),
    ),
    "any_rate": (spikes(lambda s, _: losses.rate_range(s)), 0.0),
}
# More axes of samples: (T, B, 1, C).
SPLIT = ["ce_rate_weight", "ce_count_population", "ce_membrane", "mse_count"]
SPLIT += ["mse_membrane_on_off", "mse_temporal_on_off"]
BY_HAND |= {
    f"{name}_more_axes": ((loss, x[:, :, None], y[:, None]), FIXTURE[f"{name}_value"])
    for name in SPLIT
    for loss, x, y in [PEERS[name]]
}


@jax.jit
def all_by_hand(arguments):
    return {name: BY_HAND[name][0][0](*a) for name, a in arguments.items()}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_same_as_by_hand(name):
    value = all_by_hand({name: case[1:] for name, (case, _) in BY_HAND.items()})[name]
    np.testing.assert_allclose(value, BY_HAND[name][1], rtol=1e-5, atol=1e-12)


def test_snntorch_differs():
    for ours, theirs in (
        ("negative", "mse_membrane_negative"),
        ("last_step", "mse_temporal"),
        ("two", "mse_temporal_two"),
    ):
        assert abs(FIXTURE[f"{theirs}_value"] / BY_HAND[ours][1] - 1) > 0.01
    assert np.all(FIXTURE["weighted_squares_raise"])


def test_rates_within_the_range_are_left_alone():
    slopes = jax.grad(BY_HAND["range"][0][0])(SPIKES, LABELS)
    assert 0 < np.sum(OUTSIDE == 0) < C
    np.testing.assert_array_equal(slopes[0, 0] != 0, OUTSIDE != 0)


def test_target_counts_are_rounded_down():
    # 100 x 0.29 is slightly less than 29.
    ours = losses.mse_count(np.zeros((100, 1, 1)), np.array([0]), correct_rate=0.29)
    np.testing.assert_allclose(ours, 28**2 / 100)


def test_sum_populations():
    np.testing.assert_array_equal(
        losses.sum_populations(jnp.asarray(SPIKES), 3), SPIKES[..., ::2] + SPIKES[..., 1::2]
    )


# ------------------------------------------------------------------ the steps of spikes


@pytest.mark.parametrize("count", [1, 3])
def test_steps_and_their_derivative(count):
    x = jnp.asarray(SPIKES, float)
    read = losses.first_spike_steps if count == 1 else partial(losses.spike_steps, count=count)
    steps, pull = jax.vjp(read, x)
    expected = first_spikes(SPIKES, count)
    np.testing.assert_array_equal(steps.reshape(expected.shape), expected)
    silent = SPIKES.sum(0) == 0
    assert silent.any() and np.all(expected[:, silent] == T - 1)

    g = np.random.default_rng(0).normal(size=steps.shape)
    by_hand = np.zeros(x.shape)
    for k, b, c in np.ndindex(expected.shape):
        by_hand[expected[k, b, c], b, c] -= g.reshape(expected.shape)[k, b, c]
    np.testing.assert_allclose(pull(jnp.asarray(g))[0], by_hand, rtol=1e-12)

    change = np.random.default_rng(1).normal(size=x.shape)
    forward = jax.jvp(read, (x,), (jnp.asarray(change),))[1]
    np.testing.assert_allclose(np.sum(forward * g), np.sum(by_hand * change), rtol=1e-12)


def test_every_spike_counts_whatever_its_size():
    graded = jnp.zeros((4, 2)).at[2, 0].set(0.25).at[1, 1].set(3.0)
    np.testing.assert_array_equal(losses.first_spike_steps(graded), [2, 1])
    np.testing.assert_array_equal(losses.first_spike_steps(graded > 0), [2, 1])


def test_accuracies():
    ours = {
        "accuracy_rate": (losses.accuracy_rate, LABELS),
        "accuracy_population": (partial(losses.accuracy_rate, num_classes=3), FEW),
        "accuracy_temporal": (losses.accuracy_temporal, LABELS),
    }
    for name, (accuracy, labels) in ours.items():
        theirs = FIXTURE[name]  # each sample separately
        assert 0 < theirs.sum() < B
        np.testing.assert_array_equal(jax.vmap(accuracy, (1, 0))(SPIKES, labels), theirs)
        np.testing.assert_allclose(accuracy(SPIKES, labels), theirs.mean(), rtol=1e-6)


# ------------------------------------------------------------------ shapes, dtypes, jit


@jax.jit
def one_by_one(arguments):
    return {name: jax.vmap(PEERS[name][0], (1, 0))(*a) for name, a in arguments.items()}


def test_the_mean_of_samples_is_that_of_the_batch():
    each = one_by_one({name: PEERS[name][1:] for name in PER_SAMPLE})
    for name, values in each.items():
        np.testing.assert_allclose(np.mean(values), of_all()[name][0], rtol=1e-6, err_msg=name)


def test_bfloat16():
    # Spikes are exact in low precision, and computations use float32.
    exact, rounded = of_all(), of_all(lambda x: jnp.asarray(x, jnp.bfloat16))
    for name, (value, grad) in rounded.items():
        assert value.dtype == jnp.float32 and grad.dtype == jnp.bfloat16
        if PEERS[name][1] is SPIKES:
            np.testing.assert_allclose(value, exact[name][0], rtol=1e-6)
            expected = np.asarray(exact[name][1].astype(jnp.bfloat16), np.float32)
            np.testing.assert_allclose(
                np.asarray(grad, np.float32), expected, rtol=2**-7, err_msg=name
            )


def test_many_steps_in_bfloat16():
    # Where bfloat16 cannot represent the count: 256 + 1 = 256.
    x = jnp.ones((601, 1), jnp.bfloat16).at[:599].set(0)
    assert losses.first_spike_steps(x)[0] == 599
    np.testing.assert_allclose(losses.mse_count(1 - x, 0), 4 / 601, rtol=1e-6)


def test_large_membranes():
    x = jnp.asarray(MEMBRANES) * 1e30
    for loss in (losses.ce_max_membrane, losses.ce_membrane, losses.ce_rate):
        value, grad = jax.value_and_grad(loss)(x, LABELS)
        assert np.isfinite(value) and np.all(np.isfinite(grad))


def test_an_invalid_label_gives_nan_under_jit():
    names = ["ce_rate", "ce_count_weight", "mse_count", "ce_max_membrane", "mse_membrane"]
    names += ["ce_membrane", "mse_temporal", "ce_temporal"]
    for bad in (-1, C):
        y = LABELS.copy()
        y[3] = bad
        each = one_by_one({name: (PEERS[name][1], y) for name in names})
        for name, values in each.items():
            np.testing.assert_array_equal(np.isnan(values), np.arange(B) == 3, err_msg=name)


def test_small_integers_as_labels():
    many = jnp.zeros((3, B, 300))
    y = np.array([0, 255, 2, 7, 8], np.uint8)
    np.testing.assert_allclose(losses.ce_count(many, y), np.log(300))


# ------------------------------------------------------------------ what is refused

WITH_LABELS = [losses.ce_rate, losses.ce_count, losses.mse_count, losses.ce_max_membrane]
WITH_LABELS += [losses.ce_membrane, losses.mse_membrane, losses.mse_temporal]
WITH_LABELS += [losses.ce_temporal, losses.accuracy_rate, losses.accuracy_temporal]
WEIGHTED = WITH_LABELS[:-2]


def refuses(argument, expected, got):
    argument, expected, got = (re.escape(str(x)) for x in (argument, expected, got))
    return pytest.raises(ValueError, match=f"{argument}.*{expected}.*got.*{got}")


@pytest.mark.parametrize("loss", WITH_LABELS)
def test_labels_refused(loss):
    with refuses("must", f"({B},)", (B - 1,)):
        loss(SPIKES, LABELS[:-1])
    for bad in (C, -1):
        with refuses("must lie in", f"0 ... {C - 1}", bad):
            loss(SPIKES, np.where(np.arange(B) == 2, bad, LABELS))
    if loss is not losses.mse_membrane:  # there these arguments are membrane potentials
        with refuses("must be integers", f"({B},)", "float64"):
            loss(SPIKES, LABELS.astype(float))
    with refuses("spikes" if "membrane" not in loss.__name__ else "membranes", "time", (C,)):
        loss(SPIKES[0, 0], 1)
    with refuses("must have shape", "time", (0, B, C)):
        loss(SPIKES[:0], LABELS)


@pytest.mark.parametrize("loss", WEIGHTED)
def test_weights_refused(loss):
    for bad in (WEIGHT[:-1], WEIGHT[:, None], 2.0):
        with refuses("weight", f"({C},)", np.shape(bad)):
            loss(SPIKES, LABELS, weight=bad)


def test_weights_without_labels_refused():
    with refuses("weight", "None unless targets are labels", "1"):
        losses.mse_membrane(MEMBRANES, MEMBRANES, weight=WEIGHT)
    with refuses("weight", "None unless targets are labels", "1"):
        losses.mse_temporal(SPIKES, FIXTURE["steps"], weight=WEIGHT)


@pytest.mark.parametrize("bad", [4, 0, -3, 1.5])
def test_populations_refused(bad):
    for loss in (losses.ce_count, losses.mse_count, losses.accuracy_rate):
        with refuses("num_classes", f"divides the {C} outputs", bad):
            loss(SPIKES, FEW, num_classes=bad)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, "half"])
def test_rates_refused(bad):
    with refuses("correct_rate", "[0, 1]", bad):
        losses.mse_count(SPIKES, LABELS, correct_rate=bad)
    with refuses("incorrect_rate", "[0, 1]", bad):
        losses.mse_count(SPIKES, LABELS, incorrect_rate=bad)
    if isinstance(bad, float):
        with refuses("rate", "[0, 1]", bad):
            losses.target_rate(SPIKES, bad)
        with refuses("upper", "[0, 1]", bad):
            losses.rate_range(SPIKES, upper=bad)


def test_rates_of_a_wrong_shape_refused():
    with refuses("rate", f"({C},)", (C + 1,)):
        losses.target_rate(SPIKES, np.full(C + 1, 0.1))
    with refuses("lower", f"({C},)", (1,)):
        losses.rate_range(SPIKES, lower=np.full(1, 0.1))


def test_targets_refused():
    with refuses("targets", f"{MEMBRANES.shape}", (T, B, 1)):
        losses.mse_membrane(MEMBRANES, MEMBRANES[..., :1])
    with refuses("targets", f"({B},)", (B, 1)):
        losses.mse_temporal(SPIKES, FIXTURE["steps"][:, :1])
    with refuses("on_target and off_target", "sequences of the same length", "(1, 4) and 6"):
        losses.mse_temporal(SPIKES, LABELS, on_target=(1, 4), off_target=6)
    with refuses("tolerance", ">= 0", -1):
        losses.mse_temporal(SPIKES, LABELS, tolerance=-1)
    unknown: Any = "invert"
    with refuses("inverse", '"negate" or "reciprocal"', "'invert'"):
        losses.ce_temporal(SPIKES, LABELS, inverse=unknown)


@pytest.mark.parametrize("bad", [0, -1, T + 1, 1.5])
def test_counts_refused(bad):
    with refuses("count", f"1 ... {T}", bad):
        losses.spike_steps(SPIKES, bad)


# ------------------------------------------------------------------ NaN


def test_nan_is_neither_a_spike_nor_none():
    """One NaN in sample 1: its spike steps are NaN there only, temporal losses are NaN, and its
    prediction is wrong, also under jit."""
    spikes, labels = np.zeros((4, 3, 2)), np.array([1, 1, 0])
    spikes[1, :, 1] = 1.0  # all samples answer class 1, in step 1; class 0 is silent
    assert losses.accuracy_rate(spikes, labels) == losses.accuracy_temporal(spikes, labels) == 2 / 3
    spikes[3, 1, 0] = np.nan
    steps = jax.jit(losses.first_spike_steps)(spikes)
    np.testing.assert_array_equal(steps, [[3, 1], [np.nan, 1], [3, 1]])
    for loss in (losses.ce_temporal, losses.mse_temporal):
        value, grad = jax.jit(jax.value_and_grad(loss))(spikes, labels)
        assert np.isnan(value) and np.any(np.isnan(grad[:, 1])), loss.__name__
    for accuracy in (losses.accuracy_rate, losses.accuracy_temporal):
        np.testing.assert_allclose(jax.jit(accuracy)(spikes, labels), 1 / 3)
        assert jax.jit(accuracy)(np.full((4, 3, 2), np.nan), labels) == 0
