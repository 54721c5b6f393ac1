"""Discrete-time mode: layers of neurons with a fixed time step, run by one `lax.scan`."""

from .alif import ALIF, ALIFState
from .alpha import Alpha, AlphaState
from .associative import AssociativeLeaky, AssociativeState
from .base import AbstractCell, AbstractResettingCell, AbstractSpikingCell
from .batchnorm import BatchNorm, BatchNormState, with_statistics
from .delays import Delay, DelayedLinear, DelayState
from .deltaleaky import DeltaLeaky
from .feedback import Frozen, MaskedLinear, OneToOne
from .lapicque import Lapicque
from .leaky import Leaky, LeakyIntegrator, LeakyState
from .leakyparallel import LeakyParallel
from .quantisation import StateQuant
from .rleaky import RLeaky, RLeakyState
from .runs import Run, run, run_batch
from .selection import trainable
from .sequential import Sequential
from .slstm import SLSTM, SConv2dLSTM, SLSTMState
from .synaptic import RSynaptic, RSynapticState, Synaptic, SynapticState

__all__ = [
    "ALIF",
    "SLSTM",
    "ALIFState",
    "AbstractCell",
    "AbstractResettingCell",
    "AbstractSpikingCell",
    "Alpha",
    "AlphaState",
    "AssociativeLeaky",
    "AssociativeState",
    "BatchNorm",
    "BatchNormState",
    "Delay",
    "DelayState",
    "DelayedLinear",
    "DeltaLeaky",
    "Frozen",
    "Lapicque",
    "Leaky",
    "LeakyIntegrator",
    "LeakyParallel",
    "LeakyState",
    "MaskedLinear",
    "OneToOne",
    "RLeaky",
    "RLeakyState",
    "RSynaptic",
    "RSynapticState",
    "Run",
    "SConv2dLSTM",
    "SLSTMState",
    "Sequential",
    "StateQuant",
    "Synaptic",
    "SynapticState",
    "run",
    "run_batch",
    "trainable",
    "with_statistics",
]
