"""Cells of the discrete-time mode against snnTorch: spikes, states and gradients.

`fixtures/cells.npz` holds the results of snnTorch; with torch 2.13.0, snnTorch 1.0.0 and NumPy
installed, `python tests/fixtures/make_cells.py` regenerates it.
"""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete, surrogates
from helpers.recorded import recorded

SURROGATES = {
    "atan": surrogates.ATan,
    "fast_sigmoid": surrogates.FastSigmoid,
    "straight_through": surrogates.StraightThrough,
    "sigmoid": surrogates.Sigmoid,
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Fixtures:
    """Cases by name, with their arrays extracted from the flat vectors of the file."""

    def __init__(self):
        self.file = recorded("cells.npz")
        self.bits = np.unpackbits(self.file["bits"]).astype(bool)
        self.cases = {c["name"]: c for c in json.loads(self.file["cases"].tobytes())}

    def arrays(self, case):
        return {name: self._cut("floats", place) for name, place in case["arrays"].items()}

    def spikes(self, case):
        return {name: self._cut("bits", place) for name, place in case["spikes"].items()}

    def differentiated(self, case):
        """Names of the arrays with gradients, besides a cell's input."""
        arrays = self.arrays(case)
        return {n: x for n, x in arrays.items() if f"grad_{n}" in arrays}

    def functional(self, case):
        """Input, and the weights of spikes and membrane potentials in the scalar that is
        differentiated."""
        kind = "image" if case["feedback"] == "conv" else "vector"
        x, a, b = (self.file[f"{kind}_{name}"] for name in "xab")
        return x[case["input"]], a, b

    def _cut(self, which, place):
        start, *shape = place
        flat = self.bits if which == "bits" else self.file[which]
        return flat[start : start + int(np.prod(shape))].reshape(shape)


FIXTURES = Fixtures()
NETWORKS = ("network-Leaky", "network-RLeaky")
# snnTorch's reset_delay=False has no effect; in eventsnn it has one.
NOT_LIKE_THEM = ("RSynaptic-subtract-at_once-linear", "RSynaptic-zero-at_once-linear")
CELLS = [name for name in FIXTURES.cases if name not in NETWORKS + NOT_LIKE_THEM]


# ------------------------------------------------------------------ one cell


def layer(kind, *sizes, weight, bias):
    """Equinox layer with given weights, without random initialisation."""
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
    """Build the eventsnn cell for a case."""
    given = dict(parameters)
    if case["feedback"]:
        given["feedback"] = feedback(case["feedback"], given)
    name, *values = case["surrogate"]
    surrogate = SURROGATES[name](*values)
    return getattr(discrete, case["cell"])(**given, **case["options"], surrogate=surrogate)


def solve(names):
    """Return our spikes, membranes and last state per case, and the gradients. One compilation.

    Gradients are computed in float64: a gradient in float32 that is a small difference of large
    terms is wrong by more than 1e-5 of itself, and so is the stored one of snnTorch.
    """
    cases = {name: FIXTURES.cases[name] for name in names}
    inputs, weights = {}, {}
    for name, case in cases.items():
        x, *weights[name] = FIXTURES.functional(case)
        inputs[name] = FIXTURES.differentiated(case) | {"x": x}

    def run(given, name):
        parameters = {n: leaf for n, leaf in given.items() if n != "x"}
        return discrete.run_batch(build(cases[name], parameters), given["x"])

    def value(given, name):
        out = run(given, name)
        a, b = in_float64(weights[name])
        return jnp.sum(a * out.spikes) + jnp.sum(b * out.membranes)

    def both(inputs):
        exact = in_float64(inputs)
        return {
            name: (jax.grad(value)(exact[name], name), run(inputs[name], name)) for name in names
        }

    return jax.jit(both)(inputs)


def in_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def same(ours, theirs, what, dtype=np.float32):
    assert ours.dtype == dtype, what
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
            same(ours, stored[f"grad_{what}"], f"{name}: gradient of {what}", np.float64)


def test_every_case_is_compared():
    assert len(CELLS) == 115


def rsynaptic_by_hand(stored, x, reset, *, at_once):
    """Spikes and membrane potentials of RSynaptic, computed explicitly."""
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
            # A reset due in the next step is done now; a reset done for the last step is not
            # repeated.
            change = spk - over
            mem = mem - change * (theta if reset == "subtract" else mem)
        spikes.append(spk)
        membranes.append(mem)
    return np.stack(spikes), np.stack(membranes)


@pytest.mark.parametrize("name", NOT_LIKE_THEM)
def test_rsynaptic_resets_at_once_unlike_snntorch(name):
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
    """Linear, cell, linear, cell, with parameters whose names end in 0 or 1."""
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
