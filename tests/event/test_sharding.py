"""Samples on several devices give the same results as on one.

The test runs in a separate process, because the number of devices is fixed when JAX starts.
"""

import os
import subprocess
import sys

SCRIPT = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import eventsnn as esn

weights = jnp.array([[0.0, 1.0], [1.0, 0.0], [8.0, 9.0]])
in_times = jnp.arange(8.0).reshape(4, 1, 2)

def network(weights, adjoint=None, t_max=50.0):
    options = {"outputs": (0, 1), "max_events": 60, "t_max": t_max}
    return esn.EventNetwork(esn.LIF(10.0, 5.0), weights, adjoint=adjoint, **options)

def of(adjoint):
    def first(weights, in_times):
        return network(weights, adjoint).ttfs(in_times, throw=False)

    def both(weights, in_times):
        times, transposed = jax.vjp(first, weights, in_times)
        return times, *transposed(jnp.ones_like(times))

    return both

def same(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), a, b)

one = jax.jit(of(esn.EventProp()))(weights, in_times)
assert np.all(np.isfinite(one[0])) and np.all(one[1][2] != 0)

# Each device has its samples; a gradient of the weights is the sum over all.
mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Auto,))
specs = {"in_specs": (P(), P("b")), "out_specs": (P("b"), P(), P("b"))}
for adjoint in (esn.EventProp(), esn.Autodiff()):
    same(jax.jit(jax.shard_map(of(adjoint), mesh=mesh, **specs))(weights, in_times), one)
count = jax.jit(lambda x: network(weights).counts(x, throw=False))
eager = jax.shard_map(lambda x: network(weights).counts(x, throw=False), mesh=mesh,
                      in_specs=P("b"), out_specs=P("b"))
same(eager(in_times), count(in_times))

def layers(weights):
    hidden = esn.EventLinear(esn.LIF(10.0, 5.0), weights, t_max=50.0, max_spikes=20)
    outputs = esn.EventLinear(esn.LeakyIntegrator(10.0, 5.0), weights, t_max=50.0)
    return esn.EventSequential([hidden, outputs])

def of_layers(weights, in_times):
    run = lambda weights, x: layers(weights).maxima(x, throw=False)
    values, transposed = jax.vjp(run, weights, in_times)
    return values, *transposed(jnp.ones_like(values))

trains, square = jnp.concatenate([in_times, 3.0 + in_times], axis=1), weights[1:]
by_layers = jax.jit(of_layers)(square, trains)
assert all(np.isfinite(x).all() and np.any(x) for x in by_layers)
same(jax.jit(jax.shard_map(of_layers, mesh=mesh, **specs))(square, trains), by_layers)

# A mesh with explicit axes, as `jax.make_mesh` makes it: the outputs lie as the inputs do.
mesh = jax.make_mesh((2,), ("b",))
placed = jax.device_put(in_times, NamedSharding(mesh, P("b")))
for adjoint in (esn.EventProp(), esn.Autodiff()):
    found = jax.jit(of(adjoint))(weights, placed)
    same(found, one)
    for x, spec in zip(found, (P("b"), P(), P("b"))):
        assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim)
found = jax.jit(of_layers)(square, jax.device_put(trains, NamedSharding(mesh, P("b"))))
same(found, by_layers)
for x, spec in zip(found, (P("b"), P(), P("b"))):
    assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim)
net = network(weights)
with jax.set_mesh(mesh):
    same(jax.jit(jax.vmap(lambda x: net.ttfs(x, throw=False)))(placed), one[0])
    solution = eqx.filter_jit(lambda x: net.simulate(in_times=x, throw=False))(placed)
same(solution.times, eqx.filter_jit(net.simulate)(in_times, throw=False).times)
at = jnp.array([9.0, 2.0])
same(net.potentials_at(placed, at), net.potentials_at(in_times, at))
print("checked")
"""


def test_samples_on_two_devices():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=os.environ, timeout=800
    )
    assert done.stdout.strip() == "checked", done.stderr
