"""Worker of eventax for the networks and cases of the parity check.

Accurate settings: float64, Tsit5 at a short step, crossings to 1e-13. The constants of eventax
(thresholds, time constants) are static; a subclass converts them into leaves, so that one network
serves all seeds and derivatives with respect to them can be compared. Nothing else is changed.
"""

import functools as ft
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from eventax import neuron_models as models  # pyright: ignore[reportMissingImports]
from eventax.adjoint import EventPropAdjoint  # pyright: ignore[reportMissingImports]
from eventax.evnn import EvNN, FFEvNN  # pyright: ignore[reportMissingImports]

from ..workers.protocol import serve
from . import eventax_cases as parity_peer_cases
from . import networks as problems

# Names of the constants in eventsnn: the keyword of eventax's constructor, and the attribute.
CONSTANTS = {
    "LIF": {
        "tau_mem": ("tmem", "tmem"),
        "tau_syn": ("tsyn", "tsyn"),
        "threshold": ("thresh", "thresh"),
        "v_reset": ("vreset", "vreset"),
    },
    "QIF": {"tau_mem": ("tmem", "tmem"), "tau_syn": ("tsyn", "tsyn")},
    "EIF": {
        "tau_mem": ("tmem", "tmem"),
        "tau_syn": ("tsyn", "tsyn"),
        "sharpness": ("deltaT", "deltaT"),
        "v_rheobase": ("vT", "vT"),
        "v_rest": ("EL", "EL"),
        "threshold": ("v_peak", "v_peak"),
        "v_reset": ("vreset", "vreset"),
    },
    "Izhikevich": {
        "tau_syn": ("tau_syn", "tau_syn"),
        "a": ("a", "a"),
        "b": ("b", "b"),
        "c": ("c", "c"),
        "d": ("d", "d"),
        "threshold": ("v_thresh", "thresh"),
    },
    "ALIF": {
        "tau_mem": ("tmem", "tmem"),
        "tau_adapt": ("ta", "ta"),
        "beta": ("beta", "beta"),
        "threshold": ("b0", "b0"),
    },
}
OTHERS: dict[str, dict[str, Any]] = {"EIF": {"spike_time_tol": None}}


class Constant(eqx.Module):
    """Replacement of eventax's `StaticArray`: the same attribute, but a leaf."""

    value: jax.Array


@ft.cache
def with_leaves(name: str) -> type:
    """Model of the given name with its constants as leaves."""
    model = getattr(models, name)
    attributes = [attribute for _, attribute in CONSTANTS[name].values()]

    def init(self, **arguments):
        model.__init__(self, **arguments)
        for attribute in attributes:
            setattr(self, attribute, Constant(getattr(self, attribute).value))

    body = {"__annotations__": dict.fromkeys(attributes, Constant), "__init__": init}
    return type(name, (model,), body)


def model_of(kind: problems.Kind) -> type:
    """Model class; with eventax's EventProp, the constants have to stay static."""
    return getattr(models, kind.model) if kind.eventprop else with_leaves(kind.model)


def network(name: str, values: dict[str, Any]) -> EvNN:
    """Build the network of a kind, from concrete numbers."""
    kind = problems.KINDS[name]
    mask = jnp.asarray(problems.connections(kind), float)
    neuron = {
        keyword: values[f"neuron_{ours}"] for ours, (keyword, _) in CONSTANTS[kind.model].items()
    }
    control = dfx.PIDController(rtol=1e-11, atol=1e-11, dtmax=kind.step) if kind.adaptive else None
    shared = {
        "neuron_model": model_of(kind),
        "in_size": problems.N_IN,
        "max_solver_time": kind.t_max,
        "key": jax.random.PRNGKey(0),
        "init_weights": values["weights"],
        "init_bias": values["neuron_bias"],
        "solver_stepsize": kind.step,
        "solver": dfx.Tsit5(),
        "stepsize_controller": control,
        "root_finder": optx.Newton(kind.root, kind.root),
        "max_event_steps": 300,
        "adjoint": EventPropAdjoint() if kind.eventprop else None,
        "dtype": jnp.float64,
        **neuron,
        **OTHERS.get(kind.model, {}),
    }
    if kind.layers:
        return FFEvNN(layers=problems.LAYERS, **shared)
    return EvNN(n_neurons=mask.shape[1], wmask=mask, **shared)


def leaves(name: str, net: EvNN) -> dict[str, Any]:
    """Parameters that are leaves, by their names in eventsnn."""
    model, kind = net.neuron_model, problems.KINDS[name]
    constants = {} if kind.eventprop else CONSTANTS[kind.model]
    constants = {
        f"neuron_{ours}": getattr(model, attribute).value
        for ours, (_, attribute) in constants.items()
    }
    return {"weights": model.weights, "neuron_bias": model.ic} | constants


def compiled(name: str, values: dict[str, Any]) -> Any:
    """Compiled `(of, rest) -> results and derivatives`, for all networks of a kind."""
    template = network(name, values)
    keys = list(leaves(name, template))

    def asked(of, rest):
        values = of | rest
        net = eqx.tree_at(
            lambda net: [leaves(name, net)[key] for key in keys],
            template,
            [values[key] for key in keys],
        )
        in_times = values["in_times"]
        # The limit of eventax counts the spikes of all outputs together.
        spikes = net.spikes_until_t(in_times, net.max_solver_time, 100)
        return {
            "ttfs": net.ttfs(in_times),
            "spikes": spikes[:, : problems.COUNT],
            "states": net.state_at_t(in_times, values["at"])[..., 0],
        }

    return jax.jit(lambda of, rest: problems.with_derivatives(asked, of, rest))


class Peer:
    """Worker commands: `solve` for the networks, `answer` for the cases."""

    def __init__(self) -> None:
        self.compiled: dict[str, Any] = {}

    def solve(self, name: str, problem: str, out: str) -> dict[str, Any]:
        """Results, and derivatives of a functional of each, for the network in a file."""
        with np.load(problem) as file:
            of, rest = problems.split(name, {key: jnp.asarray(file[key]) for key in file.files})
        if name not in self.compiled:
            self.compiled[name] = compiled(name, of | rest)
        np.savez(out, **jax.device_get(self.compiled[name](of, rest)))
        return {}


def answer(case: str) -> dict[str, Any]:
    """Result of a small case."""
    return {"answer": parity_peer_cases.ALL[case]()}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    serve({"solve": Peer().solve, "answer": answer})
