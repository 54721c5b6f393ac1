"""Behaviour of the cells over time: batches, other precisions, parallel evaluation of all steps,
layers between cells, dropout and feedback. `test_parity.py` checks the values of single cells."""

import itertools
import re
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete, surrogates
from eventsnn.discrete.recurrence import linear_recurrence
from helpers.arrays import agree, normal
from helpers.registry import CELLS, N, linear, stack

T, B, N_IN = 12, 3, 4
CELL_LAYERS = tuple(range(1, 2 * len(CELLS) + 2, 2))
run, run_batch = eqx.filter_jit(discrete.run), eqx.filter_jit(discrete.run_batch)


@pytest.fixture
def model(rng):
    return stack(N_IN, rng)


@pytest.fixture
def xs(rng):
    return normal(rng, T, N_IN)


def at(tree, change):
    """Apply a function to the arrays of a tree."""
    return jax.tree.map(lambda x: change(x) if eqx.is_inexact_array(x) else x, tree)


def cast(tree, dtype):
    return at(tree, lambda x: x.astype(dtype))


def test_every_cell_fires_in_some_steps(model, xs):
    out = run(model, xs, layers=CELL_LAYERS)
    for spikes in out.spikes[:-1]:
        assert len(np.unique(spikes)) == 2 and 0.1 < np.mean(spikes > 0) < 0.9
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


def test_a_batch_is_a_loop_over_samples(model, rng):
    xs = normal(rng, T, B, N_IN)
    alone = [run(model, xs[:, b], layers=CELL_LAYERS) for b in range(B)]
    out = run_batch(model, xs, layers=CELL_LAYERS)
    agree(out[:2], jax.tree.map(lambda *s: np.stack(s, 1), *(a[:2] for a in alone)))
    agree(out.state, jax.tree.map(lambda *s: np.stack(s), *(a.state for a in alone)))
    on = run_batch(model, xs[:2], state=out.state)
    agree(on.membranes[:, 1], run(model, xs[:2, 1], state=alone[1].state).membranes)
    over_samples = jax.vmap(lambda x: discrete.run(model, x).spikes, in_axes=1, out_axes=1)
    agree(jax.jit(over_samples)(xs), out.spikes[-1])


def test_a_static_input_is_a_repeated_one(model, xs):
    # With few binary digits a sum is exact in any order, so the first layer may be computed only
    # once.
    exact = lambda w: jnp.round(w * 64) / 64  # noqa: E731
    model = eqx.tree_at(lambda model: model.layers[0], model, replace_fn=lambda to: at(to, exact))
    x = exact(xs[0])
    static = run(model, x, num_steps=T, layers=CELL_LAYERS)
    repeated = run(model, jnp.broadcast_to(x, xs.shape), layers=CELL_LAYERS)
    jax.tree.map(np.testing.assert_array_equal, static, repeated)


