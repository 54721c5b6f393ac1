"""Equality of batch axes, `vmap` and loops, and of eager and compiled calls, without
recompilation."""

import functools as ft
import gc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn.event.engine import batching, programs
from eventsnn.event.engine.programs import program
from helpers.jitted import potentials_at, simulate, ttfs
from helpers.registry import EXACT, N_IN, ODE, K, N, network, problem

QUERY = jnp.array([11.0, 3.0])


def small(case, seed=2, **options):
    options = {"t_max": 25.0, "max_events": 80, "outputs": (4, 0, 2)} | options
    return network(case, problem(case.model, seed, until=15.0), **options)


def inputs(key, *batch):
    x = jax.random.uniform(key, (*batch, N_IN, K), minval=-5.0, maxval=20.0)
    return jnp.where(x < 0, jnp.inf, x)


def same(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13), a, b)


@pytest.mark.parametrize("case", [*EXACT[::2], ODE[0]], ids=str)
def test_batch_axis_is_loop(case, getkey):
    net, x = small(case), inputs(getkey(), 4)
    batched = simulate(net, x)
    assert batched.times.shape == (4, 80) and batched.stats["events"].shape == (4,)
    assert np.all(batched.status == esn.Status.completed)
    assert len({int(n) for n in batched.stats["events"]}) > 1  # samples of different lengths
    for k in range(4):
        one = simulate(net, x[k])
        np.testing.assert_array_equal(one.sources, batched.sources[k])
        np.testing.assert_allclose(one.times, batched.times[k], rtol=1e-13)
        assert int(one.stats["events"]) == int(batched.stats["events"][k])


def test_batch_axis_is_vmap(getkey, case=EXACT[2]):
    net, x = small(case), inputs(getkey(), 2, 2)
    nested = ttfs(net, x)
    assert nested.shape == (2, 2, 3) and np.isfinite(nested).any()
    same(jax.jit(jax.vmap(jax.vmap(net.ttfs)))(x), nested)
    same(ttfs(net, x.reshape(4, N_IN, K)), nested.reshape(4, 3))


def test_states_of_a_batch(getkey):
    net, x = small(EXACT[0]), inputs(getkey(), 2, 2)
    v = potentials_at(net, x, QUERY)
    assert v.shape == (2, 2, 3, 2)
    same(v[1, 0], potentials_at(net, x[1, 0], QUERY))


@pytest.mark.parametrize("case", EXACT[::2], ids=str)
def test_vmap_over_models(case, getkey):
    nets = [small(case, seed) for seed in (2, 3, 4)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x) if eqx.is_array(x[0]) else x[0], *nets)
    x = inputs(getkey(), 3)
    each = jnp.stack([ttfs(net, x[k]) for k, net in enumerate(nets)])
    same(eqx.filter_jit(eqx.filter_vmap(ttfs))(stacked, x), each)
    on_one_input = jnp.stack([ttfs(net, x[0]) for net in nets])
    same(
        eqx.filter_jit(eqx.filter_vmap(ttfs, in_axes=(eqx.if_array(0), None)))(stacked, x[0]),
        on_one_input,
    )


@pytest.mark.parametrize("case", EXACT[::2], ids=str)
def test_eager_is_compiled(case, getkey):
    net, x = small(case), inputs(getkey(), 4)
    same(net.ttfs(x), ttfs(net, x))


def test_a_second_model_does_not_retrace(getkey):
    traces = 0

    @eqx.filter_jit
    def run(net, x):
        nonlocal traces
        traces += 1
        return net.ttfs(x, throw=False)

    for case, expected in ((EXACT[0], 1), (EXACT[2], 2)):
        for seed, ratio in ((2, 2.0), (3, 2.0), (3, 0.7)):
            params = problem(case.model, seed, ratio, until=15.0)
            run(network(case, params, t_max=25.0, max_steps=400), inputs(getkey()))
        assert traces == expected


def test_a_second_call_does_not_compile(getkey, caplog):
    """Also without an enclosing jit."""
    compiled = []
    for seed in (2, 3, 4):
        net, x = small(EXACT[0], seed), inputs(getkey())
        caplog.clear()
        with jax.log_compiles():
            net.ttfs(x)
        compiled.append([r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()])
    assert compiled[0]  # the first call compiles, and the log shows it
    assert compiled[1:] == [[], []]


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_float32(case, getkey):
    net, x = small(case), inputs(getkey(), 4)
    low = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, net)
    times = ttfs(low, x.astype(jnp.float32))
    assert times.dtype == jnp.float32
    np.testing.assert_allclose(times, ttfs(net, x), rtol=1e-4)


