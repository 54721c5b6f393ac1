"""Worker of NEST: `iaf_psc_exp_ps_lossless`, whose spikes are not on a grid, on one thread.

C_m = tau_m in pF and ms gives a resistance of 1 GOhm, so that currents in pA are potentials in mV;
the leak potential is 0 (see also `tests/fixtures/make_nest.py`). The spikes do not depend on the
step of NEST. With a long step, its search for a threshold crossing can fail with the error
`NumericalInstability`. The worker then halves the step for this network.
"""

from typing import Any

import nest  # pyright: ignore[reportMissingImports]
import numpy as np

from ..workers import files
from ..workers.files import Arrays
from . import trains
from .networks import GRID

SHORTEST_STEP = GRID / 16


def build(one: Arrays, step: float) -> tuple[Any, Any]:
    """Create neurons, inputs, synapses and a recorder; return the neurons and the recorder."""
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.local_num_threads, nest.resolution = 1, step
    own = {name.removeprefix("neuron_"): x for name, x in one.items() if name.startswith("neuron_")}
    neurons = nest.Create("iaf_psc_exp_ps_lossless", len(own["bias"]), params={"E_L": 0.0})
    neurons.set({"C_m": own["tau_mem"], "tau_m": own["tau_mem"]})
    neurons.set({"tau_syn_ex": own["tau_syn"], "tau_syn_in": own["tau_syn"]})
    neurons.set({"V_th": own["threshold"], "I_e": own["bias"], "t_ref": one["period"]})
    neurons.set({"V_reset": own["v_reset"], "V_m": own["v_reset"]})
    inputs = nest.Create("spike_generator", len(one["in_times"]))
    for generator, times in zip(inputs, one["in_times"], strict=True):
        generator.set({"precise_times": True, "spike_times": times})
    ids = np.array((neurons + inputs).tolist())
    pre, post = np.nonzero(one["mask"])
    delays = one["delays"].reshape(len(ids), -1) + np.zeros(one["mask"].shape)
    values = {"weight": one["weights"][pre, post], "delay": delays[pre, post]}
    nest.Connect(ids[pre], ids[post], "one_to_one", values)
    recorder = nest.Create("spike_recorder", params={"time_in_steps": True})
    nest.Connect(neurons, recorder)
    return neurons, recorder


def simulate(one: Arrays, t_max: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and neurons of all spikes until `t_max`, in order."""
    neurons, recorder = build(one, step)
    nest.Simulate(t_max + 1.0)  # a recording ends with the last whole step
    events = recorder.events
    times = events["times"] * step - events["offsets"]
    sources = events["senders"] - neurons[0].global_id
    order = np.argsort(times)
    order = order[times[order] <= t_max]
    return times[order], sources[order]


class Commands:
    """Command `spikes`: all spikes of all networks."""

    def spikes(self, problem: str, out: str, model: str, t_max: float) -> None:
        if model != "LIF":
            raise ValueError(f"model must be 'LIF', got {model!r}.")
        solved = []
        for one in trains.unstack(files.read(problem)):
            step = GRID
            while True:
                try:
                    solved.append(simulate(one, t_max, step))
                    break
                except nest.NESTErrors.NumericalInstability:
                    if step == SHORTEST_STEP:
                        raise
                    step /= 2
        trains.write(out, solved)