def test_a_run_continues_from_the_state_of_another(model, xs):
    start = model.init_state(jax.ShapeDtypeStruct((N_IN,), float))
    first = run(model, xs[: T // 2], state=start)
    second = run(model, xs[T // 2 :], state=first.state)
    whole = run(model, xs)
    agree(jnp.concatenate([first.spikes, second.spikes]), whole.spikes)
    agree(jnp.concatenate([first.membranes, second.membranes]), whole.membranes)
    agree(second.state, whole.state)


def test_layers_are_recorded(model, xs):
    out = run(model, xs, layers=(3, 0, 2 - len(model.layers)))
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
    assert all(np.any(gradients.layers[i].weight) for i in range(0, 16, 2))


def test_parameters_are_scalars_or_one_per_neuron(model, xs):
    each = at(model, lambda p: p if p.ndim else jnp.full(N, p))
    assert each.layers[5].alpha.shape == each.layers[7].feedback.v.shape == (N,)
    agree(run(each, xs, layers=CELL_LAYERS), run(model, xs, layers=CELL_LAYERS))


# ------------------------------------------------------------------ each cell alone


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("name", CELLS)
def test_a_step_keeps_shapes_and_dtypes(name, reset, dtype, rng):
    cell, x = CELLS[name](rng, reset=reset), jax.ShapeDtypeStruct((N,), dtype)
    if name == "RLeaky":  # Equinox's layers have a fixed dtype, cells do not
        cell = cast(cell, dtype)
    state = cell.init_state(x)
    spk, after = eqx.filter_eval_shape(cell, x, state)
    assert (spk.shape, spk.dtype) == ((N,), dtype)
    kinds = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert kinds(after) == kinds(state)
    assert kinds(state) == type(state)(*[((N,), dtype)] * len(state))


@pytest.mark.parametrize("name", sorted(set(CELLS) - {"RLeaky"}))  # matrix feedback
def test_a_cell_takes_any_shape(name, rng):
    cell, x = CELLS[name](rng), jax.ShapeDtypeStruct((2, 3, 5), float)
    spk, after = eqx.filter_eval_shape(cell, x, cell.init_state(x))
    assert {leaf.shape for leaf in (spk, *after)} == {x.shape}


def test_inhibition_lets_at_most_one_neuron_fire(rng):
    xs = 2 * normal(rng, T, B, N) + 1
    pairs = {}
    for name, cell in CELLS.items():
        state = rng.bit_generator.state
        pairs[name] = [cell(rng, inhibition=True)]
        rng.bit_generator.state = state  # the same feedback
        pairs[name].append(cell(rng, reset="none"))

    @eqx.filter_jit
    def solve(pairs, xs):
        return {n: [discrete.run_batch(cell, xs) for cell in pair] for n, pair in pairs.items()}

    for name, (one, free) in solve(pairs, xs).items():
        fired = np.asarray(one.spikes > 0)
        assert np.all(fired.sum(-1) <= 1) and fired.sum() > 3, name
        # In the first step, where nothing was reset: the neuron furthest above threshold.
        furthest = np.eye(N)[np.argmax(free.membranes[0], -1)]
        np.testing.assert_array_equal(one.spikes[0], free.spikes[0] * furthest, err_msg=name)


# ------------------------------------------------------------------ all steps at once


def test_a_linear_recurrence(rng):
    start, decays = normal(rng, 3, N), (jnp.asarray(0.5), jnp.linspace(0.0, 1.0, N))
    inputs = [normal(rng, steps, 3, N) for steps in (1, 2, 7)]

    @jax.jit
    def solve():
        return [[linear_recurrence(decay, xs, start) for xs in inputs] for decay in decays]

    for decay, found in zip(decays, solve(), strict=True):
        for xs, us in zip(inputs, found, strict=True):
            u = np.asarray(start)
            for x, now in zip(np.asarray(xs), us, strict=True):
                u = np.asarray(decay) * u + x
                np.testing.assert_allclose(now, u, rtol=1e-12, atol=1e-12)


def test_in_parallel_is_step_by_step(rng):
    """Cells without reset in a stack, from a given state, forwards and backwards.

    RLeaky and RSynaptic are among them; their feedback requires evaluation step by step.
    """
    model = stack(N_IN, rng, reset="none")
    xs, weights = normal(rng, 5, N_IN), normal(rng, 2, 5, N)
    state = jax.tree.map(lambda x: normal(rng, *x.shape), model.init_state(xs[0]))

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def derive(given, parallel):
        model, xs, state = given
        out = discrete.run(model, xs, layers=CELL_LAYERS, state=state, parallel=parallel)
        of_each = [jnp.sum(weights[0] * s + weights[1] * m) for s, m in zip(*out[:2], strict=True)]
        return sum(of_each), out

    gradients, out = derive((model, xs, state), False)
    gradients_at_once, at_once = derive((model, xs, state), True)
    agree(at_once, out)
    agree(gradients_at_once, gradients, rtol=1e-9)
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf))
    for i in CELL_LAYERS:
        assert np.any(gradients[0].layers[i - 1].weight != 0)
    assert np.all(gradients[1] != 0)


def test_in_parallel_with_resets_is_step_by_step(model, xs):
    agree(run(model, xs, layers=CELL_LAYERS, parallel=True), run(model, xs, layers=CELL_LAYERS))


@pytest.mark.parametrize("name", [*CELLS, "LeakyIntegrator"])
def test_only_resets_and_feedback_need_a_loop(name, rng):
    """Adaptation is feedback of the spikes, too."""
    for reset in ("none", "subtract"):
        free = reset == "none" and name not in ("RLeaky", "RSynaptic", "ALIF")
        if name == "LeakyIntegrator":
            cell, free = discrete.LeakyIntegrator(0.9), True
        else:
            cell = CELLS[name](rng, reset=reset)
        loops = [
            eqn
            for eqn, _ in equations(lambda x, c=cell: discrete.run(c, x, parallel=True), (T, N))
            if eqn.primitive.name in ("scan", "while")
        ]
        assert bool(loops) is not free


def equations(function, *shapes):
    """Yield each equation of a function's jaxpr, and whether it is inside a loop."""

    def walk(jaxpr, inside):
        for eqn in jaxpr.eqns:
            yield eqn, inside
            within = inside or eqn.primitive.name in ("scan", "while")
            for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=is_program):
                if is_program(value):
                    yield from walk(getattr(value, "jaxpr", value), within)

    is_program = lambda value: hasattr(value, "eqns") or hasattr(value, "jaxpr")  # noqa: E731
    traced = jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct(shape, float) for shape in shapes])
    return list(walk(traced.jaxpr, False))


