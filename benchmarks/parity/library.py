"""Part of the parity workers that both libraries share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.numpy import inf

from ..workers import files
from ..workers.protocol import serve
from . import cases, networks

ONCE = jnp.array([[1.0]])
SILENT = jnp.array([[inf]])


def derivatives(network: Callable[..., Any], of: Any, rest: Any) -> dict[str, Any]:
    """Results of `network(**of, **rest)`, and derivatives of a functional of each by `of`.

    Missing spikes (inf) are excluded from the functional.
    """
    found, transpose = jax.vjp(lambda of: network(of | rest), of)
    out = dict(found)
    for name, value in found.items():
        part = jnp.where(jnp.isfinite(value), rest[f"of_{name}"], 0.0)
        zeros = jax.tree.map(jnp.zeros_like, found)
        (slopes,) = transpose(zeros | {name: part})
        out |= {f"d {name} / d {key}": slope for key, slope in slopes.items()}
    return out


class Library:
    """Worker commands, and the cases that both libraries compute in the same way.

    A library adds the hooks, which raise here, and one method per remaining case.
    """

    def __init__(self) -> None:
        self.compiled: dict[str, Any] = {}

    def results(self, name: str, values: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
        """Function from parameters to `ttfs`, `spikes` and `states` for all networks of a kind."""
        raise NotImplementedError

    def build(self, weights: Any, **options: Any) -> Any:
        """Network of LIF neurons. Options: bias, masked (where 0), t_max, eventprop, delays."""
        raise NotImplementedError

    def parameters(self, net: Any) -> tuple[Any, Any]:
        """Weights and delays of a network."""
        raise NotImplementedError

    def spikes(self, net: Any, in_times: Any, count: int) -> Any:
        """First `count` spikes per neuron."""
        raise NotImplementedError

    def potentials(self, net: Any, in_times: Any, times: Any) -> Any:
        """Membrane potentials at the given times."""
        raise NotImplementedError

    def failure(self, error: Exception) -> str:
        """Answer of a case that raises an error."""
        raise error

    def solve(self, name: str, problem: str, out: str) -> None:
        """Results, and derivatives of a functional of each, for the network in a file."""
        values = jax.tree.map(jnp.asarray, files.read(problem))
        of, rest = networks.split(name, values)
        if name not in self.compiled:
            results = self.results(name, values)
            self.compiled[name] = jax.jit(lambda of, rest: derivatives(results, of, rest))
        files.write(out, jax.device_get(self.compiled[name](of, rest)))

    def answer(self, case: str) -> dict[str, Any]:
        """Result of a small case: a description, or numbers."""
        try:
            found = getattr(self, case)()
            answer = found if isinstance(found, str) else jnp.ravel(jnp.asarray(found)).tolist()
        except Exception as error:
            answer = self.failure(error)
        return {"answer": answer}

    def serve(self) -> None:
        """Answer requests in float64."""
        jax.config.update("jax_enable_x64", True)
        serve({"solve": self.solve, "answer": self.answer})

    def tie(self) -> Any:
        return self.build(cases.INHIBITING).ttfs(ONCE)

    def tie_gradient(self) -> Any:
        grads = eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(self.build(cases.APART))
        return self.parameters(grads)[0][2]

    def eventprop(self, late: float) -> Any:
        net = self.build(cases.CHAIN, masked=True, eventprop=True)
        return jax.grad(lambda x: net.ttfs(x)[1])(jnp.array([[1.0], [late]]))

    def eventprop_early(self) -> Any:
        return self.eventprop(cases.EARLY)

    def eventprop_late(self) -> Any:
        return self.eventprop(cases.LATE)

    def one_channel_at_a_time(self, net: Any) -> Any:
        return jnp.stack([net.ttfs(jnp.array(x)) for x in ([[1.0], [inf]], [[inf], [1.0]])])

    def max_spikes(self) -> Any:
        net = self.build([[0.0] * 2] * 3, bias=jnp.array(cases.BIASES))
        return self.spikes(net, SILENT, 3)

    def order(self) -> Any:
        return self.potentials(self.build(cases.WEAK), ONCE, jnp.array(cases.LOOKS))

    def beyond(self) -> Any:
        return self.potentials(self.build(cases.WEAK, t_max=20.0), ONCE, jnp.array([30.0]))

    def first_at(self, time: float) -> Any:
        return self.build(cases.TWO).ttfs(jnp.array([[time, 1.0]]))

    def minus_infinity(self) -> Any:
        return self.first_at(-inf)

    def not_a_number(self) -> Any:
        return self.first_at(jnp.nan)

    def negative(self) -> Any:
        return self.first_at(-5.0)

    def compilations(self) -> Any:
        traces = []

        @eqx.filter_jit
        def run(net):
            traces.append(net)
            return net.ttfs(ONCE)

        for weight in (6.0, 7.0, 8.0):
            run(self.build([[0.0], [weight]]))
        return float(len(traces))

    def delayed(self, **options: Any) -> Any:
        """Derivatives of the second neuron's first spike with respect to weights and delays."""
        delays = jnp.asarray(cases.DELAYS)
        net = self.build(cases.DELAYED, masked=True, delays=delays, **options)
        return self.parameters(eqx.filter_grad(lambda net: net.ttfs(ONCE)[1])(net))

    def delayed_weights(self) -> Any:
        by_weights, _ = self.delayed(eventprop=True)
        return jnp.stack([by_weights[0, 1], by_weights[2, 0]])

    def delays(self) -> Any:
        _, by_delays = self.delayed(eventprop=True)
        return jnp.stack([by_delays[0, 1], by_delays[2, 0]])

    def delayed_mask(self) -> Any:
        return self.delayed()[0][2, 1]
