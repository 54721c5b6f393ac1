"""Losses of the event mode: definitions, finite differences, and invalid arguments."""

import itertools
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import losses

B, C, T = 6, 3, 40
RNG = np.random.default_rng(11)
TIMES = RNG.uniform(5, 25, (B, C))
SOME_SILENT = np.where(
    [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 1]], TIMES, np.inf
)
LABELS = np.array([0, 2, 1, 2, 1, 0], np.int32)
CONSTANTS = {"tau0": 1.5, "tau1": 6.4, "alpha": 3e-3, "t_max": 30.0}
WHEN = np.sort(RNG.uniform(0, 30, T))
POTENTIALS = RNG.normal(size=(B, C, T)).cumsum(axis=-1) / 3
TAU = 4.0

ttfs = partial(losses.ce_ttfs, **CONSTANTS)
both = jax.jit(jax.value_and_grad(ttfs))


def numerical(f, x, step=1e-6):
    """Central differences of a scalar with respect to the finite entries."""
    out = np.zeros(x.shape)
    for i in zip(*np.nonzero(np.isfinite(x)), strict=True):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        out[i] = (f(up) - f(down)) / (2 * step)
    return out


def refuses(argument, expected, got):
    argument, expected, got = (re.escape(str(x)) for x in (argument, expected, got))
    return pytest.raises(ValueError, match=f"{argument}.*{expected}.*got.*{got}")


# ------------------------------------------------------------------ time to first spike


def by_hand(times, labels, *, tau0, tau1, alpha, t_max):
    """The equation as published, evaluated per sample."""
    each = []
    for t, label in zip(np.minimum(times, t_max), labels, strict=True):
        p = np.exp(-t / tau0)
        late = alpha * (np.exp(t[label] / tau1) - 1)
        each.append(-np.log(p[label] / p.sum()) + late)
    return np.mean(each)


RIGHT_IS_SILENT = np.isinf(SOME_SILENT[np.arange(B), LABELS])


@pytest.mark.parametrize("times", [TIMES, SOME_SILENT])
def test_ce_ttfs_is_its_equation(times):
    value, grad = both(times, LABELS)
    np.testing.assert_allclose(value, by_hand(times, LABELS, **CONSTANTS), rtol=1e-12)
    expected = numerical(lambda t: by_hand(t, LABELS, **CONSTANTS), times)
    expected[np.isinf(times[np.arange(B), LABELS])] = 0
    np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)


def test_a_silent_output_counts_as_late_and_has_no_gradient():
    value, grad = both(SOME_SILENT, LABELS)
    # Spikes beyond the limit count as silence.
    beyond = np.where(np.isinf(SOME_SILENT), 77.0, SOME_SILENT)
    for found, expected in zip(both(beyond, LABELS), (value, grad), strict=True):
        np.testing.assert_array_equal(found, expected)
    # A spike at the limit: the value is the same as for silence, the gradient is not.
    at_the_end = np.where(np.isinf(SOME_SILENT), CONSTANTS["t_max"], SOME_SILENT)
    latest, slopes = both(at_the_end, LABELS)
    np.testing.assert_array_equal(latest, value)
    before = both(np.minimum(at_the_end, CONSTANTS["t_max"] - 1e-9), LABELS)[1]
    np.testing.assert_allclose(slopes, before, rtol=1e-6)
    assert np.all(slopes != 0)
    # If the correct output is silent, the loss does not push the other outputs towards silence.
    moved = np.isfinite(SOME_SILENT) & ~RIGHT_IS_SILENT[:, None]
    np.testing.assert_array_equal(grad != 0, moved)
    np.testing.assert_array_equal(grad[moved], slopes[moved])
    assert np.isfinite(SOME_SILENT[RIGHT_IS_SILENT]).any()