# ------------------------------------------------------------------ what is not in the loop


def products(function, *shapes):
    """Shapes of the factors of each matrix product, and whether it is inside a loop."""
    return [
        ({v.aval.shape for v in eqn.invars}, inside)
        for eqn, inside in equations(function, *shapes)
        if eqn.primitive.name == "dot_general"
    ]


def test_only_layers_between_cells_are_in_the_loop(rng):
    sizes = (N_IN, 7, 8, 9)  # distinct shapes, so that each product can be identified
    first, middle, last = (linear(a, b, rng) for a, b in itertools.pairwise(sizes))
    cell = discrete.Leaky(0.9)
    model = discrete.Sequential([jnp.tanh, first, cell, middle, cell, last, jnp.tanh])
    # Once; at each step inside the loop; and for all steps in one product.
    constant = products(lambda x: discrete.run(model, x, num_steps=T).spikes, (N_IN,))
    assert constant == [({(7, 4), (4,)}, False), ({(8, 7), (7,)}, True), ({(9, 8), (T, 8)}, False)]
    moving = products(lambda x: discrete.run(model, x).spikes, (T, N_IN))
    assert moving == [({(7, 4), (T, 4)}, False), *constant[1:]]
    batch = products(lambda x: discrete.run_batch(model, x, num_steps=T).spikes, (B, N_IN))
    assert [inside for _, inside in batch] == [False, True, False]
    assert batch[0][0] == {(7, 4), (B, 4)} and batch[1][0] == {(8, 7), (B, 7)}
    at_once = products(lambda x: discrete.run(model, x, parallel=True).spikes, (T, N_IN))
    assert not any(inside for _, inside in at_once)


def test_a_random_layer_is_drawn_at_each_step_of_a_constant_input(rng, getkey):
    model = discrete.Sequential(
        [eqx.nn.Dropout(0.5), linear(N_IN, 7, rng), discrete.LeakyIntegrator(0.0)]
    )
    x = jnp.ones(N_IN)
    ((found, inside),) = products(
        lambda x: discrete.run(model, x, num_steps=T, key=jax.random.key(0)).spikes, (N_IN,)
    )
    assert found == {(7, 4), (T, 4)} and not inside
    assert len(np.unique(run(model, x, num_steps=T, key=getkey()).spikes, axis=0)) > T // 2
    # A layer that draws no random numbers is computed once, with or without a key.
    model = eqx.tree_at(lambda m: m.layers[0], model, linear(N_IN, N_IN, rng))
    found = products(
        lambda x: discrete.run(model, x, num_steps=T, key=jax.random.key(0)).spikes, (N_IN,)
    )
    assert [shapes for shapes, _ in found] == [{(4, 4), (4,)}, {(7, 4), (4,)}]


