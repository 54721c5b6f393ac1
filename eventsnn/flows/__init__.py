"""Flows: when does the next neuron reach threshold, and where is the state then?"""

from .base import AbstractFlow as AbstractFlow
from .base import Segment as Segment
from .base import exact_flow as exact_flow
from .integrator import ExactIntegrator as ExactIntegrator
from .lif import ExactLIF as ExactLIF
from .ode import ODEFlow as ODEFlow
from .qif import TaylorQIF as TaylorQIF
from .theta import ExactTheta as ExactTheta
