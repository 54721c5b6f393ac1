"""Worker of eventsnn for the networks and cases of the parity check, in float64."""

import io
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp

import eventsnn as esn

from . import cases, networks
from .alif import PeerALIF
from .library import ONCE, SILENT, Solver, one_by_one, shared_cases

# In the peer, LIF starts at 0, independently of its reset potential.
NEURONS = {"LIF": partial(esn.LIF, v_init=0.0), "QIF": esn.QIF, "EIF": esn.EIF}
NEURONS |= {"Izhikevich": esn.Izhikevich, "ALIF": PeerALIF}
STEPS = {"EIF": 0.02, "Izhikevich": 0.01, "ALIF": 0.1}


def results_of(name: str, values: dict[str, Any]) -> Any:
    """Function from values to the results of all networks of a kind."""
    kind = networks.KINDS[name]
    options: dict[str, Any] = {}
    if kind.model in STEPS:
        options = {"solver": diffrax.Dopri8(), "dt0": STEPS[kind.model]}
    mask, outputs = networks.connections(kind), networks.outputs(kind)
    options |= {"mask": mask, "outputs": outputs, "t_max": kind.t_max, "max_events": 300}

    def results(values: dict[str, Any]) -> dict[str, Any]:
        names = [key for key in values if key.startswith("neuron_")]
        neuron = NEURONS[kind.model](**{k.removeprefix("neuron_"): values[k] for k in names})
        net, in_times = esn.EventNetwork(neuron, values["weights"], **options), values["in_times"]
        return {
            "ttfs": net.ttfs(in_times),
            "spikes": net.spikes(in_times, networks.COUNT),
            "states": net.potentials_at(in_times, values["at"]),
        }

    return results


def lif(tau: float = cases.TAU, bias: Any = 0.0) -> esn.LIF:
    return esn.LIF(tau_mem=tau, tau_syn=tau / 2, bias=bias)


def build(weights: Any, neuron: Any = None, bias: Any = 0.0, **options: Any) -> Any:
    weights = jnp.asarray(weights)
    options = {"outputs": range(weights.shape[1]), "t_max": cases.T_MAX} | options
    if options.pop("masked", False):
        options["mask"] = weights != 0
    if options.pop("eventprop", False):
        options["adjoint"] = esn.EventProp()
    return esn.EventNetwork(neuron or lif(bias=bias), weights, **options)


def of_neuron() -> esn.LIF:
    """Derivative of the first spike with respect to the neuron's parameters."""
    return eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(build(cases.ONE)).neuron


def limit() -> Any:
    net, in_times = build([[0.0], [8.0], [0.1]], max_events=8), jnp.asarray(cases.LIMIT)
    status = net.simulate(in_times, throw=False).status
    assert (status == esn.Status.max_events).tolist()[1]
    return net.ttfs(in_times, throw=False)[0]


def record() -> Any:
    net = build([[0.0], [0.0]], bias=cases.BIASES[0], max_events=6)
    solution = net.simulate(SILENT, throw=False)
    return cases.CUT_SHORT if solution.status == esn.Status.max_events else solution.times


def nan_weight() -> Any:
    net = build(cases.TWO)
    bad = eqx.tree_at(lambda net: net.weights, net, net.weights.at[2, 0].set(jnp.nan))
    solution = bad.simulate(ONCE, throw=False)
    return cases.NOT_FINITE if solution.status == esn.Status.not_finite else solution.times


def saved() -> Any:
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, build(cases.ONE))
    file.seek(0)
    return eqx.tree_deserialise_leaves(file, build([[0.0], [0.0]])).ttfs(ONCE)


def failure(error: Exception) -> str:
    if isinstance(error, ValueError):
        return cases.REFUSED
    raise error


ALIF = PeerALIF(*map(jnp.asarray, (cases.TAU, 20.0, 2.0, 1.0, 0.0)))
REFRACTORY = esn.Refractory(lif(bias=cases.BIASES[0]), cases.REFRACTORY_PERIOD)
PROGRAMS = shared_cases(
    build,
    parameters=lambda net: (net.weights, net.delays),
    spikes=lambda net, in_times, count: net.spikes(in_times, count),
    potentials=lambda net, in_times, times: net.potentials_at(in_times, times),
) | {
    "peak": lambda: build([[0.0], [cases.GRAZING]], lif(cases.GRAZING_TAU)).ttfs(ONCE),
    "defaults": lambda: [build(cases.ONE).ttfs(ONCE)] * 2,
    "threshold": lambda: of_neuron().threshold,
    "constants": lambda: cases.TAU * of_neuron().tau_mem + cases.TAU / 2 * of_neuron().tau_syn,
    "mask": lambda: one_by_one(build(cases.PAIR)),
    "limit": limit,
    "record": record,
    "nan_weight": nan_weight,
    "saved": saved,
    "pulse": lambda: build([[0.0], [1.5]], ALIF).ttfs(ONCE),
    "refractory": lambda: build([[0.0], [0.0]], REFRACTORY).spikes(SILENT, 3),
}
Commands = partial(Solver, results_of, PROGRAMS, failure)
