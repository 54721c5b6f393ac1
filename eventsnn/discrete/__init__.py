"""Discrete-time mode: layers of neurons with a fixed time step, run by one `lax.scan`."""

from .alpha import Alpha, AlphaState
from .base import AbstractCell, AbstractSpikingCell
from .feedback import Frozen, MaskedLinear, OneToOne
from .lapicque import Lapicque
from .leaky import Leaky, LeakyIntegrator, LeakyState
from .rleaky import RLeaky, RLeakyState
from .run import Run, run, run_batch
from .sequential import Sequential
from .synaptic import RSynaptic, RSynapticState, Synaptic, SynapticState
from .trainable import trainable

__all__ = [
    "AbstractCell",
    "AbstractSpikingCell",
    "Alpha",
    "AlphaState",
    "Frozen",
    "Lapicque",
    "Leaky",
    "LeakyIntegrator",
    "LeakyState",
    "MaskedLinear",
    "OneToOne",
    "RLeaky",
    "RLeakyState",
    "RSynaptic",
    "RSynapticState",
    "Run",
    "Sequential",
    "Synaptic",
    "SynapticState",
    "run",
    "run_batch",
    "trainable",
]
