"""Integrals and maxima within a segment that is a step of a solver, or as short as one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..neurons import AbstractNeuron
from ..neurons.base import State
from .base import AbstractFlow

_GAUSS_NODES = 6
_PEAK_NODES = 8
_NEWTON_STEPS = 3


def gauss_integral(
    flow: AbstractFlow, neuron: AbstractNeuron, state: State, dt: Array
) -> Float[Array, "n batch"]:
    """The integral over `dt` of what each neuron shows, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS_NODES)

    def shown(share):
        return neuron.observe(flow.advance(neuron, state, dt * share))

    values = jax.vmap(shown)(jnp.asarray(0.5 * nodes + 0.5, dt.dtype))
    return jnp.tensordot(jnp.asarray(0.5 * weights, dt.dtype), values, axes=1) * dt


def searched_peak(
    flow: AbstractFlow, neuron: AbstractNeuron, state: State, dt: Array
) -> Float[Array, "n batch"]:
    """The largest of what each neuron shows within `dt`: the best of a few nodes, and then Newton's
    method."""

    def shown(t):
        return neuron.observe(flow.advance(neuron, state, t))

    def slope(t):
        return jax.jvp(shown, (t,), (jnp.ones_like(t),))[1]

    shares = jnp.linspace(0.0, 1.0, _PEAK_NODES + 1, dtype=dt.dtype)
    values = jax.vmap(lambda share: shown(dt * share))(shares)
    spread = jnp.broadcast_to(dt, values.shape[1:])
    middle = spread * shares[jnp.argmax(values, axis=0)]
    low = jnp.maximum(middle - spread / _PEAK_NODES, 0.0)
    high = jnp.minimum(middle + spread / _PEAK_NODES, spread)

    def closer(_, t):
        value, curve = jax.jvp(slope, (t,), (jnp.ones_like(t),))
        t = t - jnp.where(curve < 0, value / jnp.where(curve < 0, curve, -1.0), 0.0)
        return jnp.clip(t, low, high)

    t = lax.fori_loop(0, _NEWTON_STEPS, closer, middle)
    # At a maximum within, the time has no influence; at the end, it has.
    t = jnp.where(t >= spread, spread, lax.stop_gradient(t))
    value, curve = jax.jvp(slope, (t,), (jnp.ones_like(t),))
    top = shown(t) + jnp.where(t < spread, risen(value, curve), 0.0)
    return jnp.maximum(jnp.max(values, axis=0), top)


def risen(slope: Array, curve: Array) -> Array:
    """What a maximum gains because its place moves with the parameters, from the slope there and
    the (negative) curvature: 0, as are its first derivatives, but not the second ones."""
    curve = lax.stop_gradient(curve)
    curved = -curve > jnp.finfo(curve.dtype).tiny ** 0.5
    slope = jnp.where(curved, slope, 0.0)
    return -0.5 * (slope - lax.stop_gradient(slope)) ** 2 / jnp.where(curved, curve, -1.0)
