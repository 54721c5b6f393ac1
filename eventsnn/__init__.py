"""Spiking neural networks with exact spike times and exact gradients, on JAX and Equinox."""

from importlib.metadata import PackageNotFoundError, version

from . import data as data
from . import discrete as discrete
from . import encoders as encoders
from . import losses as losses
from . import surrogates as surrogates
from .adjoint import AbstractAdjoint as AbstractAdjoint
from .adjoint import Autodiff as Autodiff
from .adjoint import EventProp as EventProp
from .architectures import feedforward as feedforward
from .architectures import feedforward_mask as feedforward_mask
from .architectures import recurrent as recurrent
from .architectures import recurrent_mask as recurrent_mask
from .bridge import Discretised as Discretised
from .bridge import discretise as discretise
from .constraints import AbstractWrapper as AbstractWrapper
from .constraints import Bounded as Bounded
from .constraints import Positive as Positive
from .constraints import constrain as constrain
from .constraints import unwrap as unwrap
from .cpu import prepare_cpu as prepare_cpu
from .flows import AbstractFlow as AbstractFlow
from .flows import ExactIntegrator as ExactIntegrator
from .flows import ExactLIF as ExactLIF
from .flows import ExactTheta as ExactTheta
from .flows import ODEFlow as ODEFlow
from .flows import TaylorQIF as TaylorQIF
from .network import EventNetwork as EventNetwork
from .neurons import ALIF as ALIF
from .neurons import EGRU as EGRU
from .neurons import EIF as EIF
from .neurons import LIF as LIF
from .neurons import QIF as QIF
from .neurons import AbstractNeuron as AbstractNeuron
from .neurons import Izhikevich as Izhikevich
from .neurons import LeakyIntegrator as LeakyIntegrator
from .neurons import Mixture as Mixture
from .neurons import Refractory as Refractory
from .neurons import Theta as Theta
from .pseudospikes import Pseudospikes as Pseudospikes
from .status import Solution as Solution
from .status import Status as Status

try:
    __version__ = version("eventsnn")
except PackageNotFoundError:  # a source tree that was not installed
    __version__ = "0+unknown"