def test_layers_after_the_last_cell(rng, xs):
    cell, readout = discrete.Leaky(0.8), linear(N_IN, N, rng)
    out = run(discrete.Sequential([cell, readout, jnp.tanh]), xs, layers=(0, 1, 2, -1))
    alone = run(cell, xs)
    agree(out.spikes[:1], (alone.spikes,))
    agree(out.membranes[:1], (alone.membranes,))
    expected = alone.spikes @ readout.weight.T + readout.bias
    agree(out.spikes[1:], (expected, np.tanh(expected), np.tanh(expected)))
    assert out.membranes[1:] == (None, None, None)
    agree(out.state, (alone.state, None, None))


def test_a_stack_without_cells(rng, xs):
    layer = linear(N_IN, N, rng)
    model = discrete.Sequential([layer, jnp.tanh])
    expected = np.tanh(xs @ layer.weight.T + layer.bias)
    moving, constant = run(model, xs), run(model, xs[0], num_steps=T)
    agree(moving.spikes, expected)
    agree(constant.spikes, np.broadcast_to(expected[0], (T, N)))
    assert moving.membranes is None and moving.state == (None, None)


def test_maps():
    @eqx.filter_eval_shape
    def out():
        key, x = jax.random.key(0), jnp.zeros((T, B, 1, 8, 8))
        layers = [
            eqx.nn.Conv2d(1, 4, 3, key=key),
            discrete.RLeaky(0.9, eqx.nn.Conv2d(4, 4, 3, padding=1, key=key)),
            eqx.nn.AvgPool2d(2, 2),
            jnp.ravel,
            eqx.nn.Linear(36, N, key=key),
            discrete.Leaky(jnp.full(N, 0.9)),
        ]
        return discrete.run_batch(discrete.Sequential(layers), x, layers=(1, -1))

    assert [s.shape for s in out.spikes] == [(T, B, 4, 6, 6), (T, B, N)]
    assert out.state[1].mem.shape == (B, 4, 6, 6)


# ------------------------------------------------------------------ a batch


def test_a_batch_with_keys_states_and_several_layers(rng, getkey):
    """Agreement of run_batch, vmap of run, and a loop over samples."""
    layers = [linear(N_IN, N, rng), eqx.nn.Dropout(0.4), discrete.Leaky(0.8)]
    layers += [eqx.nn.Dropout(0.4), linear(N, N, rng), discrete.Synaptic(0.5, 0.7)]
    model, x, key = discrete.Sequential(layers), normal(rng, B, N_IN), getkey()
    states = jax.tree.map(lambda leaf: normal(rng, B, *leaf.shape), model.init_state(x[0]))
    options = {"num_steps": T, "layers": (1, 2, -1)}

    def one(x, state, key):
        return discrete.run(model, x, state=state, key=key, **options)

    @jax.jit
    def solve(x, states, key):
        keys = jax.random.split(key, B)
        of_keys, of_key = (
            discrete.run_batch(model, x, state=states, key=k, **options) for k in (keys, key)
        )
        mapped = jax.vmap(one, out_axes=discrete.Run(1, 1, 0, 1))(x, states, keys)
        return of_keys, of_key, mapped, keys

    batch, of_key, mapped, keys = solve(x, states, key)
    agree(of_key, batch)
    agree(mapped, batch)
    sample = lambda tree, b: jax.tree.map(lambda leaf: leaf[b], tree)  # noqa: E731
    one = jax.jit(one)
    for b in range(B):
        alone = one(x[b], sample(states, b), keys[b])
        agree(jax.tree.map(lambda leaf, b=b: leaf[:, b], batch[:2]), alone[:2])
        agree(sample(batch.state, b), alone.state)
    assert batch.membranes[0] is None and batch.spikes[0].shape == (T, B, N)
    kept = np.asarray(batch.spikes[0]) != 0
    assert np.any(kept[:, 0] != kept[:, 1])  # each sample has masks of its own


