"""Simulation of a fully connected layer, by lanes or by the event loop."""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .. import lanes
from ..adjoint import AbstractAdjoint, EventProp
from ..answers import recorded_spikes
from ..engine.programs import compiled
from ..flows import AbstractFlow, AbstractLaneFlow, ExactIntegrator
from ..lanes import integrator
from ..lanes.maximum import maxima
from ..network import EventNetwork
from ..neurons import AbstractNeuron, LeakyIntegrator
from ..pseudospikes import Pseudospikes
from ..solution import CODE, RUNNING, complete_or_nan, raise_if_failed

#: Default limit of the number of spikes of a neuron that are counted.
MOST_COUNTED = 100_000
#: Default limit of the number of spikes in the event loop, if it is not known.
MOST_SPIKES = 500


class Limits(NamedTuple):
    """Limits of a layer, see [`eventsnn.EventLinear`][]."""

    t_max: float
    max_spikes: int | None
    truncate: bool
    max_events: int | None
    max_steps: int | None
    extra_steps: int  # that the flow may need in addition to one step per input spike


class Dense(NamedTuple):
    """Layer in which all neurons of a sample receive the same input spikes.

    All leaves are unwrapped and have one dtype. `in_times` has the shape `(..., inputs, k)` in all
    methods.
    """

    neuron: AbstractNeuron
    weights: Float[Array, "inputs columns"]
    mask: Bool[Array, "inputs columns"] | None
    delays: Float[Array, " inputs *neurons"] | None
    pseudospikes: Pseudospikes | None
    flow: AbstractFlow
    adjoint: AbstractAdjoint
    limits: Limits
    positions: int = 0  # number of the last axes of the batch that are positions in one sample

    @property
    def n(self) -> int:
        """Number of neurons."""
        return self.weights.shape[1] // self.neuron.receptors

    def trains(self, in_times: Array, max_spikes: int, truncate: bool, throw: bool) -> Array:
        """First `max_spikes` spike times of each neuron, of shape `(..., n, max_spikes)`."""
        return self._answer(_trains, in_times, throw, max_spikes, truncate)

    def counts(self, in_times: Array, throw: bool) -> Int[Array, "*batch n"]:
        """Number of spikes of each neuron until `t_max`."""
        return self._answer(_counts, in_times, throw)

    def outcome(self, in_times: Array, max_spikes: int, truncate: bool) -> lanes.Outcome:
        """Spike times as `trains`, with the status and the number of steps of each sample."""
        return compiled(_outcome, self, in_times, max_spikes, truncate)

    def potentials_at(self, in_times: Array, times: Array, throw: bool) -> Array:
        """Return potentials, of shape `(..., n, times)`."""
        if self._is_superposition:
            return self._answer(_potentials_at, in_times, throw, times)
        return self._in_loop("potentials_at", in_times, throw, times)

    def integrals(self, in_times: Array, throw: bool) -> Float[Array, "*batch n"]:
        """Return integrals of the potentials."""
        if self._is_superposition:
            return self._answer(_integrals, in_times, throw)
        return self._in_loop("integrals", in_times, throw)

    def maxima(self, in_times: Array, throw: bool) -> Float[Array, "*batch n"]:
        """Return maxima of the potentials."""
        if self._is_superposition and isinstance(self.adjoint, EventProp):
            return self._answer(_maxima, in_times, throw)
        return self._in_loop("maxima", in_times, throw)

    def network(self, max_events: int) -> EventNetwork:
        """Return the equivalent network of the event loop."""
        n = self.n
        exists = jnp.ones(self.weights.shape, bool) if self.mask is None else self.mask
        delays = self.delays
        if delays is not None:
            delays = jnp.pad(delays, ((n, 0), *[(0, 0)] * (delays.ndim - 1)))
        return EventNetwork(
            self.neuron,
            jnp.pad(self.weights, ((n, 0), (0, 0))),
            jnp.pad(exists, ((n, 0), (0, 0))),
            outputs=range(n),
            t_max=self.limits.t_max,
            delays=delays,
            pseudospikes=self.pseudospikes,
            max_events=max_events,
            max_steps=self.limits.max_steps,
            queue_capacity=1,  # no neuron sends spikes to others
            solver=self.flow,
            adjoint=self.adjoint,
        )

    def _answer(self, answer: Callable, in_times: Array, throw: bool, *args: Any) -> Array:
        """Return the result of a query, from one compiled program.

        `answer(dense, in_times, *args)` returns the result and the status of each sample.
        """
        out, status = compiled(answer, self, in_times, *args)
        return raise_if_failed(out, status) if throw else out

    @property
    def _synapses(self) -> Float[Array, "inputs columns"]:
        """Masked weights."""
        return self.weights if self.mask is None else jnp.where(self.mask, self.weights, 0.0)

    def _simulate(self, in_times: Array, count: int, stop_after: int | None) -> lanes.Outcome:
        """Return the first `count` spikes; a neuron may stop after `stop_after` spikes."""
        if isinstance(self.flow, AbstractLaneFlow) and self._in_lanes:
            return self._sweep(self.flow, in_times, count, stop_after)
        net = self._network(in_times, stop_after, truncated=stop_after == count)
        many = count if stop_after is None else stop_after
        times, counts, status, steps = recorded_spikes(net, self._sent(in_times), many, stop_after)
        return lanes.Outcome(times[..., :count], counts, status, steps)

    @property
    def _in_lanes(self) -> bool:
        """True if the fast simulation supports the options of the layer."""
        return not self._is_synaptic and isinstance(self.adjoint, EventProp)

    @property
    def _is_synaptic(self) -> bool:
        """True for delays of single synapses."""
        return self.delays is not None and self.delays.ndim > 1

    @property
    def is_split(self) -> bool:
        """True if each neuron is simulated as a layer of its own, whose delays are axonal."""
        lanes = isinstance(self.flow, AbstractLaneFlow) and isinstance(self.adjoint, EventProp)
        return self._is_synaptic and lanes

    def split(self, answer: Callable[["Dense"], PyTree]) -> PyTree:
        """Return the answers of all neurons, each as a layer of its own, along a new first axis."""

        def columns(x: Array | None) -> Array | None:
            if x is None:
                return None
            return jnp.moveaxis(x.reshape(len(x), self.neuron.receptors, self.n), -1, 0)

        given = self.neuron, self.pseudospikes
        own, shared = eqx.partition(given, lambda x: eqx.is_array(x) and x.ndim > 0)
        own = jax.tree.map(lambda x: x[:, None], own)

        def one(own, weights, mask, delays):
            neuron, pseudospikes = eqx.combine(own, shared)
            parts = {"neuron": neuron, "weights": weights, "mask": mask, "delays": delays}
            return answer(self._replace(pseudospikes=pseudospikes, **parts))

        assert self.delays is not None
        return jax.vmap(one)(own, columns(self.weights), columns(self.mask), self.delays.T)

    def _sweep(
        self, flow: AbstractLaneFlow, in_times: Array, count: int, stop_after: int | None
    ) -> lanes.Outcome:
        limits, sent = self.limits, self._sent(in_times)
        pseudospikes = None if stop_after is None else self.pseudospikes
        if pseudospikes is not None:
            sent = jnp.where(sent <= limits.t_max, sent, jnp.inf)
        limit = (limits.max_events or MOST_COUNTED) if stop_after is None else None
        n_in, k = sent.shape[-2:]
        arrived = n_in * k + 2
        rows = arrived + (arrived + limits.extra_steps if limits.extra_steps else 0)
        setting = lanes.Setting(
            n=self.n,
            n_in=n_in,
            t_max=limits.t_max,
            max_spikes=count,
            stop_after=stop_after if limit is None else limit + 1,
            max_rows=rows if limits.max_steps is None else limits.max_steps + arrived,
            t_end=limits.t_max if pseudospikes is None else pseudospikes.end(limits.t_max),
        )
        drive = None if pseudospikes is None else pseudospikes.current(self.neuron)
        min_speed = self.adjoint.min_speed if isinstance(self.adjoint, EventProp) else 0.0

        def one(x):
            arrivals = lanes.arrivals_of(x)
            return lanes.solve(
                setting, flow, self.neuron, self._synapses, drive, min_speed, arrivals
            )

        out = _over_batch(one, sent)
        if limit is None:
            return out
        endless = jnp.any(out.counts > limit, axis=-1)
        return out._replace(status=jnp.where(endless, CODE["max_events"], out.status))

    def _limited(self, out: lanes.Outcome, max_spikes: int, truncate: bool) -> Array:
        """Status codes; a neuron must not fire more than `max_spikes` times, unless truncated."""
        if truncate:
            return out.status
        more = jnp.any(out.counts > max_spikes, axis=-1)
        if self.limits.max_events is None:
            more = more | (out.status == CODE["max_events"])
        return jnp.where(more, CODE["max_spikes"], out.status)

    def _network(
        self, in_times: Array, stop_after: int | None = None, truncated: bool = True
    ) -> EventNetwork:
        """Return the network for the input spikes returned by `_sent`.

        `stop_after` is the number of spikes that each neuron needs; None: all until `t_max`. If the
        simulation is not `truncated`, a sample in which a neuron fires more often fails.
        """
        delays = self.delays
        layer = self if delays is None or self._is_synaptic else self._replace(delays=None)
        spikes = self.n * ((self.limits.max_spikes if stop_after is None else stop_after) or 0)
        spikes = max(spikes, MOST_SPIKES) if stop_after is None or truncated else spikes
        events = in_times.shape[-2] * in_times.shape[-1] + spikes
        return layer.network(self.limits.max_events or events)

    def _in_loop(self, query: str, in_times: Array, throw: bool, *args: Any) -> Array:
        """Return the result of a query that the event loop answers."""
        out = getattr(self._network(in_times), query)(self._sent(in_times), *args, throw=throw)
        if self.delays is None or self._is_synaptic:
            return out
        codes = jnp.full(in_times.shape[:-2], CODE["completed"], jnp.int32)
        out, status = self._known(out, codes)
        return raise_if_failed(out, status) if throw else out

    def _sent(self, in_times: Array) -> Array:
        """Input spikes after axonal delays. Invalid times stay invalid, `_status` checks delays."""
        if self.delays is None or self._is_synaptic:
            return in_times
        delays = jnp.where(self.delays >= 0, self.delays, 0.0)[:, None]
        return jnp.where(in_times >= 0, in_times + delays, in_times)

    @property
    def _is_superposition(self) -> bool:
        """True if the potentials are sums of responses to the input spikes."""
        exact = isinstance(self.neuron, LeakyIntegrator) and isinstance(self.flow, ExactIntegrator)
        return exact and (self.is_split or not self._is_synaptic)

    @property
    def _integrator(self) -> LeakyIntegrator:
        """The neuron of a superposition."""
        neuron = self.neuron
        if isinstance(neuron, LeakyIntegrator):
            return neuron
        raise TypeError(f"neuron must be a LeakyIntegrator, got {type(neuron).__name__}.")

    def _superposed(self, one: Callable[[Array], Array], in_times: Array) -> tuple[Array, Array]:
        """Apply `one` to the arriving spikes of each sample, and return the status of each.

        Invalid samples are computed without spikes, so that they do not affect the gradients of
        other samples.
        """
        sent = self._sent(in_times)
        valid = jnp.all(sent >= 0, axis=(-2, -1), keepdims=True)
        out = _over_batch(one, jnp.where(valid, sent, jnp.inf))

        def status(x, out):
            code = lanes.initial_status(self.neuron, self._synapses, x.reshape(1, -1))[0]
            code = jnp.where(code == RUNNING, CODE["completed"], code)
            finite = jnp.all(jnp.isfinite(out)) | (code != CODE["completed"])
            return jnp.where(finite, code, CODE["not_finite"])

        codes = status
        for _ in sent.shape[:-2]:
            codes = jax.vmap(codes)
        return self._known(out, codes(sent, lax.stop_gradient(out)))

    def _known(self, out: Array, codes: Int[Array, " *batch"]) -> tuple[Array, Array]:
        """Mark the outputs of failed samples, and return the status of each sample."""
        status = self._status(codes)
        return complete_or_nan(self._spread(status, codes), out), status

    def _status(self, codes: Int[Array, " *batch"]) -> Int[Array, " *samples"]:
        """Status code of each sample, from those of its positions."""
        status = self._per_sample(codes)
        if self.delays is None:
            return status
        return jnp.where(jnp.all(self.delays >= 0), status, CODE["invalid_parameters"])

    def _per_sample(self, codes: Int[Array, " *batch"]) -> Int[Array, " *samples"]:
        """Largest value over the positions of each sample; of status codes, a failure if any."""
        axes = tuple(range(-self.positions, 0))
        return jnp.max(codes, axis=axes) if axes else codes

    def _spread(self, status: Int[Array, " *samples"], codes: Int[Array, " *batch"]) -> Array:
        """Repeat the status of each sample at its positions, as in `codes`."""
        return jnp.broadcast_to(status.reshape(status.shape + (1,) * self.positions), codes.shape)


