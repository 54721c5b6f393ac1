"""Arrays to spike trains, spike times and targets. The time axis comes first.

Every function is for one sample or many: an array of any shape, of which each element is one
channel. All of them run under `jax.jit` with `num_steps` and the options static, and `jax.vmap`.
"""

from .targets import levels as levels
from .targets import one_hot as one_hot
from .targets import ramps as ramps
from .targets import targets_latency as targets_latency
from .targets import targets_rate as targets_rate
from .trains import delta as delta
from .trains import latency as latency
from .trains import latency_times as latency_times
from .trains import rate as rate
