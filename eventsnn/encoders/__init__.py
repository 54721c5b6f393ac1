"""Encoders: convert arrays to spike trains, spike times and targets. The time axis comes first.

Every function takes one sample or a batch: an array of any shape, in which each element is one
channel. All of them work under `jax.vmap`, and under `jax.jit` with `num_steps` and the options as
static arguments.
"""

from .targets import one_hot, ramp_targets, spike_targets, targets_latency, targets_rate
from .trains import delta, latency, latency_times, rate

__all__ = [
    "delta",
    "latency",
    "latency_times",
    "one_hot",
    "ramp_targets",
    "rate",
    "spike_targets",
    "targets_latency",
    "targets_rate",
]
