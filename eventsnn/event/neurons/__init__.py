"""Neuron models, one per file."""

from .alif import ALIF as ALIF
from .alif import ALIFState as ALIFState
from .base import AbstractBiased as AbstractBiased
from .base import AbstractClampable as AbstractClampable
from .base import AbstractDrivable as AbstractDrivable
from .base import AbstractNeuron as AbstractNeuron
from .egru import EGRU as EGRU
from .egru import EGRUState as EGRUState
from .eif import EIF as EIF
from .eif import EIFState as EIFState
from .integrator import IntegratorState as IntegratorState
from .integrator import LeakyIntegrator as LeakyIntegrator
from .izhikevich import Izhikevich as Izhikevich
from .izhikevich import IzhikevichState as IzhikevichState
from .lif import LIF as LIF
from .lif import LIFState as LIFState
from .populations import Populations as Populations
from .qif import QIF as QIF
from .qif import QIFState as QIFState
from .refractory import Refractory as Refractory
from .refractory import RefractoryState as RefractoryState
from .theta import Theta as Theta
from .theta import ThetaState as ThetaState
