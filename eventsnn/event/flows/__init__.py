"""Flows: integrators of neurons between events, up to the next threshold crossing."""

from .base import AbstractFlow as AbstractFlow
from .base import AbstractReadoutFlow as AbstractReadoutFlow
from .base import Clock as Clock
from .base import Segment as Segment
from .base import Window as Window
from .base import exact_flow as exact_flow
from .base import first as first
from .base import with_readouts as with_readouts
from .compose import choose_flow as choose_flow
from .integrator import ExactIntegrator as ExactIntegrator
from .lif import ExactLIF as ExactLIF
from .ode import ODEFlow as ODEFlow
from .populations import PopulationsFlow as PopulationsFlow
from .qif import TaylorQIF as TaylorQIF
from .refractory import RefractoryFlow as RefractoryFlow
from .theta import ExactTheta as ExactTheta
