"""Cases of `parity_cases` in eventax: one function per case, with the name of the case."""

import tempfile
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from eventax import neuron_models as models  # pyright: ignore[reportMissingImports]
from eventax.adjoint import EventPropAdjoint  # pyright: ignore[reportMissingImports]
from eventax.evnn import EvNN  # pyright: ignore[reportMissingImports]
from eventax.io import load_evnn, save_evnn  # pyright: ignore[reportMissingImports]

from . import cases

LIF: dict[str, Any] = {"thresh": 1.0, "tmem": cases.TAU, "tsyn": cases.TAU / 2, "init_bias": 0.0}
ACCURATE = {
    "solver_stepsize": 0.05,
    "solver": dfx.Tsit5(),
    "root_finder": optx.Newton(1e-12, 1e-12),
}
ONCE = jnp.array([[1.0]])
SILENT = jnp.array([[inf]])


def build(weights: Any, model: Any = models.LIF, accurate: bool = True, **options: Any) -> EvNN:
    """Build a network with the given weights: all synapses, LIF, accurate settings by default."""
    weights = jnp.asarray(weights, float)
    rows, n = weights.shape
    arguments = {
        "n_neurons": n,
        "in_size": rows - n,
        "max_solver_time": cases.T_MAX,
        "key": jax.random.PRNGKey(0),
        "init_weights": weights,
        "wmask": jnp.ones_like(weights),
        "max_event_steps": 100,
        "dtype": jnp.float64,
    }
    neuron = LIF if model is models.LIF else {}
    return EvNN(model, **(arguments | neuron | (ACCURATE if accurate else {}) | options))


def weights_of(net: EvNN) -> jax.Array:
    return net.neuron_model.weights


def numbers(values: Any) -> list[float]:
    return [float(value) for value in jnp.ravel(jnp.asarray(values))]


def raised(call: Callable[[], Any]) -> str:
    """Name of the error that a call raises, or its return value."""
    try:
        return f"{numbers(call())}"
    except Exception as error:
        return f"raises {type(error).__name__}"


def by_input_times(in_times: Any, **options: Any) -> list[float]:
    net = build(cases.CHAIN, wmask=jnp.asarray(cases.CHAIN) != 0, **options)
    return numbers(jax.grad(lambda x: net.ttfs(x)[1])(jnp.asarray(in_times)))


def eventprop_at(late: float) -> list[float]:
    return by_input_times([[1.0], [late]], adjoint=EventPropAdjoint())


class WithThreshold(models.LIF):
    """LIF model whose threshold is a leaf."""

    level: jax.Array

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.level = self.thresh.value

    def spike_condition(self, t: Any, y: Any, **_: Any) -> Any:
        return y[:, 0] - self.level


def tie() -> Any:
    return numbers(build(cases.INHIBITING).ttfs(ONCE))


def tie_gradient() -> Any:
    grads = eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(build(cases.APART))
    return numbers(weights_of(grads)[2])


def peak() -> Any:
    tau = cases.GRAZING_TAU
    net = build([[0.0], [cases.GRAZING]], tmem=tau, tsyn=tau / 2, solver_stepsize=1.0)
    return numbers(net.ttfs(ONCE))


def defaults() -> Any:
    nets = [build(cases.ONE, accurate=False, **o) for o in ({}, {"solver_stepsize": 0.1})]
    return [numbers(net.ttfs(ONCE))[0] for net in nets]


def threshold() -> Any:
    net = build(cases.ONE, model=WithThreshold, adjoint=EventPropAdjoint(), **LIF)
    return raised(lambda: eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(net).neuron_model.level)


def constants() -> Any:
    options: dict[str, Any] = {
        "thresh": 1.0,
        "init_tmem": cases.TAU,
        "init_tsyn": cases.TAU / 2,
        "init_bias": 0.0,
    }
    return raised(lambda: build(cases.ONE, model=models.PLIF, **options).ttfs(ONCE))


def mask() -> Any:
    net = build(cases.PAIR, wmask=None, input_neurons=jnp.ones(2))
    return [t for x in ([[1.0], [inf]], [[inf], [1.0]]) for t in numbers(net.ttfs(jnp.array(x)))]


def max_spikes() -> Any:
    net = build([[0.0] * 2] * 3, init_bias=jnp.array(cases.BIASES))
    return numbers(net.spikes_until_t(SILENT, cases.T_MAX, 3))


