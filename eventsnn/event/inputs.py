"""External events of a simulation: input spikes, and the times at which the state is read."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .engine.record import Arrivals, observation_source
from .engine.system import Plan
from .state import NetworkState


def external_events(
    in_times: Float[Array, "inputs k"],
    times: Array | None,
    plan: Plan,
    delayed: bool,
    start: NetworkState | None = None,
) -> Arrivals:
    """Input spikes and times of observation of one sample, sorted by time; and its `start`.

    The sort is stable: an observation at the time of an input spike comes after it. With
    pseudospikes, and for an integral or a maximum, an observation ends a segment at t_max.
    """
    n_in, k = in_times.shape
    in_times = without_subnormals(in_times)
    if plan.t_end > plan.t_max:
        in_times = jnp.where(in_times <= plan.t_max, in_times, jnp.inf)
    inputs = in_times.reshape(-1)
    channels = jnp.repeat(jnp.arange(plan.n, plan.n + n_in, dtype=jnp.int32), k)
    if not delayed:
        return sorted_events(inputs, channels, times, plan)._replace(start=start)
    events = sorted_events(inputs[:0], channels[:0], times, plan)
    return events._replace(inputs=inputs, start=start)


def sorted_events(
    sent: Float[Array, " events"],
    sources: Int[Array, " events"],
    times: Float[Array, " times"] | None,
    plan: Plan,
) -> Arrivals:
    """Events with these times and sources, and times of observation, sorted by time.

    The sort is stable. Observations come after other events of the same time.
    """
    parts = [sent] if times is None else [sent, times]
    if plan.t_end > plan.t_max or plan.readout.kind != "state":
        parts.append(jnp.full((1,), plan.t_max, sent.dtype))
    read = sum(map(len, parts)) - len(sent)
    observed = jnp.full(read, observation_source(plan.n_sources), jnp.int32)
    all_times = jnp.concatenate([*parts, jnp.full((1,), jnp.inf, sent.dtype)])
    all_sources = jnp.concatenate([sources, observed, jnp.zeros(1, jnp.int32)])
    order = jnp.argsort(jax.lax.stop_gradient(all_times))
    return Arrivals(all_times[order], all_sources[order])


def with_inputs(
    in_times: ArrayLike | Sequence,
    times: Float[Array, "*batch events"],
    sources: Int[Array, "*batch events"],
    until: Float[Array, "*batch 1"],
    n: int,
) -> tuple[Float[Array, "*batch all"], Int[Array, "*batch all"]]:
    """Merge the input spikes up to `until` into the events of `n` neurons, sorted by time."""
    in_times = without_subnormals(jnp.asarray(in_times, times.dtype))
    *batch, n_in, k = in_times.shape
    channels = jnp.repeat(jnp.arange(n_in, dtype=sources.dtype) + n, k)
    sent = in_times.reshape(*batch, n_in * k)
    sent = jnp.where((sent >= 0) & (sent <= until), sent, jnp.inf)
    channels = jnp.where(sent < jnp.inf, channels, -1)
    times, sources = (
        jnp.concatenate(pair, axis=-1) for pair in ((times, sent), (sources, channels))
    )
    order = jnp.argsort(jax.lax.stop_gradient(times), axis=-1)
    times = jnp.take_along_axis(times, order, axis=-1)
    return times, jnp.take_along_axis(sources, order, axis=-1)


def without_subnormals(times: Array) -> Array:
    """Replace subnormal times by 0. XLA computes with 0 in their place, but sorts them after 0."""
    subnormal = jnp.abs(times) < jnp.finfo(times.dtype).tiny
    return times - jax.lax.stop_gradient(jnp.where(subnormal, times, 0.0))
