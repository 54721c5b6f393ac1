"""Test whether an arrival changes the gap to the threshold at once, by a pulse of the potential."""

import jax
import jax.numpy as jnp

from ..neurons import AbstractNeuron


def arrivals_change_gap(neuron: AbstractNeuron, n: int) -> bool:
    """Return whether the gaps of `n` neurons after an arrival may depend on its weights.

    The weights are followed through the program of the model. An operation with an argument that
    depends on them counts as an operation whose results do.
    """

    def gap(weights):
        return neuron.threshold_gap(neuron.receive(neuron.init_state(n), weights))

    dtype = jax.eval_shape(lambda: neuron.threshold_gap(neuron.init_state(n))).dtype
    program = jax.make_jaxpr(gap)(jnp.zeros(n, dtype)).jaxpr
    depends = {id(x) for x in program.invars}
    for operation in program.eqns:
        if any(id(x) in depends for x in operation.invars):
            depends |= {id(x) for x in operation.outvars}
    return any(id(x) in depends for x in program.outvars)
