"""Compiled queries, shared by the tests: compiled once for all networks of the same shapes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn
from eventsnn.cpu import known_options
from helpers.registry import QUICK


def unsimplified(fn):
    """Compile without XLA's simplifier, for derivatives whose compilation is slow.

    The simplifier runs in cycles and takes half of the compilation time. Without it, results differ
    by rounding, if at all.
    """
    options = known_options(QUICK | {"xla_disable_hlo_passes": "algsimp"})
    return jax.jit(fn, compiler_options=options)


@eqx.filter_jit
def simulate(net, in_times):
    return net.simulate(in_times, throw=False)


@eqx.filter_jit
def ttfs(net, in_times):
    return net.ttfs(in_times, throw=False)


@eqx.filter_jit
def spikes(net, in_times, max_spikes):
    return net.spikes(in_times, max_spikes, throw=False)


@eqx.filter_jit
def potentials_at(net, in_times, times):
    return net.potentials_at(in_times, times, throw=False)


def events_of(net, in_times):
    """Times and sources of one sample without the padding, after checking padding and status."""
    sol = simulate(net, jnp.asarray(in_times))
    count = int(sol.stats["events"])
    assert bool(sol.status == esn.Status.completed)
    assert np.all(np.isfinite(sol.times[:count])) and np.all(sol.sources[:count] >= 0)
    assert np.all(np.isinf(sol.times[count:])) and np.all(sol.sources[count:] == -1)
    return np.asarray(sol.times[:count]), np.asarray(sol.sources[:count])