def test_default_precision(getkey):
    """Default settings of a user: float32, and no 64-bit number anywhere."""
    expected = small(EXACT[0]).ttfs(jnp.array([[3.0, 1.0, 7.0], [2.0, 9.0, jnp.inf]]))
    with jax.enable_x64(False):
        net = small(EXACT[0])
        loss, grads = eqx.filter_value_and_grad(lambda net, x: jnp.sum(net.ttfs(x)))(
            net, jnp.array([[3.0, 1.0, 7.0], [2.0, 9.0, jnp.inf]])
        )
        assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
        np.testing.assert_allclose(loss, np.sum(np.asarray(expected)), rtol=1e-4)


QUERIES = {
    "ttfs": (lambda net, x: net.ttfs(x), (3,)),
    "spikes": (lambda net, x: net.spikes(x, 2), (3, 2)),
    "potentials_at": (lambda net, x: net.potentials_at(x, QUERY), (3, 2)),
    "counts": (lambda net, x: net.counts(x), (3,)),
    "integrals": (lambda net, x: net.integrals(x), (3,)),
    "maxima": (lambda net, x: net.maxima(x), (3,)),
    "simulate": (lambda net, x: net.simulate(x).times, (80,)),
}


@pytest.mark.parametrize("name", QUERIES)
def test_no_sample(name):
    """Any axis of a batch may have length 0."""
    (query, shape), net = QUERIES[name], small(EXACT[0])
    whole = jax.jit(lambda x: query(net, x))
    one = jax.vmap(whole)
    for axes, each in (((0,), one), ((0, 3), jax.vmap(one)), ((3, 0), jax.vmap(one))):
        x = jnp.zeros((*axes, N_IN, K))
        assert whole(x).shape == each(x).shape == (*axes, *shape)
    assert query(net, jnp.zeros((0, N_IN, K))).shape == (0, *shape)


@pytest.mark.parametrize("delays", [None, 1.0], ids=["at once", "delayed"])
@pytest.mark.parametrize(
    "adjoint", [esn.EventProp(), esn.Autodiff()], ids=["eventprop", "autodiff"]
)
def test_gradients_without_a_sample(adjoint, delays):
    delays = None if delays is None else jnp.full((N + N_IN, N), delays)
    net = small(EXACT[0], adjoint=adjoint, delays=delays)
    both = (net, jnp.zeros((0, N_IN, K)))
    for compile in (lambda f: f, eqx.filter_jit):
        grads = compile(eqx.filter_grad(lambda both: jnp.sum(both[0].ttfs(both[1]))))(both)
        found = [x for x in jax.tree.leaves(grads[0]) if eqx.is_inexact_array(x)]
        assert len(found) >= 7 and all(np.all(x == 0) for x in found)
        assert grads[1].shape == (0, N_IN, K)
    models = jax.tree.map(lambda x: x[None][:0] if eqx.is_array(x) else x, net)
    run = eqx.filter_vmap(lambda net: net.ttfs(jnp.zeros((N_IN, K))))
    assert run(models).shape == (0, 3)


def n_programs():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


def test_programs_that_are_no_longer_used_are_dropped(monkeypatch):
    """Calls without jit keep their compiled programs, but not for every past value of t_max."""
    cache = ft.lru_cache(2)(program.__wrapped__)
    for module in (batching, programs):
        monkeypatch.setattr(module, "program", cache)
    x = inputs(jax.random.key(0))
    jax.clear_caches()
    before = n_programs()

    def query(t_max):
        small(EXACT[0], t_max=t_max).counts(x)
        return n_programs()

    first = query(20.0)
    assert [query(20.0 + k) - first for k in range(1, 4)] == [1, 1, 1]
    assert query(23.0) - first == 1 and program.cache_info().maxsize <= 32
    jax.clear_caches()
    assert n_programs() == before
    query(23.0)


def test_gradients_that_are_not_under_jit_do_not_compile_twice(caplog):
    """With Autodiff, whose loop over the rows is also a program."""
    compiled = []
    for seed in (2, 3):
        net, x = small(EXACT[0], seed, adjoint=esn.Autodiff()), inputs(jax.random.key(0))
        caplog.clear()
        with jax.log_compiles():
            eqx.filter_grad(lambda net: jnp.sum(jnp.minimum(net.ttfs(x), 99.0)))(net)  # noqa: B023
        compiled.append([r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()])
    assert compiled[0] and not compiled[1]
