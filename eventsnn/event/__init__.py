"""Event mode: networks with exact spike times and exact gradients."""

from . import connect, init
from .adjoint import AbstractAdjoint, Autodiff, EventProp
from .architectures import (
    feedforward,
    feedforward_mask,
    feedforward_network,
    recurrent,
    recurrent_mask,
)
from .calibration import calibrate
from .flows import (
    AbstractFlow,
    AbstractLaneFlow,
    AbstractReadoutFlow,
    ExactIntegrator,
    ExactLIF,
    ExactTheta,
    ODEFlow,
    TaylorQIF,
)
from .layers import (
    AbstractLayer,
    EventConv2d,
    EventFlatten,
    EventLinear,
    EventPool2d,
    EventSequential,
    merge,
)
from .network import EventNetwork
from .neurons import (
    ALIF,
    EGRU,
    EIF,
    LIF,
    QIF,
    AbstractBiased,
    AbstractClampable,
    AbstractDrivable,
    AbstractNeuron,
    Izhikevich,
    LeakyIntegrator,
    Populations,
    Refractory,
    Theta,
)
from .pseudospikes import Pseudospikes
from .selection import trainable
from .solution import Solution, Status
from .state import NetworkState
from .statistics import Activity, LayerActivity, activity
from .synapses import Synapses

__all__ = [
    "ALIF",
    "EGRU",
    "EIF",
    "LIF",
    "QIF",
    "AbstractAdjoint",
    "AbstractBiased",
    "AbstractClampable",
    "AbstractDrivable",
    "AbstractFlow",
    "AbstractLaneFlow",
    "AbstractLayer",
    "AbstractNeuron",
    "AbstractReadoutFlow",
    "Activity",
    "Autodiff",
    "EventConv2d",
    "EventFlatten",
    "EventLinear",
    "EventNetwork",
    "EventPool2d",
    "EventProp",
    "EventSequential",
    "ExactIntegrator",
    "ExactLIF",
    "ExactTheta",
    "Izhikevich",
    "LayerActivity",
    "LeakyIntegrator",
    "NetworkState",
    "ODEFlow",
    "Populations",
    "Pseudospikes",
    "Refractory",
    "Solution",
    "Status",
    "Synapses",
    "TaylorQIF",
    "Theta",
    "activity",
    "calibrate",
    "connect",
    "feedforward",
    "feedforward_mask",
    "feedforward_network",
    "init",
    "merge",
    "recurrent",
    "recurrent_mask",
    "trainable",
]
