"""Recording of state variables over time, by their names."""

import re
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import discrete
from helpers.registry import N, linear

T, B, N_IN = 6, 2, 3


class Pair(NamedTuple):
    """State of `Twice`."""

    first: jax.Array
    rest: dict[str, list[jax.Array]]


class Twice(discrete.AbstractCell):
    """Two sums over time, nested in different ways."""

    def init_state(self, x):
        return Pair(jnp.zeros_like(x), {"slow": [jnp.zeros_like(x)]})

    def __call__(self, x, state, *, key=None):
        first, slow = state.first + x, 0.5 * state.rest["slow"][0] + x
        return first, Pair(first, {"slow": [slow]})


def network(rng):
    inner = discrete.Sequential([discrete.Alpha(0.9, 0.7, threshold=0.3), linear(N, N, rng)])
    cells = Twice(), discrete.Synaptic(0.5, 0.7, reset="none"), inner
    return discrete.Sequential([linear(N_IN, N, rng), *cells, linear(N, 2, rng)])


NAMES = ("1.first", "1.rest.slow.0", "2.syn", "2.mem", "3.0.syn_inh", "-2.0.mem", "2")


def test_states_are_those_of_a_loop_over_the_steps(rng):
    model, xs = network(rng), jnp.asarray(rng.normal(size=(T, B, N_IN)))

    @eqx.filter_jit
    def solve(model, xs):
        options = {"layers": (2,), "record": NAMES}
        batch = discrete.run_batch(model, xs, **options)
        others = [
            discrete.run_batch(model, xs, parallel=True, **options),
            discrete.run_batch(model, xs, checkpoint_every=4, **options),
        ]
        short = discrete.run_batch(model, xs, lengths=jnp.array([T, 2]), **options)
        return batch, others, short

    @eqx.filter_jit
    def step(model, x, state):
        return jax.vmap(model)(x, state)

    batch, others, short = solve(model, xs)
    state, found = jax.vmap(model.init_state)(xs[0]), {name: [] for name in NAMES}
    for x in xs:
        _, state = step(model, x, state)
        picked = [state[1].first, state[1].rest["slow"][0], state[2].syn, state[2].mem]
        picked += [state[3][0].syn_inh, state[3][0].mem, state[2]]
        for name, value in zip(NAMES, picked, strict=True):
            found[name].append(value)
    expected = {name: jax.tree.map(lambda *x: jnp.stack(x), *each) for name, each in found.items()}
    for run in (batch, *others):
        assert run.recorded.keys() == set(NAMES)
        for name in NAMES:
            pair = map(jax.tree.leaves, (run.recorded[name], expected[name]))
            for a, b in zip(*pair, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert isinstance(batch.recorded["2"], discrete.SynapticState)
    np.testing.assert_array_equal(batch.recorded["2.mem"], batch.membranes[0])
    held = short.recorded["1.first"]
    np.testing.assert_allclose(held[:2, 1], batch.recorded["1.first"][:2, 1], rtol=1e-12)
    assert np.all(held[2:, 1] == held[1, 1])


def test_a_single_cell():
    out = discrete.run(discrete.Synaptic(0.5, 0.7), jnp.ones(2), num_steps=3, record="syn")
    np.testing.assert_allclose(out.recorded["syn"][:, 0], [1, 1.5, 1.75], rtol=1e-12)
    assert discrete.run(discrete.Leaky(0.9), jnp.ones(2), num_steps=3).recorded == {}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("2.current", "layers[2] (Synaptic), '2.syn', '2.mem', got '2.current'."),
        ("1.rest.fast", "layers[1] (Twice), '1.rest.slow', got '1.rest.fast'."),
        ("1.first.x", "layers[1] (Twice), got '1.first.x'."),
        ("3.0.syn", "'3.0.syn_exc', '3.0.syn_inh', '3.0.mem', got '3.0.syn'."),
        ("0.mem", "1 or 2 or 3, as in '1.mem', got '0.mem' of layers[0] (Linear)."),
        ("mem", "1 or 2 or 3, as in '1.mem', got 'mem'."),
        ("9.mem", "1 or 2 or 3, as in '1.mem', got '9.mem'."),
    ],
)
def test_unknown_states_are_refused(rng, record, message):
    with pytest.raises(ValueError, match=f"^record must .*{re.escape(message)}"):
        discrete.run(network(rng), jnp.ones((T, N_IN)), record=record)
