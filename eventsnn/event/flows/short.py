"""Integrals and maxima of observables within a segment at most as long as a solver step."""

import equinox as eqx
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
    """Integral over `dt` of each neuron's observable, by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS_NODES)

    def observed(fraction):
        return neuron.observe(flow.advance(neuron, state, dt * fraction))

    values = jax.vmap(observed)(jnp.asarray(0.5 * nodes + 0.5, dt.dtype))
    return jnp.tensordot(jnp.asarray(0.5 * weights, dt.dtype), values, axes=1) * dt


def searched_peak(
    flow: AbstractFlow, neuron: AbstractNeuron, state: State, dt: Array
) -> Float[Array, "n batch"]:
    """Maximum of each neuron's observable within `dt`."""

    def rise(t):
        observed = lambda t: neuron.observe(flow.advance(neuron, state, t))  # noqa: E731
        return jax.jvp(observed, (t,), (jnp.ones_like(t),))

    fixed = jax.tree.map(
        lambda x: lax.stop_gradient(x) if eqx.is_array(x) else x, (neuron, state, dt)
    )
    t = _peak_time(flow, *fixed)
    spread = jnp.broadcast_to(dt, t.shape)
    # The slope is 0 at an interior maximum, whose time is therefore constant here; `risen` adds the
    # second-order effect of its movement. A maximum at the end moves with dt.
    t = jnp.where(t < spread, t, spread)
    (top, slope), (_, curve) = jax.jvp(rise, (t,), (jnp.ones_like(t),))
    top = top + jnp.where((t > 0) & (t < spread), risen(slope, curve), 0.0)
    return jnp.where(spread > 0, top, neuron.observe(state))


def _peak_time(flow: AbstractFlow, neuron: AbstractNeuron, state: State, dt: Array) -> Array:
    """Time of the maximum: the best of a few nodes, refined by Newton's method."""

    def observed(t):
        return neuron.observe(flow.advance(neuron, state, t))

    def slope(t):
        return jax.jvp(observed, (t,), (jnp.ones_like(t),))[1]

    fractions = jnp.linspace(0.0, 1.0, _PEAK_NODES + 1, dtype=dt.dtype)
    values = jax.vmap(lambda fraction: observed(dt * fraction))(fractions)
    spread = jnp.broadcast_to(dt, values.shape[1:])
    node = spread * fractions[jnp.argmax(values, axis=0)]
    low = jnp.maximum(node - spread / _PEAK_NODES, 0.0)
    high = jnp.minimum(node + spread / _PEAK_NODES, spread)

    def newton_step(_, t):
        value, curve = jax.jvp(slope, (t,), (jnp.ones_like(t),))
        t = t - jnp.where(curve < 0, value / jnp.where(curve < 0, curve, -1.0), 0.0)
        return jnp.clip(t, low, high)

    t = lax.fori_loop(0, _NEWTON_STEPS, newton_step, node)
    return jnp.where(observed(t) >= jnp.max(values, axis=0), t, node)


def risen(slope: Array, curve: Array) -> Array:
    """Second-order correction of a maximum whose position moves with the parameters.

    `slope` and `curve` are the slope and the (negative) curvature at the maximum. The value of the
    correction and its first derivatives are 0, but its second derivatives are not.
    """
    curve = lax.stop_gradient(curve)
    curved = -curve > jnp.finfo(curve.dtype).tiny ** 0.5
    slope = jnp.where(curved, slope, 0.0)
    return -0.5 * (slope - lax.stop_gradient(slope)) ** 2 / jnp.where(curved, curve, -1.0)