def test_without_a_penalty_for_late_spikes():
    found = losses.ce_ttfs(TIMES, LABELS, tau0=1.5, t_max=30.0)
    expected = by_hand(TIMES, LABELS, **(CONSTANTS | {"alpha": 0}))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_any_magnitude():
    far = np.array([[1e4, 3e4, np.inf], [2e4, 0.0, 1e-9]], np.float32)
    loss = jax.value_and_grad(partial(losses.ce_ttfs, tau0=1e-3, t_max=1e5))
    value, grad = loss(far, np.array([1, 0]))
    np.testing.assert_allclose(value, 1e7 * (2 + 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(grad[0], [-500, 500, 0])
    np.testing.assert_allclose(grad[1].sum(), 0, atol=1e-4)


def test_dtypes_axes_and_samples():
    exact = float(ttfs(TIMES, LABELS))
    for dtype, rtol in ((jnp.float32, 1e-6), (jnp.bfloat16, 0.05)):
        value, grad = both(jnp.asarray(TIMES, dtype), LABELS)
        assert value.dtype == jnp.float32 and grad.dtype == dtype
        np.testing.assert_allclose(value, exact, rtol=rtol)
    folded = ttfs(TIMES.reshape(2, 3, C), LABELS.reshape(2, 3).astype(np.uint8))
    np.testing.assert_allclose(folded, exact, rtol=1e-12)
    each = jax.jit(jax.vmap(ttfs))(TIMES, LABELS)
    assert each.shape == (B,)
    np.testing.assert_allclose(each.mean(), exact, rtol=1e-12)


def test_a_nan_time_or_an_invalid_label_gives_nan():
    broken = TIMES.copy()
    broken[2, 0] = np.nan
    each = jax.jit(jax.vmap(ttfs))
    np.testing.assert_array_equal(np.isnan(each(broken, LABELS)), np.arange(B) == 2)
    for bad in (-1, C):
        labels = np.where(np.arange(B) == 4, bad, LABELS)
        np.testing.assert_array_equal(np.isnan(each(TIMES, labels)), np.arange(B) == 4)


def test_accuracy_ttfs():
    times = np.array(
        [
            [1, 2, 3],  # right
            [2, np.inf, 1],  # wrong
            [np.inf, np.inf, 9],  # right
            [np.inf, np.inf, np.inf],  # all silent, although the first would be correct
            [4, 4, 5],  # a tie: the first wins, which is correct
            [4, 4, 5],  # and here it is incorrect
            [np.nan, 4, 5],
        ]
    )
    labels = np.array([0, 0, 2, 0, 0, 1, 0])
    right = jax.vmap(losses.accuracy_ttfs)(times, labels)
    np.testing.assert_array_equal(right, [1, 0, 1, 0, 1, 0, 0])
    found = jax.jit(losses.accuracy_ttfs)(jnp.asarray(times, jnp.bfloat16), labels)
    np.testing.assert_allclose(found, 3 / 7, rtol=1e-6)
    # With t_max = 4, the spike at 9 is none, and a spike exactly at the limit is one.
    limited = jax.vmap(partial(losses.accuracy_ttfs, t_max=4.0))(times, labels)
    np.testing.assert_array_equal(limited, [1, 0, 0, 0, 1, 0, 0])


def test_pseudospikes_need_their_end_as_the_limit():
    """A silent output has a gradient with the end of the pseudospikes, and none with `t_max`."""
    late = esn.Pseudospikes(duration=30.0)

    def times(w):
        weights = w * jnp.array([[1.0, 0.5]])
        layer = esn.EventLinear(esn.LIF(10.0, 5.0), weights, t_max=20.0, pseudospikes=late)
        return layer.ttfs([[1.0]])

    found, back = jax.vjp(times, jnp.asarray(0.1))
    assert (found > 20.0).all()
    targets = jnp.array([5.0, 9.0])
    for loss in (
        lambda t, end: losses.ce_ttfs(t, 0, tau0=1.0, t_max=end),
        lambda t, end: losses.mse_time(t, targets, t_max=end),
        lambda t, end: losses.mae_time(t, targets, t_max=end),
    ):
        assert back(jax.grad(loss)(found, late.end(20.0)))[0] < 0
        assert back(jax.grad(loss)(found, 20.0))[0] == 0
    assert losses.accuracy_ttfs(found, 0) == 1
    assert losses.accuracy_ttfs(found, 0, t_max=20.0) == 0


# ------------------------------------------------------------------ potentials


def softmax_loss(logits):
    p = np.exp(logits)
    return np.mean(-np.log(p[np.arange(B), LABELS] / p.sum(axis=1)))


def test_ce_max_potential():
    value, grad = jax.value_and_grad(losses.ce_max_potential)(POTENTIALS, LABELS)
    np.testing.assert_allclose(value, softmax_loss(POTENTIALS.max(axis=-1)), rtol=1e-12)
    expected = numerical(lambda v: softmax_loss(v.max(axis=-1)), POTENTIALS)
    np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-9)
    assert np.all(np.sum(grad != 0, axis=-1) == 1)


def test_ce_integrated_potential():
    def loss(potentials, times):
        return losses.ce_integrated_potential(potentials, LABELS, times=times)

    value, grads = jax.value_and_grad(loss, (0, 1))(jnp.asarray(POTENTIALS), jnp.asarray(WHEN))
    expected = lambda v, t: softmax_loss(np.trapezoid(v, t, axis=-1))  # noqa: E731
    np.testing.assert_allclose(value, expected(POTENTIALS, WHEN), rtol=1e-12)
    over_v = numerical(lambda v: expected(v, WHEN), POTENTIALS)
    over_t = numerical(lambda t: expected(POTENTIALS, t), WHEN)
    np.testing.assert_allclose(grads[0], over_v, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(grads[1], over_t, rtol=1e-5, atol=1e-8)


POTENTIAL_LOSSES = {
    "max": losses.ce_max_potential,
    "integral": partial(losses.ce_integrated_potential, times=WHEN),
}


@pytest.mark.parametrize("loss", POTENTIAL_LOSSES.values(), ids=POTENTIAL_LOSSES)
def test_potentials_of_all_kinds(loss):
    exact = float(loss(POTENTIALS, LABELS))
    each = jax.jit(jax.vmap(loss))(POTENTIALS, LABELS)
    np.testing.assert_allclose(each.mean(), exact, rtol=1e-12)
    folded = loss(POTENTIALS.reshape(2, 3, C, T), LABELS.reshape(2, 3))
    np.testing.assert_allclose(folded, exact, rtol=1e-12)
    half = jnp.asarray(POTENTIALS, jnp.bfloat16)
    value, grad = jax.value_and_grad(loss)(half, LABELS)
    assert value.dtype == jnp.float32 and grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, loss(np.asarray(half, float), LABELS), rtol=1e-5)
    value, grad = jax.value_and_grad(loss)(POTENTIALS * 1e200, LABELS)
    assert np.isfinite(value) and np.all(np.isfinite(grad))


# ------------------------------------------------------------------ trains

INF = np.inf
TRAINS_A = np.array([[3.0, 9, 10, INF], [5, INF, INF, INF], [INF, INF, INF, INF], [8, 2, 7, 30]])
TRAINS_B = np.array([[4.0, 9.5, INF], [INF, INF, INF], [INF, INF, INF], [INF, 2.5, 6]])

distance = jax.jit(partial(losses.van_rossum, tau=TAU))
distances = jax.jit(jax.vmap(distance))


def integrated(a, b, tau):
    """Integral between the spikes and far beyond, by Gauss-Legendre quadrature."""
    a, b = (np.sort(times[np.isfinite(times)]) for times in (a, b))
    events = np.unique(np.concatenate([a, b]))
    if not events.size:
        return 0.0
    borders = np.concatenate([events, events[-1] + tau * np.arange(1, 41)])
    nodes, weights = np.polynomial.legendre.leggauss(30)
    total = 0.0
    for low, high in itertools.pairwise(borders):
        t = (low + high) / 2 + nodes * (high - low) / 2
        f, g = (np.sum(np.exp(-(t - s[s <= low, None]) / tau), axis=0) for s in (a, b))
        total += np.sum(weights * (f - g) ** 2) * (high - low) / 2
    return total / tau


def test_van_rossum_is_its_integral():
    expected = [integrated(a, b, TAU) for a, b in zip(TRAINS_A, TRAINS_B, strict=True)]
    found = distances(TRAINS_A, TRAINS_B)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert found[1] == 0.5 and found[2] == 0
    np.testing.assert_allclose(distance(TRAINS_A, TRAINS_B), np.mean(expected), rtol=1e-12)
    np.testing.assert_allclose(distance(TRAINS_B, TRAINS_A), np.mean(expected), rtol=1e-12)


def test_van_rossum_of_small_and_large_constants():
    fired = np.isfinite(TRAINS_A).sum(1), np.isfinite(TRAINS_B).sum(1)
    short = jax.vmap(partial(losses.van_rossum, tau=1e-4))(TRAINS_A, TRAINS_B)
    np.testing.assert_allclose(short, (fired[0] + fired[1]) / 2, rtol=1e-12)
    long = jax.vmap(partial(losses.van_rossum, tau=1e12))(TRAINS_A, TRAINS_B)
    np.testing.assert_allclose(long, (fired[0] - fired[1]) ** 2 / 2, atol=1e-9)


def test_gradients_of_van_rossum():
    slopes = jax.jit(jax.grad(distance, (0, 1)))(TRAINS_A, TRAINS_B)
    sides = (
        numerical(lambda a: float(distance(a, TRAINS_B)), TRAINS_A),
        numerical(lambda b: float(distance(TRAINS_A, b)), TRAINS_B),
    )
    for found, expected, times in zip(slopes, sides, (TRAINS_A, TRAINS_B), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
        assert np.all(found[np.isinf(times)] == 0) and np.any(found != 0)
    alike = jax.grad(distance)(TRAINS_A, TRAINS_A)
    np.testing.assert_allclose(alike, 0, atol=1e-15)


def test_padding_and_order_make_no_difference():
    more = np.concatenate([np.full((4, 2), np.inf), TRAINS_B[:, ::-1]], axis=1)
    np.testing.assert_allclose(
        distance(TRAINS_A[:, ::-1], more), distance(TRAINS_A, TRAINS_B), rtol=1e-12
    )
    np.testing.assert_allclose(distance(TRAINS_A, TRAINS_A), 0, atol=1e-15)
    np.testing.assert_allclose(distance(TRAINS_A[1], TRAINS_B[1]), 0.5)  # no axis of trains


def test_nearly_the_same_train_in_float32():
    # 1 - exp(-d) has no correct digit at d = 1e-7 unless it is computed with expm1.
    a, b = np.zeros(1, np.float32), np.full(1, 1e-7, np.float32)
    np.testing.assert_allclose(losses.van_rossum(a, b, tau=1.0), 1e-7, rtol=1e-6)
    assert losses.van_rossum(a, jnp.asarray(b, jnp.bfloat16), tau=1.0).dtype == jnp.float32


def test_a_nan_in_a_train_gives_nan():
    broken = TRAINS_B.copy()
    broken[3, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(distances(TRAINS_A, broken)), np.arange(4) == 3)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("loss", "value", "name"),
    [
        (ttfs, TIMES, "times"),
        (losses.accuracy_ttfs, TIMES, "times"),
        (losses.ce_max_potential, POTENTIALS, "potentials"),
        (POTENTIAL_LOSSES["integral"], POTENTIALS, "potentials"),
    ],
)
def test_labels_and_shapes_refused(loss, value, name):
    with refuses("labels", f"({B},), one per sample of {name}", (B - 1,)):
        loss(value, LABELS[:-1])
    with refuses("labels must be integers", f"({B},)", "float64"):
        loss(value, LABELS.astype(float))
    for bad in (C, -1):
        with refuses("labels must lie in", f"0 ... {C - 1}", bad):
            loss(value, np.where(np.arange(B) == 2, bad, LABELS))
    with refuses(name, "(*batch, classes", ()):
        loss(np.zeros(()), LABELS)
    with refuses(name, "at least one of each", (0, *value.shape[1:])):
        loss(value[:0], LABELS[:0])


@pytest.mark.parametrize("bad", [0, -1.0, np.inf, np.nan, "long"])
def test_constants_refused(bad):
    for name in ("tau0", "tau1", "t_max"):
        with refuses(name, "a finite number > 0", bad):
            losses.ce_ttfs(TIMES, LABELS, **(CONSTANTS | {name: bad}))
    with refuses("tau", "a finite number > 0", bad):
        losses.van_rossum(TRAINS_A, TRAINS_B, tau=bad)


def test_a_penalty_without_its_constant_refused():
    with refuses("alpha", ">= 0", -0.1):
        losses.ce_ttfs(TIMES, LABELS, tau0=1.0, t_max=30.0, alpha=-0.1)
    with refuses("tau1", "alpha = 0.1", None):
        losses.ce_ttfs(TIMES, LABELS, tau0=1.0, t_max=30.0, alpha=0.1)


def test_times_of_potentials_refused():
    for bad in (WHEN[:-1], WHEN[:, None]):
        with refuses("times", f"({T},)", bad.shape):
            losses.ce_integrated_potential(POTENTIALS, LABELS, times=bad)
    with refuses("times", "at least two", (1,)):
        losses.ce_integrated_potential(POTENTIALS[..., :1], LABELS, times=WHEN[:1])
    with refuses("times", "must be strictly increasing", 3.0):
        losses.ce_integrated_potential(POTENTIALS[..., :2], LABELS, times=[4.0, 3.0])


def test_trains_that_do_not_fit_refused():
    with refuses("times_a and times_b", "of the same trains", (3, 3)):
        losses.van_rossum(TRAINS_A, TRAINS_B[:3], tau=TAU)


def test_a_spike_at_the_time_limit_has_its_gradient():
    """A spike exactly at t_max is a spike: the gradients are (2/n) (t - target)/t_max^2 and sign(t
    - target)/n. A silent output has zero gradient."""
    times, targets = jnp.array([[20.0, jnp.inf]]), jnp.array([[13.6, 13.6]])
    found = jax.grad(losses.mse_time)(times, targets, t_max=20.0)
    np.testing.assert_allclose(found, [[2 / 2 * 6.4 / 400, 0.0]], rtol=1e-14)
    found = jax.grad(losses.mae_time)(times, targets, t_max=20.0)
    np.testing.assert_allclose(found, [[1 / 2, 0.0]], rtol=1e-14)
