"""Fully connected layer."""

from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from ... import checks
from ...constraints import unwrap
from ..adjoint import AbstractAdjoint, EventProp
from ..flows import AbstractFlow, choose_flow
from ..network import EventNetwork
from ..neurons import AbstractNeuron
from ..pseudospikes import Pseudospikes
from .base import AbstractLayer, InTimes, dense_of
from .dense import Dense


class EventLinear(AbstractLayer):
    r"""Fully connected feed-forward layer: a function from spike trains to spike trains.

    When input channel $c$ fires, neuron $i$ receives `weights[c, i]`. The neurons do not interact.
    Spike times and gradients are those of an [`eventsnn.EventNetwork`][] with the same neurons and
    synapses, see [`as_network`][].

    With the exact flow of [`eventsnn.LIF`][] or [`eventsnn.QIF`][] neurons, all neurons advance
    from one input spike to the next in closed form. A test that never misses a spike marks those
    that may fire in between, and only their spike times are computed. The computation time is
    proportional to the number of input spikes times the number of neurons, and the memory of a
    backward pass to the number of spikes; if a parameter of the neuron is trained, or for QIF
    neurons, it also contains the states at every 16th input spike. The readouts of a
    [`eventsnn.LeakyIntegrator`][] are sums over the input spikes. With synaptic delays each neuron
    is simulated as a layer of its own. All other models, and layers with [`eventsnn.Autodiff`][],
    are simulated by the event loop.
    """

    neuron: AbstractNeuron
    weights: Float[Array, "inputs columns"]
    mask: Bool[Array, "inputs columns"] | None
    delays: Float[Array, " inputs *neurons"] | None
    pseudospikes: Pseudospikes | None
    flow: AbstractFlow
    adjoint: AbstractAdjoint = eqx.field(static=True)
    t_max: float = eqx.field(static=True)
    max_spikes: int | None = eqx.field(static=True)
    truncate: bool = eqx.field(static=True)
    max_events: int | None = eqx.field(static=True)
    max_steps: int | None = eqx.field(static=True)
    _extra_steps: int = eqx.field(static=True)

    def __init__(
        self,
        neuron: AbstractNeuron,
        weights: Real[ArrayLike, "inputs columns"] | Sequence,
        mask: Bool[ArrayLike, "inputs columns"] | Sequence | None = None,
        *,
        t_max: float,
        max_spikes: int | None = None,
        truncate: bool = False,
        delays: Real[ArrayLike, " inputs *neurons"] | Sequence | None = None,
        pseudospikes: Pseudospikes | None = None,
        max_events: int | None = None,
        max_steps: int | None = None,
        solver: diffrax.AbstractSolver | AbstractFlow | None = None,
        dt0: float | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        adjoint: AbstractAdjoint | None = None,
    ):
        """**Arguments:**

        - `neuron`: neuron model, for example [`eventsnn.LIF`][]. Its parameters are scalars or
            have shape `(n,)`.
        - `weights`: synaptic weights, shape `(n_in, n)`. For a model with several receptors the
            shape is `(n_in, receptors * n)`, receptor by receptor. The simulation uses the dtype of
            the weights.
        - `mask`: mask of the existing synapses, booleans of the same shape as the weights. None
            (the default): all synapses exist.
        - `t_max`: duration of the simulation, > 0, in the units of the time constants.
        - `max_spikes`: number of spike times per neuron that a call of the layer returns. If a
            neuron fires more often until `t_max`, the sample fails. None (the default): the layer
            cannot be called; a readout does not need it.
        - `truncate`: whether a call of the layer returns the first `max_spikes` spikes of each
            neuron and ignores the following spikes; False by default.
        - `delays`: transmission delays, >= 0, in the units of the time constants. Axonal delays
            have shape `(n_in,)`, one per input channel. Synaptic delays have shape `(n_in, n)`.
            None (the default) and delays of 0: spikes arrive at once.
        - `pseudospikes`: spike times after `t_max` for neurons that are silent until then, see
            [`eventsnn.Pseudospikes`][]. None (the default): their spike times are `inf`.
        - `max_events`: maximum number of events per sample in the event loop, if it simulates the
            layer. None (the default): as many as a call of the layer needs; for other queries, and
            with `truncate`, at least 500 spikes in addition to the input spikes. In `counts` of
            LIF and QIF neurons it is the maximum number of spikes per neuron, by default 100,000.
        - `max_steps`: maximum number of steps per sample, in addition to one per input spike. None
            (the default): a number that depends on the flow.
        - `solver`, `dt0`, `stepsize_controller`, `adjoint`: as for [`eventsnn.EventNetwork`][].

        A parameter that is wrapped by `eventsnn.constrain` is stored as it is.

        **Raises:** `ValueError` for shapes that do not fit each other, `t_max` that is not finite
        and positive, a delay that is not finite and >= 0, a flow of another neuron model, or
        `max_spikes`, `max_events` or `max_steps` < 1. Queries raise it for 16-bit weights.
        """
        checks.instance("neuron", neuron, AbstractNeuron, "an eventsnn neuron model")
        self.weights = checks.layer_weights(weights, neuron.receptors)
        n_in, n = self.weights.shape[0], self.weights.shape[1] // neuron.receptors
        self.mask = checks.mask_like(mask, self.weights.shape)
        self.neuron = neuron.for_population(n, self.weights.dtype)
        self.delays = checks.delays(delays, ((n_in,), (n_in, n)), self.weights.dtype)
        kinds = Pseudospikes | None
        checks.instance("pseudospikes", pseudospikes, kinds, "eventsnn.Pseudospikes")
        driven = unwrap(self.neuron)
        self.pseudospikes = None if pseudospikes is None else pseudospikes.for_population(n, driven)
        self.t_max = checks.positive("t_max", t_max)
        self.max_spikes = checks.count_or_none("max_spikes", max_spikes)
        self.truncate = checks.flag("truncate", truncate)
        self.max_events = checks.count_or_none("max_events", max_events)
        self.max_steps = checks.count_or_none("max_steps", max_steps)
        self.flow = choose_flow(neuron, solver, dt0, stepsize_controller)
        self._extra_steps = self.flow.max_extra_segments(self.neuron, self.t_max, 0)
        self.adjoint = EventProp() if adjoint is None else adjoint
        checks.instance("adjoint", self.adjoint, AbstractAdjoint, "an eventsnn adjoint")

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.weights.shape[1] // self.neuron.receptors

    @property
    def n_inputs(self) -> int:
        """Number of input channels."""
        return self.weights.shape[0]

    def as_network(self, max_events: int = 500) -> EventNetwork:
        """Return the equivalent network: the same neurons and synapses, in the event loop.

        The network has no `max_spikes`: of a layer with `truncate=True`, `spikes(in_times,
        max_spikes)` of the network are the outputs.

        **Arguments:**

        - `max_events`: maximum number of events per sample: spikes and, without delays, input
            spikes.

        **Raises:** `ValueError` for `max_events` < 1.
        """
        return self._dense().network(max_events)

    def _dense(self) -> Dense:
        return dense_of(self, self.weights, self.mask, self.delays, self.pseudospikes)

    def _received(self, in_times: InTimes, throw: bool) -> Float[Array, "*batch inputs k"]:
        return checks.input_times(in_times, self.n_inputs, self.weights.dtype, throw)

    def _arranged(self, out: Any, trailing: int) -> Any:
        return out
