"""Neuron models: one a file."""

from .base import AbstractNeuron as AbstractNeuron
from .lif import LIF as LIF
from .lif import LIFState as LIFState
from .qif import QIF as QIF
from .qif import QIFState as QIFState
