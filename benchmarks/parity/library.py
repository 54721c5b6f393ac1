"""Part of the parity workers that both libraries share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.numpy import inf

from ..workers import files
from . import cases, networks

# Before any array is made.
jax.config.update("jax_enable_x64", True)
ONCE = jnp.array([[1.0]])
SILENT = jnp.array([[inf]])

Programs = dict[str, Callable[[], Any]]


def shared_cases(
    build: Callable[..., Any],
    parameters: Callable[[Any], tuple[Any, Any]],
    spikes: Callable[[Any, Any, int], Any],
    potentials: Callable[[Any, Any, Any], Any],
) -> Programs:
    """Cases that both libraries compute in the same way, from functions of the library.

    `build(weights, **options)` makes a network of LIF neurons; the options are `bias`, `t_max`,
    `masked` (no synapses where the weights are 0), `eventprop` and `delays`. `parameters(net)` are
    weights and delays, `spikes(net, in_times, count)` the first spikes per neuron, and
    `potentials(net, in_times, times)` the membrane potentials.
    """

    def tie_gradient():
        grads = eqx.filter_grad(lambda net: net.ttfs(ONCE)[0])(build(cases.APART))
        return parameters(grads)[0][2]

    def eventprop(late):
        net = build(cases.CHAIN, masked=True, eventprop=True)
        return jax.grad(lambda x: net.ttfs(x)[1])(jnp.array([[1.0], [late]]))

    def compilations():
        traces = []

        @eqx.filter_jit
        def run(net):
            traces.append(net)
            return net.ttfs(ONCE)

        for weight in (6.0, 7.0, 8.0):
            run(build([[0.0], [weight]]))
        return float(len(traces))

    def delayed(wanted, entries, eventprop):
        """Derivatives of the second neuron's first spike by weights (0) or delays (1)."""
        delays = jnp.asarray(cases.DELAYS)
        net = build(cases.DELAYED, masked=True, delays=delays, eventprop=eventprop)
        grads = parameters(eqx.filter_grad(lambda net: net.ttfs(ONCE)[1])(net))[wanted]
        return jnp.stack([grads[entry] for entry in entries])

    zeros, synapses = [[0.0] * 2] * 3, [(0, 1), (2, 0)]
    return {
        "tie": lambda: build(cases.INHIBITING).ttfs(ONCE),
        "tie_gradient": tie_gradient,
        "eventprop_early": lambda: eventprop(cases.EARLY),
        "eventprop_late": lambda: eventprop(cases.LATE),
        "max_spikes": lambda: spikes(build(zeros, bias=jnp.array(cases.BIASES)), SILENT, 3),
        "order": lambda: potentials(build(cases.WEAK), ONCE, jnp.array(cases.OBSERVATION_TIMES)),
        "beyond": lambda: potentials(build(cases.WEAK, t_max=20.0), ONCE, jnp.array([30.0])),
        "minus_infinity": lambda: build(cases.TWO).ttfs(jnp.array([[-inf, 1.0]])),
        "not_a_number": lambda: build(cases.TWO).ttfs(jnp.array([[jnp.nan, 1.0]])),
        "negative": lambda: build(cases.TWO).ttfs(jnp.array([[-5.0, 1.0]])),
        "compilations": compilations,
        "delayed_weights": lambda: delayed(0, synapses, eventprop=True),
        "delays": lambda: delayed(1, synapses, eventprop=True),
        "delayed_mask": lambda: delayed(0, [(2, 1)], eventprop=False),
    }


def one_by_one(net: Any) -> list[Any]:
    """First spikes with one spike in one of the two channels at a time."""
    return [net.ttfs(jnp.array(times)) for times in ([[1.0], [inf]], [[inf], [1.0]])]


def derivatives(results: Callable[[Any], Any], of: Any, rest: Any) -> dict[str, Any]:
    """Results for the values `of | rest`, and derivatives of a functional of each by `of`.

    Missing spikes (inf) are excluded from the functional.
    """
    found, transpose = jax.vjp(lambda of: results(of | rest), of)
    out, zeros = dict(found), jax.tree.map(jnp.zeros_like, found)
    for name, value in found.items():
        part = jnp.where(jnp.isfinite(value), rest[f"of_{name}"], 0.0)
        (slopes,) = transpose(zeros | {name: part})
        out |= {f"d {name} / d {key}": slope for key, slope in slopes.items()}
    return out


@dataclass
class Solver:
    """Commands of both libraries: `solve` a network, `answer` a case.

    `_results_of(name, values)` makes the function from values to `ttfs`, `spikes` and `states` for
    all networks of a kind. `_failure` makes the answer of a case that raises an error.
    """

    _results_of: Callable[[str, Any], Any]
    _programs: Programs
    _failure: Callable[[Exception], str]
    _compiled: dict[str, Any] = field(default_factory=dict)

    def solve(self, name: str, problem: str, out: str) -> None:
        values = jax.tree.map(jnp.asarray, files.read(problem))
        of, rest = networks.split(name, values)
        if name not in self._compiled:
            results = self._results_of(name, values)
            self._compiled[name] = jax.jit(lambda of, rest: derivatives(results, of, rest))
        files.write(out, jax.device_get(self._compiled[name](of, rest)))

    def answer(self, case: str) -> dict[str, Any]:
        try:
            found = self._programs[case]()
        except Exception as error:
            found = self._failure(error)
        numbers = found if isinstance(found, str) else jnp.ravel(jnp.asarray(found)).tolist()
        return {"answer": numbers}