def _over_batch(one: Callable, in_times: Array):
    """Apply a function of one sample to all samples."""
    for _ in in_times.shape[:-2]:
        one = jax.vmap(one)
    return one(in_times)


def _by_neuron(answer: Callable) -> Callable:
    """Decorate an answer: with synaptic delays, it is asked of each neuron as a layer of its own.

    The neurons are independent of each other, and each has its own order of arrivals. An answer is
    a pair of outputs and status codes.
    """

    @ft.wraps(answer)
    def asked(dense: Dense, in_times: Array, *args: Any) -> tuple[Array, Array]:
        if not dense.is_split:
            return answer(dense, in_times, *args)
        batch = in_times.shape[:-2]
        out, codes = dense.split(lambda layer: answer(layer, in_times, *args))
        out = jnp.moveaxis(jnp.squeeze(out, len(batch) + 1), 0, len(batch))
        status = jnp.max(codes, axis=0)
        return complete_or_nan(dense._spread(status, jnp.empty(batch)), out), status

    return asked


@_by_neuron
def _trains(dense: Dense, in_times: Array, max_spikes: int, truncate: bool) -> tuple[Array, Array]:
    out = dense._simulate(in_times, max_spikes, max_spikes if truncate else max_spikes + 1)
    times = out.times
    if dense.pseudospikes is not None:
        times = dense.pseudospikes.returned(times, dense.limits.t_max)
    return dense._known(times, dense._limited(out, max_spikes, truncate))


