"""Sparse connectivity, prepared for a simulation in rounds."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ... import checks
from ...constraints import unwrap
from ..adjoint import AbstractAdjoint, EventProp
from ..engine.record import Record
from ..flows import AbstractFlow, lane_flow
from ..inputs import without_subnormals
from ..neurons import AbstractNeuron
from ..state import NetworkState
from ..synapses import Synapses
from .fan import Fan, by_delay, fan_out
from .primitive import Spikes, solve
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
    """Outgoing synapses of every source: in chunks, see [`Fan`][], or sorted by delay."""

    fan: Fan
    order: Int[Array, " synapses"] | None  # of the synapses in `fan`; None: as in `Synapses`
    width: int = eqx.field(static=True)
    most: int = eqx.field(static=True)  # largest number of chunks (or synapses) of a source
    window: float = eqx.field(static=True)  # shortest delay of a neuron with targets that is not 0
    predicts: bool = eqx.field(static=True)  # spikes may arrive at once
    max_arrivals: int | None = eqx.field(static=True)  # of a round; None without synaptic delays

    def __init__(self, synapses: Synapses):
        """Prepare synapses."""
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
    synapses: Synapses, flow: AbstractFlow, adjoint: AbstractAdjoint, neuron: AbstractNeuron
) -> Rounds | None:
    """Prepare a simulation in rounds, or return None for a network that needs the event loop.

    Rounds are for flows that find the spikes of each neuron separately. Synaptic delays must be
    known, and those of neurons must be positive.
    """
    lanes = lane_flow(flow) is not None and isinstance(adjoint, EventProp)
    if not lanes or np.any(neuron.never_reset(synapses.n_neurons)):
        return None
    delays = checks.unwrapped(synapses.delays)
    if delays is not None and not synapses.axonal:
        known = checks.is_concrete(delays)
        if not known or synapses.n_synapses == 0 or _shortest_delay(synapses)[1]:
            return None
    return Rounds(synapses)


def simulate(
    rounds: Rounds,
    synapses: Synapses,
    neuron: AbstractNeuron,
    flow: AbstractFlow,
    adjoint: AbstractAdjoint,
    setting: dict[str, Any],
    in_times: Float[Array, "*batch inputs k"],
    start: NetworkState | None = None,
) -> Record:
    """Simulate in rounds, if `rounds_of` allows it.

    `setting` has the remaining fields of [`Setting`][].
    """
    lanes = lane_flow(flow)
    assert lanes is not None and isinstance(adjoint, EventProp)
    n, n_in = synapses.n_neurons, synapses.n_inputs
    start = jax.lax.stop_gradient(start)
    weights, delays = unwrap((synapses.weights, synapses.delays))
    dtype, inputs = weights.dtype, math.prod(in_times.shape[-2:])
    inputs += 0 if start is None else start.sources.shape[-1]
    delays = jnp.zeros(n + n_in, dtype) if delays is None else delays
    neuron, delays = jax.tree.map(
        lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, (unwrap(neuron), delays)
    )
    weights = weights if rounds.order is None else weights[rounds.order]
    if rounds.max_arrivals is not None and rounds.order is not None:
        delays = delays[rounds.order]
    full = Setting(
        n=n,
        n_sources=n + n_in,
        width=rounds.width,
        max_chunks=rounds.max_chunks,
        predicts=rounds.predicts,
        most=rounds.most,
        max_arrivals=rounds.max_arrivals,
        window=rounds.longest(setting["t_max"]),
        **setting | {"max_rounds": setting["max_rounds"] + rounds.rounds_of(inputs)},
    )
    sources = jnp.repeat(jnp.arange(n, n + n_in, dtype=jnp.int32), in_times.shape[-1])

    def one(in_times: Array, start: NetworkState | None) -> Record:
        sent = Inputs(without_subnormals(in_times).reshape(-1), sources, start)
        found = solve(full, lanes, neuron, weights, delays, rounds.fan, adjoint.min_speed, sent)
        return _record(found)

    for _ in in_times.shape[:-2]:
        one = jax.vmap(one)
    return one(in_times, start)


def _record(found: Spikes) -> Record:
    """Record with one row per spike, without readouts."""
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
        end=found.end,
    )
