"""Worker of eventsnn for the balanced network, in float64 on one core."""

import os
import time

import equinox as eqx
import jax
import numpy as np

import eventsnn as esn
from eventsnn.cpu import prepare_cpu

from ..workers import files
from . import network as model

#: Most spikes per ms and neuron for which there is room, and most spikes of a neuron in transit.
MOST_SPIKES, IN_TRANSIT = 0.05, 0.2


def build(network: files.Arrays, t_max: float) -> esn.EventNetwork:
    """Build the network with a list of synapses."""
    n, found = len(network["bias"]), model.synapses(network)
    synapses = esn.Synapses(**found, shape=(n, n), delays=model.DELAY)
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
        queue_capacity=max(32, int(IN_TRANSIT * n)),
    )


@eqx.filter_jit
def simulate(net: esn.EventNetwork, in_times: jax.Array) -> esn.Solution:
    return net.simulate(in_times, throw=False)


class Commands:
    """Commands: `open` once, then `simulate` any number of times, on one core."""

    def __init__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        prepare_cpu()
        jax.config.update("jax_enable_x64", True)

    def open(self, problem: str, t_max: float) -> dict[str, float]:
        """Build and simulate the network once, which compiles the simulation."""
        start = time.perf_counter()
        self._net, self._in_times = build(files.read(problem), t_max), jax.numpy.zeros((0, 1))
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
