"""Differentiable simulation of a layer for one sample, as a primitive that simulates a batch."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from ..engine.batching import BatchNative, reverse_only
from ..engine.programs import Static
from ..engine.system import gap_scale
from ..flows import AbstractLaneFlow
from ..neurons import AbstractNeuron
from .backward import Learnt, transpose
from .forward import Sweep, sweep
from .groups import in_groups
from .system import Arrivals, Layer, Setting, summed


class Outcome(NamedTuple):
    """Result of a simulation.

    - `times`: times of the first `max_spikes` spikes of each neuron, padded with inf.
    - `counts`: number of spikes of each neuron.
    - `status`: status code.
    - `steps`: number of rows of the sweep.
    """

    times: Float[Array, "*batch n spikes"]
    counts: Int[Array, "*batch n"]
    status: Int[Array, " *batch"]
    steps: Int[Array, " *batch"]


class _Parameters(NamedTuple):
    """Leaves of the layer that are arrays of floats."""

    neuron: PyTree
    weights: Float[Array, "inputs n"]
    drive: Float[Array, "*n"] | None  # of pseudospikes


class _Problem(NamedTuple):
    """Static part of a simulation, fixed when it is compiled; hashable."""

    setting: Setting
    static: Static  # the flow, and the neuron without its parameters
    min_speed: float

    def build(self, parameters: _Parameters) -> Layer:
        """Return the layer with these parameters."""
        flow, static = self.static.tree
        neuron = eqx.combine(parameters.neuron, static)
        weights = jnp.pad(parameters.weights, ((0, 1), (0, 0)))
        return Layer(flow, neuron, weights, gap_scale(neuron, self.setting.n), parameters.drive)


def solve(
    setting: Setting,
    flow: AbstractLaneFlow,
    neuron: AbstractNeuron,
    weights: Float[Array, "inputs n"],
    drive: Float[Array, "*n"] | None,
    min_speed: float,
    arrivals: Arrivals,
) -> Outcome:
    """Simulate one sample, differentiably. Under `jax.vmap` one sweep simulates the batch."""
    arrays, static = eqx.partition(neuron, eqx.is_inexact_array)
    problem = _Problem(setting, Static((flow, static)), min_speed)
    one = jax.tree.map(lambda x: x[None], arrivals)
    out = _simulate(problem, _Parameters(arrays, weights, drive), one)
    return jax.tree.map(lambda x: x[0], out)


def _outcome(swept: Sweep) -> Outcome:
    return Outcome(swept.spikes.times, swept.counts, swept.status, swept.steps)


def _run(problem: _Problem, parameters: _Parameters, arrivals: Arrivals) -> Outcome:
    return _outcome(_sweep(problem, parameters, arrivals))


def _sweep(problem: _Problem, parameters: _Parameters, arrivals: Arrivals) -> Sweep:
    """Simulate a batch; the batch is the first axis of all results."""
    layer = problem.build(parameters)

    def group(arrivals: Arrivals) -> tuple[Sweep, tuple]:
        swept = sweep(problem.setting, layer, arrivals)
        rows, checkpoints = _swap((swept.rows, swept.checkpoints))
        return swept._replace(rows=rows, checkpoints=checkpoints), ()

    return in_groups(group, arrivals.times, arrivals, problem.setting.n)[0]


def _swap(tree: Any) -> Any:
    """Exchange the first two axes: rows and batch."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def _differentiated(static: tuple[_Problem, tuple[bool, ...]], parameters, arrivals) -> Outcome:
    problem, marks = static
    active, _ = jax.tree.unflatten(jax.tree.structure((parameters, arrivals)), marks)
    flow, _ = problem.static.tree
    states = any(jax.tree.leaves(active.neuron)) or not flow.affine
    setting = problem.setting._replace(keep="states" if states else "spikes")
    problem = problem._replace(setting=setting)
    run = jax.custom_vjp(lambda parameters, arrivals: _loop(problem, parameters, arrivals))

    def forward(parameters, arrivals):
        swept = _recorded(problem, parameters, arrivals)
        return _outcome(swept), (parameters, arrivals, swept)

    def backward(residual, cotangent):
        parameters, arrivals, swept = residual
        batch = arrivals, swept, cotangent.times
        d_parameters, d_times = _transposed((problem, Static(active)), parameters, batch)
        no_channels = np.zeros(arrivals.channels.shape, jax.dtypes.float0)
        return d_parameters, arrivals._replace(times=d_times, channels=no_channels)

    run.defvjp(forward, backward)
    return run(*reverse_only((parameters, arrivals)))


def _transpose(static: tuple[_Problem, Static], parameters: _Parameters, batch: Any):
    """Cotangents of the parameters (summed over the batch) and of the arrival times.

    Differentiated parameters of the neuron are repeated for every lane, so that their cotangents
    are elementwise. They are summed at the end.
    """
    problem, active = static[0], static[1].tree
    n, layer = problem.setting.n, problem.build(parameters)
    zero = jax.tree.map(jnp.zeros_like, parameters)

    def group(batch: Any) -> tuple[Array, _Parameters]:
        arrivals, swept, d_times = batch
        rows, checkpoints = _swap((swept.rows, swept.checkpoints))
        swept = swept._replace(rows=rows, checkpoints=checkpoints)
        spread = jax.tree.map(
            lambda x, on: jnp.broadcast_to(x, (len(d_times), n)) if on else x,
            parameters.neuron,
            active.neuron,
        )
        differentiated, fixed = eqx.partition(spread, active.neuron)
        learnt = Learnt(differentiated, eqx.combine(fixed, problem.static.tree[1]), None)
        d = transpose(
            problem.setting,
            layer,
            learnt,
            active.weights,
            problem.min_speed,
            arrivals,
            swept,
            d_times,
        )
        neuron = jax.tree.map(
            lambda x, on, g: summed(g, x) if on else x,
            zero.neuron,
            active.neuron,
            eqx.combine(d.learnt, zero.neuron),
        )
        weights = zero.weights if d.weights is None else d.weights[:-1]
        return d.times, _Parameters(neuron, weights, zero.drive)

    d_arrivals, d_parameters = in_groups(group, batch[0].times, batch, n)
    return d_parameters, d_arrivals


# `_simulate` is differentiated: by `_recorded`, and backwards by `_transposed`.
_loop = BatchNative("eventsnn_lanes", _run)
_recorded = BatchNative("eventsnn_lanes_recorded", _sweep)
_transposed = BatchNative("eventsnn_lanes_transpose", _transpose, sums=True)
_simulate = BatchNative("eventsnn_layer", _run, derivative=_differentiated)
