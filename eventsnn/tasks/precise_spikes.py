"""Loss of precise spike times: errors in time, missing spikes and surplus spikes.

The number of spikes has no gradient with respect to the spike times. Membrane potentials have one:
the potential at the time of a missing spike is raised, and the potential that made a surplus spike
is lowered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Arrivals", "Match", "loss", "match", "potentials", "trains_of"]

# Smallest potential without a loss, in units of the threshold, and its time after the target (ms).
# Spikes that only just reach the threshold vanish after a small change of the weights.
_AIM, _AFTER = 1.05, 1.0
# Time in place of that of a spike that does not exist. Differences of infinities would be NaN.
_NEVER = 1e6


class Arrivals(NamedTuple):
    """Spikes that arrive at some LIF neurons, in the order of the record, padded with inf."""

    times: Float[Array, " events"]
    weights: Float[Array, "events neurons"]


class Match(NamedTuple):
    """Assignment of spikes to targets."""

    nearest: Int[Array, "neurons targets"]
    """Index of the spike of the neuron that is nearest to the target."""
    hit: Bool[Array, "neurons targets"]
    """Whether this spike is within the window."""
    surplus: Bool[Array, "neurons spikes"]
    """Whether a spike is assigned to no target."""


def trains_of(
    times: Float[Array, " events"],
    sources: Int[Array, " events"],
    neurons: Int[Array, " neurons"],
    max_spikes: int,
) -> Float[Array, "neurons max_spikes"]:
    """First spike times of each neuron in a record of events, padded with inf."""
    own = jnp.where(sources == neurons[:, None], times, jnp.inf)
    return -jax.lax.top_k(-own, max_spikes)[0]


def match(
    trains: Float[Array, "neurons spikes"],
    targets: Float[Array, "neurons targets"],
    window: float,
) -> Match:
    """Assign to each target the nearest spike, if it is within the window.

    Targets of a neuron that are more than two windows apart have different spikes.
    """
    apart = jnp.abs(trains[:, :, None] - targets[:, None, :])
    nearest = jnp.argmin(apart, axis=1).astype(jnp.int32)
    hit = jnp.min(apart, axis=1) < window
    spike = jnp.arange(trains.shape[1], dtype=jnp.int32)[:, None]
    assigned = jnp.any((nearest[:, None, :] == spike) & hit[:, None, :], axis=2)
    return Match(nearest, hit, jnp.isfinite(trains) & ~assigned)


def potentials(
    arrivals: Arrivals,
    trains: Float[Array, "neurons spikes"],
    times: Float[Array, "neurons times"],
    reset_before: Float[Array, "neurons times"],
    *,
    tau_mem: float,
    tau_syn: float,
) -> Float[Array, "neurons times"]:
    r"""Membrane potentials of LIF neurons at the given times, in closed form.

    The neurons have no bias, and are at 0 initially and after each spike. With the last spike
    $t_0$ of a neuron that counts and the arrivals $a$ of input before $t$,

    $$V(t) = \sum_a w_a\, e^{-\max(t_0 - a,\, 0)/\tau_\text{syn}}\, \kappa(t - \max(a, t_0)),
    \qquad \kappa(s) = \frac{\tau_\text{syn}}{\tau_\text{mem} - \tau_\text{syn}}
    \left(e^{-s/\tau_\text{mem}} - e^{-s/\tau_\text{syn}}\right)$$

    because the synaptic current is not reset.

    **Arguments:**

    - `arrivals`: the input of the neurons, until the last of the times.
    - `trains`: spike times of the neurons, padded with inf. They have no gradient.
    - `times`: times of the potentials, finite.
    - `reset_before`: for each of the times, only earlier spikes than this reset the neuron. If it
        is the time itself, the potential just before that time is returned.
    - `tau_mem`, `tau_syn`: time constants of the neurons.
    """
    trains = jax.lax.stop_gradient(trains)
    arrived = jnp.where(jnp.isfinite(arrivals.times), arrivals.times, _NEVER)

    def one(weights, train, time, reset_before):
        last = jnp.max(jnp.where(train < reset_before, train, -_NEVER))
        since = time - jnp.maximum(arrived, last)
        before = since > 0
        since = jnp.where(before, since, 0.0)
        decayed = jnp.exp(-jnp.maximum(last - arrived, 0.0) / tau_syn)
        response = decayed * _response(since, tau_mem, tau_syn)
        return jnp.sum(jnp.where(before, weights * response, 0.0))

    of_times = jax.vmap(one, (None, None, 0, 0))
    return jax.vmap(of_times, (1, 0, 0, 0))(arrivals.weights, trains, times, reset_before)


def _response(since, tau_mem, tau_syn):
    """Response of the membrane potential to a weight of 1."""
    if tau_mem == tau_syn:
        return since / tau_mem * jnp.exp(-since / tau_mem)
    decays = jnp.exp(-since / tau_mem) - jnp.exp(-since / tau_syn)
    return tau_syn / (tau_mem - tau_syn) * decays


def loss(
    arrivals: Arrivals,
    trains: Float[Array, "neurons spikes"],
    targets: Float[Array, "neurons targets"],
    *,
    window: float,
    tau_mem: float,
    tau_syn: float,
) -> Float[Array, ""]:
    r"""Mean over the targets of the errors of time, and of the potentials of wrong spikes.

    A spike at a distance $d$ from its target, within the window $\delta$, contributes
    $(d/\delta)^2$. Each target contributes $\max(1.05 - V, 0)$, where $V$ is the potential 1 ms
    after it, in units of the threshold, without a reset within the window. This term raises the
    potential if the spike is missing, and otherwise makes it cross the threshold fast enough.
    A surplus spike contributes the potential that made it, whose time has no gradient here.

    **Arguments:**

    - `arrivals`: the input of the neurons.
    - `trains`: spike times of the neurons (ms), padded with inf.
    - `targets`: target spike times (ms), finite.
    - `window`: largest distance of a spike from its target (ms).
    - `tau_mem`, `tau_syn`: time constants of the neurons (ms), whose threshold is 1.
    """
    found = match(trains, targets, window)
    constants = {"tau_mem": tau_mem, "tau_syn": tau_syn}
    apart = jnp.take_along_axis(trains, found.nearest, axis=1) - targets
    timing = (jnp.where(found.hit, apart, 0.0) / window) ** 2
    reached = potentials(arrivals, trains, targets + _AFTER, targets - window, **constants)
    missing = jnp.maximum(_AIM - reached, 0.0)
    at_spikes = jnp.where(found.surplus, jax.lax.stop_gradient(trains), 0.0)
    surplus = potentials(arrivals, trains, at_spikes, at_spikes, **constants)
    return (jnp.sum(timing) + jnp.sum(missing) + jnp.sum(surplus)) / targets.size
