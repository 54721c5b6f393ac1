"""Worker of eventax for the networks and cases of the parity check.

Accurate settings: float64, Tsit5 at a short step, crossings to 1e-13. The constants of eventax
(thresholds, time constants) are static; a subclass converts them into leaves, so that one network
serves all seeds and derivatives with respect to them can be compared. Nothing else is changed.
"""

import tempfile
from functools import partial
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
from .library import ONCE, SILENT, Programs, Solver, one_by_one, shared_cases

# Keywords of eventax's constructors by the names of the constants in eventsnn.
_TAUS = {"tau_mem": "tmem", "tau_syn": "tsyn"}
_EIF = {"sharpness": "deltaT", "v_rheobase": "vT", "v_rest": "EL", "threshold": "v_peak"}
KEYWORDS = {
    "LIF": _TAUS | {"threshold": "thresh", "v_reset": "vreset"},
    "QIF": _TAUS,
    "EIF": _TAUS | _EIF | {"v_reset": "vreset"},
    "Izhikevich": {name: name for name in ("tau_syn", *"abcd")} | {"threshold": "v_thresh"},
    "ALIF": {"tau_mem": "tmem", "tau_adapt": "ta", "beta": "beta", "threshold": "b0"},
}
# Attributes whose names are not those of the keywords.
ATTRIBUTES = {"v_thresh": "thresh"}
KEY = jax.random.PRNGKey(0)
LIF: dict[str, Any] = {"thresh": 1.0, "tmem": cases.TAU, "tsyn": cases.TAU / 2, "init_bias": 0.0}
ACCURATE = {"solver_stepsize": 0.05, "root_finder": optx.Newton(1e-12, 1e-12)}
NAMES = {"bias": "init_bias", "t_max": "max_solver_time", "delays": "init_delays"}


class Constant(eqx.Module):
    """Replacement of eventax's `StaticArray`: the same attribute, but a leaf."""

    value: jax.Array


def with_leaves(name: str) -> type:
    """Model of the given name with its constants as leaves."""
    model = getattr(models, name)
    attributes = [ATTRIBUTES.get(keyword, keyword) for keyword in KEYWORDS[name].values()]

    def init(self, **arguments):
        model.__init__(self, **arguments)
        for attribute in attributes:
            setattr(self, attribute, Constant(getattr(self, attribute).value))

    body = {"__annotations__": dict.fromkeys(attributes, Constant), "__init__": init}
    return type(name, (model,), body)


def build(weights: Any, model: Any = models.LIF, accurate: Any = True, **options: Any) -> Any:
    """Build a network; by default with all synapses, of LIF neurons, and accurate."""
    weights = jnp.asarray(weights, float)
    rows, n = weights.shape
    given = {NAMES.get(key, key): value for key, value in options.items()}
    if given.pop("eventprop", False):
        given["adjoint"] = EventPropAdjoint()
    wmask = weights != 0 if given.pop("masked", False) else jnp.ones_like(weights)
    arguments = {"in_size": rows - n, "max_solver_time": cases.T_MAX, "max_event_steps": 100}
    arguments |= {"key": KEY, "init_weights": weights, "dtype": jnp.float64}
    arguments |= LIF if model is models.LIF else {}
    arguments |= ACCURATE | {"solver": dfx.Tsit5()} if accurate else {}
    if "layers" in given:
        return FFEvNN(neuron_model=model, **(arguments | given))
    return EvNN(model, n, **({"wmask": wmask} | arguments | given))


def network(kind: networks.Kind, values: dict[str, Any]) -> Any:
    """Build the network of a kind; with eventax's EventProp, the constants have to stay static."""
    options = {keyword: values[f"neuron_{ours}"] for ours, keyword in KEYWORDS[kind.model].items()}
    if kind.model == "EIF":
        options["spike_time_tol"] = None
    if kind.adaptive:
        control = dfx.PIDController(rtol=1e-11, atol=1e-11, dtmax=kind.step)
        options["stepsize_controller"] = control
    if kind.layers:
        options["layers"] = networks.LAYERS
    else:
        options["wmask"] = jnp.asarray(networks.connections(kind), float)
    return build(
        values["weights"],
        getattr(models, kind.model) if kind.eventprop else with_leaves(kind.model),
        bias=values["neuron_bias"],
        t_max=kind.t_max,
        max_event_steps=300,
        solver_stepsize=kind.step,
        root_finder=optx.Newton(kind.root, kind.root),
        eventprop=kind.eventprop,
        **options,
    )


def leaves(kind: networks.Kind, net: Any) -> dict[str, Any]:
    """Parameters that are leaves, by their names in eventsnn."""
    model, found = net.neuron_model, {}
    for ours, keyword in {} if kind.eventprop else KEYWORDS[kind.model].items():
        found[f"neuron_{ours}"] = getattr(model, ATTRIBUTES.get(keyword, keyword)).value
    return {"weights": model.weights, "neuron_bias": model.ic} | found


