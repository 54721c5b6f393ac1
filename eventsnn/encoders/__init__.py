"""Encoders: convert arrays to spike trains, spike times and targets. The time axis comes first.

Every function takes one sample or a batch: an array of any shape, in which each element is one
channel. All of them work under `jax.vmap`, and under `jax.jit` with `num_steps` and the options as
static arguments.
"""

from .targets import one_hot as one_hot
from .targets import ramp_targets as ramp_targets
from .targets import spike_targets as spike_targets
from .targets import targets_latency as targets_latency
from .targets import targets_rate as targets_rate
from .trains import delta as delta
from .trains import latency as latency
from .trains import latency_times as latency_times
from .trains import rate as rate
