"""Flows: integrators of neurons between events, up to the next threshold crossing."""

from .base import (
    AbstractFlow,
    AbstractLaneFlow,
    AbstractReadoutFlow,
    Clock,
    Segment,
    Window,
    exact_flow,
    first,
    with_readouts,
)
from .compose import choose_flow, lane_flow
from .integrator import ExactIntegrator
from .lif import ExactLIF
from .mixed import joint_state, separate, separate_state
from .ode import ODEFlow
from .populations import PopulationsFlow
from .qif import TaylorQIF
from .refractory import RefractoryFlow, RefractoryLaneFlow
from .theta import ExactTheta

__all__ = [
    "AbstractFlow",
    "AbstractLaneFlow",
    "AbstractReadoutFlow",
    "Clock",
    "ExactIntegrator",
    "ExactLIF",
    "ExactTheta",
    "ODEFlow",
    "PopulationsFlow",
    "RefractoryFlow",
    "RefractoryLaneFlow",
    "Segment",
    "TaylorQIF",
    "Window",
    "choose_flow",
    "exact_flow",
    "first",
    "joint_state",
    "lane_flow",
    "separate",
    "separate_state",
    "with_readouts",
]
