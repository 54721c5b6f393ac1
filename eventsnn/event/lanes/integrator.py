r"""Readouts of leaky integrators: superpositions of the responses to the input spikes.

A leaky integrator is linear and never fires. Its membrane potential is

$$V(t) = b + (V_0 - b)\, e^{-t/\tau_m} + \sum_{t_k \le t} w_k\, k(t - t_k)$$

with the synaptic kernel $k$ of `flows.membrane`. The potential at given times and its integral are
therefore sums over the input spikes, without a loop over events.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flows import membrane
from ..neurons import LeakyIntegrator


def potentials(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    times: Float[Array, " times"],
) -> Float[Array, "n times"]:
    """Membrane potentials of one sample at the given times."""

    def at(time):
        sums = _sum(neuron, weights, lambda neuron, t: response(neuron, t), time - in_times)
        return without_input(neuron, time) + sums

    return jax.vmap(at, out_axes=1)(times)


def integrals(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    in_times: Float[Array, "inputs k"],
    t_max: float,
) -> Float[Array, " n"]:
    """Integrals of the membrane potentials of one sample until `t_max`."""

    def charge(neuron: LeakyIntegrator, t: Array) -> Array:
        # By the differential equation of the kernel, tau_m k' + k = exp(-t / tau_s).
        arrived = jnp.where(t > 0, t, 0.0)
        charged = -neuron.tau_syn * jnp.expm1(-arrived / neuron.tau_syn)
        return jnp.where(t > 0, charged - neuron.tau_mem * response(neuron, t), 0.0)

    fallen = -neuron.tau_mem * jnp.expm1(-t_max / neuron.tau_mem)
    silent = neuron.bias * t_max + (neuron.v_init - neuron.bias) * fallen
    return silent + _sum(neuron, weights, charge, t_max - in_times)


def without_input(neuron: LeakyIntegrator, time: Array) -> Array:
    """Potential without input."""
    return neuron.bias + (neuron.v_init - neuron.bias) * jnp.exp(-time / neuron.tau_mem)


def response(neuron: LeakyIntegrator, t: Array) -> Array:
    """Response to a spike of weight 1 at time 0. At time 0, the spike has arrived."""
    arrived = t >= 0
    return jnp.where(arrived, membrane.kernel(neuron, jnp.where(arrived, t, 0.0)), 0.0)


def _sum(
    neuron: LeakyIntegrator,
    weights: Float[Array, "inputs n"],
    kernel: Callable[[LeakyIntegrator, Array], Array],
    since: Float[Array, "inputs k"],
) -> Float[Array, " n"]:
    """Sum of the weighted responses to all input spikes."""
    if neuron.tau_mem.ndim == 0 and neuron.tau_syn.ndim == 0:
        return jnp.sum(kernel(neuron, since), axis=1) @ weights
    return jnp.sum(jnp.sum(kernel(neuron, since[..., None]), axis=1) * weights, axis=0)
