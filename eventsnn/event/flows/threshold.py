"""What carries a neuron through its threshold."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..neurons import AbstractNeuron
from ..neurons.base import State

#: Rounding errors, in units in the last place of the terms of a sum.
ROUNDING_ULPS = 64.0


@eqx.filter_jit
def passes(neuron: AbstractNeuron, state: State) -> Bool[Array, "n ..."]:
    r"""Whether the neuron's own dynamics carry it through its threshold, or to a maximum there.

    By rounding or by the error of a solver, a potential that approaches its threshold without
    reaching it may come to lie at it or above, so the gap alone does not tell it from one that
    crosses. The drift does: for the former, it is 0 at the threshold. With the gap $g(x)$, the
    drift $f(x)$, the speed $s = -\nabla g \cdot f$ and the curvature $c = -\dot s$ along the drift,
    the neuron passes if $s > 0$, or if $s = 0$ and $c > 0$. Rounding errors are allowed for:
    $\epsilon S$ of $s$ and $\epsilon S^2 / G$ of $c$, where

    $$G = \sum_k \Bigl| \frac{\partial g}{\partial x_k} x_k \Bigr|, \qquad
    S = \sum_{j,k} \Bigl| \frac{\partial g}{\partial x_k} \Bigr|
        \Bigl| \frac{\partial f_k}{\partial x_j} x_j \Bigr|.$$

    Any increasing function of $g$ in its place makes the same decision.
    """

    def rate(state):
        return jax.jvp(neuron.threshold_gap, (state,), (neuron.drift(state),))[1]

    slope, curve = jax.jvp(rate, (state,), (neuron.drift(state),))
    leaves, tree = jax.tree.flatten(state)

    def along(fn, k, direction):
        """The derivative of `fn` by component k alone."""
        parts = [direction if j == k else jnp.zeros_like(x) for j, x in enumerate(leaves)]
        return jax.jvp(fn, (state,), (jax.tree.unflatten(tree, parts),))[1]

    sizes = [jnp.zeros_like(x) for x in leaves]
    for k, x in enumerate(leaves):
        parts = jax.tree.leaves(along(neuron.drift, k, x))
        sizes = [size + jnp.abs(part) for size, part in zip(sizes, parts, strict=True)]
    gap_size, rate_size = jnp.zeros_like(slope), jnp.zeros_like(slope)
    for k, (x, size) in enumerate(zip(leaves, sizes, strict=True)):
        gradient = jnp.abs(along(neuron.threshold_gap, k, jnp.ones_like(x)))
        gap_size, rate_size = gap_size + gradient * jnp.abs(x), rate_size + gradient * size

    error = ROUNDING_ULPS * jnp.finfo(slope.dtype).eps * rate_size
    rises, falls = slope < -error, slope > error
    return rises | (~falls & (curve * gap_size > error * rate_size))
