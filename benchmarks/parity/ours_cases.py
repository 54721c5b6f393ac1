"""Cases of `parity_cases` in eventsnn: one function per case, with the name of the case."""

import io
from collections.abc import Callable
from math import inf
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import eventsnn as esn

from . import cases
from .alif import PeerALIF

ONCE = jnp.array([[1.0]])
SILENT = jnp.array([[inf]])


def lif(tau: float = cases.TAU, bias: Any = 0.0) -> esn.LIF:
    return esn.LIF(tau_mem=tau, tau_syn=tau / 2, bias=bias)


def build(weights: Any, neuron: esn.AbstractNeuron | None = None, **options: Any) -> Any:
    """Build a network with the given weights; all neurons are outputs."""
    weights = jnp.asarray(weights)
    arguments = {"outputs": range(weights.shape[1]), "t_max": cases.T_MAX} | options
    return esn.EventNetwork(neuron or lif(), weights, **arguments)


def numbers(values: Any) -> list[float]:
    return [float(value) for value in jnp.ravel(jnp.asarray(values))]


def refused(call: Callable[[], Any]) -> Any:
    try:
        return numbers(call())
    except ValueError:
        return cases.REFUSED


def at(late: float) -> Any:
    weights = jnp.asarray(cases.CHAIN)
    net = build(weights, mask=weights != 0, adjoint=esn.EventProp())
    return numbers(jax.grad(lambda x: net.ttfs(x)[1])(jnp.array([[1.0], [late]])))


def of_neuron() -> esn.LIF:
    """Derivative of the first spike with respect to the neuron's parameters."""
    return eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(build(cases.ONE)).neuron


def tie() -> Any:
    return numbers(build(cases.INHIBITING).ttfs(ONCE))


def tie_gradient() -> Any:
    grads = eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(build(cases.APART))
    return numbers(grads.weights[2])


def peak() -> Any:
    return numbers(build([[0.0], [cases.GRAZING]], lif(cases.GRAZING_TAU)).ttfs(ONCE))


def defaults() -> Any:
    return numbers(build(cases.ONE).ttfs(ONCE)) * 2


def threshold() -> Any:
    return numbers(of_neuron().threshold)


def constants() -> Any:
    grads = of_neuron()
    return numbers(cases.TAU * grads.tau_mem + cases.TAU / 2 * grads.tau_syn)


def mask() -> Any:
    net = build(cases.PAIR)
    return [t for x in ([[1.0], [inf]], [[inf], [1.0]]) for t in numbers(net.ttfs(jnp.array(x)))]


def max_spikes() -> Any:
    net = build([[0.0] * 2] * 3, lif(bias=jnp.array(cases.BIASES)))
    return numbers(net.spikes(SILENT, 3))


def order() -> Any:
    return numbers(build(cases.WEAK).states_at(ONCE, jnp.array(cases.LOOKS)))


def beyond() -> Any:
    return refused(lambda: build(cases.WEAK, t_max=20.0).states_at(ONCE, jnp.array([30.0])))


def with_bad(name: str) -> Any:
    return refused(lambda: build(cases.TWO).ttfs(jnp.array([[cases.BAD[name], 1.0]])))


def limit() -> Any:
    net = build([[0.0], [8.0], [0.1]], max_events=8)
    in_times = jnp.asarray(cases.LIMIT)
    assert (net.simulate(in_times, throw=False).status == esn.Status.max_events).tolist()[1]
    return numbers(net.ttfs(in_times, throw=False)[0])


def record() -> Any:
    net = build([[0.0], [0.0]], lif(bias=cases.BIASES[0]), max_events=6)
    solution = net.simulate(SILENT, throw=False)
    cut = bool(solution.status == esn.Status.max_events)
    return "cut short, and said so" if cut else numbers(solution.times)


def nan_weight() -> Any:
    net = build(cases.TWO)
    bad = eqx.tree_at(lambda net: net.weights, net, net.weights.at[2, 0].set(jnp.nan))
    said = bool(bad.simulate(ONCE, throw=False).status == esn.Status.not_finite)
    return "not finite, and said so" if said else numbers(bad.ttfs(ONCE, throw=False))


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
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, build(cases.ONE))
    file.seek(0)
    return numbers(eqx.tree_deserialise_leaves(file, build([[0.0], [0.0]])).ttfs(ONCE))


def pulse() -> Any:
    neuron = PeerALIF(*map(jnp.asarray, (cases.TAU, 20.0, 2.0, 1.0, 0.0)))
    return numbers(build([[0.0], [1.5]], neuron).ttfs(ONCE))


def refractory() -> Any:
    neuron = esn.Refractory(lif(bias=cases.BIASES[0]), cases.REST)
    return numbers(build([[0.0], [0.0]], neuron).spikes(SILENT, 3))


# ------------------------------------------------------------------ delays


def delayed(delays: Any) -> Any:
    """Network of the delay cases; the only place that uses the argument `delays`."""
    weights = jnp.asarray(cases.DELAYED)
    return build(weights, mask=weights != 0, delays=jnp.asarray(delays))


def by_weights(entries: list[tuple[int, int]]) -> Any:
    net = delayed(cases.DELAYS)
    grads = eqx.filter_grad(lambda net: net.ttfs(ONCE)[1])(net).weights
    return [float(grads[entry]) for entry in entries]


def delayed_weights() -> Any:
    return by_weights([(0, 1), (2, 0)])


def delayed_mask() -> Any:
    return by_weights([(2, 1)])


def delays() -> Any:
    grads = jax.grad(lambda d: delayed(d).ttfs(ONCE)[1])(jnp.asarray(cases.DELAYS))
    return [float(grads[0, 1]), float(grads[2, 0])]


ALL: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (
        *(tie, tie_gradient, peak, defaults, threshold, constants, mask, max_spikes),
        *(order, beyond, limit, record, nan_weight, compilations, saved, pulse, refractory),
        *(delayed_weights, delays, delayed_mask),
    )
}
ALL |= {name: lambda late=late: at(late) for name, late in cases.LATE.items()}
ALL |= {name: lambda name=name: with_bad(name) for name in cases.BAD}
