"""Worker of Brian2: linear equations, integrated exactly between the times of its grid.

All networks of a file are one network without synapses between them. Brian2 detects spikes once per
step: a crossing between t and t + dt has the time t, and takes effect at t + dt, as do input spikes
at t. Input spikes are therefore given one step early, and one step is added to the recorded times.
"""

from typing import Any

import brian2  # pyright: ignore[reportMissingImports]
import numpy as np

from ..workers import files
from ..workers.files import Arrays
from . import trains

ms = brian2.ms
EQUATIONS = """
dv/dt = (-v + current + bias) / tau_mem : 1{held}
dcurrent/dt = -current / tau_syn : 1
bias : 1 (constant)
tau_mem : second (constant)
tau_syn : second (constant)
"""
FIRING = """
threshold : 1 (constant)
v_reset : 1 (constant)
period : second (constant)
"""
TIMES = ("tau_mem", "tau_syn", "period")


def population(many: Arrays, fires: bool) -> Any:
    """Neurons of all networks, one after the other."""
    networks, _, n = many["mask"].shape
    values = {name.removeprefix("neuron_"): x for name, x in many.items() if "neuron_" in name}
    options: dict[str, Any] = {}
    held = " (unless refractory)" if fires and "period" in many else ""
    if fires:
        options |= {"threshold": "v > threshold", "reset": "v = v_reset"}
        values["period"] = many.get("period", np.zeros((networks, n)))
    if held:
        options["refractory"] = "period"
    equations = EQUATIONS.format(held=held) + (FIRING if fires else "")
    neurons = brian2.NeuronGroup(networks * n, equations, method="exact", **options)
    for name, each in values.items():
        setattr(neurons, name, each.ravel() * (ms if name in TIMES else 1))
    if fires:
        neurons.v = many["neuron_v_reset"].ravel()
    return neurons


def connect(neurons: Any, inputs: Any, many: Arrays, fires: bool) -> list[Any]:
    """Synapses from neurons, if they fire, and from inputs; all delays are whole steps."""
    networks, rows, n = many["mask"].shape
    delays = many.get("delays", np.zeros((networks, rows)))
    delays = delays.reshape(networks, rows, -1) + np.zeros((networks, rows, n))
    found = []
    for group, part in ((neurons, slice(n)), (inputs, slice(n, rows))):
        if group is neurons and not fires:
            continue
        mask, weights, waits = (x[:, part] for x in (many["mask"], many["weights"], delays))
        k, pre, post = np.nonzero(mask)
        synapses = brian2.Synapses(group, neurons, "w : 1", on_pre="current_post += w")
        synapses.connect(i=k * mask.shape[1] + pre, j=k * n + post)
        synapses.w, synapses.delay = weights[k, pre, post], waits[k, pre, post] * ms
        found.append(synapses)
    return found


def network(many: Arrays, dt: float, fires: bool, monitor: Any) -> tuple[Any, Any]:
    """Network and its monitor, made by `monitor` from the neurons."""
    brian2.start_scope()
    brian2.prefs.codegen.target = "numpy"
    brian2.defaultclock.dt = dt * ms
    networks, channels, spikes = many["in_times"].shape
    indices = np.repeat(np.arange(networks * channels), spikes)
    times = many["in_times"].ravel() - dt
    inputs = brian2.SpikeGeneratorGroup(networks * channels, indices, times * ms)
    neurons = population(many, fires)
    seen = monitor(neurons)
    return brian2.Network(neurons, inputs, seen, *connect(neurons, inputs, many, fires)), seen


class Commands:
    """Command `potentials`: those at the times of the grid; `spikes`: all spikes with a step."""

    def potentials(self, problem: str, out: str, model: str, t_max: float, dt: float) -> None:
        if model != "LeakyIntegrator":
            raise ValueError(f"model must be 'LeakyIntegrator', got {model!r}.")
        many = files.read(problem)
        networks, _, n = many["mask"].shape
        net, seen = network(many, dt, False, lambda x: brian2.StateMonitor(x, "v", record=True))
        net.run(t_max * ms)
        at, values = np.asarray(seen.t / ms), np.asarray(seen.v)
        files.write(out, {"at": at, "potentials": values.reshape(networks, n, len(at))})

    def spikes(self, problem: str, out: str, model: str, t_max: float, dt: float) -> None:
        if model != "LIF":
            raise ValueError(f"model must be 'LIF', got {model!r}.")
        many = files.read(problem)
        networks, _, n = many["mask"].shape
        net, seen = network(many, dt, True, brian2.SpikeMonitor)
        net.run(t_max * ms)
        times, neurons = np.asarray(seen.t / ms) + dt, np.asarray(seen.i)
        solved = []
        for k in range(networks):
            own = neurons // n == k
            solved.append((times[own], neurons[own] % n))
        trains.write(out, solved)
