"""Flow of a neuron model: its closed form, or a solver; the flow of a model composed of others."""

import functools as ft
from collections.abc import Callable

import diffrax

from ... import checks
from ..neurons import AbstractNeuron, Populations, Refractory
from .base import AbstractFlow, AbstractLaneFlow, exact_flow
from .integrator import ExactIntegrator
from .lif import ExactLIF
from .mixed import MixedFlow
from .ode import ODEFlow
from .ode_lanes import ODELaneFlow
from .populations import PopulationsFlow
from .qif import TaylorQIF
from .refractory import AbstractRefractoryFlow, RefractoryFlow, RefractoryLaneFlow
from .theta import ExactTheta

Make = Callable[[AbstractNeuron], AbstractFlow]

#: Flows that support only one neuron model.
_CLOSED_FORMS = (ExactIntegrator, ExactLIF, ExactTheta, TaylorQIF)


@ft.singledispatch
def flow_of(neuron: AbstractNeuron, make: Make) -> AbstractFlow:
    """Return the flow of `neuron`; `make` returns the flow of each simple model in it."""
    return make(neuron)


@flow_of.register
def _(neuron: Populations, make: Make) -> AbstractFlow:
    return PopulationsFlow(tuple(flow_of(part, make) for part in neuron.parts))


@flow_of.register
def _(neuron: Refractory, make: Make) -> AbstractFlow:
    flow = flow_of(neuron.neuron, make)
    return RefractoryLaneFlow(flow) if isinstance(flow, AbstractLaneFlow) else RefractoryFlow(flow)


def lane_flow(flow: AbstractFlow) -> AbstractLaneFlow | None:
    """Return the flow with the same solutions that finds the spikes of each neuron separately.

    It is a flow of `separate(neuron)`. None: there is none. Steps of adaptive size, for example,
    are common to all neurons.
    """
    if isinstance(flow, AbstractLaneFlow):
        return flow
    if isinstance(flow, ODEFlow) and flow.constant:
        return ODELaneFlow(flow)
    if isinstance(flow, RefractoryFlow):
        inner = lane_flow(flow.flow)
        return None if inner is None else RefractoryLaneFlow(inner)
    if isinstance(flow, PopulationsFlow):
        parts = [part for part in map(lane_flow, flow.flows) if part is not None]
        return MixedFlow(tuple(parts)) if len(parts) == len(flow.flows) else None
    return None


def choose_flow(
    neuron: AbstractNeuron,
    solver: diffrax.AbstractSolver | AbstractFlow | None,
    dt0: float | None,
    stepsize_controller: diffrax.AbstractStepSizeController | None,
) -> AbstractFlow:
    """Return the flow of `neuron` for these arguments of [`eventsnn.EventNetwork`][].

    **Raises:** `ValueError` for a flow of another neuron model, or for settings of a solver without
    a solver.
    """
    ode = {"dt0": dt0, "stepsize_controller": stepsize_controller}
    if isinstance(solver, diffrax.AbstractSolver):
        return flow_of(neuron, lambda part: ODEFlow(solver, **ode))
    checks.instance("solver", solver, AbstractFlow | None, "None, a diffrax solver or a flow")
    needed = []

    def make(part):
        exact = exact_flow(part)
        if isinstance(solver, _CLOSED_FORMS) and not isinstance(solver, type(exact)):
            raise checks.value_error("solver", solver, f"a flow for {type(part).__name__} neurons")
        needed.append(exact is None and solver is None)
        return solver or exact or ODEFlow(**ode)

    whole = isinstance(solver, PopulationsFlow | AbstractRefractoryFlow)
    flow = solver if whole else flow_of(neuron, make)
    if not any(needed) and (dt0 is not None or stepsize_controller is not None):
        controller = checks.short_repr(stepsize_controller)
        given = f"dt0={checks.short_repr(dt0)}, stepsize_controller={controller}"
        raise ValueError(
            "dt0 and stepsize_controller must be None unless a diffrax solver is used, "
            f"got {given} with solver={checks.short_repr(solver)}."
        )
    return flow
