"""The derivative of the event loop, as strategies over it.

No strategy knows the loop: it is handed to them, and they read the record it wrote.
"""

from .autodiff import Autodiff as Autodiff
from .base import AbstractAdjoint as AbstractAdjoint
from .base import Problem as Problem
from .eventprop import EventProp as EventProp
