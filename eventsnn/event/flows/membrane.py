r"""Closed form of a leaky membrane with an exponential synapse, for any ratio of time constants.

$$\tau_m \dot V = -V + I + b, \qquad \tau_s \dot I = -I$$

The LIF neuron and the leaky integrator have this membrane.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .base import with_time_derivative
from .short import risen


@runtime_checkable
class LeakyMembrane(Protocol):
    """Parameters of the membrane and its synapse."""

    @property
    def tau_mem(self) -> Array: ...
    @property
    def tau_syn(self) -> Array: ...
    @property
    def bias(self) -> Array: ...


@runtime_checkable
class MembraneState(Protocol):
    """Membrane potential and synaptic current."""

    @property
    def v(self) -> Array: ...
    @property
    def current(self) -> Array: ...


#: Time in membrane time constants. Before it, the potential is computed as a difference from its
#: initial value, after it from the bias that it approaches. This avoids cancellation, and V does
#: not pass b by rounding.
NEAR = 0.5


def integral(neuron: LeakyMembrane, state: MembraneState, end: MembraneState, dt: Array) -> Array:
    r"""Integral of the potential, $\int V\,dt = \int (I + b)\,dt - \tau_m [V]$.

    It follows from the differential equation.
    """
    charge = neuron.tau_syn * (state.current - end.current)
    return charge + neuron.bias * dt - neuron.tau_mem * (end.v - state.v)


def maximum(neuron: LeakyMembrane, state: MembraneState, dt: Array) -> Array:
    """Maximum of V within `dt`: at the start, at the end, or at the interior maximum."""
    _, turn, peaks = extremum(neuron, state)
    inside = peaks & (turn < dt)
    turn = lax.stop_gradient(jnp.where(inside, turn, 0.0))  # V is stationary at its maximum
    slope = fall(neuron, state, turn)
    curve = state.current * jnp.exp(-turn / neuron.tau_syn) / (neuron.tau_syn * neuron.tau_mem)
    top = potential(neuron, state, turn) + risen(slope, -curve)
    end = potential(neuron, state, dt)
    ends = jnp.where(end > state.v, end, state.v)  # `maximum` averages derivatives at dt = 0
    return jnp.where(inside, top, ends)


def potential(neuron: LeakyMembrane, state: MembraneState, t: Array) -> Array:
    """Potential V(t), accurate at all times and for any ratio of time constants."""
    x, distance = t / neuron.tau_mem, neuron.bias - state.v
    near = state.v - distance * jnp.expm1(-x)
    far = neuron.bias - distance * jnp.exp(-x)
    return jnp.where(x < NEAR, near, far) + state.current * kernel(neuron, t)


def kernel(neuron: LeakyMembrane, t: Array) -> Array:
    r"""Synaptic kernel k(t), in a form that is accurate at and near $\tau_m = \tau_s$.

    $k(t) = (t/\tau_m)\, e^{-t/\tau}\, (1 - e^{-x})/x$ with $\tau$ the larger constant and
    $x = t\,|1/\tau_m - 1/\tau_s|$: no cancellation, no overflow.
    """
    return _kernel(neuron.tau_mem, neuron.tau_syn, t)


def _kernel_value(tau_mem: Array, tau_syn: Array, t: Array) -> Array:
    x = t / tau_mem - t / tau_syn
    # Each branch is the complete function. `abs` and `maximum` would have wrong derivatives at
    # equal time constants, and so would branches chosen by the sign of x: XLA may compute x twice,
    # with different rounding.
    slower = tau_mem <= tau_syn
    slow = jnp.exp(jnp.where(slower, -t / tau_syn, -t / tau_mem))
    return (t / tau_mem) * slow * _mean_decay(jnp.where(slower, x, -x))


def _kernel_slope(k: Array, tau_mem: Array, tau_syn: Array, t: Array) -> Array:
    r"""Time derivative of the kernel, from its value k, by its differential equation

    $$\dot k = (e^{-t/\tau_s} - k)/\tau_m = e^{-t/\tau_m}/\tau_m - k/\tau_s.$$

    The form without cancellation at late times is used: the first one for $\tau_m > \tau_s$, else
    the second one.
    """
    slower = tau_mem <= tau_syn
    drive = jnp.exp(jnp.where(slower, -t / tau_mem, -t / tau_syn)) / tau_mem
    return drive - k / jnp.where(slower, tau_syn, tau_mem)


_kernel = with_time_derivative(_kernel_value, _kernel_slope)


def _mean_decay(x: Array) -> Array:
    r"""Mean decay $(1 - e^{-x})/x$ for x >= 0, accurate with all its derivatives down to x = 0."""
    small = x < 0.5
    far = jnp.where(small, 1.0, x)
    series = jnp.zeros_like(x)
    # The first omitted term is at most 0.5^n / (n + 1)!, less than 1/100 of the precision.
    terms = 9 if x.dtype == jnp.float32 else 15
    for k in range(terms, 0, -1):
        series = 1.0 - series * x * (1.0 / (k + 1))
    return jnp.where(small, series, -jnp.expm1(-far) / far)


def fall(neuron: LeakyMembrane, state: MembraneState, t: Array) -> Array:
    """Negative time derivative of V at time t."""
    current = state.current * jnp.exp(-t / neuron.tau_syn)
    return -(current - potential(neuron, state, t) + neuron.bias) / neuron.tau_mem


def extremum(
    neuron: LeakyMembrane, state: MembraneState
) -> tuple[Float[Array, "*lanes"], Float[Array, "*lanes"], Bool[Array, "*lanes"]]:
    r"""Time from which V may rise, time of its interior extremum, and whether this is a maximum.

    $\dot V = 0$ at $t = \tau_s\, c\, \log(1 + z)/z$ with $c = \tau_m \dot V(0) / I_0$ and
    $1 + z = (V_0 - b)/I_0 + c\, \tau_s/\tau_m$, where $z = c\, (\tau_s - \tau_m)/\tau_m$.
    """
    rise = state.current - state.v + neuron.bias  # tau_m V'(0)
    quiet = state.current == 0
    c = rise / jnp.where(quiet, 1.0, state.current)
    z = (neuron.tau_syn - neuron.tau_mem) / neuron.tau_mem * c
    # z may round to -1. 1 + z is therefore computed separately, without cancellation.
    left = (state.v - neuron.bias) / jnp.where(quiet, 1.0, state.current)
    whole = left + c * (neuron.tau_syn / neuron.tau_mem)
    exists = ~quiet & (c > 0) & (whole > 0)
    time = neuron.tau_syn * c * _log_over(jnp.where(exists, whole, 1.0), z)
    # With c > 0 the slope has the sign of the current: a positive current gives a maximum.
    peaks = exists & (rise > 0)
    dips = exists & (rise < 0)
    return jnp.where(dips, time, 0.0), time, peaks


def may_exceed(
    neuron: LeakyMembrane,
    state: MembraneState,
    end: MembraneState,
    dt: Array,
    missing: Array,
) -> Bool[Array, "..."]:
    r"""Mask of the membranes whose potential may rise by `missing` within `dt`, before the end.

    V has an interior maximum if and only if it rises at the start and falls at the end. It is
    concave up to its maximum, which is then at most the tangent at the start. If V is concave up to
    the end, the maximum is at most at the intersection of the tangents at both ends.
    """
    rise = state.current - state.v + neuron.bias
    fall = end.v - end.current - neuron.bias
    peaks, length = (rise > 0) & (fall > 0), dt / neuron.tau_mem
    concave = end.current * neuron.tau_mem >= fall * neuron.tau_syn
    # The tangents intersect at a height of rise * cut / (rise + fall) above the start.
    cut = jnp.where(concave, (end.v - state.v) + fall * length, (rise + fall) * length)
    return peaks & (rise * cut >= missing * (rise + fall))


def _log_over(whole: Array, z: Array) -> Array:
    """Quotient log(1 + z)/z, which is 1 at z = 0; `whole` is 1 + z."""
    near = jnp.abs(z) < jnp.finfo(z.dtype).tiny
    small = jnp.abs(z) < 0.5
    safe = jnp.where(near, 1.0, z)
    log = jnp.where(small, jnp.log1p(jnp.where(small, z, 0.0)), jnp.log(whole))
    return jnp.where(near, 1.0, log / safe)
