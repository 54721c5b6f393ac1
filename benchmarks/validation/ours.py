"""Worker of eventsnn for the validation, in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn

from ..workers import files
from . import trains
from .networks import MAX_EVENTS

NEURONS: dict[str, Callable[..., Any]] = {
    "LIF": esn.LIF,
    "LIF, equal time constants": lambda tau_mem, **other: esn.LIF(tau_mem, tau_mem, **other),
    "LIF, reset by subtraction": partial(esn.LIF, reset_mode="subtract"),
    "LeakyIntegrator": esn.LeakyIntegrator,
    "QIF": esn.QIF,
    "Theta": esn.Theta,
    "ALIF": esn.ALIF,
    "EIF": esn.EIF,
    "Izhikevich": esn.Izhikevich,
    "EGRU": esn.EGRU,
}
SOLVED = ("ALIF", "EIF", "Izhikevich", "EGRU")
RTOL, ATOL = 1e-12, 1e-13


def build(model: str, form: str, one: files.Arrays, t_max: float) -> esn.EventNetwork:
    """Build a network with a matrix of weights (`form` "matrix") or with synapses ("sparse")."""
    names = [name for name in one if name.startswith("neuron_")]
    neuron = NEURONS[model](**{name.removeprefix("neuron_"): one[name] for name in names})
    if "period" in one:
        neuron = esn.Refractory(neuron, one["period"])
    mask, delays = one["mask"], one.get("delays")
    n = mask.shape[1]
    options: dict[str, Any] = {"outputs": range(n), "t_max": t_max, "max_events": MAX_EVENTS}
    if model in SOLVED:
        control = diffrax.PIDController(rtol=RTOL, atol=ATOL)
        options |= {"solver": diffrax.Dopri8(), "stepsize_controller": control}
    if form == "sparse":
        synapses = esn.Synapses.from_dense(one["weights"], mask, delays)
        return esn.EventNetwork(neuron, synapses, **options)
    receptors = one["weights"].shape[1] // n
    mask, options["queue_capacity"] = np.tile(mask, receptors), 32 + 8 * n
    return esn.EventNetwork(neuron, one["weights"], mask, delays=delays, **options)


@eqx.filter_jit
def simulate(net: esn.EventNetwork, in_times: jax.Array) -> esn.Solution:
    return net.simulate(in_times, throw=False)


@eqx.filter_jit
def potentials(net: esn.EventNetwork, in_times: jax.Array, at: jax.Array) -> jax.Array:
    return net.potentials_at(in_times, at)


def spikes(net: esn.EventNetwork, in_times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and neurons of all spikes of neurons, in order."""
    solution = simulate(net, jnp.asarray(in_times))
    if solution.status != esn.Status.completed:
        raise RuntimeError(str(esn.Status[solution.status]))
    times, sources = np.asarray(solution.times), np.asarray(solution.sources)
    fired = (sources >= 0) & (sources < net.n_neurons)
    return times[fired], sources[fired]


class Commands:
    """Command `spikes`: all spikes of all networks; `potentials`: those at given times."""

    def __init__(self) -> None:
        jax.config.update("jax_enable_x64", True)

    def spikes(self, problem: str, out: str, model: str, t_max: float, form: str) -> None:
        solved = []
        for one in trains.unstack(files.read(problem)):
            solved.append(spikes(build(model, form, one, t_max), one["in_times"]))
        trains.write(out, solved)

    def potentials(self, problem: str, out: str, model: str, t_max: float, at: list[float]) -> None:
        solved = []
        for one in trains.unstack(files.read(problem)):
            net = build(model, "matrix", one, t_max)
            found = potentials(net, jnp.asarray(one["in_times"]), jnp.asarray(at))
            solved.append(np.asarray(found))
        files.write(out, {"potentials": np.stack(solved)})