# ------------------------------------------------------------------ custom models


class Branches(discrete.AbstractCell):
    """The same input to fast and slow neurons; only one of them needs a key."""

    fast: discrete.Leaky
    slow: discrete.Synaptic

    def init_state(self, x):
        return self.fast.init_state(x), self.slow.init_state(x)

    def __call__(self, x, state, *, key=None):
        fast, first = self.fast(x, state[0])
        slow, second = self.slow(x, state[1], key=key)
        return {"fast": fast, "slow": slow}, (first, second)


class Total(discrete.AbstractCell):
    """Sum of all inputs so far, returned as a membrane potential."""

    class State(NamedTuple):
        mem: jax.Array

    def init_state(self, x):
        return self.State(jnp.zeros((), x["fast"].dtype))

    def __call__(self, x, state, *, key=None):
        mem = state.mem + jnp.sum(x["fast"] + x["slow"])
        return mem[None], self.State(mem)


def test_a_custom_model(xs):
    own = Branches(discrete.Leaky(0.5, threshold=0.4), discrete.Synaptic(0.5, 0.7, threshold=0.4))
    fast, slow = run(own.fast, xs), run(own.slow, xs)
    out = run(own, xs)
    agree(out.spikes, {"fast": fast.spikes, "slow": slow.spikes})
    assert out.membranes is None and np.any(fast.spikes != slow.spikes)
    agree(out.state, (fast.state, slow.state))
    # Among other layers, and itself a layer of a stack within a stack.
    twice = discrete.Sequential([jnp.negative, own])
    model = discrete.Sequential([jnp.negative, twice, Total(), lambda x: 2 * x])
    found = run(model, xs, layers=(1, 2, 3))
    total = np.cumsum(np.sum(fast.spikes + slow.spikes, axis=-1))
    agree(found.spikes, (out.spikes, total[:, None], 2 * total[:, None]))
    assert found.membranes[0] is None and found.membranes[2] is None
    agree(found.membranes[1], total)
    agree(run(model, xs, layers=(1, 2, 3), parallel=True), found)


# ------------------------------------------------------------------ what trains


def names(model, *args):
    """Names of the parameters that a filter selects, and of those that it does not."""
    flags = jax.tree_util.tree_leaves_with_path(discrete.trainable(model, *args))
    leaves = jax.tree_util.tree_leaves_with_path(model)
    assert [path for path, _ in flags] == [path for path, _ in leaves]
    assert all(isinstance(flag, bool) for _, flag in flags)
    return {jax.tree_util.keystr(path) for path, flag in flags if flag}


def test_weights_train_and_neurons_do_not():
    weights = {f".layers[{i}].{part}" for i in range(0, 16, 2) for part in ("weight", "bias")}
    weights |= {f".layers[3].feedback.{part}" for part in ("weight", "bias")}
    weights |= {".layers[7].feedback.v"}
    model = stack(N_IN, np.random.default_rng(0))
    assert names(model) == weights
    assert names(model, "threshold") - weights == {
        f".layers[{i}].threshold" for i in CELL_LAYERS[:-1]
    }
    assert names(model, "beta") - weights == {
        f".layers[{i}].beta" for i in (1, 3, 5, 7, 11, 13, 15)
    }
    assert names(model, "alpha", "graded") - weights == {
        *(f".layers[{i}].alpha" for i in (5, 7, 11)),
        ".layers[1].graded",
    }
    assert names(model, "resistance", "time_step") - weights == {
        ".layers[9].resistance",
        ".layers[9].time_step",
    }


def test_frozen_layers_and_surrogates_do_not_train():
    layer = linear(N, N, np.random.default_rng(0))
    surrogate = surrogates.SpikeRateEscape(jnp.array(1.0), jnp.array(2.0))  # has a beta of its own
    cell = discrete.RLeaky(jnp.full(N, 0.9), discrete.Frozen(layer), surrogate=surrogate)
    model = discrete.Sequential(
        [
            discrete.Frozen(layer),
            cell,
            discrete.MaskedLinear(jnp.ones((N, N)), jnp.eye(N, dtype=bool)),
        ]
    )
    assert names(model) == {".layers[2].weight"}
    assert names(model, "beta") == {".layers[2].weight", ".layers[1].beta"}
    assert names(cell) == set()


