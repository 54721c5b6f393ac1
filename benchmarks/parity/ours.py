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
from .library import ONCE, SILENT, Library

# In the peer, LIF starts at 0, independently of its reset potential.
NEURONS = {
    "LIF": partial(esn.LIF, v_init=0.0),
    "QIF": esn.QIF,
    "EIF": esn.EIF,
    "Izhikevich": esn.Izhikevich,
    "ALIF": PeerALIF,
}
STEPS = {"EIF": 0.02, "Izhikevich": 0.01, "ALIF": 0.1}


def lif(tau: float = cases.TAU, bias: Any = 0.0) -> esn.LIF:
    return esn.LIF(tau_mem=tau, tau_syn=tau / 2, bias=bias)


class Eventsnn(Library):
    """Hooks and cases of eventsnn."""

    def results(self, name: str, values: dict[str, Any]) -> Any:
        kind = networks.KINDS[name]
        options: dict[str, Any] = {}
        if kind.model in STEPS:
            options = {"solver": diffrax.Dopri8(), "dt0": STEPS[kind.model]}

        def results(values: dict[str, Any]) -> dict[str, Any]:
            names = [key for key in values if key.startswith("neuron_")]
            neuron = {key.removeprefix("neuron_"): values[key] for key in names}
            net = esn.EventNetwork(
                NEURONS[kind.model](**neuron),
                values["weights"],
                networks.connections(kind),
                outputs=networks.outputs(kind),
                t_max=kind.t_max,
                max_events=300,
                **options,
            )
            in_times = values["in_times"]
            return {
                "ttfs": net.ttfs(in_times),
                "spikes": net.spikes(in_times, networks.COUNT),
                "states": net.states_at(in_times, values["at"]),
            }

        return results

    def build(self, weights: Any, **options: Any) -> Any:
        weights = jnp.asarray(weights)
        neuron = options.pop("neuron", None) or lif(bias=options.pop("bias", 0.0))
        mask = weights != 0 if options.pop("masked", False) else None
        if options.pop("eventprop", False):
            options["adjoint"] = esn.EventProp()
        arguments = {"outputs": range(weights.shape[1]), "t_max": cases.T_MAX} | options
        return esn.EventNetwork(neuron, weights, mask, **arguments)

    def parameters(self, net: Any) -> tuple[Any, Any]:
        return net.weights, net.delays

    def spikes(self, net: Any, in_times: Any, count: int) -> Any:
        return net.spikes(in_times, count)

    def potentials(self, net: Any, in_times: Any, times: Any) -> Any:
        return net.states_at(in_times, times)

    def failure(self, error: Exception) -> str:
        return cases.REFUSED if isinstance(error, ValueError) else super().failure(error)

    def peak(self) -> Any:
        return self.build([[0.0], [cases.GRAZING]], neuron=lif(cases.GRAZING_TAU)).ttfs(ONCE)

    def defaults(self) -> Any:
        return [self.build(cases.ONE).ttfs(ONCE)] * 2

    def of_neuron(self) -> esn.LIF:
        """Derivative of the first spike with respect to the neuron's parameters."""
        return eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(self.build(cases.ONE)).neuron

    def threshold(self) -> Any:
        return self.of_neuron().threshold

    def constants(self) -> Any:
        grads = self.of_neuron()
        return cases.TAU * grads.tau_mem + cases.TAU / 2 * grads.tau_syn

    def mask(self) -> Any:
        return self.one_channel_at_a_time(self.build(cases.PAIR))

    def limit(self) -> Any:
        net, in_times = self.build([[0.0], [8.0], [0.1]], max_events=8), jnp.asarray(cases.LIMIT)
        status = net.simulate(in_times, throw=False).status
        assert (status == esn.Status.max_events).tolist()[1]
        return net.ttfs(in_times, throw=False)[0]

    def record(self) -> Any:
        net = self.build([[0.0], [0.0]], bias=cases.BIASES[0], max_events=6)
        solution = net.simulate(SILENT, throw=False)
        return cases.CUT_SHORT if solution.status == esn.Status.max_events else solution.times

    def nan_weight(self) -> Any:
        net = self.build(cases.TWO)
        bad = eqx.tree_at(lambda net: net.weights, net, net.weights.at[2, 0].set(jnp.nan))
        solution = bad.simulate(ONCE, throw=False)
        return cases.NOT_FINITE if solution.status == esn.Status.not_finite else solution.times

    def saved(self) -> Any:
        file = io.BytesIO()
        eqx.tree_serialise_leaves(file, self.build(cases.ONE))
        file.seek(0)
        return eqx.tree_deserialise_leaves(file, self.build([[0.0], [0.0]])).ttfs(ONCE)

    def pulse(self) -> Any:
        neuron = PeerALIF(*map(jnp.asarray, (cases.TAU, 20.0, 2.0, 1.0, 0.0)))
        return self.build([[0.0], [1.5]], neuron=neuron).ttfs(ONCE)

    def refractory(self) -> Any:
        neuron = esn.Refractory(lif(bias=cases.BIASES[0]), cases.REST)
        return self.build([[0.0], [0.0]], neuron=neuron).spikes(SILENT, 3)


if __name__ == "__main__":
    Eventsnn().serve()
