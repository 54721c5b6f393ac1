"""Neuron models: one a file."""

from .base import AbstractNeuron as AbstractNeuron
from .lif import LIF as LIF, LIFState as LIFState
from .qif import QIF as QIF, QIFState as QIFState
