"""What carries a neuron through its threshold."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..neurons import AbstractNeuron
from ..neurons.base import State

#: Rounding errors, in units in the last place of the terms of a sum.
ROUNDING_ULPS = 64.0


def passes(neuron: AbstractNeuron, state: State) -> Bool[Array, "n ..."]:
    r"""Whether the neuron's own dynamics carry it through its threshold, or to a maximum there.

    By rounding or by the error of a solver, a potential that approaches its threshold without
    reaching it may come to lie at it or above, so the gap alone does not tell it from one that
    crosses. The drift does: for the former, it is 0 at the threshold. With the gap $g$, the speed
    $s = -\dot g$ and the curvature $c = \ddot g$ along the drift, the neuron passes if $s > 0$, or
    if $s = 0$ and $c > 0$. As rounding errors, $\epsilon S$ of $s$ and $\epsilon S^2 / G$ of $c$
    are allowed for, where $G$ and $S$ are the sums of the absolute contributions of the components
    of the state to $g$ and $s$.
    """

    def rate(state):
        return jax.jvp(neuron.threshold_gap, (state,), (neuron.drift(state),))[1]

    slope, curve = jax.jvp(rate, (state,), (neuron.drift(state),))
    eps = ROUNDING_ULPS * jnp.finfo(slope.dtype).eps
    gap_size, rate_size = _size(neuron.threshold_gap, state), _size(rate, state)
    rises, falls = -slope > eps * rate_size, slope > eps * rate_size
    return rises | (~falls & (curve * gap_size > eps * rate_size**2))


def _size(fn: Callable[[State], Array], state: State) -> Array:
    """The sum of the absolute contributions of the components of the state to a function of it."""
    leaves, tree = jax.tree.flatten(state)
    parts = []
    for k in range(len(leaves)):
        alone = [x if k == j else jnp.zeros_like(x) for j, x in enumerate(leaves)]
        parts.append(jax.jvp(fn, (state,), (jax.tree.unflatten(tree, alone),))[1])
    return jnp.sum(jnp.abs(jnp.stack(parts)), axis=0)
