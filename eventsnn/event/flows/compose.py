"""Flow of a neuron model that is composed of other models."""

import functools as ft
from collections.abc import Callable

from ..neurons import AbstractNeuron, Mixture, Refractory
from .base import AbstractFlow
from .mixture import MixtureFlow
from .refractory import RefractoryFlow

Make = Callable[[AbstractNeuron], AbstractFlow]


@ft.singledispatch
def flow_of(neuron: AbstractNeuron, make: Make) -> AbstractFlow:
    """Return the flow of `neuron`; `make` returns the flow of each simple model in it."""
    return make(neuron)


@flow_of.register
def _(neuron: Mixture, make: Make) -> AbstractFlow:
    return MixtureFlow(tuple(flow_of(part, make) for part in neuron.parts))


@flow_of.register
def _(neuron: Refractory, make: Make) -> AbstractFlow:
    return RefractoryFlow(flow_of(neuron.neuron, make))
