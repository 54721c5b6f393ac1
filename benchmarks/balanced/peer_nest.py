"""Worker of NEST: `iaf_psc_exp_ps_lossless`, whose spikes are not on a grid, on one thread.

The model is that of `network`: C_m = tau_m in pF and ms gives a resistance of 1 GOhm, so that
currents in pA are potentials in mV (see also `tests/fixtures/make_nest.py`).

NEST updates each neuron at least once per step and is fastest with the longest step: the delay, or
the unit of synaptic delays. The spikes do not depend on it. With a long step, however, its search
for a threshold crossing can fail with the error `NumericalInstability`. The worker then halves the
step.
"""

import os
import time
from typing import Any

import nest  # pyright: ignore[reportMissingImports]
import numpy as np

from ..workers import files
from . import network as model

SHORTEST_STEP = model.DELAY / 16
NEURON = {
    "C_m": model.TAU_MEM,
    "tau_m": model.TAU_MEM,
    "tau_syn_ex": model.TAU_SYN,
    "tau_syn_in": model.TAU_SYN,
    "E_L": 0.0,
    "V_th": model.THRESHOLD,
    "V_reset": model.V_RESET,
    "t_ref": model.PERIOD,
}
#: Synapses that one call connects. Its arrays take 32 bytes each.
AT_ONCE = 10_000_000


def build(network: files.Arrays, step: float) -> tuple[Any, Any]:
    """Create neurons, synapses and a recorder; return the neurons and the recorder."""
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.local_num_threads, nest.resolution = 1, step
    n, k = network["sources"].shape
    neurons = nest.Create("iaf_psc_exp_ps_lossless", n, params=NEURON)
    neurons.set({"I_e": network["bias"], "V_m": network["v_init"]})
    ids, rows = np.array(neurons.tolist()), max(1, AT_ONCE // k)
    for first in range(0, n, rows):
        part = slice(first, first + rows)
        sources, weights = (network[name][part].ravel() for name in ("sources", "weights"))
        delays = network["delays"][part].ravel() if "delays" in network else model.DELAY
        values = {"weight": weights.astype(float), "delay": np.broadcast_to(delays, weights.shape)}
        nest.Connect(ids[sources], np.repeat(ids[part], k), "one_to_one", values)
    recorder = nest.Create("spike_recorder", params={"time_in_steps": True})
    nest.Connect(neurons, recorder)
    return neurons, recorder


class Commands:
    """Commands: `open` once, then `simulate` any number of times, on one core."""

    def __init__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    def open(self, problem: str, t_max: float) -> None:
        self._network, self._t_max = files.read(problem), t_max
        self._step = model.GRID if "delays" in self._network else model.DELAY

    def simulate(self, out: str) -> dict[str, float]:
        """Build the network and simulate it; `seconds` is the time of the simulation alone."""
        while True:
            try:
                return self._simulate(out, self._step)
            except nest.NESTErrors.NumericalInstability:
                if self._step == SHORTEST_STEP:
                    raise
                self._step /= 2

    def _simulate(self, out: str, step: float) -> dict[str, float]:
        start = time.perf_counter()
        neurons, recorder = build(self._network, step)
        nest.Prepare()
        built = time.perf_counter()
        nest.Run(self._t_max)
        end = time.perf_counter()
        nest.Cleanup()
        events = recorder.events
        times = events["times"] * step - events["offsets"]
        order = np.argsort(times)
        sources = events["senders"] - neurons[0].global_id
        files.write(out, {"times": times[order], "sources": sources[order]})
        return {"seconds": end - built, "build_seconds": built - start, "step": step}
