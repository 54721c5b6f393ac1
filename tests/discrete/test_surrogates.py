"""Surrogates against snnTorch 1.0.0: values in `fixtures/functional.npz`.

`fixtures/make_functional.py` generates the file in an environment with snnTorch.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete
from eventsnn import surrogates as sg
from helpers.recorded import recorded

FIXTURE = recorded("functional.npz", "surrogate_")
X = FIXTURE["x"]

PEERS = {
    "atan": sg.ATan(),
    "atan_3": sg.ATan(3.0),
    "fast_sigmoid": sg.FastSigmoid(),
    "fast_sigmoid_4": sg.FastSigmoid(4.0),
    "sigmoid": sg.Sigmoid(),
    "sigmoid_4": sg.Sigmoid(jnp.asarray(4.0)),
    "straight_through": sg.StraightThrough(),
    "heaviside": sg.Heaviside(),
    "spike_rate_escape": sg.SpikeRateEscape(),
    "spike_rate_escape_2_3": sg.SpikeRateEscape(2.0, 3),
    "sfs": sg.SparseFastSigmoid(),
    "sfs_4": sg.SparseFastSigmoid(4.0, -0.5),
    "custom": sg.Custom(lambda x: x**2 + (x > 0).astype(x.dtype)),
    "triangular": sg.Custom(lambda x: jnp.where(x < 0, 1.0, -1.0).astype(x.dtype)),
    "triangular_2": sg.Custom(lambda x: jnp.where(x < 0, 2.0, -2.0).astype(x.dtype)),
}
ALL: dict[str, sg.AbstractSurrogate] = {
    **{type(s).__name__: s for s in PEERS.values()},
    "Custom": sg.Custom(lambda x: jnp.exp(-jnp.abs(x))),
    "Triangular": sg.Triangular(0.5, 2.0),
    "LeakySpike": sg.LeakySpike(),
    "StochasticSpike": sg.StochasticSpike(),
}
KEY = jax.random.key(7)
EXTREMES = np.array([0.0, 1e-30, 1.0, 10.0, 88.0, 1e4, 1e19, 1e30, 3e38, np.inf])
EXTREMES = np.stack([EXTREMES, -EXTREMES], axis=1).ravel()


@eqx.filter_jit
def spikes_and_slopes(surrogate, x, key=None):
    spikes, pull = jax.vjp(lambda x: surrogate(x, key=key), x)
    return spikes, pull(jnp.ones_like(x))[0]


# Every surrogate in one compilation per dtype.
of_peers = jax.jit(lambda x: {name: spikes_and_slopes(s, x) for name, s in PEERS.items()})
of_all = jax.jit(lambda x: {name: spikes_and_slopes(s, x, KEY) for name, s in ALL.items()})


def test_all_are_tested():
    module = discrete.surrogates
    here = {k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__}
    here = {k for k in here if not k.startswith("_")}
    assert {k: getattr(sg, k) for k in here} == {k: getattr(module, k) for k in here}
    assert here - {"AbstractSurrogate"} == set(ALL)


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("name", PEERS)
def test_the_same_as_snntorch(name):
    spikes, slopes = of_peers(X)[name]
    assert spikes.dtype == slopes.dtype == jnp.float32
    np.testing.assert_array_equal(spikes, FIXTURE[f"{name}_spikes"])
    theirs = FIXTURE[f"{name}_grad"]
    finite = np.isfinite(theirs)
    assert finite.all() or name == "sigmoid"
    np.testing.assert_allclose(slopes[finite], theirs[finite], rtol=1e-5, atol=1e-9)


def test_surrogates_that_are_wrong_in_snntorch():
    x = X.astype(float)
    overflow = x < -np.log(np.finfo(np.float32).max) / 25
    assert overflow.any() and np.isnan(FIXTURE["sigmoid_grad"][overflow]).all()
    np.testing.assert_allclose(spikes_and_slopes(sg.Sigmoid(), jnp.asarray(X))[1][overflow], 0)
    assert FIXTURE["lso_raises"]
    # The slope is negative above the threshold, so this is not a triangle.
    assert np.all(FIXTURE["triangular_grad"][X > 0] == -1)


def test_triangle():
    slopes = spikes_and_slopes(sg.Triangular(), jnp.asarray(X))[1]
    np.testing.assert_allclose(slopes, np.clip(1 - np.abs(X), 0, None), atol=1e-7)
    x = jnp.linspace(-1.0, 1.0, 20_001)
    slopes = spikes_and_slopes(sg.Triangular(0.4, 2.5), x)[1]
    np.testing.assert_allclose(np.trapezoid(slopes, x), 1.0, rtol=1e-6)
    np.testing.assert_allclose(slopes[10_000 + 2_000], 2.5 * 0.5, rtol=1e-9)


def test_leaky_spike():
    slopes = spikes_and_slopes(sg.LeakySpike(0.3), jnp.asarray(X))[1]
    np.testing.assert_allclose(slopes, np.where(X > 0, 1, 0.3), rtol=1e-6)


def test_stochastic_spike():
    x = jnp.where(jnp.arange(40_000) % 4 == 0, 0.5, -0.5).at[1].set(0.0)
    surrogate = sg.StochasticSpike(mean=0.25, variance=0.4)
    spikes, slopes = spikes_and_slopes(surrogate, x, KEY)
    np.testing.assert_array_equal(spikes, x > 0)
    assert np.all(slopes[x > 0] == 1)
    noise = np.sort(slopes[x <= 0])
    # Uniform in (-0.25, 0.75) x 0.4; Kolmogorov-Smirnov test at the level 1e-6.
    expected = (np.arange(noise.size) + 0.5) / noise.size
    assert np.max(np.abs(noise / 0.4 + 0.25 - expected)) < 2.7 / np.sqrt(noise.size)
    assert noise[0] >= -0.1 and noise[-1] < 0.3
    again, other = (spikes_and_slopes(surrogate, x, k)[1] for k in (KEY, jax.random.key(8)))
    np.testing.assert_array_equal(slopes, again)
    assert not np.any(np.asarray(slopes == other)[x <= 0])


# ------------------------------------------------------------------ stability and precision


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_finite_at_any_magnitude(name, dtype):
    x = jnp.asarray(EXTREMES, dtype)
    spikes, slopes = of_all(x)[name]
    assert spikes.dtype == slopes.dtype == dtype
    np.testing.assert_array_equal(spikes, x > 0)
    slopes = np.asarray(slopes, float)
    assert np.all(np.isfinite(slopes))
    if name in ("ATan", "FastSigmoid", "Sigmoid", "Triangular", "SpikeRateEscape", "Custom"):
        assert np.all(slopes >= 0) and slopes[-2] == slopes[-1] == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_nan_stays_nan_and_the_threshold_itself_is_silent(name, dtype):
    x = jnp.asarray(EXTREMES, dtype).at[5].set(jnp.nan)
    tiny = float(jnp.finfo(dtype).tiny)
    x = x.at[:4].set(jnp.array([0.0, -0.0, tiny, -tiny], dtype))
    spikes = np.asarray(of_all(x)[name][0], float)
    np.testing.assert_array_equal(spikes[:4], [0, 0, 1, 0])
    assert np.isnan(spikes[5])
    assert np.all(np.isfinite(np.delete(spikes, 5)))


@pytest.mark.parametrize("name", sorted(set(ALL) - {"StochasticSpike"}))
def test_bfloat16_is_float32_rounded(name):
    x = jnp.asarray(X, jnp.bfloat16)
    rounded, exact = (of_all(x)[name][1] for x in (x, x.astype(jnp.float32)))
    # An exponent of up to 10 has a relative error of 2^-9; beyond, e^-10 is negligible.
    np.testing.assert_allclose(np.asarray(rounded, np.float32), exact, rtol=0.03, atol=2e-3)


# ------------------------------------------------------------------ transformations


def each_way(surrogate, x, keys):
    """Spikes, derivatives in both modes, and the surrogate derivative itself, under vmap."""

    def fire(x, key):
        return surrogate(x, key=key)

    spikes, forward = jax.jvp(lambda x: jax.vmap(fire)(x, keys), (x,), (2 * x,))
    reverse = jax.vmap(jax.grad(lambda x, key: jnp.sum(fire(x, key))))(x, keys)
    slopes = jax.vmap(lambda x, key: surrogate.derivative(x, key=key))(x, keys)
    return spikes, forward, reverse, slopes


all_each_way = jax.jit(lambda x, keys: {name: each_way(s, x, keys) for name, s in ALL.items()})


@pytest.mark.parametrize("name", ALL)
def test_forward_mode_reverse_mode_and_vmap(name):
    x = jnp.asarray(X[:80].reshape(4, 20), float)
    spikes, forward, reverse, slopes = all_each_way(x, jax.random.split(KEY, 4))[name]
    assert np.any(slopes != 0)
    np.testing.assert_array_equal(spikes, x > 0)
    np.testing.assert_allclose(forward, 2 * x * slopes, rtol=1e-12)
    np.testing.assert_allclose(reverse, slopes, rtol=1e-12)


def test_parameters_get_no_gradient():
    surrogate = sg.ATan(jnp.asarray(2.0))
    grads = jax.grad(lambda s: jnp.sum(s(jnp.asarray([0.1, -0.3]))))(surrogate)
    assert grads.alpha == 0
    assert jax.tree.leaves(eqx.filter(sg.ATan(), eqx.is_inexact_array)) == []  # a plain number


def test_second_derivatives_are_those_of_the_replacement():
    x = jnp.asarray(0.2)
    second = jax.grad(jax.grad(sg.ATan()))(x)
    np.testing.assert_allclose(second, -2 * np.pi**2 * x / (1 + (np.pi * x) ** 2) ** 2)


def test_parameters_may_differ_between_neurons():
    x = jnp.asarray(X[:80].reshape(20, 4))
    slopes = spikes_and_slopes(sg.FastSigmoid(np.array([1.0, 2.0, 5.0, 25.0])), x)[1]
    for k, slope in enumerate((1.0, 2.0, 5.0, 25.0)):
        alone = spikes_and_slopes(sg.FastSigmoid(slope), x[:, k])[1]
        np.testing.assert_allclose(slopes[:, k], alone, rtol=1e-6)


def test_a_custom_surrogate_may_be_constant():
    slopes = jax.grad(lambda x: jnp.sum(sg.Custom(lambda x: 0.5)(x)))(jnp.ones(3, jnp.bfloat16))
    assert slopes.dtype == jnp.bfloat16 and np.all(slopes == 0.5)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_parameters_refused(bad):
    for kind, name in (
        (sg.ATan, "alpha"),
        (sg.FastSigmoid, "slope"),
        (sg.Sigmoid, "slope"),
        (sg.Triangular, "width"),
        (sg.Triangular, "height"),
        (sg.SpikeRateEscape, "beta"),
        (sg.SpikeRateEscape, "slope"),
        (sg.SparseFastSigmoid, "slope"),
    ):
        for value in (bad, jnp.asarray([1.0, bad])):
            with pytest.raises(ValueError, match=f"{name} must be finite and > 0, got .*{bad:g}"):
                kind(**{name: value})


def test_variance_refused():
    with pytest.raises(ValueError, match=r"variance must be finite and >= 0, got -0\.1"):
        sg.StochasticSpike(variance=-0.1)


def test_missing_key_refused():
    with pytest.raises(ValueError, match=r"key must be a jax\.random key.*got None"):
        sg.StochasticSpike()(jnp.ones(2))


def test_functions_refused():
    number: Any = 2.0
    with pytest.raises(ValueError, match=r"function must be a callable.*got 2\.0"):
        sg.Custom(number)
    with pytest.raises(ValueError, match=r"derivative must have the shape \(3,\).*got \(2, 3\)"):
        sg.Custom(lambda x: jnp.ones((2, 3)))(jnp.ones(3))


def test_integers_refused():
    with pytest.raises(ValueError, match="x must be floating-point, got int64"):
        sg.ATan()(jnp.arange(3))
