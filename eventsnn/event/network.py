"""The event-driven network: neurons, weights, and the queries that simulate them."""

import math
from collections.abc import Sequence

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Real

from .. import checks
from ..constraints import unwrap
from . import queries
from .adjoint import AbstractAdjoint, EventProp
from .engine.batching import on_any_mesh
from .engine.record import Record, observation_source
from .engine.solve import solve
from .engine.system import Network, Plan, Readout
from .flows import AbstractFlow, choose_flow
from .inputs import external_events, with_inputs
from .neurons import AbstractNeuron
from .pseudospikes import Pseudospikes
from .solution import (
    CODE,
    Solution,
    complete_or,
    is_success,
    raise_if_failed,
    status_of,
    valid_or_nan,
)


class EventNetwork(eqx.Module):
    r"""A recurrent spiking network with exact spike times.

    Between events each neuron follows its own smooth flow. A source is a neuron or an input
    channel. When source $j$ fires, neuron $i$ receives `weights[j, i]`.

    A network is an Equinox module: `weights`, `delays` and the neuron's parameters are array
    leaves. Every query except `counts` is differentiable with respect to them and to the input
    times. Queries work under `eqx.filter_jit(net.ttfs)` (or `jax.jit(lambda x: net.ttfs(x))`) and
    `jax.vmap`, and take any number of leading batch axes. `jax.vmap(net.ttfs)(x)` and `net.ttfs(x)`
    are the same computation.
    """

    neuron: AbstractNeuron
    weights: Float[Array, "sources neurons"]
    mask: Bool[Array, "sources neurons"] | None
    delays: Float[Array, " sources *neurons"] | None
    pseudospikes: Pseudospikes | None
    flow: AbstractFlow
    adjoint: AbstractAdjoint = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    t_max: float = eqx.field(static=True)
    max_events: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    queue_capacity: int = eqx.field(static=True)
    max_spikes: int | None = eqx.field(static=True)
    _steps_per_input: int = eqx.field(static=True)

    def __init__(
        self,
        neuron: AbstractNeuron,
        weights: Real[ArrayLike, "sources columns"] | Sequence,
        mask: Bool[ArrayLike, "sources columns"] | Sequence | None = None,
        *,
        outputs: Int[ArrayLike, " outputs"] | Sequence[int],
        t_max: float,
        delays: Real[ArrayLike, " sources *neurons"] | Sequence | None = None,
        pseudospikes: Pseudospikes | None = None,
        max_events: int = 500,
        max_steps: int | None = None,
        queue_capacity: int = 32,
        solver: diffrax.AbstractSolver | AbstractFlow | None = None,
        dt0: float | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        adjoint: AbstractAdjoint | None = None,
        max_spikes: int | None = None,
    ):
        """**Arguments:**

        - `neuron`: neuron model, for example [`eventsnn.LIF`][]. Its parameters are scalars or
            have shape `(n,)`.
        - `weights`: synaptic weights, shape `(n + n_in, n)`. Rows are sources: neurons first, then
            input channels. For a model with several receptors the shape is `(n + n_in, receptors *
            n)`, receptor by receptor. The simulation uses the dtype of the weights.
        - `mask`: mask of the existing synapses, booleans of the same shape as the weights. None
            (the default): all synapses exist.
        - `outputs`: indices of the output neurons, whose values the queries return.
        - `t_max`: duration of the simulation, > 0, in the units of the time constants.
        - `delays`: transmission delays, >= 0, in the units of the time constants. Axonal delays
            have shape `(n + n_in,)`, one per source. Synaptic delays have shape `(n + n_in, n)`.
            None (the default) and delays of 0: spikes arrive at once.
        - `pseudospikes`: spike times after `t_max` for outputs that are silent until then, see
            [`eventsnn.Pseudospikes`][]. None (the default): their spike times are `inf`.
        - `max_events`: maximum number of events per sample. Events are spikes and, without delays,
            input spikes. A sample that would exceed the maximum stops there, and its status is
            `Status.max_events`.
        - `max_steps`: maximum number of iterations of the event loop per sample: events, segments
            that the flow cuts short, and segments that are proposed again. None (the default):
            `max_events` plus a number of further iterations that depends on the flow and, with
            delays, on the number of input spikes. The memory of a backward pass is proportional to
            it.
        - `queue_capacity`: with delays, maximum number of spikes of neurons in transit at the same
            time. A sample that would exceed it stops there, and its status is
            `Status.queue_overflow`.
        - `solver`: a diffrax ODE solver, or a flow, for example [`eventsnn.ODEFlow`][]. None (the
            default): the neuron's exact flow, or `diffrax.Tsit5()` for a model without one.
        - `dt0`, `stepsize_controller`: as in `diffrax.diffeqsolve`, for a diffrax solver.
        - `adjoint`: differentiation method, [`eventsnn.EventProp`][] or [`eventsnn.Autodiff`][].
            None (the default): `EventProp()`.
        - `max_spikes`: number of spike times per output that a call of the network returns, as a
            layer of an [`eventsnn.EventSequential`][]. None (the default): the network cannot be
            called.

        A leaf that is wrapped by `eventsnn.constrain` stays wrapped, for example with
        `delays=net.delays` of a constrained network.

        **Raises:** `ValueError` for shapes that do not fit each other, outputs out of range,
        `t_max` that is not finite and positive, a delay that is not finite and >= 0, a flow of
        another neuron model, or `max_events`, `max_steps`, `queue_capacity` or `max_spikes` < 1.
        Queries raise it for 16-bit weights, which only [`eventsnn.discretise`][] supports.
        """
        checks.instance("neuron", neuron, AbstractNeuron, "an eventsnn neuron model")
        self.weights = checks.weight_matrix(weights, neuron.receptors)
        n = self.weights.shape[1] // neuron.receptors
        self.mask = checks.mask_like(mask, self.weights.shape)
        self.neuron = neuron.for_population(n, self.weights.dtype)
        shapes = (self.weights.shape[:1], (self.weights.shape[0], n))
        self.delays = checks.delays(delays, shapes, self.weights.dtype)
        self.queue_capacity = checks.count("queue_capacity", queue_capacity)
        kinds = Pseudospikes | None
        checks.instance("pseudospikes", pseudospikes, kinds, "eventsnn.Pseudospikes")
        plain = unwrap(self.neuron)
        self.pseudospikes = None if pseudospikes is None else pseudospikes.for_population(n, plain)
        self.outputs = checks.output_indices(outputs, n)
        self.t_max = checks.positive("t_max", t_max)
        self.max_events = checks.count("max_events", max_events)
        self.flow = choose_flow(neuron, solver, dt0, stepsize_controller)
        self._steps_per_input = 0 if max_steps is not None else _steps_per_input(self.delays)
        if max_steps is None:
            max_steps = self.max_events + self.flow.max_extra_segments(
                self.neuron, self.t_max, self.max_events
            )
            max_steps += _SPARE_STEPS if delays is None else _SPARE_STEPS + 4 * self.max_events
        self.max_steps = checks.count("max_steps", max_steps)
        self.adjoint = EventProp() if adjoint is None else adjoint
        checks.instance("adjoint", self.adjoint, AbstractAdjoint, "an eventsnn adjoint")
        self.max_spikes = checks.count_or_none("max_spikes", max_spikes)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.weights.shape[1] // self.neuron.receptors

    @property
    def n_inputs(self) -> int:
        """Number of input channels."""
        return self.weights.shape[0] - self.n_neurons

    @on_any_mesh
    def __call__(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Float[Array, "*batch outputs max_spikes"]:
        """Spike times of each output, in ascending order, padded with inf: the network as a layer.

        A sample fails with `Status.max_spikes` if an output fires more than `max_spikes` times
        until `t_max`. Arguments and errors are as for [`ttfs`][]. With `throw=False`, all outputs
        of a failed sample are NaN.
        """
        checks.flag("throw", throw)
        if self.max_spikes is None:
            raise ValueError("max_spikes must be given to a network that is called, got None.")
        in_times = checks.input_times(in_times, self.n_inputs, self.weights.dtype, throw)
        more = self.max_spikes + 1
        times, counts, status, _ = recorded_spikes(self, in_times, more, more)
        over = is_success(status) & jnp.any(counts > self.max_spikes, axis=-1)
        status = jnp.where(over, CODE["max_spikes"], status)
        times = self._returned(times[..., : self.max_spikes])
        times = raise_if_failed(times, status) if throw else times
        return complete_or(status, times, jnp.nan)

    @on_any_mesh
    def ttfs(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Float[Array, "*batch outputs"]:
        """Time to first spike of each output neuron; inf for outputs that do not fire.

        The simulation of a sample ends when all its outputs have fired.

        **Arguments:**

        - `in_times`: spike times of each input channel, >= 0, in any order, padded with inf. The
            shape is `(n_in, k)`, with any leading batch axes.
        - `throw`: whether to raise an error if a sample fails: if it hits a limit, if its input or
            a parameter is invalid, or if its state is not finite. With False, all outputs of an
            invalid or non-finite sample are NaN. In other failed samples, outputs that have not
            fired before the sample stopped are inf.

        **Raises:** `ValueError` for a wrong shape. With `throw=True`, `ValueError` for NaN, -inf or
        negative times, and `RuntimeError` if a sample fails; under `jit` it is an Equinox runtime
        error.
        """
        record = self._simulate(in_times, None, throw, stop_after=1)
        out = _over(record.status, lambda r: queries.first_spikes(r, self.outputs), record)
        return valid_or_nan(record.status, self._returned(out))

    @on_any_mesh
    def spikes(
        self,
        in_times: Real[ArrayLike, "*batch inputs k"] | Sequence,
        max_spikes: int,
        *,
        throw: bool = True,
    ) -> Float[Array, "*batch outputs max_spikes"]:
        """First `max_spikes` spike times of each output neuron, padded with inf.

        The simulation of a sample ends when every output has fired `max_spikes` times. The other
        arguments and the errors are as for [`ttfs`][].
        """
        count = checks.count("max_spikes", max_spikes)
        record = self._simulate(in_times, None, throw, stop_after=count)
        out = _over(record.status, lambda r: queries.spikes(r, self.outputs, count), record)
        return valid_or_nan(record.status, self._returned(out))

    @on_any_mesh
    def potentials_at(
        self,
        in_times: Real[ArrayLike, "*batch inputs k"] | Sequence,
        times: Real[ArrayLike, " times"] | Sequence,
        *,
        throw: bool = True,
    ) -> Float[Array, "*batch outputs times"]:
        """Membrane potentials of the output neurons at the given times, in the order of `times`.

        The neuron model's `observe` defines the returned quantity, which is usually the membrane
        potential. At the time of an event it is the value after the event. The result is also
        differentiable in `times`.

        **Arguments:**

        - `in_times`: spike times of each input channel, as for [`ttfs`][].
        - `times`: times in [0, t_max], of shape `(times,)`, in any order.
        - `throw`: whether to raise an error if a sample fails. With False, all values of an invalid
            or non-finite sample are NaN. In other failed samples, values at times that the
            simulation did not reach are NaN.

        **Raises:** as [`ttfs`][], and `ValueError` for a time outside [0, t_max]. Under `jit` the
        value at such a time is NaN instead.
        """
        times = checks.observation_times(times, self.t_max, self.weights.dtype)
        record = self._simulate(in_times, times, throw)
        source = observation_source(self.weights.shape[0])
        order = jnp.argsort(jnp.argsort(times))
        out = _over(
            record.status, lambda r: queries.at_rows_of(r, source, len(times))[:, order], record
        )
        return valid_or_nan(record.status, out)

    @on_any_mesh
    def counts(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Int[Array, "*batch outputs"]:
        """Number of spikes of each output neuron until `t_max`.

        Arguments and errors are as for [`ttfs`][]. With `throw=False` all counts of a sample that
        did not reach `t_max` are -1. Integers have no gradient; for a differentiable loss see
        [`eventsnn.losses.mse_soft_count`][].
        """
        record = self._simulate(in_times, None, throw)
        out = _over(record.status, lambda r: queries.counts(r, self.outputs), record)
        return complete_or(record.status, out, -1)

    @on_any_mesh
    def integrals(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Float[Array, "*batch outputs"]:
        r"""Integral of each output neuron's membrane potential, $\int_0^{t_\text{max}} V\, dt$.

        It is exact for exact flows, and accurate to the solver's precision for other flows. It is
        infinite for QIF and theta neurons that fire. Arguments and errors are as for [`ttfs`][].
        With `throw=False` the integrals of a sample that did not reach `t_max` are NaN.
        """
        record = self._simulate(in_times, None, throw, reading="integral")
        return complete_or(record.status, _over(record.status, queries.total, record), jnp.nan)

    @on_any_mesh
    def maxima(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Float[Array, "*batch outputs"]:
        r"""Maximum of each output neuron's membrane potential, $\max_{t \le t_\text{max}} V$.

        This is the readout of Wunderlich & Pehle (arXiv:2009.08378). The maximum is located within
        the segments between events, not taken from samples. A neuron that fires has its maximum at
        a spike. Arguments and errors are as for [`ttfs`][]. With `throw=False` the maxima of a
        sample that did not reach `t_max` are NaN.
        """
        record = self._simulate(in_times, None, throw, reading="maximum")
        return complete_or(record.status, _over(record.status, queries.largest, record), jnp.nan)

    @on_any_mesh
    def simulate(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Solution:
        """Simulate until `t_max` and return all events: spikes and input spikes.

        With delays, the time of an input spike is the time at which it is sent. The event axis has
        length `max_events` without delays. With delays only the spikes of neurons count towards
        `max_events`, and the axis has length `max_events + n_inputs * k`. Arguments and errors are
        as for [`ttfs`][]. With `throw=False` the status of the solution reports how each sample
        ended.
        """
        record = self._simulate(in_times, None, throw)
        n, n_sources = self.n_neurons, self.weights.shape[0]
        times, sources = _over(
            record.status, lambda r: queries.events(r, n_sources, self.max_events), record
        )
        if self.delays is not None:
            whole = is_success(record.status)[..., None]
            last = jnp.max(jnp.where(sources >= 0, times, -jnp.inf), axis=-1, keepdims=True)
            until = jnp.where(whole, jnp.asarray(self.t_max, times.dtype), last)
            times, sources = with_inputs(in_times, times, sources, until, n)
        stats = {
            "events": jnp.sum(sources >= 0, -1, dtype=jnp.int32),
            "spikes": jnp.sum((sources >= 0) & (sources < self.n_neurons), -1, dtype=jnp.int32),
            "steps": record.steps,
        }
        return Solution(times, sources, status_of(record.status), stats)

    def _returned(self, times: Array) -> Array:
        """Spike times as queries return them; those of pseudospikes may be limited to `t_max`."""
        return times if self.pseudospikes is None else self.pseudospikes.returned(times, self.t_max)

    def _simulate(self, in_times, times, throw, stop_after=None, reading=None) -> Record:
        checks.flag("throw", throw)
        in_times = checks.input_times(in_times, self.n_inputs, self.weights.dtype, throw)
        # Pseudospikes apply only to `ttfs` and `spikes`.
        pseudospikes = None if stop_after is None else self.pseudospikes
        if times is not None:
            reading = "state"
        readout = Readout() if reading is None else Readout(reading, self.outputs)
        plan = Plan(
            n=self.n_neurons,
            n_sources=self.weights.shape[0],
            outputs=self.outputs,
            t_max=self.t_max,
            max_events=self.max_events,
            max_steps=self._max_iterations(in_times, times),
            t_end=self.t_max if pseudospikes is None else pseudospikes.end(self.t_max),
            stop_after=stop_after,
            capacity=self.queue_capacity,
            readout=readout,
        )
        network = self._network(pseudospikes)

        def one(in_times):
            events = external_events(in_times, times, plan, delayed=self.delays is not None)
            return solve(plan, network, self.adjoint, events)

        for _ in in_times.shape[:-2]:
            one = jax.vmap(one)
        record = one(in_times)
        return raise_if_failed(record, record.status) if throw else record

    def _max_iterations(self, in_times: Array, times: Array | None) -> int:
        """Maximum number of iterations of the event loop for a query with these inputs."""
        inputs = math.prod(in_times.shape[-2:]) * self._steps_per_input
        return self.max_steps + inputs + (0 if times is None else len(times))

    def _network(self, pseudospikes: Pseudospikes | None) -> Network:
        """Build the internal `Network`: mask the weights, and append two rows of zeros.

        They are the weights of the sources that stand for no event and for an observation.
        """
        neuron, weights, delays, drive = self._leaves(pseudospikes)
        if self.mask is not None:
            weights = jnp.where(self.mask, weights, 0.0)
        if delays is not None:
            if delays.ndim == 1:
                delays = delays[:, None]
            elif self.mask is not None:
                exists = self.mask.reshape(len(self.mask), neuron.receptors, -1).any(axis=1)
                delays = jnp.where(exists, delays, jnp.inf)
            delays = jnp.pad(delays, ((0, 2), (0, 0)), constant_values=jnp.inf)
        weights = jnp.pad(weights, ((0, 2), (0, 0)))
        return Network(self.flow, neuron, weights, delays, drive)

    def _leaves(self, pseudospikes: Pseudospikes | None) -> PyTree:
        """Unwrapped values of all leaves, cast to the dtype of the weights.

        A leaf may have been replaced since `__init__`, by one of another dtype.
        """
        checks.precision(self.weights.dtype)
        drive = None if pseudospikes is None else pseudospikes.current
        leaves = unwrap((self.neuron, self.weights, self.delays, drive))
        dtype = self.weights.dtype
        return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, leaves)


def recorded_spikes(
    net: EventNetwork, in_times: Array, count: int, stop_after: int | None
) -> tuple[Array, Array, Array, Array]:
    """First `count` spike times of each output, numbers of spikes until `t_max`, status and steps.

    The simulation of a sample ends when every output has fired `stop_after` times; None: at
    `t_max`. Failed samples do not raise an error.
    """
    record = net._simulate(in_times, None, False, stop_after=stop_after)
    times = _over(record.status, lambda r: queries.spikes(r, net.outputs, count), record)
    if stop_after is None:
        counts = _over(record.status, lambda r: queries.counts(r, net.outputs), record)
    else:
        counts = jnp.sum(times <= net.t_max, axis=-1, dtype=jnp.int32)
    return times, counts, record.status, record.steps


def _over(status: Array, query, record: Record) -> PyTree:
    """Apply a single-sample query over all batch axes of the record."""
    for _ in status.shape:
        query = jax.vmap(query)
    return query(record)


def _steps_per_input(delays: Array | None) -> int:
    """Number of segments to reserve per input spike with delays.

    The second arrival at any neuron ends a segment. With axonal delays this is every second
    arrival. With synaptic delays an input spike has n arrivals, and about sqrt(n) of them end a
    segment.
    """
    if delays is None:
        return 0
    return 1 if delays.ndim == 1 else math.ceil(2 * math.sqrt(delays.shape[1]))


#: Extra rows of the record, for segments that are proposed again or cut short.
_SPARE_STEPS = 128
