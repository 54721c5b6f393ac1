"""Worker of eventax for the networks and cases of the parity check.

Accurate settings: float64, Tsit5 at a short step, crossings to 1e-13. The constants of eventax
(thresholds, time constants) are static; a subclass converts them into leaves, so that one network
serves all seeds and derivatives with respect to them can be compared. Nothing else is changed.
"""

import tempfile
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from eventax import neuron_models as models  # pyright: ignore[reportMissingImports]
from eventax.adjoint import EventPropAdjoint  # pyright: ignore[reportMissingImports]
from eventax.evnn import EvNN, FFEvNN  # pyright: ignore[reportMissingImports]
from eventax.io import load_evnn, save_evnn  # pyright: ignore[reportMissingImports]

from . import cases, networks
from .library import ONCE, SILENT, Library

# Keywords of eventax's constructors by the names of the constants in eventsnn.
_TAUS = {"tau_mem": "tmem", "tau_syn": "tsyn"}
KEYWORDS = {
    "LIF": _TAUS | {"threshold": "thresh", "v_reset": "vreset"},
    "QIF": _TAUS,
    "EIF": _TAUS
    | {"sharpness": "deltaT", "v_rheobase": "vT", "v_rest": "EL"}
    | {"threshold": "v_peak", "v_reset": "vreset"},
    "Izhikevich": {name: name for name in ("tau_syn", *"abcd")} | {"threshold": "v_thresh"},
    "ALIF": {"tau_mem": "tmem", "tau_adapt": "ta", "beta": "beta", "threshold": "b0"},
}
# Attributes that are not named as the keyword.
ATTRIBUTES = {"v_thresh": "thresh"}
KEY = jax.random.PRNGKey(0)
LIF: dict[str, Any] = {"thresh": 1.0, "tmem": cases.TAU, "tsyn": cases.TAU / 2, "init_bias": 0.0}
ACCURATE = {
    "solver_stepsize": 0.05,
    "solver": dfx.Tsit5(),
    "root_finder": optx.Newton(1e-12, 1e-12),
}


class Constant(eqx.Module):
    """Replacement of eventax's `StaticArray`: the same attribute, but a leaf."""

    value: jax.Array


def attribute(keyword: str) -> str:
    return ATTRIBUTES.get(keyword, keyword)


def with_leaves(name: str) -> type:
    """Model of the given name with its constants as leaves."""
    model, attributes = getattr(models, name), [*map(attribute, KEYWORDS[name].values())]

    def init(self, **arguments):
        model.__init__(self, **arguments)
        for attribute in attributes:
            setattr(self, attribute, Constant(getattr(self, attribute).value))

    body = {"__annotations__": dict.fromkeys(attributes, Constant), "__init__": init}
    return type(name, (model,), body)


def network(kind: networks.Kind, values: dict[str, Any]) -> EvNN:
    """Build the network of a kind; with eventax's EventProp, the constants have to stay static."""
    neuron = {keyword: values[f"neuron_{ours}"] for ours, keyword in KEYWORDS[kind.model].items()}
    if kind.model == "EIF":
        neuron["spike_time_tol"] = None
    control = dfx.PIDController(rtol=1e-11, atol=1e-11, dtmax=kind.step) if kind.adaptive else None
    shared = {
        "neuron_model": getattr(models, kind.model) if kind.eventprop else with_leaves(kind.model),
        "in_size": networks.N_IN,
        "max_solver_time": kind.t_max,
        "key": KEY,
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
    }
    if kind.layers:
        return FFEvNN(layers=networks.LAYERS, **shared)
    mask = jnp.asarray(networks.connections(kind), float)
    return EvNN(n_neurons=mask.shape[1], wmask=mask, **shared)


def leaves(kind: networks.Kind, net: EvNN) -> dict[str, Any]:
    """Parameters that are leaves, by their names in eventsnn."""
    model, keywords = net.neuron_model, {} if kind.eventprop else KEYWORDS[kind.model]
    constants = {
        f"neuron_{ours}": getattr(model, attribute(keyword)).value
        for ours, keyword in keywords.items()
    }
    return {"weights": model.weights, "neuron_bias": model.ic} | constants


class WithThreshold(models.LIF):
    """LIF model whose threshold is a leaf."""

    level: jax.Array

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.level = self.thresh.value

    def spike_condition(self, t: Any, y: Any, **_: Any) -> Any:
        return y[:, 0] - self.level


