"""Properties of neuron models on which a simulation in rounds relies, read from their programs.

Values are followed through the program of a model. An operation with an argument that depends on a
value counts as an operation whose results do.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from ..neurons import AbstractNeuron


def arrivals_change_gap(neuron: AbstractNeuron, n: int) -> bool:
    """Return whether the gaps of `n` neurons after an arrival may depend on its weights."""

    def gap(weights):
        return neuron.threshold_gap(neuron.receive(neuron.init_state(n), weights))

    program = jax.make_jaxpr(gap)(_weights(neuron, n)).jaxpr
    depends = _dependents(program, program.invars)
    return any(id(x) in depends for x in program.outvars)


def reset_commutes(neuron: AbstractNeuron, n: int) -> bool:
    """Return whether a reset and an arrival of `n` neurons certainly commute.

    They do if each changes components of the state that the other neither changes nor uses.
    """
    state = neuron.init_state(n)
    arrival = jax.make_jaxpr(neuron.receive)(state, _weights(neuron, n)).jaxpr
    reset = jax.make_jaxpr(neuron.reset)(state, jnp.ones(n, bool)).jaxpr
    received, changed = _changed(arrival), _changed(reset)
    return not (
        received & changed or _used(arrival, changed, received) or _used(reset, received, changed)
    )


def _weights(neuron: AbstractNeuron, n: int) -> jax.Array:
    dtype = jax.eval_shape(lambda: neuron.threshold_gap(neuron.init_state(n))).dtype
    return jnp.zeros(n, dtype)


def _changed(program: Any) -> set[int]:
    """Components of the state that the program does not return as they are."""
    pairs = zip(program.outvars, program.invars, strict=False)
    return {k for k, (after, before) in enumerate(pairs) if after is not before}


def _used(program: Any, components: set[int], results: set[int]) -> bool:
    """Return whether one of these results depends on one of these components."""
    depends = _dependents(program, (program.invars[k] for k in components))
    return any(id(program.outvars[k]) in depends for k in results)


def _dependents(program: Any, values: Iterable[Any]) -> set[int]:
    """Identities of all variables that depend on these values."""
    depends = {id(x) for x in values}
    for operation in program.eqns:
        if any(id(x) in depends for x in operation.invars):
            depends |= {id(x) for x in operation.outvars}
    return depends