def test_an_unknown_name_does_not_train():
    for given, shown in ((("gamma",), "'gamma'"), (("beta", "weight", "bias"), "'weight', 'bias'")):
        with pytest.raises(ValueError, match=rf"names must be among alpha, .*, got {shown}\.$"):
            discrete.trainable(discrete.Leaky(0.9), *given)


# ------------------------------------------------------------------ dropout and feedback


def test_dropout_is_drawn_at_each_step(rng, getkey):
    # One before the first cell, one between cells: both use the same mask at every step.
    cell, x = discrete.LeakyIntegrator(0.0), jnp.ones((2, N_IN))
    layers = [linear(N_IN, 20, rng), eqx.nn.Dropout(0.5), cell, jnp.ones_like]
    model = discrete.Sequential([*layers, eqx.nn.Dropout(0.5), cell])
    dense = model.layers[0](x[0]), np.ones(20)
    out = run_batch(model, x, num_steps=T, layers=(1, 4), key=getkey())
    masks = [np.array(seen != 0).reshape(2 * T, 20) for seen in out.spikes]
    for seen, full, kept in zip(out.spikes, dense, masks, strict=True):
        agree(seen, np.where(kept, 2 * full, 0).reshape(seen.shape))
        assert 0.4 < kept.mean() < 0.6
    assert len(np.unique(np.concatenate(masks), axis=0)) == 4 * T  # no mask is reused
    still = run_batch(eqx.nn.inference_mode(model), x, num_steps=T, layers=(1, 4))
    for seen, full in zip(still.spikes, dense, strict=True):
        agree(seen, np.broadcast_to(full, seen.shape))


def of_feedback(feedback, xs):
    """Output of a recurrent cell, and gradients with respect to its feedback and its input."""

    def value(given):
        feedback, xs = given
        out = discrete.run(discrete.RLeaky(0.8, feedback), xs)
        return jnp.sum(out.membranes * jnp.cos(jnp.arange(T)[:, None])), out

    return eqx.filter_jit(eqx.filter_grad(value, has_aux=True))((feedback, xs))


def test_frozen_feedback_gets_no_gradient(rng):
    xs, free = normal(rng, T, N), linear(N, N, rng)
    (of_free, of_xs), out = of_feedback(free, xs)
    (of_frozen, of_xs_too), out_too = of_feedback(discrete.Frozen(free), xs)
    agree((out_too, of_xs_too), (out, of_xs))
    assert np.all(of_free.weight != 0) and np.all(of_free.bias != 0)
    assert not np.any(of_frozen.layer.weight) and not np.any(of_frozen.layer.bias)


def test_masked_weights_get_no_gradient(rng):
    xs, full = normal(rng, T, N), linear(N, N, rng)
    mask = jnp.asarray(rng.random((N, N)) < 0.6)
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
        with pytest.raises(
            ValueError, match=r'reset must be "subtract" or "zero" or "set" or "none", got .hard.'
        ):
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


def test_lapicque_refuses_other_combinations_of_arguments():
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


@pytest.mark.parametrize("bad", [2, -3, [0, 2], [], "last"])
def test_missing_layers_are_refused(bad):
    model = discrete.Sequential([jnp.tanh, discrete.Leaky(0.9)])
    with pytest.raises(ValueError, match=rf"layers.*2.*got {re.escape(repr(bad))}"):
        discrete.run(model, jnp.zeros((T, 4)), layers=bad)


def test_invalid_layers_are_refused():
    with pytest.raises(ValueError, match=r"layers\[1\].*0\.5"):
        discrete.Sequential([discrete.Leaky(0.9), 0.5])
    with pytest.raises(ValueError, match="at least one"):
        discrete.Sequential([])
