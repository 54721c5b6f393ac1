"""Potentials of the outputs of a sparse network: the outputs alone, with known spikes.

A simulation in rounds finds all spikes. The potentials of the outputs depend on the spikes that
arrive there and, by their resets, on their own. The outputs therefore follow their flows once more,
in the event loop. All spikes are external events, and no neuron fires by itself: the prescribed
spikes of the outputs reset them.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..adjoint import AbstractAdjoint
from ..engine.record import Record, observation_source
from ..engine.solve import solve
from ..engine.system import Network, Plan, Readout
from ..flows import AbstractLaneFlow, AbstractReadoutFlow, Segment, Window
from ..inputs import sorted_events
from ..neurons import AbstractNeuron
from ..neurons.base import State
from ..solution import is_success
from ..synapses import Synapses
from .system import parameters


class Prescribed(AbstractNeuron):
    """Neurons that fire only at prescribed times, which arrive at a second receptor."""

    receptors = 2

    neuron: AbstractNeuron

    def init_state(self, n: int) -> State:
        return self.neuron.init_state(n)

    def vector_field(self, state: State) -> State:
        return self.neuron.vector_field(state)

    def threshold_gap(self, state: State) -> Array:
        return jnp.ones_like(self.neuron.threshold_gap(state))

    def receive(self, state: State, weights: Float[Array, "2 neurons ..."]) -> State:
        received, fires = weights
        return self.neuron.reset(self.neuron.receive(state, received), fires > 0)

    def reset(self, state: State, spiked: Array) -> State:
        return self.neuron.reset(state, spiked)

    def observe(self, state: State) -> Array:
        return self.neuron.observe(state)

    def normalise(self, state: State) -> State:
        return self.neuron.normalise(state)

    def parameters_valid(self) -> Array:
        return self.neuron.parameters_valid()


class PrescribedFlow(AbstractReadoutFlow[Prescribed]):
    """Flow of neurons that fire only at prescribed times."""

    flow: AbstractLaneFlow

    def next_spike(
        self,
        neuron: Prescribed,
        state: State,
        horizon: Array,
        flow_state: tuple,
        window: Window | None = None,
    ) -> Segment:
        assert window is None  # arrivals are external events
        longest = jnp.asarray(self.flow.longest(neuron.neuron, state), horizon.dtype)
        dt = jnp.minimum(horizon, jnp.min(jnp.atleast_2d(longest), axis=0))
        none = jnp.full(dt.shape, len(neuron.threshold_gap(state)), jnp.int32)
        end = self.advance(neuron, state, dt)
        return Segment(dt, none, jnp.zeros(dt.shape, bool), end, flow_state)

    def advance(self, neuron: Prescribed, state: State, dt: Array) -> State:
        return self.flow.advance(neuron.neuron, state, dt)

    def velocity(self, neuron: Prescribed, state: State, dt: Array, end: State) -> State:
        return self.flow.velocity(neuron.neuron, state, dt, end)

    def integral(self, neuron: Prescribed, state: State, dt: Array) -> Array:
        return self.flow.integral(neuron.neuron, state, dt)

    def maximum(self, neuron: Prescribed, state: State, dt: Array) -> Array:
        return self.flow.maximum(neuron.neuron, state, dt)


class Observed(eqx.Module):
    """Synapses onto the outputs, in bundles of the same source and delay.

    An event of the event loop is the arrival of a spike at the synapses of a bundle.
    """

    synapse: Int[Array, " observed"]
    bundle: Int[Array, " observed"]  # of each synapse
    column: Int[Array, " observed"]  # output of each synapse, out of all outputs
    source: Int[Array, " bundles"]
    delay: Int[Array, " bundles"] | None  # its index in the delays
    first: Int[Array, " sources"]  # first bundle of each source
    output: Int[Array, " sources"]  # output of each source; the number of outputs if it is none
    most: int = eqx.field(static=True)  # largest number of bundles of a source
    outputs: tuple[int, ...] = eqx.field(static=True)
    n_neurons: int = eqx.field(static=True)

    def __init__(self, synapses: Synapses, outputs: tuple[int, ...]):
        """Prepare the outputs."""
        pre, post = np.asarray(synapses.sources), np.asarray(synapses.targets)
        rows = synapses.shape[0]
        place = np.full(rows + 1, len(outputs))
        place[list(outputs)] = np.arange(len(outputs))
        synapse = np.flatnonzero(place[post] < len(outputs))
        synaptic = synapses.delays is not None and not synapses.axonal
        source, bundle = np.unique(pre[synapse], return_inverse=True)
        if synaptic:
            source, bundle = pre[synapse], np.arange(len(synapse))
        first = np.searchsorted(source, np.arange(rows + 2))
        self.most = max(1, int(np.max(np.diff(first))))
        arrays = synapse, bundle, place[post[synapse]], source, first, place
        arrays = (jnp.asarray(x, jnp.int32) for x in arrays)
        self.synapse, self.bundle, self.column, self.source, self.first, self.output = arrays
        self.delay = None
        if synapses.delays is not None:
            self.delay = self.synapse if synaptic else self.source
        self.outputs, self.n_neurons = outputs, synapses.n_neurons

    @property
    def fits(self) -> bool:
        """True if the matrix of weights is not larger than those of the whole network."""
        n, rows = len(self.outputs), len(self.output) - 1
        return n * len(self.source) <= rows * self.n_neurons

    def matrix(self, weights: Float[Array, " synapses"]) -> Float[Array, "rows columns"]:
        """Weights of all events: outputs (none), bundles, spikes of outputs, and two rows of 0."""
        n, many = len(self.outputs), len(self.source)
        matrix = jnp.zeros((n + many + n + 2, 2 * n), weights.dtype)
        own = np.arange(n)
        matrix = matrix.at[n + self.bundle, self.column].add(weights[self.synapse])
        return matrix.at[n + many + own, n + own].set(1.0)

    def events(
        self,
        times: Float[Array, " spikes"],
        sources: Int[Array, " spikes"],
        delays: Float[Array, " delays"] | None,
    ) -> tuple[Float[Array, " events"], Int[Array, " events"]]:
        """Return the events that follow from the spikes of all sources.

        Resets come first, because a neuron fires before it receives what arrives at the same time.
        """
        n, many = len(self.outputs), len(self.source)
        output = self.output[sources]
        resets, rows = jnp.where(output < n, times, jnp.inf), n + many + output
        if many == 0:
            return resets, rows
        number = self.first[sources][:, None] + jnp.arange(self.most, dtype=jnp.int32)
        exists = number < self.first[sources + 1][:, None]
        arrivals = times[:, None]
        if delays is not None and self.delay is not None:
            arrivals = arrivals + delays[self.delay[jnp.minimum(number, many - 1)]]
        arrivals = jnp.where(exists, arrivals, jnp.inf).reshape(-1)
        rows = jnp.concatenate([rows, (n + number).reshape(-1)])
        return jnp.concatenate([resets, arrivals]), rows


def observe(
    observed: Observed,
    neuron: AbstractNeuron,
    flow: AbstractLaneFlow,
    adjoint: AbstractAdjoint,
    plan: Plan,
    weights: Float[Array, " synapses"],
    delays: Float[Array, " delays"] | None,
    in_times: Float[Array, "inputs k"],
    times: Float[Array, " times"] | None,
    record: Record,
) -> Record:
    """Return the readouts of one sample, given the record of its spikes.

    `plan` has the properties of the network and the readout. A sample that has failed ends at its
    last spike.
    """
    n, n_sources, dtype = len(observed.outputs), plan.n_sources, weights.dtype
    completed = is_success(record.status)
    last = jnp.max(jnp.where(record.times < jnp.inf, record.times, -jnp.inf))
    until = jnp.where(completed, jnp.asarray(plan.t_max, dtype), lax.stop_gradient(last))
    channels = jnp.repeat(jnp.arange(plan.n, n_sources, dtype=jnp.int32), in_times.shape[-1])
    sent = jnp.concatenate([in_times.reshape(-1), record.times])
    sources = jnp.concatenate([channels, record.sources.astype(jnp.int32)])
    exists = (sent >= 0) & (sent <= until) & (sources < n_sources)
    sent, sources = jnp.where(exists, sent, jnp.inf), jnp.where(exists, sources, n_sources)
    arrivals, rows = observed.events(sent, sources, delays)
    arrivals = jnp.where(arrivals <= until, arrivals, jnp.inf)

    matrix = observed.matrix(weights)
    own = Prescribed(parameters(neuron, jnp.asarray(observed.outputs, jnp.int32)))
    inner = plan._replace(
        n=n,
        n_sources=len(matrix) - 2,
        outputs=tuple(range(n)),
        max_events=len(arrivals),
        max_steps=len(arrivals) + plan.max_steps,
        readout=Readout(plan.readout.kind, tuple(range(n))),
    )
    if times is not None:
        times = jnp.where(times <= until, times, jnp.inf)
    events = sorted_events(arrivals, rows, times, inner)
    network = Network(PrescribedFlow(flow), own, matrix)
    found = solve(inner, network, adjoint, events)
    source = np.full(len(matrix), n_sources)
    source[-2 - n : -2] = observed.outputs
    source[-1] = observation_source(n_sources)
    return found._replace(
        sources=jnp.asarray(source, jnp.int32)[found.sources],
        status=jnp.where(completed, found.status, record.status),
        steps=found.steps + record.steps,
    )