@_by_neuron
def _counts(dense: Dense, in_times: Array) -> tuple[Array, Array]:
    out = dense._simulate(in_times, 1, None)
    return dense._known(out.counts, out.status)


def _outcome(dense: Dense, in_times: Array, max_spikes: int, truncate: bool) -> lanes.Outcome:
    if dense.is_split:
        out = dense.split(lambda layer: _outcome(layer, in_times, max_spikes, truncate))
        times = jnp.moveaxis(out.times[..., 0, :], 0, -2)
        counts = jnp.moveaxis(out.counts[..., 0], 0, -1)
        return lanes.Outcome(times, counts, jnp.max(out.status, 0), jnp.max(out.steps, 0))
    out = dense._simulate(in_times, max_spikes, max_spikes if truncate else max_spikes + 1)
    status = dense._status(dense._limited(out, max_spikes, truncate))
    return out._replace(status=status, steps=dense._per_sample(out.steps))


@_by_neuron
def _potentials_at(dense: Dense, in_times: Array, times: Array) -> tuple[Array, Array]:
    def one(x):
        return integrator.potentials(dense._integrator, dense._synapses, x, times)

    out, status = dense._superposed(one, in_times)
    inside = (times >= 0) & (times <= dense.limits.t_max)
    return jnp.where(inside, out, jnp.nan), status


@_by_neuron
def _integrals(dense: Dense, in_times: Array) -> tuple[Array, Array]:
    def one(x):
        return integrator.integrals(dense._integrator, dense._synapses, x, dense.limits.t_max)

    return dense._superposed(one, in_times)


@_by_neuron
def _maxima(dense: Dense, in_times: Array) -> tuple[Array, Array]:
    def one(x):
        return maxima(dense._integrator, dense._synapses, x, dense.limits.t_max)

    return dense._superposed(one, in_times)
