"""Adjoints: methods to differentiate the event loop.

No adjoint imports the event loop. It receives the loop as an argument and reads its record.
"""

from .autodiff import Autodiff as Autodiff
from .base import AbstractAdjoint as AbstractAdjoint
from .base import Problem as Problem
from .eventprop import EventProp as EventProp
