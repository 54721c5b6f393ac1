"""Encoders: convert arrays to spike trains, spike times and targets.

The event mode takes spike times (`..._times`, [`from_events`][]), with those of a channel in the
last axis, and the discrete-time mode values of each step, with the time axis first. Every function
takes one sample or a batch: an array of any shape, in which each element is one channel. All except
those for event lists work under `jax.vmap`, and under `jax.jit` with the options and the numbers of
steps, channels and spikes as static arguments.
"""

from .crossings import level_crossing_times
from .events import Events, from_events, to_events
from .population import population_times
from .targets import one_hot, ramp_targets, spike_targets, targets_latency, targets_rate
from .trains import delta, latency, latency_times, rate

__all__ = [
    "Events",
    "delta",
    "from_events",
    "latency",
    "latency_times",
    "level_crossing_times",
    "one_hot",
    "population_times",
    "ramp_targets",
    "rate",
    "spike_targets",
    "targets_latency",
    "targets_rate",
    "to_events",
]