def results_of(name: str, values: dict[str, Any]) -> Any:
    """Function from values to the results of all networks of a kind."""
    kind = networks.KINDS[name]
    template = network(kind, values)

    def results(values: dict[str, Any]) -> dict[str, Any]:
        new = [values[key] for key in leaves(kind, template)]
        net = eqx.tree_at(lambda net: list(leaves(kind, net).values()), template, new)
        in_times = values["in_times"]
        # The limit of eventax counts the spikes of all outputs together.
        spikes = net.spikes_until_t(in_times, net.max_solver_time, 100)
        return {
            "ttfs": net.ttfs(in_times),
            "spikes": spikes[:, : networks.COUNT],
            "states": net.state_at_t(in_times, values["at"])[..., 0],
        }

    return results


def spikes(net: Any, in_times: Any, count: int) -> Any:
    return net.spikes_until_t(in_times, cases.T_MAX, count)


def with_weight(net: Any, at: Any, value: float) -> Any:
    where = lambda net: net.neuron_model.weights  # noqa: E731
    return eqx.tree_at(where, net, where(net).at[at].set(value))


def threshold() -> Any:
    net = build(cases.ONE, with_leaves("LIF"), eventprop=True, **LIF)
    return eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(net).neuron_model.thresh.value


def record() -> Any:
    net = build([[0.0], [0.0]], bias=cases.BIASES[0], max_event_steps=6)
    return f"{int(jnp.sum(jnp.isfinite(net.record(SILENT)[0])))} spikes, no status"


def saved() -> Any:
    config: dict[str, Any] = {"n_neurons": 1, "in_size": 1, "max_solver_time": cases.T_MAX} | LIF
    config |= {"init_weights": 8.0, "wmask": jnp.ones((2, 1)), "max_event_steps": 100}
    config |= {"dtype": jnp.float64, "solver": dfx.Tsit5(), "solver_stepsize": 0.5}
    net = with_weight(EvNN(models.LIF, key=KEY, **config), 0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net")
        save_evnn(path, net, config)
        return load_evnn(path, KEY)[0].ttfs(ONCE)


def failure(error: Exception) -> str:
    return f"raises {type(error).__name__}"


_NO_SYNAPSE = {"tmem": cases.TAU, "ta": 20.0, "b0": 1.0, "beta": 2.0, "bias": 0.0}
_GRAZING = {"tmem": cases.GRAZING_TAU, "tsyn": cases.GRAZING_TAU / 2, "solver_stepsize": 1.0}
_DEFAULTS: tuple[dict[str, Any], ...] = ({}, {"solver_stepsize": 0.1})
_PLIF = {"init_tmem": cases.TAU, "init_tsyn": cases.TAU / 2, "thresh": 1.0, "bias": 0.0}
_REFRACTORY = {
    "t_refrac": cases.REFRACTORY_PERIOD,
    "refrac_mask": jnp.array([1.0, 0.0]),
    "solver_stepsize": 0.1,
}
_REFRACTORY |= LIF | {"init_bias": cases.BIASES[0]}
PROGRAMS: Programs = shared_cases(
    build,
    parameters=lambda net: (net.neuron_model.weights, net.delays),
    spikes=spikes,
    potentials=lambda net, in_times, times: net.state_at_t(in_times, times)[0, :, 0],
) | {
    "peak": lambda: build([[0.0], [cases.GRAZING]], **_GRAZING).ttfs(ONCE),
    "defaults": lambda: [build(cases.ONE, accurate=False, **s).ttfs(ONCE) for s in _DEFAULTS],
    "threshold": threshold,
    "constants": lambda: build(cases.ONE, models.PLIF, **_PLIF).ttfs(ONCE),
    "mask": lambda: one_by_one(build(cases.PAIR, wmask=None, input_neurons=jnp.ones(2))),
    "limit": lambda: jax.vmap(build([[0.0], [8.0], [0.1]], max_event_steps=8).ttfs)(
        jnp.asarray(cases.LIMIT)
    )[0],
    "record": record,
    "nan_weight": lambda: with_weight(build(cases.TWO), (2, 0), jnp.nan).ttfs(ONCE),
    "saved": saved,
    "pulse": lambda: build([[0.0], [1.5]], models.ALIF, **_NO_SYNAPSE).ttfs(ONCE),
    "refractory": lambda: spikes(
        build([[0.0], [0.0]], models.Refractory(models.LIF), **_REFRACTORY), SILENT, 3
    ),
}
Commands = partial(Solver, results_of, PROGRAMS, failure)
