"""Worker of eventsnn for the networks and cases of the parity check, in float64."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn

from ..workers.protocol import serve
from . import networks as problems
from . import ours_cases as parity_our_cases
from .alif import PeerALIF

NEURONS = {
    "LIF": esn.LIF,
    "QIF": esn.QIF,
    "EIF": esn.EIF,
    "Izhikevich": esn.Izhikevich,
    "ALIF": PeerALIF,
}
# In the peer, LIF starts at 0, independently of its reset potential.
STARTS = {"LIF": {"v_init": 0.0}}
ODE = {"solver": diffrax.Dopri8(), "dt0": 0.1}
SOLVERS = {"EIF": ODE | {"dt0": 0.02}, "Izhikevich": ODE | {"dt0": 0.01}, "ALIF": ODE}


def network(name: str, of: dict[str, Any]) -> esn.EventNetwork:
    """Build the network of a kind, also from traced numbers."""
    kind = problems.KINDS[name]
    neuron = {key.removeprefix("neuron_"): v for key, v in of.items() if key.startswith("neuron_")}
    return esn.EventNetwork(
        NEURONS[kind.model](**neuron, **STARTS.get(kind.model, {})),
        of["weights"],
        problems.connections(kind),
        outputs=problems.outputs(kind),
        t_max=kind.t_max,
        max_events=300,
        **SOLVERS.get(kind.model, {}),
    )


def asked(name: str, of: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """Results of the three queries."""
    values = of | rest
    net, in_times = network(name, values), values["in_times"]
    return {
        "ttfs": net.ttfs(in_times),
        "spikes": net.spikes(in_times, problems.COUNT),
        "states": net.states_at(in_times, rest["at"]),
    }


class Ours:
    """Worker commands: `solve` for the networks, `answer` for the cases."""

    def __init__(self) -> None:
        self.compiled: dict[str, Any] = {}

    def solve(self, name: str, problem: str, out: str) -> dict[str, Any]:
        """Results, and derivatives of a functional of each, for the network in a file."""
        with np.load(problem) as file:
            of, rest = problems.split(name, {key: jnp.asarray(file[key]) for key in file.files})
        if name not in self.compiled:
            self.compiled[name] = jax.jit(
                lambda of, rest: problems.with_derivatives(
                    lambda of, rest: asked(name, of, rest), of, rest
                )
            )
        np.savez(out, **jax.device_get(self.compiled[name](of, rest)))
        return {}


def answer(case: str) -> dict[str, Any]:
    """Result of a small case."""
    return {"answer": parity_our_cases.ALL[case]()}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    serve({"solve": Ours().solve, "answer": answer})
