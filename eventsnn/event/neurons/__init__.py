"""Neuron models, one per file."""

from .alif import ALIF, ALIFState
from .base import AbstractBiased, AbstractClampable, AbstractDrivable, AbstractNeuron
from .egru import EGRU, EGRUState
from .eif import EIF, EIFState
from .integrator import IntegratorState, LeakyIntegrator
from .izhikevich import Izhikevich, IzhikevichState
from .lif import LIF, LIFState
from .populations import Populations
from .qif import QIF, QIFState
from .refractory import Refractory, RefractoryState
from .theta import Theta, ThetaState

__all__ = [
    "ALIF",
    "EGRU",
    "EIF",
    "LIF",
    "QIF",
    "ALIFState",
    "AbstractBiased",
    "AbstractClampable",
    "AbstractDrivable",
    "AbstractNeuron",
    "EGRUState",
    "EIFState",
    "IntegratorState",
    "Izhikevich",
    "IzhikevichState",
    "LIFState",
    "LeakyIntegrator",
    "Populations",
    "QIFState",
    "Refractory",
    "RefractoryState",
    "Theta",
    "ThetaState",
]