class Eventax(Library):
    """Hooks and cases of eventax."""

    def results(self, name: str, values: dict[str, Any]) -> Any:
        kind = networks.KINDS[name]
        template = network(kind, values)
        keys = list(leaves(kind, template))

        def results(values: dict[str, Any]) -> dict[str, Any]:
            where = lambda net: [leaves(kind, net)[key] for key in keys]  # noqa: E731
            net = eqx.tree_at(where, template, [values[key] for key in keys])
            in_times = values["in_times"]
            # The limit of eventax counts the spikes of all outputs together.
            spikes = net.spikes_until_t(in_times, net.max_solver_time, 100)
            return {
                "ttfs": net.ttfs(in_times),
                "spikes": spikes[:, : networks.COUNT],
                "states": net.state_at_t(in_times, values["at"])[..., 0],
            }

        return results

    def build(self, weights: Any, **options: Any) -> EvNN:
        """Build a network; by default with all synapses, of LIF neurons, and accurate."""
        weights = jnp.asarray(weights, float)
        model = options.pop("model", models.LIF)
        names = {"bias": "init_bias", "t_max": "max_solver_time", "delays": "init_delays"}
        given = {names.get(key, key): value for key, value in options.items()}
        if given.pop("eventprop", False):
            given["adjoint"] = EventPropAdjoint()
        mask = weights != 0 if given.pop("masked", False) else jnp.ones_like(weights)
        accurate = ACCURATE if given.pop("accurate", True) else {}
        arguments = {
            "n_neurons": weights.shape[1],
            "in_size": len(weights) - weights.shape[1],
            "max_solver_time": cases.T_MAX,
            "key": KEY,
            "init_weights": weights,
            "wmask": mask,
            "max_event_steps": 100,
            "dtype": jnp.float64,
        }
        neuron = LIF if model is models.LIF else {}
        return EvNN(model, **(arguments | neuron | accurate | given))

    def parameters(self, net: Any) -> tuple[Any, Any]:
        return net.neuron_model.weights, net.delays

    def spikes(self, net: Any, in_times: Any, count: int) -> Any:
        return net.spikes_until_t(in_times, cases.T_MAX, count)

    def potentials(self, net: Any, in_times: Any, times: Any) -> Any:
        return net.state_at_t(in_times, times)[0, :, 0]

    def failure(self, error: Exception) -> str:
        return f"raises {type(error).__name__}"

    def peak(self) -> Any:
        tau = cases.GRAZING_TAU
        options = {"tmem": tau, "tsyn": tau / 2, "solver_stepsize": 1.0}
        return self.build([[0.0], [cases.GRAZING]], **options).ttfs(ONCE)

    def defaults(self) -> Any:
        steps: tuple[dict[str, Any], ...] = ({}, {"solver_stepsize": 0.1})
        nets = [self.build(cases.ONE, accurate=False, **step) for step in steps]
        return jnp.stack([net.ttfs(ONCE) for net in nets])

    def threshold(self) -> Any:
        net = self.build(cases.ONE, model=WithThreshold, eventprop=True, **LIF)
        return eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(net).neuron_model.level

    def constants(self) -> Any:
        taus = {"init_tmem": cases.TAU, "init_tsyn": cases.TAU / 2}
        net = self.build(cases.ONE, model=models.PLIF, thresh=1.0, bias=0.0, **taus)
        return net.ttfs(ONCE)

    def mask(self) -> Any:
        net = self.build(cases.PAIR, wmask=None, input_neurons=jnp.ones(2))
        return self.one_channel_at_a_time(net)

    def limit(self) -> Any:
        net = self.build([[0.0], [8.0], [0.1]], max_event_steps=8)
        return jax.vmap(net.ttfs)(jnp.asarray(cases.LIMIT))[0]

    def record(self) -> Any:
        net = self.build([[0.0], [0.0]], bias=cases.BIASES[0], max_event_steps=6)
        return f"{int(jnp.sum(jnp.isfinite(net.record(SILENT)[0])))} spikes, no status"

    def nan_weight(self) -> Any:
        net = self.build(cases.TWO)
        weights = self.parameters(net)[0].at[2, 0].set(jnp.nan)
        return eqx.tree_at(lambda net: net.neuron_model.weights, net, weights).ttfs(ONCE)

    def saved(self) -> Any:
        config = {
            **{"n_neurons": 1, "in_size": 1, "max_solver_time": cases.T_MAX, "init_weights": 8.0},
            **{"dtype": jnp.float64, "wmask": jnp.ones((2, 1)), "max_event_steps": 100},
            **{"solver": dfx.Tsit5(), "solver_stepsize": 0.5},
            **LIF,
        }
        net = EvNN(models.LIF, key=KEY, **config)
        weights = self.parameters(net)[0].at[0].set(0.0)
        net = eqx.tree_at(lambda net: net.neuron_model.weights, net, weights)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "net")
            save_evnn(path, net, config)
            loaded, _ = load_evnn(path, KEY)
        return loaded.ttfs(ONCE)

    def pulse(self) -> Any:
        constants = {"tmem": cases.TAU, "ta": 20.0, "b0": 1.0, "beta": 2.0}
        return self.build([[0.0], [1.5]], model=models.ALIF, bias=0.0, **constants).ttfs(ONCE)

    def refractory(self) -> Any:
        rest = {"t_refrac": cases.REST, "refrac_mask": jnp.array([1.0, 0.0])}
        options: dict[str, Any] = LIF | rest | {"solver_stepsize": 0.1}
        options["init_bias"] = cases.BIASES[0]
        net = self.build([[0.0], [0.0]], model=models.Refractory(models.LIF), **options)
        return self.spikes(net, SILENT, 3)


if __name__ == "__main__":
    Eventax().serve()
