"""Valid and invalid arguments of the discrete-time mode: parameters, inputs, states, keys, layers.

Every error is one line that names the problem.
"""

import re
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import discrete, surrogates
from helpers.registry import CELLS, N, linear

T, B = 6, 3


def refused(message, error=ValueError):
    return pytest.raises(error, match=re.escape(message))


def one_line(call):
    """Message of an error, which must be one line."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


# ------------------------------------------------------------------ parameters of cells

BUILD = {  # constructs a cell from one parameter
    "threshold": [
        lambda x: discrete.Leaky(0.9, threshold=x),
        lambda x: discrete.RLeaky(0.9, discrete.OneToOne(), threshold=x),
        lambda x: discrete.Synaptic(0.8, 0.9, threshold=x),
        lambda x: discrete.RSynaptic(0.8, 0.9, discrete.OneToOne(), threshold=x),
        lambda x: discrete.Lapicque(0.9, threshold=x),
        lambda x: discrete.Alpha(0.9, 0.8, threshold=x),
    ],
    "beta": [
        discrete.Leaky,
        discrete.LeakyIntegrator,
        lambda x: discrete.RLeaky(x, discrete.OneToOne()),
        lambda x: discrete.Synaptic(0.8, x),
        lambda x: discrete.RSynaptic(0.8, x, discrete.OneToOne()),
        discrete.Lapicque,
        lambda x: discrete.Alpha(0.9, x),
    ],
    "alpha": [
        lambda x: discrete.Synaptic(x, 0.9),
        lambda x: discrete.RSynaptic(x, 0.9, discrete.OneToOne()),
        lambda x: discrete.Alpha(x, 0.8),
    ],
    "graded": [lambda x: discrete.Leaky(0.9, graded=x)],
    "resistance": [lambda x: discrete.Lapicque(resistance=x, capacitance=1.0)],
    "capacitance": [lambda x: discrete.Lapicque(resistance=1.0, capacitance=x)],
    "time_step": [lambda x: discrete.Lapicque(0.9, time_step=x)],
    "v": [discrete.OneToOne],
    "weight": [lambda x: discrete.MaskedLinear(jnp.full((2, 2), x), np.ones((2, 2), bool))],
    "bias": [
        lambda x: discrete.MaskedLinear(
            np.ones((2, 2)), np.ones((2, 2), bool), x if x is None else np.full(2, x)
        )
    ],
}
POSITIVE = ("threshold", "resistance", "capacitance", "time_step")
OF_RATES = ("alpha", "beta")


@pytest.mark.parametrize("name", BUILD)
def test_parameters_out_of_range_are_refused(name):
    bad = [np.nan, np.inf, -np.inf]
    bad += [0.0, -1.0] if name in POSITIVE else []
    bad += [-0.1, 1.5] if name in OF_RATES else []
    for build in BUILD[name]:
        for value in bad:
            message = one_line(lambda b=build, x=value: b(x))
            assert message.startswith(f"{name} must ") and "got" in message


@pytest.mark.parametrize("name", sorted(set(BUILD) - {"weight", "bias"}))
@pytest.mark.parametrize("value", [0.5j, "0.5", [0.1, [0.2, 0.3]], jax.random.key(0)])
def test_values_that_are_not_real_numbers_are_refused(name, value):
    for build in BUILD[name]:
        message = one_line(lambda b=build: b(value))
        assert message.startswith(f"{name} must be a real number or an array of real numbers, got ")


def test_one_value_out_of_range_is_enough():
    with refused("threshold must be finite and > 0, got [1.0, 0.0]."):
        discrete.Leaky(0.9, threshold=jnp.array([1.0, 0.0]))
    with refused("beta must lie in [0, 1], got [0.5, 1.5]."):
        discrete.Leaky(np.array([0.5, 1.5]))


def test_decay_rates_of_0_and_1_are_accepted():
    for value in (0, 1, 0.0, 1.0):
        assert discrete.Leaky(value).beta == value
        assert discrete.Synaptic(value, value).alpha == value


@pytest.mark.parametrize("value", ["yes", 1, None, 0.0])
def test_flags_are_booleans(value):
    shown = re.escape(" ".join(repr(value).split()))
    for name, call in {
        "inhibition": lambda: discrete.Leaky(0.9, inhibition=value),
        "reset_delay": lambda: discrete.RLeaky(0.9, discrete.OneToOne(), reset_delay=value),
        "parallel": lambda: discrete.run(discrete.Leaky(0.9), jnp.ones((T, N)), parallel=value),
    }.items():
        with pytest.raises(ValueError, match=f"{name} must be True or False, got {shown}"):
            call()


def test_a_class_in_place_of_an_instance_is_refused():
    leaky, one_to_one = discrete.Leaky, discrete.OneToOne
    for name, given, call in (
        ("surrogate", surrogates.Sigmoid, lambda x: leaky(0.9, surrogate=x)),
        ("surrogate", surrogates.Sigmoid, lambda x: discrete.Lapicque(0.9, surrogate=x)),
        ("feedback", one_to_one, lambda x: discrete.RLeaky(0.9, x)),
        ("feedback", one_to_one, lambda x: discrete.RSynaptic(0.8, 0.9, x)),
        ("layers[1]", leaky, lambda x: discrete.Sequential([jnp.tanh, x])),
        ("layer", eqx.nn.Linear, discrete.Frozen),
    ):
        kind = given.__name__
        message = f"{name} must be an instance, such as {kind}(...), got the class {kind}."
        with refused(message):
            call(given)
        with refused(f"{name} must be a callable, got 0.5."):
            call(0.5)
    with refused("function must be a callable x -> derivative, got <class"):
        surrogates.Custom(surrogates.ATan)


# ------------------------------------------------------------------ shapes of parameters


def test_parameters_have_one_value_per_neuron_or_share_whole_axes(rng):
    """Three values that happen to match the width of a feature map must not be accepted."""
    xs = jnp.asarray(rng.uniform(0.2, 0.8, (T, 3, 3, 3)))
    for shape in ((3,), (3, 3), (1, 3, 3, 3), (3, 1, 2), (1,)):
        with refused("one value per neuron, for inputs of shape (3, 3, 3), got shape"):
            discrete.run(discrete.Leaky(jnp.full(shape, 0.5)), xs)
    beta = np.array([0.1, 0.5, 0.9]).reshape(3, 1, 1)
    threshold = np.array([0.4, 0.6, 0.8]).reshape(3, 1, 1)
    run = eqx.filter_jit(partial(discrete.run, parallel=True))
    for reset in ("subtract", "none"):
        cell = discrete.Leaky(beta, threshold=threshold, reset=reset)
        full = discrete.Leaky(
            np.broadcast_to(beta, (3, 3, 3)),
            threshold=np.broadcast_to(threshold, (3, 3, 3)),
            reset=reset,
        )
        found, expected = run(cell, xs), run(full, xs)
        np.testing.assert_array_equal(found.spikes, expected.spikes)
        np.testing.assert_allclose(found.membranes, expected.membranes, rtol=1e-12)
        assert 0 < np.mean(found.spikes) < 1


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", sorted(set(CELLS) - {"RLeaky"}))
def test_inhibition_of_feature_maps_is_refused(name, parallel, rng):
    cell = CELLS[name](rng, reset="none", inhibition=True)
    for shape in ((3, 4, 4), (2, 5), ()):
        with refused(f"inputs must have shape (n,) with inhibition, got shape {shape}."):
            discrete.run(cell, jnp.ones((T, *shape)), parallel=parallel)


def test_feedback_that_does_not_fit_is_named(rng):
    xs = jnp.ones((T, 3, 5, 5))
    shown = "feedback must map spikes of shape (3, 5, 5) to currents of the same shape, got "
    for feedback in (linear(4, 4, rng), eqx.nn.Conv2d(2, 2, 3, key=jax.random.key(0))):
        assert shown in one_line(lambda f=feedback: discrete.run(discrete.RLeaky(0.9, f), xs))


# ------------------------------------------------------------------ layers


def conv(**options):
    return eqx.nn.Conv2d(2, 4, 3, key=jax.random.key(0), **options)


def test_a_layer_that_cannot_take_its_input_is_named(rng):
    first, cell = linear(4, N, rng), discrete.Leaky(0.9)
    wrong = linear(N + 1, 2, rng)
    xs = jnp.ones((T, B, 4))
    for layers, xs_, place, shape in (
        ([first, cell], xs[..., :3], "layers[0] (Linear)", "f64[3]"),
        ([first, cell], xs[:, 0], "layers[0] (Linear)", "f64[]"),  # no batch
        ([first, cell, wrong, cell], xs, "layers[2] (Linear)", f"f64[{N}]"),
        ([first, cell, wrong], xs, "layers[2] (Linear)", f"f64[{N}]"),
        ([first, discrete.Leaky(np.full(3, 0.5))], xs, "layers[1] (Leaky)", f"f64[{N}]"),
        ([jnp.tanh, lambda x: x @ jnp.ones(9), cell], xs, "layers[1] (function)", "f64[4]"),
    ):
        model = discrete.Sequential(layers)
        for options in ({}, {"parallel": True}):
            message = one_line(lambda m=model, x=xs_, o=options: discrete.run_batch(m, x, **o))
            expected = (
                f"{place} must accept {shape}, the input of one sample at one step, got the error: "
            )
            assert message.startswith(expected)
    nested = discrete.Sequential([first, discrete.Sequential([cell, wrong])])
    message = one_line(lambda: discrete.run(nested, xs[:, 0]))
    assert "layers[1] (Sequential)" in message and "layers[1] (Linear) must accept" in message
    one_line(lambda: discrete.Sequential([first, cell]).init_state(xs[0]))  # a batch


def test_integer_event_counts_are_refused_and_floats_accepted(rng):
    frames = rng.integers(0, 3, (T, B, 2, 6, 6))
    model = discrete.Sequential([conv(), discrete.Leaky(0.9)])
    model = jax.tree.map(lambda x: x.astype(float) if eqx.is_array(x) else x, model)
    for dtype, shown in ((np.int16, "i16"), (np.uint8, "u8"), (bool, "bool")):
        message = one_line(lambda d=dtype: discrete.run_batch(model, frames.astype(d)))
        assert f"layers[0] (Conv2d) must accept {shown}[2,6,6]" in message
        assert message.endswith("(integers become floating-point by astype).")
    with refused("inputs of a cell must be floating-point, got int16."):
        discrete.run(discrete.Leaky(0.9), np.ones((T, 4), np.int16))
    assert discrete.run_batch(model, frames.astype(float)).spikes.shape == (T, B, 4, 4, 4)


def test_tracing_errors_are_unchanged():
    def branch(x):
        return x if x[0] > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        discrete.run(discrete.Sequential([branch, discrete.Leaky(0.9)]), jnp.ones((T, 4)))


class Keyless(eqx.Module):
    """Module whose call takes no key."""

    gain: float

    def __call__(self, x):
        return self.gain * x


def test_a_module_without_a_key_is_a_layer_and_a_feedback():
    xs, key = jnp.full((T, 4), 0.6), jax.random.key(0)
    run = eqx.filter_jit(lambda model: discrete.run(model, xs, key=key).membranes)
    layered = run(discrete.Sequential([Keyless(0.5), discrete.LeakyIntegrator(0.9)]))
    np.testing.assert_allclose(layered[:2, 0], [0.3, 0.57])
    fed_back = run(discrete.RLeaky(0.5, Keyless(-0.25), threshold=0.7))
    np.testing.assert_allclose(fed_back[:3, 0], [0.6, 0.9, 0.45 + 0.6 - 0.25 - 0.7])


def test_feedback_gets_a_new_key_at_each_step():
    """Every neuron fires at every step, so the membrane potential shows which feedback dropout
    keeps."""
    layer = eqx.nn.Dropout(0.5)
    cells = [
        discrete.RLeaky(0.0, layer, threshold=0.5, reset="none"),
        discrete.RSynaptic(0.0, 0.0, layer, threshold=0.5, reset="none"),
    ]
    run = eqx.filter_jit(lambda cell, key: discrete.run(cell, jnp.ones((2 * T, 40)), key=key))
    for cell in cells:
        membranes = np.asarray(run(cell, jax.random.key(1)).membranes)
        np.testing.assert_array_equal(membranes[0], 1)
        assert set(np.unique(membranes[1:])) == {1, 3}  # 1 + 0, 1 + 2
        assert len(np.unique(membranes[1:], axis=0)) == 2 * T - 1
        np.testing.assert_array_equal(membranes, run(cell, jax.random.key(1)).membranes)
        assert np.any(membranes != run(cell, jax.random.key(2)).membranes)
        still = run(eqx.nn.inference_mode(cell), jax.random.key(1)).membranes
        np.testing.assert_array_equal(still[1:], 2)


# ------------------------------------------------------------------ inputs, states and keys


class Gated(discrete.AbstractCell):
    """Leaky integrator whose state is unchanged where a mask is 0."""

    rho: jax.Array
    weight: jax.Array
    neuron_parameters = ("rho",)

    def init_state(self, x):
        return discrete.LeakyState(jnp.zeros(x["drive"].shape, x["drive"].dtype))

    def __call__(self, x, state, *, key=None):
        mem = self.rho * state.mem + self.weight * x["drive"]
        mem = jnp.where(x["mask"], mem, state.mem)
        return mem, discrete.LeakyState(mem)


def test_inputs_may_be_trees(rng):
    cell = Gated(jnp.asarray(0.5), jnp.asarray(2.0))
    drive, mask = rng.normal(size=(T, B, 4)), rng.random((T, B)) < 0.6
    expected, mem = [], np.zeros((B, 4))
    for x, keep in zip(drive, mask, strict=True):
        mem = np.where(keep[:, None], 0.5 * mem + 2 * x, mem)
        expected.append(mem)
    xs = {"drive": drive, "mask": mask}
    out = discrete.run_batch(cell, xs)
    np.testing.assert_allclose(out.membranes, expected, rtol=1e-12)
    one = discrete.run(cell, {"drive": drive[:, 0], "mask": mask[:, 0]})
    np.testing.assert_allclose(one.membranes, np.array(expected)[:, 0], rtol=1e-12)
    # A layer before the cell, a pair instead of a dict, and one input for all steps.
    model = discrete.Sequential([lambda x: {"drive": -x[0], "mask": x[1]}, cell])
    pair = discrete.run_batch(model, (-drive, mask), state=(None, out.state))
    assert pair.spikes.shape == (T, B, 4)
    constant = discrete.run_batch(model, (drive[0], np.ones(B, bool)), num_steps=3)
    np.testing.assert_allclose(constant.spikes[2], -2 * 1.75 * drive[0], rtol=1e-12)
    # A list is accepted as an array.
    listed = discrete.run(discrete.Leaky(0.9), [[0.5, 0.25], [0.1, 0.2]])
    np.testing.assert_allclose(listed.membranes[1], [0.55, 0.425])


def test_inputs_that_do_not_fit_are_refused():
    cell = discrete.Leaky(0.9)
    time, batch = r"xs must have shape \(T, ...\) with T >= 1", "xs must have shape (T, batch, ...)"
    for call, message in (
        (lambda: discrete.run(cell, None), f"{time}.*got None"),
        (
            lambda: discrete.run(cell, "film"),
            "xs must be an array of real numbers or a tree of such arrays, got 'film'",
        ),
        (lambda: discrete.run(cell, jnp.ones(())), rf"{time}.*num_steps.*got shape \(\)"),
        (lambda: discrete.run(cell, (jnp.ones((3, 2)), jnp.ones((4, 2)))), f"{time}.*f64"),
        (
            lambda: discrete.run(cell, {"a": jnp.ones((4, 2))}),
            "inputs of a cell must be one array, got dict",
        ),
        (lambda: discrete.run_batch(cell, jnp.ones(4)), rf"{re.escape(batch)}.*\(4,\)"),
        (
            lambda: discrete.run_batch(cell, (jnp.ones((3, 2)), jnp.ones((3, 5)))),
            re.escape(batch),
        ),
        (
            lambda: discrete.run_batch(cell, jnp.ones(()), num_steps=3),
            r"xs must have shape \(batch, \.\.\.\), the same for all steps, got shape \(\)",
        ),
        (lambda: discrete.run(eqx.nn.Identity(), jnp.ones((3, 2))), "model must be a cell"),
        (lambda: discrete.run(discrete.Leaky, jnp.ones((3, 2))), "model must be a cell"),  # pyright: ignore[reportArgumentType]
    ):
        assert re.match(message, one_line(call))


def test_a_state_of_another_kind_is_refused():
    cell, xs, state = discrete.Leaky(0.9), jnp.ones((T, B, 5)), discrete.LeakyState
    model = discrete.Sequential([jnp.tanh, cell])
    for call, expected, got in (
        (lambda s: discrete.run_batch(cell, xs, state=s), "LeakyState(mem=f64[3,5])", (4, 5)),
        (lambda s: discrete.run_batch(cell, xs, state=s), "LeakyState(mem=f64[3,5])", (5,)),
        (lambda s: discrete.run(cell, xs[:, 0], state=s), "LeakyState(mem=f64[5])", (3, 5)),
        (lambda s: discrete.run(cell, xs[:, 0], state=s), "LeakyState(mem=f64[5])", ()),
    ):
        shown = f"LeakyState(mem=f64[{','.join(map(str, got))}])"
        message = one_line(lambda c=call, g=got: c(state(jnp.zeros(g))))
        assert message.startswith(f"state must be {expected}, as ")
        assert message.endswith(f"(x), got {shown}.")
    for given, shown in (
        (state(jnp.zeros(5, jnp.float32)), "LeakyState(mem=f32[5])"),
        (discrete.SynapticState(*jnp.zeros((2, 5))), "SynapticState(syn=f64[5], mem=f64[5])"),
        ((state(jnp.zeros(5)),), "(LeakyState(mem=f64[5]),)"),
    ):
        with refused(f"got {shown}."):
            discrete.run(cell, xs[:, 0], state=given)
        with refused(f"got {shown}."):
            discrete.run(model, xs[:, 0], state=given)
    with refused("state must have 2 entries, one per layer, got (LeakyState(mem=f64[5]),)."):
        model(xs[0, 0], (state(jnp.zeros(5)),))


def test_the_first_state_of_a_batch_is_that_of_its_samples(rng):
    model = discrete.Sequential([linear(4, N, rng), discrete.Synaptic(0.5, 0.7)])
    xs = jnp.asarray(rng.normal(size=(T, B, 4)))
    run = eqx.filter_jit(discrete.run_batch)
    start = jax.vmap(model.init_state)(xs[0])
    assert start[1].mem.shape == (B, N)
    for a, b in zip(
        jax.tree.leaves(run(model, xs, state=start)), jax.tree.leaves(run(model, xs)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_invalid_keys_are_refused():
    cell, xs, keys = (
        discrete.Leaky(0.9),
        jnp.ones((T, B, 4)),
        jax.random.split(jax.random.key(0), 4),
    )
    for call in (partial(discrete.run, cell, xs[:, 0]), partial(discrete.run_batch, cell, xs)):
        for bad, shown in ((0, "0"), ("a", "'a'"), (np.arange(2), "[0, 1]")):
            assert one_line(lambda c=call, k=bad: c(key=k)).startswith(
                f"key must be a jax.random key, got {shown}"
            )
    with refused("key must be one jax.random key, got shape (4,)."):
        discrete.run(cell, xs[:, 0], key=keys)
    with refused(
        "key must be one jax.random key or 3 keys, one per sample (the second axis of xs)"
    ):
        discrete.run_batch(cell, xs, key=keys)


def test_raw_keys_equal_typed_keys():
    model = discrete.Sequential([eqx.nn.Dropout(0.5), discrete.LeakyIntegrator(0.9)])
    xs = jnp.ones((T, B, 20))
    run, run_batch = eqx.filter_jit(discrete.run), eqx.filter_jit(discrete.run_batch)
    new, old = jax.random.key(3), jax.random.PRNGKey(3)
    for call, x in ((run, xs[:, 0]), (run_batch, xs)):
        np.testing.assert_array_equal(
            call(model, x, key=new).spikes, call(model, x, key=old).spikes
        )
    each = run_batch(model, xs, key=jax.random.split(new, B)).spikes
    np.testing.assert_array_equal(each, run_batch(model, xs, key=jax.random.split(old, B)).spikes)


# ------------------------------------------------------------------ what trains


def test_a_new_cell_names_its_neuron_parameters():
    cell = Gated(jnp.asarray(0.5), jnp.asarray(2.0))
    inner = discrete.Sequential([jnp.tanh, cell])
    model = discrete.Sequential([inner, discrete.Leaky(0.9)])

    def trains(*names):
        flags = jax.tree_util.tree_leaves_with_path(discrete.trainable(model, *names))
        return {jax.tree_util.keystr(path) for path, flag in flags if flag}

    weight, rho = (f".layers[0].layers[1].{name}" for name in ("weight", "rho"))
    assert trains() == {weight}
    assert trains("rho") == {weight, rho}
    assert trains("rho", "beta") == {weight, rho, ".layers[1].beta"}
    with refused("capacitance, time_step, rho, got 'weight'."):
        discrete.trainable(model, "weight")
    with refused("capacitance, time_step, got 'rho'."):
        discrete.trainable(discrete.Leaky(0.9), "rho")


def test_a_model_with_functions_goes_through_filtered_transformations(rng):
    model = discrete.Sequential([jnp.ravel, linear(4, N, rng), discrete.Leaky(0.9)])
    xs = jnp.asarray(rng.normal(size=(T, 2, 2)))

    def total(model):
        return jnp.sum(discrete.run(model, xs).spikes)

    plain = discrete.run(model, xs.reshape(T, 4)).spikes.sum()
    value, grads = eqx.filter_jit(eqx.filter_value_and_grad(total))(model)
    assert value == plain and np.any(grads.layers[1].weight != 0)
    several = eqx.filter_vmap(total)(
        jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, model)
    )
    assert several.shape == (1,) and several[0] == plain


def test_wrapped_parameters_are_refused_by_constructors():
    with refused("beta must be a real number or an array of real numbers, got Bounded"):
        discrete.Leaky(esn.Bounded(0.9))  # pyright: ignore[reportArgumentType]
