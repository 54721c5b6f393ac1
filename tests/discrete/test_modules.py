"""Cells with weights against snnTorch: outputs, states and gradients.

`fixtures/modules.npz` holds the results of snnTorch; with torch 2.13.0, snnTorch 1.0.0 and NumPy
installed, `python tests/fixtures/make_modules.py` regenerates it.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete
from helpers.recorded import recorded
from helpers.registry import N, linear, modules


def template(kind, *sizes, **options):
    """Equinox layer with the shapes of its weights, without random initialisation."""
    return eqx.filter_eval_shape(lambda key: kind(*sizes, **options, key=key), jax.random.key(0))


def with_weights(layer, **weights):
    """Put the given weights into a layer."""
    shaped = [weights[name].reshape(getattr(layer, name).shape) for name in weights]
    return eqx.tree_at(lambda to: [getattr(to, name) for name in weights], layer, shaped)


def factors(x):
    return jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)


def lstm_of(p, n):
    """LSTM cell with the weights of torch, where the bias is a sum of two."""
    weights = {"weight_ih": p["weight_ih"], "weight_hh": p["weight_hh"]}
    bias = p["bias_ih"] + p["bias_hh"]
    return with_weights(template(eqx.nn.LSTMCell, n, n), **weights, bias=bias)


def slstm(p, reset):
    return discrete.SLSTM(lstm_of(p, 4), threshold=0.15, reset=reset)


def sconv2dlstm(p, reset, pool=None):
    pools = {"max_pool": eqx.nn.MaxPool2d, "avg_pool": eqx.nn.AvgPool2d}
    options = {"pool": pools[pool](2, stride=2)} if pool else {}
    conv = template(eqx.nn.Conv2d, 5, 12, 3, padding=1)
    conv = with_weights(conv, weight=p["weight"], bias=p["bias"])
    return discrete.SConv2dLSTM(conv, threshold=0.1, reset=reset, **options)


def linear_of(weight, bias=None):
    """Linear layer with given weights."""
    n_out, n_in = weight.shape
    layer = template(eqx.nn.Linear, n_in, n_out, use_bias=bias is not None)
    given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return with_weights(layer, **given)


def leakyparallel(p, bias):
    both = p["rnn_bias_ih_l0"] + p["rnn_bias_hh_l0"] if bias == "bias" else None
    cell = discrete.LeakyParallel(0.8, threshold=0.6, graded=1.5)
    return discrete.Sequential([linear_of(p["rnn_weight_ih_l0"], both), cell])


def deltaleaky(p, _):
    return discrete.DeltaLeaky(0.7, threshold=0.9)


def stateleaky(p, _):
    """The decay of StateLeaky is not its argument beta, but exp(beta - 1) = exp(-1 / tau)."""
    return discrete.Leaky(jnp.exp(-1 / p["tau"]), threshold=0.8, reset="none")


def linearleaky(p, _):
    cell = discrete.Leaky(np.exp(0.8 - 1), threshold=0.5, reset="none")
    return discrete.Sequential([linear_of(p["weight"], p["bias"]), cell])


def associativeleaky(p, readout):
    names = ("to_v", "to_k", "to_alpha", "to_q")[: 4 if readout == "readout" else 3]
    layers = {name: linear_of(p[f"{name}_weight"], p[f"{name}_bias"]) for name in names}
    return discrete.AssociativeLeaky(**layers)


BUILD = {
    "SLSTM": slstm,
    "SConv2dLSTM": sconv2dlstm,
    "LeakyParallel": leakyparallel,
    "DeltaLeaky": deltaleaky,
    "StateLeaky": stateleaky,
    "LinearLeaky": linearleaky,
    "AssociativeLeaky": associativeleaky,
}


def loop(model, xs):
    """Outputs and states of all steps, with a loop of its own."""

    def step(state, x):
        spk, state = jax.vmap(model)(x, state)
        last = state[-1] if isinstance(model, discrete.Sequential) else state
        return state, {"spikes": spk, **last._asdict()}

    return jax.lax.scan(step, jax.vmap(model.init_state)(xs[0]), xs)[1]


def parallel(model, xs):
    """The same with an associative scan. Cells with several states have none."""
    out = discrete.run_batch(model, xs, parallel=True)
    return {"spikes": out.spikes, "mem": out.membranes}


@pytest.mark.parametrize("kind", BUILD)
def test_a_cell_with_weights(kind):
    cases = {}
    for name, value in recorded("modules.npz", f"{kind}-").items():
        case, what = name.split("/")
        cases.setdefault(case, {})[what] = value.astype(np.float64)
    ways = (loop,) if "LSTM" in kind else (loop, parallel)

    def value(given, case, way):
        out = way(BUILD[kind](given, *case.split("-")), given["x"])
        out = {name: x for name, x in out.items() if name in cases[case]}
        return sum(jnp.sum(factors(x) * x) for x in out.values()), out

    @jax.jit
    def solve(inputs):
        return {
            (case, way): jax.grad(partial(value, case=case, way=ways[way]), has_aux=True)(given)
            for case, given in inputs.items()
            for way in range(len(ways))
        }

    differentiated = {
        case: {name: x for name, x in arrays.items() if f"grad_{name}" in arrays}
        for case, arrays in cases.items()
    }
    # snnTorch adds 1e-8 to the product of the decays of AssociativeLeaky.
    close = {"rtol": 1e-6, "atol": 5e-5 if kind == "AssociativeLeaky" else 1e-6}
    for (case, _), (gradients, out) in solve(differentiated).items():
        for name, ours in out.items():
            np.testing.assert_allclose(ours, cases[case][name], **close, err_msg=case + name)
        for name, ours in gradients.items():
            theirs = cases[case][f"grad_{name}"]
            np.testing.assert_allclose(ours, theirs, **close, err_msg=f"{case}: d{name}")


# ------------------------------------------------------------------ all modules in a row


def test_modules_in_a_stack():
    """Runs in chunks are one run; no output depends on later inputs or on other samples."""
    model, rng = modules(np.random.default_rng(0)), np.random.default_rng(1)
    cells = [k for k, x in enumerate(model.layers) if isinstance(x, discrete.AbstractCell)]
    xs = jnp.asarray(rng.normal(size=(8, 3, N)))

    def run(xs, state=None):
        out = discrete.run_batch(model, xs, layers=cells, state=state)
        return [x.reshape(*x.shape[:2], -1) for x in out.spikes], out.state

    whole, state = run(xs)
    assert all(0.05 < jnp.mean(x > 0) < 0.95 for x in whole)
    first, between = run(xs[:4])
    second, after = run(xs[4:], between)
    parts = [np.concatenate(both) for both in zip(first, second, strict=True)]
    jax.tree.map(np.testing.assert_array_equal, (parts, after), (whole, state))
    other, _ = run(xs.at[5:].set(-1.0).at[:, 1].set(1.0))
    for a, b in zip(other, whole, strict=True):
        np.testing.assert_array_equal(a[:5, ::2], b[:5, ::2])


# ------------------------------------------------------------------ spiking LSTM


def lstm_by_hand(x, w, u, b, threshold):
    """Spikes of an LSTM with a reset by subtraction, in NumPy."""

    def sigma(x):
        return 1 / (1 + np.exp(-x))

    h = c = np.zeros(u.shape[1])
    spikes = []
    for now in x:
        i, f, g, o = np.split(w @ now + u @ h + b, 4)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(c) - threshold * (h > threshold)
        spikes.append(h > threshold)
    return np.stack(spikes), h


def test_a_spiking_lstm_has_memory_for_any_number_of_inputs():
    """In snnTorch the state is lost unless there are as many inputs as neurons."""
    rng = np.random.default_rng(0)
    weights = {"weight_ih": (12, 2), "weight_hh": (12, 3), "bias": (12,)}
    weights = {name: rng.normal(size=shape) for name, shape in weights.items()}
    lstm = with_weights(template(eqx.nn.LSTMCell, 2, 3), **weights)
    x = rng.normal(size=(9, 2))
    out = discrete.run(discrete.SLSTM(lstm, threshold=0.1, reset="subtract"), x)
    spikes, mem = lstm_by_hand(x, *weights.values(), 0.1)
    np.testing.assert_array_equal(out.spikes, spikes)
    np.testing.assert_allclose(out.membranes[-1], mem, rtol=1e-12)
    single = discrete.run(discrete.SLSTM(lstm, threshold=0.1), x.astype(np.float32))
    assert single.membranes.dtype == np.float32  # that of the input, not of the weights


def test_inhibition_and_training_of_a_spiking_lstm():
    lstm = eqx.nn.LSTMCell(2, 5, key=jax.random.key(0))
    cell = discrete.SLSTM(lstm, threshold=0.01, inhibition=True)
    spikes = discrete.run(cell, np.random.default_rng(0).normal(size=(9, 2))).spikes
    assert set(np.asarray(spikes).sum(1)) == {0, 1}
    selected = discrete.trainable(cell)
    assert selected.lstm.weight_ih and selected.lstm.bias and not selected.threshold


def test_weights_and_inputs_that_do_not_fit_are_refused():
    lstm = discrete.SLSTM(template(eqx.nn.LSTMCell, 2, 3))
    with pytest.raises(ValueError, match=r"^inputs must have shape \(2,\) .* got shape \(3,\)"):
        jax.eval_shape(lambda: discrete.run(lstm, jnp.ones((4, 3))))
    conv = discrete.SConv2dLSTM(template(eqx.nn.Conv2d, 3, 4, 3))
    expected = r"^inputs must have shape \(2, height, width\) .* got shape \(2, 5\)"
    with pytest.raises(ValueError, match=expected):
        jax.eval_shape(lambda: discrete.run(conv, jnp.ones((4, 2, 5))))
    with pytest.raises(ValueError, match=r"^conv must keep height and width.* got \(4, 4\) from"):
        eqx.filter_eval_shape(discrete.run, conv, jnp.ones((4, 2, 6, 6)))
    for sizes in ((2, 6), (2, 8)):
        with pytest.raises(ValueError, match=r"^conv must be .* got 2 to [68] channels"):
            discrete.SConv2dLSTM(template(eqx.nn.Conv2d, *sizes, 3))


# ------------------------------------------------------------------ cells without reset


def test_an_associative_memory_remembers_for_many_steps():
    """In snnTorch the potentials vanish once the product of the decays is below 1e-8."""
    rng = np.random.default_rng(0)
    layers = [linear(2, n, rng) for n in (2, 3, 3, 6)]
    cell, xs = discrete.AssociativeLeaky(*layers), rng.normal(size=(60, 2))
    v, k, a, q = (xs @ np.asarray(to.weight).T + np.asarray(to.bias) for to in layers)
    decays, memory = 1 / (1 + np.exp(-a)), np.zeros((2, 3))
    assert np.all(np.prod(decays, 0) < 1e-8)
    for t in range(60):
        memory = memory * decays[t] + np.outer(v[t], k[t])
    last = ((memory > 1) @ q[-1].reshape(3, 2)).ravel()
    for parallel in (False, True):
        out = discrete.run(cell, xs, parallel=parallel)
        np.testing.assert_allclose(out.membranes[-1], memory, rtol=1e-12)
        np.testing.assert_allclose(out.spikes[-1], last, rtol=1e-12)


def test_a_potential_that_is_not_a_number_is_not_silent():
    xs = jnp.ones((6, 2)).at[2, 0].set(jnp.nan)
    for cell in (discrete.LeakyParallel(0.5), discrete.DeltaLeaky(0.5)):
        for parallel in (False, True):
            spikes = discrete.run(cell, xs, parallel=parallel).spikes
            np.testing.assert_array_equal(jnp.isnan(spikes[:, 0]), np.arange(6) >= 2)
            assert np.all(np.isfinite(spikes[:, 1]))
