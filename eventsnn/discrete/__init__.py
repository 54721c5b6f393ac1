"""Discrete-time mode: layers of neurons with a fixed time step, run by one `lax.scan`."""

from .alpha import Alpha as Alpha
from .alpha import AlphaState as AlphaState
from .base import AbstractCell as AbstractCell
from .base import AbstractSpikingCell as AbstractSpikingCell
from .feedback import Frozen as Frozen
from .feedback import MaskedLinear as MaskedLinear
from .feedback import OneToOne as OneToOne
from .lapicque import Lapicque as Lapicque
from .leaky import Leaky as Leaky
from .leaky import LeakyIntegrator as LeakyIntegrator
from .leaky import LeakyState as LeakyState
from .rleaky import RLeaky as RLeaky
from .rleaky import RLeakyState as RLeakyState
from .run import Run as Run
from .run import run as run
from .run import run_batch as run_batch
from .sequential import Sequential as Sequential
from .synaptic import RSynaptic as RSynaptic
from .synaptic import RSynapticState as RSynapticState
from .synaptic import Synaptic as Synaptic
from .synaptic import SynapticState as SynapticState
from .trainable import trainable as trainable
