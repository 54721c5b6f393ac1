"""Adjoints: methods to differentiate the event loop.

No adjoint imports the event loop. It receives the loop as an argument and reads its record.
"""

from .autodiff import Autodiff
from .base import AbstractAdjoint, Problem
from .eventprop import EventProp

__all__ = ["AbstractAdjoint", "Autodiff", "EventProp", "Problem"]
