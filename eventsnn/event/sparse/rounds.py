"""Sparse connectivity, prepared for a simulation in rounds."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ... import checks
from ...constraints import unwrap
from ..adjoint import AbstractAdjoint, EventProp
from ..engine.record import Record
from ..engine.system import Plan
from ..flows import AbstractFlow, joint_state, lane_flow, separate, separate_state
from ..inputs import without_subnormals
from ..neurons import AbstractNeuron, LeakyIntegrator, Populations
from ..state import NetworkState
from ..synapses import Synapses
from .fan import Fan, by_delay, fan_out
from .observed import Observed, observe
from .primitive import Spikes, solve
from .requirements import arrivals_change_gap, reset_commutes
from .system import Inputs, Setting

#: Largest number of lanes of all chunks of a round, whose states a backward pass computes again.
_LANES_OF_A_ROUND = 2**17
#: Factor by which the shortest delay may decrease in training, before `max_steps` is too small.
_SHORTER = 1.25
_SPARE_ROUNDS = 16
#: Smallest and largest number of arrivals of a round at single synapses.
_ARRIVALS = 2**10, 2**20
#: Number of rounds of a simulation whose spikes arrive at once.
_ROUNDS = 128


class Rounds(eqx.Module):
    """Outgoing synapses of every source: in chunks, see [`Fan`][], or sorted by delay.

    `observed` are the incoming synapses of the outputs.
    """

    fan: Fan
    observed: Observed
    order: Int[Array, " synapses"] | None  # of the synapses in `fan`; None: as in `Synapses`
    width: int = eqx.field(static=True)
    most: int = eqx.field(static=True)  # largest number of chunks (or synapses) of a source
    window: float = eqx.field(static=True)  # shortest delay of a neuron with targets that is not 0
    predicts: bool = eqx.field(static=True)  # spikes may arrive at once
    max_arrivals: int | None = eqx.field(static=True)  # of a round; None without synaptic delays

    def __init__(self, synapses: Synapses, outputs: tuple[int, ...]):
        """Prepare synapses."""
        self.observed = Observed(synapses, outputs)
        sources, targets = np.asarray(synapses.sources), np.asarray(synapses.targets)
        self.window, self.predicts = _shortest_delay(synapses)
        if synapses.delays is None or synapses.axonal:
            self.fan, order, self.width, self.most = fan_out(sources, targets, *synapses.shape)
            self.max_arrivals = None
        else:
            delays = np.asarray(checks.unwrapped(synapses.delays))
            self.fan, order, self.width, self.most = by_delay(
                sources, targets, delays, *synapses.shape
            )
            least, many = _ARRIVALS
            self.max_arrivals = max(least, self.most, min(2 * len(sources), many))
        self.order = None if order is None else jnp.asarray(order, jnp.int32)

    @property
    def max_chunks(self) -> int:
        """Largest number of chunks of a round."""
        return max(_LANES_OF_A_ROUND // self.width, 64, self.most)

    def longest(self, t_max: float) -> float:
        """Maximum length of a round."""
        return min(self.window, t_max / _ROUNDS if self.predicts else math.inf)

    def max_rounds(
        self, flow: AbstractFlow, neuron: AbstractNeuron, t_max: float, max_events: int
    ) -> int:
        """Default number of rounds that are reserved, without those for input spikes."""
        whole = math.ceil(_SHORTER * t_max / self.longest(t_max)) + self.rounds_of(max_events)
        return whole + flow.max_extra_segments(neuron, t_max, 0)

    def rounds_of(self, spikes: int) -> int:
        """Number of further rounds for this number of spikes."""
        most = self.max_chunks if self.max_arrivals is None else self.max_arrivals
        return _SPARE_ROUNDS + math.ceil(spikes * self.most / most)


def _shortest_delay(synapses: Synapses) -> tuple[float, bool]:
    """Shortest delay of a neuron with targets, except 0, and whether there is a delay of 0.

    If there is none or if the delays are not known, the shortest delay is inf.
    """
    n, delays = synapses.n_neurons, checks.unwrapped(synapses.delays)
    sends = np.diff(np.asarray(synapses.offsets))[:n] > 0
    if delays is None:
        return math.inf, bool(np.any(sends))
    if not checks.is_concrete(delays):
        return math.inf, False
    if not synapses.axonal:
        sends = np.asarray(synapses.sources) < n
    delays = np.asarray(delays)[: len(sends)]
    shortest = np.min(delays, where=sends & (delays > 0), initial=np.inf)
    return float(shortest), bool(np.any(sends & (delays <= 0)))


def rounds_of(
    synapses: Synapses,
    flow: AbstractFlow,
    adjoint: AbstractAdjoint,
    neuron: AbstractNeuron,
    outputs: tuple[int, ...],
) -> Rounds | None:
    """Prepare a simulation in rounds, or return None for a network that needs the event loop.

    Rounds are for flows that find the spikes of each neuron separately, and for models whose gaps
    to the threshold an arrival does not change. Synaptic delays must be known, and those of neurons
    must be positive.

    A neuron with a synapse onto itself and without delay is reset before it receives the weight; in
    the event loop, afterwards. The result is the same if both commute, as they do for the models
    with an exact flow.
    """
    n, lanes = synapses.n_neurons, lane_flow(flow)
    if lanes is None or not isinstance(adjoint, EventProp) or _may_stay_at_threshold(neuron, n):
        return None
    if arrivals_change_gap(neuron, n):
        return None
    if not (lanes.starts_at_threshold or _acts_later(synapses) or reset_commutes(neuron, n)):
        return None
    delays = checks.unwrapped(synapses.delays)
    if delays is not None and not synapses.axonal:
        known = checks.is_concrete(delays)
        if not known or synapses.n_synapses == 0 or _shortest_delay(synapses)[1]:
            return None
    return Rounds(synapses, outputs)


def _acts_later(synapses: Synapses) -> bool:
    """Return whether all synapses of neurons onto themselves have known positive delays."""
    own, delays = np.asarray(synapses.sources == synapses.targets), synapses.synaptic_delays()
    if delays is None or not checks.is_concrete(delays):
        return not np.any(own)
    return bool(np.all(np.asarray(delays)[own] > 0))


def _may_stay_at_threshold(neuron: AbstractNeuron, n: int) -> bool:
    """Return whether a neuron that has no reset may fire, which is an error of the event loop."""
    if isinstance(neuron, Populations):
        parts = zip(neuron.parts, neuron.sizes, strict=True)
        return any(_may_stay_at_threshold(part, size) for part, size in parts)
    return not isinstance(neuron, LeakyIntegrator) and bool(np.any(neuron.never_reset(n)))


def simulate(
    rounds: Rounds,
    synapses: Synapses,
    neuron: AbstractNeuron,
    flow: AbstractFlow,
    adjoint: AbstractAdjoint,
    plan: Plan,
    in_times: Float[Array, "*batch inputs k"],
    start: NetworkState | None = None,
    times: Float[Array, " times"] | None = None,
) -> Record:
    """Simulate in rounds, if `rounds_of` allows it.

    With a readout, the outputs follow once more, and the record has their events only, see
    `observed`. `plan.max_steps` is the maximum number of rounds.
    """
    lanes = lane_flow(flow)
    assert lanes is not None and isinstance(adjoint, EventProp)
    n, n_in = synapses.n_neurons, synapses.n_inputs
    start = jax.lax.stop_gradient(start)
    weights, given = unwrap((synapses.weights, synapses.delays))
    dtype, inputs = weights.dtype, math.prod(in_times.shape[-2:])
    inputs += 0 if start is None else start.sources.shape[-1]
    neuron, given = jax.tree.map(
        lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, (unwrap(neuron), given)
    )
    delays = jnp.zeros(n + n_in, dtype) if given is None else given
    moving = separate(neuron)
    if rounds.max_arrivals is not None and rounds.order is not None:
        delays = delays[rounds.order]
    full = Setting(
        n=n,
        n_sources=n + n_in,
        outputs=plan.outputs,
        t_max=plan.t_max,
        max_events=plan.max_events,
        width=rounds.width,
        capacity=plan.capacity,
        max_chunks=rounds.max_chunks,
        max_rounds=plan.max_steps + rounds.rounds_of(inputs),
        predicts=rounds.predicts,
        window=rounds.longest(plan.t_max),
        most=rounds.most,
        max_arrivals=rounds.max_arrivals,
        stop_after=plan.stop_after,
    )
    ordered = weights if rounds.order is None else weights[rounds.order]
    sources = jnp.repeat(jnp.arange(n, n + n_in, dtype=jnp.int32), in_times.shape[-1])
    parts = lanes, moving, ordered, delays, rounds.fan, adjoint.min_speed

    def one(in_times: Array, start: NetworkState | None) -> Record:
        if start is not None:
            neurons = separate_state(neuron, start.neurons)
            start = eqx.tree_at(lambda s: s.neurons, start, neurons)
        sent = without_subnormals(in_times)
        record = _record(solve(full, *parts, Inputs(sent.reshape(-1), sources, start)), neuron)
        if not plan.readout.outputs:
            return record
        network = rounds.observed, moving, lanes, adjoint, plan, weights, given
        return observe(*network, sent, times, record)

    for _ in in_times.shape[:-2]:
        one = jax.vmap(one)
    return one(in_times, start)


def _record(found: Spikes, neuron: AbstractNeuron) -> Record:
    """Record with one row per spike, without readouts."""
    end = found.end
    if end is not None:
        end = eqx.tree_at(lambda s: s.neurons, end, joint_state(neuron, end.neurons))
    nothing = jnp.zeros((found.times.size, 0), found.times.dtype)
    return Record(
        times=found.times,
        sources=found.sources,
        observed=nothing,
        status=found.status,
        steps=found.steps,
        dt=None,
        state=None,
        message=None,
        wait=None,
        past_t_max=None,
        end=end,
    )
