"""Differentiable simulation of a sparse network, as a primitive that simulates a batch."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from ..engine.batching import BatchNative, no_cotangent, reverse_only
from ..engine.programs import Static
from ..engine.system import gap_scale
from ..flows import AbstractLaneFlow
from ..neurons import AbstractNeuron
from ..state import NetworkState
from .backward import transpose
from .context import Learnt
from .fan import Fan
from .forward import run
from .records import Run
from .system import Inputs, Network, Setting


class Spikes(NamedTuple):
    """Result of a simulation: spikes of neurons sorted by time, status code, number of steps.

    Unused entries have the time inf and the source `n_sources`. `end` is the state at the end, see
    `Run`.
    """

    times: Float[Array, "*batch events"]
    sources: Int[Array, "*batch events"]
    status: Int[Array, " *batch"]
    steps: Int[Array, " *batch"]
    end: NetworkState | None


class _Arrays(NamedTuple):
    """Arrays that all samples share."""

    neuron: PyTree
    weights: Float[Array, " synapses"]
    delays: Float[Array, " delays"]
    fan: Fan


class _Problem(NamedTuple):
    """Static part of a simulation, fixed when it is compiled; hashable."""

    setting: Setting
    static: Static  # the flow, and the neuron without its parameters
    min_speed: float

    def build(self, arrays: _Arrays) -> Network:
        """Return the network with these arrays."""
        (flow, static), n = self.static.tree, self.setting.n
        neuron = eqx.combine(arrays.neuron, static)
        weights = jnp.pad(arrays.weights, (0, self.setting.width))
        scale = jnp.broadcast_to(gap_scale(neuron, n), (n,))
        return Network(flow, neuron, weights, arrays.delays, arrays.fan, scale)


def solve(
    setting: Setting,
    flow: AbstractLaneFlow,
    neuron: AbstractNeuron,
    weights: Float[Array, " synapses"],
    delays: Float[Array, " delays"],
    fan: Fan,
    min_speed: float,
    inputs: Inputs,
) -> Spikes:
    """Simulate one sample, differentiably. Under `jax.vmap` the samples follow one another."""
    arrays, static = eqx.partition(neuron, eqx.is_inexact_array)
    problem = _Problem(setting, Static((flow, static)), min_speed)
    one = jax.tree.map(lambda x: x[None], inputs)
    out = _simulate(problem, _Arrays(arrays, weights, delays, fan), one)
    return jax.tree.map(lambda x: x[0], out)


def _spikes(setting: Setting, run: Run) -> Spikes:
    """Spikes up to the maximum number of events."""
    times, sources = (x[..., : setting.max_events] for x in (run.times, run.sources))
    return Spikes(times, sources, run.status, run.steps, run.end)


def _run(problem: _Problem, arrays: _Arrays, inputs: Inputs) -> Run:
    """Simulate the samples of a batch one after the other."""
    network = problem.build(arrays)
    return lax.map(lambda one: run(problem.setting, network, one), inputs)


def _run_spikes(problem: _Problem, arrays: _Arrays, inputs: Inputs) -> Spikes:
    return _spikes(problem.setting, _run(problem, arrays, inputs))


def _differentiated(static: tuple[_Problem, tuple[bool, ...]], arrays, inputs) -> Spikes:
    problem, marks = static
    active, _ = jax.tree.unflatten(jax.tree.structure((arrays, inputs)), marks)
    kept = problem._replace(setting=problem.setting._replace(keep=True))
    solved = jax.custom_vjp(lambda arrays, inputs: _loop(problem, arrays, inputs))

    def forward(arrays, inputs):
        found = _recorded(kept, arrays, inputs)
        return _spikes(problem.setting, found), (arrays, inputs, found)

    def backward(residual, cotangent):
        arrays, inputs, found = residual
        batch = inputs, found._replace(end=None), cotangent.times
        d_arrays, d_times = _transposed((kept, Static(active)), arrays, batch)
        d_arrays = d_arrays._replace(fan=no_cotangent(arrays.fan))
        return d_arrays, no_cotangent(inputs)._replace(times=d_times)

    solved.defvjp(forward, backward)
    return solved(*reverse_only_floats((arrays, inputs)))


def reverse_only_floats(tree: PyTree) -> PyTree:
    """Apply `reverse_only` to the arrays of floats."""
    floats, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(reverse_only(floats), rest)


def _transpose(static: tuple[_Problem, Static], arrays: _Arrays, batch: Any):
    """Cotangents of the arrays (summed over the batch) and of the input times.

    Differentiated parameters of the neuron are repeated for every neuron, so that their cotangents
    are elementwise. They are summed at the end.
    """
    problem, active = static[0], static[1].tree
    n, network = problem.setting.n, problem.build(arrays)
    spread = jax.tree.map(
        lambda x, on: jnp.broadcast_to(x, (n,)) if on else x, arrays.neuron, active.neuron
    )
    values, fixed = eqx.partition(spread, active.neuron)
    _, static_parts = problem.static.tree
    learnt = Learnt(values, eqx.combine(fixed, static_parts))
    zero = jax.tree.map(jnp.zeros_like, (arrays.weights, arrays.delays, values))

    def one(total, sample):
        inputs, found, d_times = sample
        padded = jnp.pad(d_times, (0, problem.setting.capacity))
        d = transpose(problem.setting, network, learnt, problem.min_speed, inputs, found, padded)
        d_weights = d.weights[: arrays.weights.size]
        return jax.tree.map(jnp.add, total, (d_weights, d.delays, d.learnt)), d.inputs

    (weights, delays, d_values), d_inputs = lax.scan(one, zero, batch)
    d_neuron = jax.tree.map(
        lambda x, g: jnp.zeros_like(x) if g is None else jnp.sum(g) if x.ndim == 0 else g,
        arrays.neuron,
        d_values,
        is_leaf=lambda x: x is None,
    )
    zeros = jax.tree.map(jnp.zeros_like, arrays.fan)
    return _Arrays(d_neuron, weights, delays, zeros), d_inputs


# `_simulate` is differentiated: by `_recorded`, and backwards by `_transposed`.
_loop = BatchNative("eventsnn_sparse", _run_spikes, sequential=True)
_recorded = BatchNative("eventsnn_sparse_recorded", _run, sequential=True)
_transposed = BatchNative("eventsnn_sparse_transpose", _transpose, sums=True, sequential=True)
_simulate = BatchNative(
    "eventsnn_sparse_network", _run_spikes, sequential=True, derivative=_differentiated
)
