"""Worker of eventsnn for the balanced network, in float64 on one core."""

import os
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn
from eventsnn.cpu import prepare_cpu

from ..workers import files
from . import network as model

#: Most spikes per ms and neuron for which there is room, and most spikes of a neuron in transit per
#: DELAY of the longest delay.
MOST_SPIKES, IN_TRANSIT = 0.05, 0.2


def build(network: files.Arrays, t_max: float) -> esn.EventNetwork:
    """Build the network with a list of synapses."""
    n, found = len(network["bias"]), model.synapses(network)
    synapses = esn.Synapses(**found, shape=(n, n))
    neuron = esn.LIF(
        model.TAU_MEM,
        model.TAU_SYN,
        threshold=model.THRESHOLD,
        v_reset=model.V_RESET,
        bias=network["bias"],
        v_init=network["v_init"],
    )
    return esn.EventNetwork(
        esn.Refractory(neuron, model.PERIOD),
        synapses,
        outputs=(0,),
        t_max=t_max,
        max_events=int(MOST_SPIKES * n * t_max),
        queue_capacity=max(32, int(IN_TRANSIT * n * np.max(found["delays"]) / model.DELAY)),
    )


@eqx.filter_jit
def simulate(net: esn.EventNetwork, in_times: jax.Array) -> esn.Solution:
    return net.simulate(in_times, throw=False)


@eqx.filter_jit
def gradient(weights: jax.Array, net: esn.EventNetwork, in_times: jax.Array) -> jax.Array:
    """Gradient of a loss on all spike times, the sum of their sines, by all weights."""

    def loss(weights: jax.Array) -> jax.Array:
        trained = eqx.tree_at(lambda x: x.weights.weights, net, weights)
        times = trained.simulate(in_times, throw=False).times
        fired = jnp.isfinite(times)
        return jnp.sum(jnp.where(fired, jnp.sin(jnp.where(fired, times, 0.0)), 0.0))

    return jax.grad(loss)(weights)


class Commands:
    """Commands: `open` once, then `simulate` and `gradient` any number of times, on one core."""

    def __init__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        prepare_cpu()
        jax.config.update("jax_enable_x64", True)

    def open(self, problem: str, t_max: float) -> dict[str, float]:
        """Build and simulate the network once, which compiles the simulation."""
        start = time.perf_counter()
        self._net, self._in_times = build(files.read(problem), t_max), jnp.zeros((0, 1))
        self._synapses: Any = self._net.weights
        built = time.perf_counter()
        jax.block_until_ready(simulate(self._net, self._in_times))
        return {"build_seconds": built - start, "first_seconds": time.perf_counter() - built}

    def simulate(self, out: str) -> dict[str, float]:
        """Simulate the network once more."""
        start = time.perf_counter()
        solution = jax.block_until_ready(simulate(self._net, self._in_times))
        seconds = time.perf_counter() - start
        if solution.status != esn.Status.completed:
            raise RuntimeError(str(esn.Status[solution.status]))
        spikes = np.asarray(solution.sources) >= 0
        found = {"times": solution.times, "sources": solution.sources}
        files.write(out, {name: np.asarray(x)[spikes] for name, x in found.items()})
        return {"seconds": seconds}

    def gradient(self) -> dict[str, float]:
        """Compute the gradient once more; the first call also compiles it."""
        start = time.perf_counter()
        found = gradient(jnp.asarray(self._synapses.weights), self._net, self._in_times)
        finite = bool(jnp.all(jnp.isfinite(jax.block_until_ready(found))))
        seconds = time.perf_counter() - start
        if not finite:
            raise RuntimeError("The gradient is not finite.")
        return {"gradient_seconds": seconds}
