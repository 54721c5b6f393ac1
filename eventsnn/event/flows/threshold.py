"""Test whether a neuron's vector field carries it through its threshold."""

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
    r"""Mask of the neurons whose dynamics carry them through the threshold, or to a maximum there.

    A potential that approaches its threshold without reaching it may come to lie at or above it, by
    rounding or by the error of a solver. The gap alone cannot distinguish it from a potential that
    crosses. The vector field can: for the former it is 0 at the threshold. Consider the gap $g(x)$,
    the vector field $f(x)$, the closing speed $s = -\nabla g \cdot f$ and the curvature
    $c = -\dot s$ along the vector field. The neuron passes if $s > 0$, or if $s = 0$ and $c > 0$.
    Both comparisons allow for rounding errors, of $\epsilon S$ in $s$ and $\epsilon S^2 / G$ in
    $c$, where

    $$G = \sum_k \Bigl| \frac{\partial g}{\partial x_k} x_k \Bigr|, \qquad
    S = \sum_{j,k} \Bigl| \frac{\partial g}{\partial x_k} \Bigr|
        \Bigl| \frac{\partial f_k}{\partial x_j} x_j \Bigr|.$$

    The result does not change if $g$ is replaced by an increasing function of $g$.
    """

    def rate(state):
        return jax.jvp(neuron.threshold_gap, (state,), (neuron.vector_field(state),))[1]

    slope, curve = jax.jvp(rate, (state,), (neuron.vector_field(state),))
    leaves, tree = jax.tree.flatten(state)

    def along(fn, k, direction):
        """Derivative of `fn` in `direction` of component k alone."""
        parts = [direction if j == k else jnp.zeros_like(x) for j, x in enumerate(leaves)]
        return jax.jvp(fn, (state,), (jax.tree.unflatten(tree, parts),))[1]

    sizes = [jnp.zeros_like(x) for x in leaves]
    for k, x in enumerate(leaves):
        parts = jax.tree.leaves(along(neuron.vector_field, k, x))
        sizes = [size + jnp.abs(part) for size, part in zip(sizes, parts, strict=True)]
    gap_size, rate_size = jnp.zeros_like(slope), jnp.zeros_like(slope)
    for k, (x, size) in enumerate(zip(leaves, sizes, strict=True)):
        gradient = jnp.abs(along(neuron.threshold_gap, k, jnp.ones_like(x)))
        gap_size, rate_size = gap_size + gradient * jnp.abs(x), rate_size + gradient * size

    error = ROUNDING_ULPS * jnp.finfo(slope.dtype).eps * rate_size
    rises, falls = slope < -error, slope > error
    return rises | (~falls & (curve * gap_size > error * rate_size))