def order() -> Any:
    return numbers(build(cases.WEAK).state_at_t(ONCE, jnp.array(cases.LOOKS))[0, :, 0])


def beyond() -> Any:
    net = build(cases.WEAK, max_solver_time=20.0)
    return numbers(net.state_at_t(ONCE, jnp.array([30.0]))[0, :, 0])


def with_bad(name: str) -> Any:
    return numbers(build(cases.TWO).ttfs(jnp.array([[cases.BAD[name], 1.0]])))


def limit() -> Any:
    net = build([[0.0], [8.0], [0.1]], max_event_steps=8)
    return raised(lambda: jax.vmap(net.ttfs)(jnp.asarray(cases.LIMIT))[0])


def record() -> Any:
    net = build([[0.0], [0.0]], init_bias=cases.BIASES[0], max_event_steps=6)
    return f"{int(jnp.sum(jnp.isfinite(net.record(SILENT)[0])))} spikes, no word"


def nan_weight() -> Any:
    net = build(cases.TWO)
    bad = eqx.tree_at(weights_of, net, weights_of(net).at[2, 0].set(jnp.nan))
    return numbers(bad.ttfs(ONCE))


def compilations() -> Any:
    traces = 0

    @eqx.filter_jit
    def run(net):
        nonlocal traces
        traces += 1
        return net.ttfs(ONCE)

    for weight in (6.0, 7.0, 8.0):
        run(build([[0.0], [weight]]))
    return [float(traces)]


def saved() -> Any:
    config = {
        **{"n_neurons": 1, "in_size": 1, "max_solver_time": cases.T_MAX, "init_weights": 8.0},
        **{"dtype": jnp.float64, "wmask": jnp.ones((2, 1)), "max_event_steps": 100},
        **{"solver": dfx.Tsit5(), "solver_stepsize": 0.5},
        **LIF,
    }
    key = jax.random.PRNGKey(0)
    net = EvNN(models.LIF, key=key, **config)
    net = eqx.tree_at(weights_of, net, weights_of(net).at[0].set(0.0))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net")
        save_evnn(path, net, config)
        loaded, _ = load_evnn(path, key)
    return numbers(loaded.ttfs(ONCE))


def pulse() -> Any:
    constants: dict[str, Any] = {
        "tmem": cases.TAU,
        "ta": 20.0,
        "b0": 1.0,
        "beta": 2.0,
        "init_bias": 0.0,
    }
    return numbers(build([[0.0], [1.5]], model=models.ALIF, **constants).ttfs(ONCE))


def refractory() -> Any:
    rest = {"t_refrac": cases.REST, "refrac_mask": jnp.array([1.0, 0.0])}
    options: dict[str, Any] = LIF | rest | {"init_bias": cases.BIASES[0], "solver_stepsize": 0.1}
    net = build([[0.0], [0.0]], model=models.Refractory(models.LIF), **options)
    return numbers(net.spikes_until_t(SILENT, cases.T_MAX, 3))


def delayed(**options: Any) -> Any:
    """Derivatives of the second neuron's first spike, as a network."""
    weights = jnp.asarray(cases.DELAYED)
    net = build(weights, wmask=weights != 0, init_delays=jnp.asarray(cases.DELAYS), **options)
    return eqx.filter_grad(lambda net: net.ttfs(ONCE)[1])(net)


def delayed_weights() -> Any:
    grads = weights_of(delayed(adjoint=EventPropAdjoint()))
    return numbers(jnp.stack([grads[0, 1], grads[2, 0]]))


def delays() -> Any:
    grads = delayed(adjoint=EventPropAdjoint()).delays
    return numbers(jnp.stack([grads[0, 1], grads[2, 0]]))


def delayed_mask() -> Any:
    return numbers(weights_of(delayed())[2, 1])


ALL: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (
        *(tie, tie_gradient, peak, defaults, threshold, constants, mask, max_spikes),
        *(order, beyond, limit, record, nan_weight, compilations, saved, pulse, refractory),
        *(delayed_weights, delays, delayed_mask),
    )
}
ALL |= {name: lambda late=late: eventprop_at(late) for name, late in cases.LATE.items()}
ALL |= {name: lambda name=name: with_bad(name) for name in cases.BAD}
