"""The cells of the discrete-time mode give snnTorch's numbers: spikes, states and gradients.
And over time, in batches, in other precisions, with dropout and feedback they do what they say.

`fixtures/cells.npz` holds what snnTorch computed; with torch 2.13.0, snnTorch 1.0.0 and NumPy
installed, `python tests/fixtures/make_cells.py` makes it anew.
"""

import json
import pathlib
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete, surrogates

SURROGATES = {
    "atan": surrogates.ATan,
    "fast_sigmoid": surrogates.FastSigmoid,
    "straight_through": surrogates.StraightThrough,
    "sigmoid": surrogates.Sigmoid,
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Fixtures:
    """Cases by name, with their arrays cut out of the flat vectors of the file."""

    def __init__(self):
        with np.load(pathlib.Path(__file__).parent / "fixtures" / "cells.npz") as file:
            self.file = dict(file)
        self.bits = np.unpackbits(self.file["bits"]).astype(bool)
        self.cases = {c["name"]: c for c in json.loads(self.file["cases"].tobytes())}

    def arrays(self, case):
        return {name: self._cut("floats", place) for name, place in case["arrays"].items()}

    def spikes(self, case):
        return {name: self._cut("bits", place) for name, place in case["spikes"].items()}

    def differentiated(self, case):
        """The arrays of which there are gradients, besides a cell's input."""
        arrays = self.arrays(case)
        return {n: x for n, x in arrays.items() if f"grad_{n}" in arrays}

    def functional(self, case):
        """The input, and the weights of spikes and membranes in the scalar that is derived."""
        kind = "image" if case["feedback"] == "conv" else "vector"
        x, a, b = (self.file[f"{kind}_{name}"] for name in "xab")
        return x[case["input"]], a, b

    def _cut(self, which, place):
        start, *shape = place
        flat = self.bits if which == "bits" else self.file[which]
        return flat[start : start + int(np.prod(shape))].reshape(shape)


FIXTURES = Fixtures()
NETWORKS = ("network-Leaky", "network-RLeaky")
# Where snnTorch's reset_delay=False has no effect, ours has one.
NOT_LIKE_THEM = ("RSynaptic-subtract-at_once-linear", "RSynaptic-zero-at_once-linear")
CELLS = [name for name in FIXTURES.cases if name not in NETWORKS + NOT_LIKE_THEM]


# ------------------------------------------------------------------ one cell


def layer(kind, *sizes, weight, bias):
    """An Equinox layer with given weights; nothing is drawn."""
    shapes = eqx.filter_eval_shape(kind, *sizes, key=jax.random.key(0))
    bias = bias.reshape(shapes.bias.shape)
    return eqx.tree_at(lambda to: (to.weight, to.bias), shapes, (weight, bias))


def feedback(kind, given):
    if kind == "linear":
        n = len(given["bias"])
        return layer(eqx.nn.Linear, n, n, weight=given.pop("weight"), bias=given.pop("bias"))
    if kind == "conv":
        c, _, k, _ = given["weight"].shape
        conv = lambda *sizes, key: eqx.nn.Conv2d(*sizes, padding=k // 2, key=key)  # noqa: E731
        return layer(conv, c, c, k, weight=given.pop("weight"), bias=given.pop("bias"))
    return discrete.OneToOne(given.pop("v"))


def build(case, parameters):
    """Our cell for a case."""
    given = dict(parameters)
    if case["feedback"]:
        given["feedback"] = feedback(case["feedback"], given)
    name, *values = case["surrogate"]
    surrogate = SURROGATES[name](*values)
    return getattr(discrete, case["cell"])(**given, **case["options"], surrogate=surrogate)


def solve(names):
    """Of each case our spikes, membranes and last state, and the gradients. One compilation."""
    cases = {name: FIXTURES.cases[name] for name in names}
    inputs, weights = {}, {}
    for name, case in cases.items():
        x, *weights[name] = FIXTURES.functional(case)
        inputs[name] = FIXTURES.differentiated(case) | {"x": x}

    def value(given, name):
        parameters = {n: leaf for n, leaf in given.items() if n != "x"}
        out = discrete.run_batch(build(cases[name], parameters), given["x"])
        a, b = weights[name]
        return jnp.sum(a * out.spikes) + jnp.sum(b * out.membranes), out

    derive = jax.grad(value, has_aux=True)
    return jax.jit(lambda inputs: {name: derive(inputs[name], name) for name in names})(inputs)


def same(ours, theirs, what):
    assert ours.dtype == np.float32, what
    np.testing.assert_allclose(ours, theirs.reshape(ours.shape), **CLOSE, err_msg=what)


@pytest.mark.parametrize("cell", ["Leaky", "RLeaky", "Synaptic", "RSynaptic", "Lapicque", "Alpha"])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_a_cell(cell, reset):
    names = [name for name in CELLS if name.startswith(f"{cell}-{reset}")]
    for name, (gradients, out) in solve(names).items():
        case, stored = FIXTURES.cases[name], FIXTURES.arrays(FIXTURES.cases[name])
        fired = FIXTURES.spikes(case)["spikes"]
        spikes = fired * stored.get("graded", np.float32(1))
        np.testing.assert_array_equal(out.spikes, spikes, err_msg=name)
        same(out.membranes, stored["membranes"], f"{name}: membranes")
        same(out.state[-1], stored["membranes"][-1], f"{name}: the last membrane")
        for k, ours in enumerate(out.state[:-1]):
            same(ours, stored[f"state_{k}"], f"{name}: {type(out.state)._fields[k]}")
        for what, ours in gradients.items():
            same(ours, stored[f"grad_{what}"], f"{name}: gradient of {what}")


def test_every_case_is_compared():
    assert len(CELLS) == 115


def rsynaptic_by_hand(stored, x, reset, *, at_once):
    """Spikes and membranes of RSynaptic, written out."""
    alpha, beta, theta = stored["alpha"], stored["beta"], stored["threshold"]
    spk, syn, mem = np.zeros((3, *x.shape[1:]), np.float32)
    spikes, membranes = [], []
    for x_t in x:
        over = mem > theta
        syn = alpha * syn + x_t + spk @ stored["weight"].T + stored["bias"]
        mem = beta * mem + syn
        mem = mem - over * theta if reset == "subtract" else np.where(over, 0, mem)
        spk = (mem > theta).astype(np.float32)
        if at_once:
            # What is due later is done now; what was done for the last step is not done twice.
            change = spk - over
            mem = mem - change * (theta if reset == "subtract" else mem)
        spikes.append(spk)
        membranes.append(mem)
    return np.stack(spikes), np.stack(membranes)


@pytest.mark.parametrize("name", NOT_LIKE_THEM)
def test_rsynaptic_resets_at_once_where_theirs_does_not(name):
    case, stored = FIXTURES.cases[name], FIXTURES.arrays(FIXTURES.cases[name])
    x, _, _ = FIXTURES.functional(case)
    reset = case["options"]["reset"]
    spikes, membranes = rsynaptic_by_hand(stored, x, reset, at_once=False)
    np.testing.assert_array_equal(spikes, FIXTURES.spikes(case)["spikes"])
    np.testing.assert_allclose(membranes, stored["membranes"], **CLOSE)
    gradients, out = solve([name])[name]
    spikes, membranes = rsynaptic_by_hand(stored, x, reset, at_once=True)
    np.testing.assert_array_equal(out.spikes, spikes)
    same(out.membranes, membranes, "membranes")
    assert np.max(np.abs(membranes - stored["membranes"])) > 0.5
    assert all(np.all(np.isfinite(g)) for g in gradients.values())


# ------------------------------------------------------------------ two layers of weights


def two_layers(p):
    """Linear, cell, linear, cell, of parameters whose names end in 0 or 1."""
    layers = []
    for k in "01":
        n_out, n_in = p["weight" + k].shape
        layers.append(layer(eqx.nn.Linear, n_in, n_out, weight=p["weight" + k], bias=p["bias" + k]))
        options = {"beta": p["beta" + k], "threshold": p["threshold" + k]}
        if "back_weight" + k in p:
            back = {"weight": p["back_weight" + k], "bias": p["back_bias" + k]}
            back = layer(eqx.nn.Linear, n_out, n_out, **back)
            layers.append(discrete.RLeaky(feedback=back, **options))
        else:
            layers.append(discrete.Leaky(**options))
    return discrete.Sequential(layers)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_two_layers(name):
    case, stored = FIXTURES.cases[name], FIXTURES.arrays(FIXTURES.cases[name])
    labels = np.array(case["labels"])
    parameters = FIXTURES.differentiated(case)
    num_steps = 10 if name == "network-Leaky" else None  # the same input at every step

    @jax.jit
    def run(p):
        def loss(p):
            out = discrete.run_batch(two_layers(p), p["x"], num_steps=num_steps, layers=(1, 3))
            if num_steps:
                scores = jax.nn.log_softmax(out.membranes[1])
                return -jnp.sum(scores[:, np.arange(3), labels]) / 3, out
            targets = jnp.where(np.arange(3) == labels[:, None], 8, 2).astype(jnp.float32)
            return jnp.mean((jnp.sum(out.spikes[1], 0) - targets) ** 2) / 10, out

        return jax.value_and_grad(loss, has_aux=True)(p)

    (loss, out), gradients = run(parameters)
    fired = FIXTURES.spikes(case)
    np.testing.assert_array_equal(out.spikes[0], fired["hidden"])
    np.testing.assert_array_equal(out.spikes[1], fired["spikes"])
    same(out.membranes[1], stored["membranes"], "membranes")
    same(loss, stored["loss"], "loss")
    for what, ours in gradients.items():
        same(ours, stored[f"grad_{what}"], f"gradient of {what}")


# ------------------------------------------------------------------ all cells, one after the other

T, B, N_IN, N = 12, 3, 4, 6
run, run_batch = eqx.filter_jit(discrete.run), eqx.filter_jit(discrete.run_batch)


def linear(n_in, n_out, getkey):
    """A layer that keeps what follows it busy."""
    weight = jax.random.normal(getkey(), (n_out, n_in)) / np.sqrt(n_in)
    bias = jax.random.uniform(getkey(), (n_out,), minval=0.3, maxval=0.9)
    return layer(eqx.nn.Linear, n_in, n_out, weight=weight, bias=bias)


@pytest.fixture
def model(getkey):
    cells = [
        discrete.Leaky(0.8, reset="zero"),
        discrete.RLeaky(0.8, linear(N, N, getkey)),
        discrete.Synaptic(0.5, 0.7, reset_delay=False),
        discrete.RSynaptic(0.4, 0.6, discrete.OneToOne(-0.5), threshold=1.3),
        discrete.Lapicque(0.7, threshold=0.4),
        discrete.Alpha(0.9, 0.7, threshold=0.3),
        discrete.LeakyIntegrator(0.9),
    ]
    layers = [linear(N_IN, N, getkey), cells[0]]
    for cell in cells[1:]:
        layers += [linear(N, N, getkey), cell]
    return discrete.Sequential(layers)


@pytest.fixture
def xs(getkey):
    return jax.random.normal(getkey(), (T, N_IN))


CELL_LAYERS = tuple(range(1, 14, 2))


def agree(ours, expected, rtol=1e-12, atol=1e-12):
    """All leaves are close (spikes, 0 or 1, are then equal)."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def at(tree, change):
    """A tree with its arrays changed."""
    return jax.tree.map(lambda x: change(x) if eqx.is_inexact_array(x) else x, tree)


def cast(tree, dtype):
    return at(tree, lambda x: x.astype(dtype))


def test_every_cell_is_busy(model, xs):
    out = run(model, xs, layers=CELL_LAYERS)
    for spikes in out.spikes[:-1]:
        assert set(np.unique(spikes)) == {0, 1} and 0.1 < np.mean(spikes) < 0.9
    assert np.array_equal(out.spikes[-1], out.membranes[-1])  # the integrator's


def test_a_run_is_a_loop_over_steps(model, xs):
    step = eqx.filter_jit(lambda model, x, state: model(x, state))
    state, outputs, membranes = model.init_state(xs[0]), [], []
    for x in xs:
        output, state = step(model, x, state)
        outputs.append(output)
        membranes.append([state[i].mem for i in CELL_LAYERS])
    out = run(model, xs, layers=CELL_LAYERS)
    agree(out.spikes[-1], np.stack(outputs))
    agree(np.stack(out.membranes, 1), np.array(membranes))
    agree(out.state, state)


def test_a_batch_is_a_loop_over_samples(model, getkey):
    xs = jax.random.normal(getkey(), (T, B, N_IN))
    alone = [run(model, xs[:, b], layers=CELL_LAYERS) for b in range(B)]
    out = run_batch(model, xs, layers=CELL_LAYERS)
    agree(out[:2], jax.tree.map(lambda *s: np.stack(s, 1), *(a[:2] for a in alone)))
    agree(out.state, jax.tree.map(lambda *s: np.stack(s), *(a.state for a in alone)))
    on = run_batch(model, xs[:2], state=out.state)
    agree(on.membranes[:, 1], run(model, xs[:2, 1], state=alone[1].state).membranes)
    over_samples = jax.vmap(lambda x: discrete.run(model, x).spikes, in_axes=1, out_axes=1)
    agree(jax.jit(over_samples)(xs), out.spikes[-1])


def test_a_static_input_is_a_repeated_one(model, xs):
    # With few binary digits a sum is exact in any order: the first layer may do it only once.
    exact = lambda w: jnp.round(w * 64) / 64  # noqa: E731
    model = eqx.tree_at(lambda model: model.layers[0], model, replace_fn=lambda to: at(to, exact))
    x = exact(xs[0])
    static = run(model, x, num_steps=T, layers=CELL_LAYERS)
    repeated = run(model, jnp.broadcast_to(x, xs.shape), layers=CELL_LAYERS)
    jax.tree.map(np.testing.assert_array_equal, static, repeated)


def test_a_state_is_handed_on(model, xs):
    start = model.init_state(jax.ShapeDtypeStruct((N_IN,), float))
    first = run(model, xs[: T // 2], state=start)
    second = run(model, xs[T // 2 :], state=first.state)
    whole = run(model, xs)
    agree(jnp.concatenate([first.spikes, second.spikes]), whole.spikes)
    agree(jnp.concatenate([first.membranes, second.membranes]), whole.membranes)
    agree(second.state, whole.state)


def test_layers_are_recorded(model, xs):
    out = run(model, xs, layers=(3, 0, -12))
    alone = run(discrete.Sequential(model.layers[:4]), xs, layers=3)
    agree((out.spikes[0], out.membranes[0]), alone[:2])
    agree(out.spikes[1], xs @ model.layers[0].weight.T + model.layers[0].bias)
    assert out.membranes[1] is None  # no cell
    agree(out.spikes[2], jax.vmap(model.layers[2])(run(model, xs, layers=CELL_LAYERS).spikes[0]))
    agree(run(model, xs)[:2], tuple(x[-1] for x in run(model, xs, layers=CELL_LAYERS)[:2]))


def test_precision(model, xs):
    whole = run(model, xs, layers=CELL_LAYERS)
    half = run(cast(model, jnp.float32), cast(xs, jnp.float32), layers=CELL_LAYERS)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(half))
    for a, b in zip(half.spikes[:-1], whole.spikes[:-1], strict=True):
        np.testing.assert_array_equal(a, b)
    agree(half, whole, rtol=1e-5, atol=1e-5)


def test_bfloat16(model, xs):
    def loss(model, x):
        out = discrete.run(model, x)
        return jnp.mean(out.spikes**2), out

    short, x = cast(model, jnp.bfloat16), cast(xs, jnp.bfloat16)
    gradients, out = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))(short, x)
    for leaf in jax.tree.leaves((out, gradients)):
        assert leaf.dtype == jnp.bfloat16 and np.all(np.isfinite(leaf.astype(float)))
    assert all(np.any(gradients.layers[i].weight) for i in range(0, 14, 2))


def test_parameters_are_scalars_or_one_a_neuron(model, xs):
    each = at(model, lambda p: p if p.ndim else jnp.full(N, p))
    assert each.layers[5].alpha.shape == each.layers[7].feedback.v.shape == (N,)
    agree(run(each, xs, layers=CELL_LAYERS), run(model, xs, layers=CELL_LAYERS))


# ------------------------------------------------------------------ dropout and feedback


def test_dropout_is_drawn_at_each_step(getkey):
    # One before the first cell, one between cells: both see the same numbers at every step.
    cell, x = discrete.LeakyIntegrator(0.0), jnp.ones((2, N_IN))
    layers = [linear(N_IN, 20, getkey), eqx.nn.Dropout(0.5), cell, jnp.ones_like]
    model = discrete.Sequential([*layers, eqx.nn.Dropout(0.5), cell])
    dense = model.layers[0](x[0]), np.ones(20)
    out = run_batch(model, x, num_steps=T, layers=(1, 4), key=getkey())
    masks = [np.array(seen != 0).reshape(2 * T, 20) for seen in out.spikes]
    for seen, full, kept in zip(out.spikes, dense, masks, strict=True):
        agree(seen, np.where(kept, 2 * full, 0).reshape(seen.shape))
        assert 0.4 < kept.mean() < 0.6
    assert len(np.unique(np.concatenate(masks), axis=0)) == 4 * T  # no mask is used again
    still = run_batch(eqx.nn.inference_mode(model), x, num_steps=T, layers=(1, 4))
    for seen, full in zip(still.spikes, dense, strict=True):
        agree(seen, np.broadcast_to(full, seen.shape))


def of_feedback(feedback, xs):
    """Output of a recurrent cell, and gradients of its feedback and of its input."""

    def value(given):
        feedback, xs = given
        out = discrete.run(discrete.RLeaky(0.8, feedback), xs)
        return jnp.sum(out.membranes * jnp.cos(jnp.arange(T)[:, None])), out

    return eqx.filter_jit(eqx.filter_grad(value, has_aux=True))((feedback, xs))


def test_frozen_feedback_gets_no_gradient(getkey):
    xs, free = jax.random.normal(getkey(), (T, N)), linear(N, N, getkey)
    (of_free, of_xs), out = of_feedback(free, xs)
    (of_frozen, of_xs_too), out_too = of_feedback(discrete.Frozen(free), xs)
    agree((out_too, of_xs_too), (out, of_xs))
    assert np.all(of_free.weight != 0) and np.all(of_free.bias != 0)
    assert not np.any(of_frozen.layer.weight) and not np.any(of_frozen.layer.bias)


def test_masked_weights_get_no_gradient(getkey):
    xs, full = jax.random.normal(getkey(), (T, N)), linear(N, N, getkey)
    mask = jax.random.bernoulli(getkey(), 0.6, (N, N))
    zeroed = eqx.tree_at(lambda to: to.weight, full, jnp.where(mask, full.weight, 0))
    (of_zeroed, of_xs), out = of_feedback(zeroed, xs)
    masked = discrete.MaskedLinear(full.weight, mask, full.bias)
    (of_masked, of_xs_too), out_too = of_feedback(masked, xs)
    agree((out_too, of_xs_too, of_masked.bias), (out, of_xs, of_zeroed.bias))
    agree(of_masked.weight, np.where(mask, of_zeroed.weight, 0))
    assert np.all((of_masked.weight != 0) == mask)


# ------------------------------------------------------------------ what is refused


def test_unknown_resets_are_refused():
    linear = lambda spk: spk  # noqa: E731
    for cell in (
        lambda reset: discrete.Leaky(0.9, reset=reset),
        lambda reset: discrete.RLeaky(0.9, linear, reset=reset),
        lambda reset: discrete.Synaptic(0.8, 0.9, reset=reset),
        lambda reset: discrete.RSynaptic(0.8, 0.9, linear, reset=reset),
        lambda reset: discrete.Lapicque(0.9, reset=reset),
        lambda reset: discrete.Alpha(0.9, 0.8, reset=reset),
    ):
        with pytest.raises(ValueError, match=r"reset.*subtract, zero, none.*'hard'"):
            cell("hard")


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 1)])
def test_parameters_of_a_wrong_shape_are_refused(shape):
    xs = jnp.zeros((T, 4))
    for name in ("alpha", "beta", "threshold"):
        given = {"alpha": 0.8, "beta": 0.9, "threshold": 1.0} | {name: jnp.full(shape, 0.7)}
        with pytest.raises(ValueError, match=rf"{name}.*\(4,\).*{re.escape(str(shape))}"):
            discrete.run(discrete.Synaptic(**given), xs)


def test_feedback_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"feedback.*\(4,\).*\(3,\)"):
        discrete.run(discrete.RLeaky(0.9, lambda spk: spk[:3]), jnp.zeros((T, 4)))
    with pytest.raises(ValueError, match=r"mask.*\(2, 3\).*\(3, 2\)"):
        discrete.MaskedLinear(np.ones((2, 3)), np.ones((3, 2), bool))


def test_lapicque_refuses_too_little_and_too_much():
    for given in ({}, {"resistance": 1.0}, {"beta": 0.9, "resistance": 1.0, "capacitance": 2.0}):
        with pytest.raises(ValueError, match=r"beta.*resistance.*capacitance.*got"):
            discrete.Lapicque(**given)
    with pytest.raises(ValueError, match=r"beta.*\(0, 1\).*1\.5"):
        discrete.Lapicque(1.5)


def test_alpha_refuses_equal_rates():
    with pytest.raises(ValueError, match=r"beta must be below alpha.*0\.8"):
        discrete.Alpha(0.8, 0.8)


@pytest.mark.parametrize("bad", [0, -2, 1.5])
def test_a_number_of_steps_is_refused(bad):
    with pytest.raises(ValueError, match=rf"num_steps.*>= 1.*got {bad}"):
        discrete.run(discrete.Leaky(0.9), jnp.zeros(4), num_steps=bad)


@pytest.mark.parametrize("xs", [jnp.float64(1.0), jnp.zeros((0, 4))])
def test_inputs_without_time_are_refused(xs):
    with pytest.raises(ValueError, match=r"xs.*num_steps.*got shape \("):
        discrete.run(discrete.Leaky(0.9), xs)


def test_integer_inputs_are_refused():
    with pytest.raises(ValueError, match=r"floating-point.*int"):
        discrete.run(discrete.Leaky(0.9), jnp.zeros((T, 4), int))


@pytest.mark.parametrize("bad", [2, -3, (0, 2), (), "last"])
def test_layers_that_are_not_there_are_refused(bad):
    model = discrete.Sequential([jnp.tanh, discrete.Leaky(0.9)])
    with pytest.raises(ValueError, match=rf"layers.*2.*got {re.escape(repr(bad))}"):
        discrete.run(model, jnp.zeros((T, 4)), layers=bad)


def test_what_is_no_layer_is_refused():
    with pytest.raises(ValueError, match=r"layers\[1\].*0\.5"):
        discrete.Sequential([discrete.Leaky(0.9), 0.5])
    with pytest.raises(ValueError, match="at least one"):
        discrete.Sequential([])
