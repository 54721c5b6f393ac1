"""The event-driven network: neurons, weights, and the queries that simulate them."""

import math
from collections.abc import Sequence

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Real

from .. import checks
from ..constraints import unwrap
from . import queries, sparse
from .adjoint import AbstractAdjoint, EventProp
from .answers import answered, recorded_spikes, solution, trains
from .engine.batching import on_any_mesh
from .engine.programs import compiled
from .engine.record import Record, observation_source
from .engine.solve import solve
from .engine.system import Network, Plan, Readout
from .flows import AbstractFlow, choose_flow
from .inputs import external_events
from .neurons import AbstractNeuron
from .pseudospikes import Pseudospikes
from .queries import Query
from .solution import Solution, raise_if_failed
from .sparse import Rounds, rounds_of
from .state import NetworkState, initial_state
from .synapses import Synapses, as_synapses


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
    weights: Float[Array, "sources neurons"] | Synapses
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
    _max_steps: int | None = eqx.field(static=True)  # as given
    _rounds: Rounds | None  # of synapses that are simulated in rounds

    def __init__(
        self,
        neuron: AbstractNeuron,
        weights: Real[ArrayLike, "sources columns"] | Sequence | Synapses,
        mask: Bool[ArrayLike, "sources columns"] | Sequence | None = None,
        *,
        outputs: Int[ArrayLike, " outputs"] | Sequence[int],
        t_max: float,
        delays: Real[ArrayLike, " sources *neurons"] | Sequence | None = None,
        pseudospikes: Pseudospikes | None = None,
        max_events: int = 500,
        max_steps: int | None = None,
        queue_capacity: int | None = None,
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
            n)`, receptor by receptor. The simulation uses the dtype of the weights. Sparse
            connectivity is an [`eventsnn.Synapses`][], with its own delays, or a
            `jax.experimental.sparse.BCOO`, for models with one receptor.
        - `mask`: mask of the existing synapses, booleans of the same shape as the weights. None
            (the default): all synapses exist.
        - `outputs`: indices of the output neurons, whose values the queries return.
        - `t_max`: duration of the simulation, > 0, in the units of the time constants.
        - `delays`: transmission delays, >= 0, in the units of the time constants. Axonal delays
            have shape `(n + n_in,)`, one per source. Synaptic delays have shape `(n + n_in, n)`.
            None (the default) and delays of 0: spikes arrive at once.
        - `pseudospikes`: spike times after `t_max` for outputs that are silent until then, see
            [`eventsnn.Pseudospikes`][]. None (the default): their spike times are `inf`.
        - `max_events`: maximum number of events per sample. Events are spikes and, with a matrix of
            weights and without delays, input spikes. A sample that would exceed the maximum stops
            there, and its status is `Status.max_events`.
        - `max_steps`: maximum number of iterations of the event loop per sample: events, segments
            that the flow cuts short, and segments that are proposed again. None (the default):
            `max_events` plus a number of further iterations that depends on the flow and, with
            delays, on the number of input spikes. The memory of a backward pass is proportional to
            it. With sparse connectivity it is the maximum number of rounds.
        - `queue_capacity`: with delays, maximum number of spikes of neurons in transit at the same
            time. A sample that would exceed it stops there, and its status is
            `Status.queue_overflow`. For a simulation in rounds with synaptic delays, it is the
            maximum number of spikes since the first one in transit. None (the default): 32; with
            sparse connectivity n, or 2 n for a simulation in rounds, at least 64.
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

        **Sparse connectivity.** With the exact flow of [`eventsnn.LIF`][], [`eventsnn.QIF`][],
        [`eventsnn.Theta`][] or [`eventsnn.LeakyIntegrator`][], or steps of constant size of any
        model whose threshold gap an arrival does not change at once (also refractory, and as
        [`eventsnn.Populations`][]), and with [`eventsnn.EventProp`][], a spike updates only its
        targets, also in the backward pass: the computation time is proportional to the number of
        spikes that arrive. Synaptic delays of neurons must be positive for this. The simulation
        proceeds in rounds, at whose ends all neurons are updated: as long as the shortest delay or,
        if spikes arrive at once, as `t_max / 128`. The memory is proportional to the number of
        synapses; a backward pass needs, in addition, the states of all neurons at the start of each
        round. `potentials_at`, `integrals` and `maxima` then let the outputs follow their flows
        again, in a time proportional to their number and to that of the spikes that reach them. All
        other networks, and pseudospikes, are simulated as [`as_dense`][]. See [`in_rounds`][].

        **Raises:** `ValueError` for shapes that do not fit each other, outputs out of range,
        `t_max` that is not finite and positive, a delay that is not finite and >= 0, a flow of
        another neuron model, or `max_events`, `max_steps`, `queue_capacity` or `max_spikes` < 1.
        Queries raise it for 16-bit weights, which only [`eventsnn.discretise`][] supports.
        """
        checks.instance("neuron", neuron, AbstractNeuron, "an eventsnn neuron model")
        synapses = as_synapses(weights, neuron.receptors, {"mask": mask, "delays": delays})
        self.weights = synapses or checks.weight_matrix(weights, neuron.receptors)
        n = self.weights.shape[1] // neuron.receptors
        self.mask = checks.mask_like(mask, self.weights.shape)
        self.neuron = neuron.for_population(n, self.weights.dtype)
        shapes = (self.weights.shape[:1], (self.weights.shape[0], n))
        self.delays = checks.delays(delays, shapes, self.weights.dtype)
        kinds = Pseudospikes | None
        checks.instance("pseudospikes", pseudospikes, kinds, "eventsnn.Pseudospikes")
        plain = unwrap(self.neuron)
        self.pseudospikes = None if pseudospikes is None else pseudospikes.for_population(n, plain)
        self.outputs = checks.output_indices(outputs, n)
        self.t_max = checks.positive("t_max", t_max)
        self.max_events = checks.count("max_events", max_events)
        self.flow = choose_flow(neuron, solver, dt0, stepsize_controller)
        self.adjoint = EventProp() if adjoint is None else adjoint
        checks.instance("adjoint", self.adjoint, AbstractAdjoint, "an eventsnn adjoint")
        self._rounds = None
        if synapses is not None:
            self._rounds = rounds_of(synapses, self.flow, self.adjoint, plain, self.outputs)
        if queue_capacity is None and synapses is not None:
            queue_capacity = max(64, n if self._rounds is None else 2 * n)
        queue_capacity = 32 if queue_capacity is None else queue_capacity
        self.queue_capacity = checks.count("queue_capacity", queue_capacity)
        self._max_steps = max_steps
        self._steps_per_input = 0 if max_steps is not None else _steps_per_input(self.delays)
        if max_steps is None and self._rounds is not None:
            max_steps = self._rounds.max_rounds(self.flow, plain, self.t_max, self.max_events)
        elif max_steps is None:
            max_steps = self.max_events + self.flow.max_extra_segments(
                self.neuron, self.t_max, self.max_events
            )
            max_steps += _SPARE_STEPS if delays is None else _SPARE_STEPS + 4 * self.max_events
        self.max_steps = checks.count("max_steps", max_steps)
        self.max_spikes = checks.count_or_none("max_spikes", max_spikes)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return self.weights.shape[1] // self.neuron.receptors

    @property
    def n_inputs(self) -> int:
        """Number of input channels."""
        return self.weights.shape[0] - self.n_neurons

    @property
    def in_rounds(self) -> bool:
        """True if the synapses are sparse and a spike updates only its targets.

        The conditions are listed under "Sparse connectivity". False: all queries simulate the
        network with a matrix of weights.
        """
        return self._rounds is not None

    @property
    def matrix(self) -> Float[Array, "sources neurons"]:
        """Weights as a matrix; for sparse connectivity it is built."""
        return self.weights.to_dense() if isinstance(self.weights, Synapses) else self.weights

    def as_dense(self) -> "EventNetwork":
        """Return the same network with a matrix of weights; a network with a matrix as it is.

        **Raises:** `ValueError` if several synapses of one pair have different delays.
        """
        if not isinstance(self.weights, Synapses):
            return self
        return EventNetwork(
            self.neuron,
            self.weights.to_dense(),
            self.weights.mask(),
            outputs=self.outputs,
            t_max=self.t_max,
            delays=self.weights.dense_delays(),
            pseudospikes=self.pseudospikes,
            max_events=self.max_events,
            max_steps=self._max_steps,
            queue_capacity=self.queue_capacity,
            solver=self.flow,
            adjoint=self.adjoint,
            max_spikes=self.max_spikes,
        )

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
        times, status = compiled(trains, self, in_times, self.max_spikes)
        return raise_if_failed(times, status) if throw else times

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
        query = Query(queries.first_spikes, (self.outputs,), stop_after=1, partial=True)
        return self._answer(query, in_times, throw)

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
        query = Query(queries.spikes, (self.outputs, count), stop_after=count, partial=True)
        return self._answer(query, in_times, throw)

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
        if self._has_late_spikes:
            network, in_times = self._with_late_spikes(in_times, throw)
            return network.potentials_at(in_times, times, throw=throw)
        observed = observation_source(self.weights.shape[0]), len(times)
        query = Query(queries.at_rows_of, observed, reading="state", partial=True)
        return self._answer(query, in_times, throw, times)

    @on_any_mesh
    def counts(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Int[Array, "*batch outputs"]:
        """Number of spikes of each output neuron until `t_max`.

        Arguments and errors are as for [`ttfs`][]. With `throw=False` all counts of a sample that
        did not reach `t_max` are -1. Integers have no gradient; for a differentiable loss see
        [`eventsnn.losses.mse_soft_count`][].
        """
        return self._answer(Query(queries.counts, (self.outputs,)), in_times, throw)

    @on_any_mesh
    def integrals(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Float[Array, "*batch outputs"]:
        r"""Integral of each output neuron's membrane potential, $\int_0^{t_\text{max}} V\, dt$.

        It is exact for exact flows, and accurate to the solver's precision for other flows. It does
        not exist for QIF and theta neurons that fire, because their potentials are infinite at a
        spike: it is NaN, which is no error also with `throw=True`. Arguments and errors are as for
        [`ttfs`][]. With `throw=False` the integrals of a sample that did not reach `t_max` are NaN.
        """
        return self._answer(Query(queries.total, reading="integral"), in_times, throw)

    @on_any_mesh
    def maxima(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, *, throw: bool = True
    ) -> Float[Array, "*batch outputs"]:
        r"""Maximum of each output neuron's membrane potential, $\max_{t \le t_\text{max}} V$.

        This is the readout of Wunderlich & Pehle (arXiv:2009.08378). The maximum is located within
        the segments between events, not taken from samples. A neuron that fires has its maximum at
        a spike, which is infinite for QIF and theta neurons. Arguments and errors are as for
        [`ttfs`][]. With `throw=False` the maxima of a sample that did not reach `t_max` are NaN.
        """
        if self._has_late_spikes:
            network, in_times = self._with_late_spikes(in_times, throw)
            return network.maxima(in_times, throw=throw)
        return self._answer(Query(queries.largest, reading="maximum"), in_times, throw)

    @on_any_mesh
    def simulate(
        self,
        in_times: Real[ArrayLike, "*batch inputs k"] | Sequence,
        *,
        state: NetworkState | None = None,
        throw: bool = True,
    ) -> Solution:
        """Simulate until `t_max` and return all events: spikes and input spikes.

        With `state`, usually the final state of an earlier simulation, the simulation continues as
        if it had not been interrupted, to rounding error or, for an ODE solver, to its tolerance.
        Times count from the start of each simulation. Derivatives treat the state as a constant:

            solution = net.simulate(first, state=net.initial_state())
            solution = net.simulate(second, state=solution.state)

        With delays, the time of an input spike is the time at which it is sent. The event axis has
        length `max_events` without delays. With delays, and with sparse connectivity in rounds,
        only the spikes of neurons count towards `max_events`, and the axis has length
        `max_events + n_inputs * k`. Errors and the other arguments are as for [`ttfs`][]. With
        `throw=False` the status of the solution reports how each sample ended.

        **Arguments:**

        - `state`: state at time 0, with the batch axes of `in_times`: `Solution.state` of an
            earlier simulation, or [`initial_state`][]. With delays, spikes that arrive after
            `t_max` belong to the state at the end, where more than `queue_capacity` of them are the
            failure `Status.queue_overflow`. A sample with the NaN state of a failed sample fails
            with `Status.not_finite`. None (the default): the initial state, without a state in the
            solution.

        **Raises:** `ValueError` also for a state of other shapes or dtypes.
        """
        checks.flag("throw", throw)
        in_times = checks.input_times(in_times, self.n_inputs, self.weights.dtype, throw)
        if state is not None:
            checks.instance("state", state, NetworkState, "an eventsnn.NetworkState")
            like = eqx.filter_eval_shape(self.initial_state, in_times.shape[:-2])
            checks.like("state", state, like, "initial_state")
        found, status = compiled(solution, self, in_times, state)
        return raise_if_failed(found, status) if throw else found

    def initial_state(self, batch: tuple[int, ...] = ()) -> NetworkState:
        """State at time 0, from which [`simulate`][] can start.

        **Arguments:**

        - `batch`: shape of the batch axes, as a tuple of integers >= 0; `()` (the default): one
            sample.

        **Raises:** `ValueError` for another `batch`.
        """
        batch, n, axonal, delays = checks.shape("batch", batch), self.n_neurons, True, self.delays
        if isinstance(self.weights, Synapses):
            delays, axonal = self.weights.delays, self.weights.axonal
        elif delays is not None:
            axonal = unwrap(delays).ndim == 1
        capacity = 0 if delays is None else self.queue_capacity
        receivers = 1 if axonal or delays is None else n
        if self._rounds is not None and self._rounds.max_arrivals is not None:
            receivers = 2  # see `NetworkState`
        shape = n, capacity, receivers
        return initial_state(self._leaves(None)[0], shape, batch, self.weights.dtype)

    @property
    def _is_delayed(self) -> bool:
        """True with delays and for a simulation in rounds: the record has no input spikes."""
        weights = self.weights
        if isinstance(weights, Synapses):
            return self._rounds is not None or weights.delays is not None
        return self.delays is not None

    @property
    def _has_late_spikes(self) -> bool:
        """True if pseudospikes of the neurons that are no outputs arrive at `t_max`."""
        late = self.pseudospikes is not None and self.pseudospikes.at_t_max
        return late and len(self.outputs) < self.n_neurons

    def _with_late_spikes(
        self, in_times: Real[ArrayLike, "*batch inputs k"] | Sequence, throw: bool
    ) -> tuple["EventNetwork", Float[Array, "*batch channels k"]]:
        """Network with one more input channel for each hidden neuron, and its input spikes.

        If the neuron is silent until `t_max`, its channel carries its pseudospike to the outputs,
        where it arrives just below `t_max`.
        """
        if isinstance(self.weights, Synapses):
            return self.as_dense()._with_late_spikes(in_times, throw)
        n, throw = self.n_neurons, checks.flag("throw", throw)
        in_times = checks.input_times(in_times, self.n_inputs, self.weights.dtype, throw)
        hidden = np.setdiff1d(np.arange(n), self.outputs)
        whole = unwrap(self)
        weights, mask, delays = whole.matrix, whole.mask, whole.delays
        options = {"t_max": self.t_max, "solver": self.flow, "adjoint": self.adjoint}
        alone = EventNetwork(
            whole.neuron,
            weights,
            mask,
            outputs=hidden,
            delays=delays,
            pseudospikes=self.pseudospikes,
            max_events=self.max_events,
            max_steps=self.max_steps,
            queue_capacity=self.queue_capacity,
            **options,
        )
        first = compiled(recorded_spikes, alone, in_times, 1, 1)[0]
        late = jnp.where(first > self.t_max, self._returned(first), jnp.inf)
        to_outputs = np.isin(np.arange(weights.shape[1]) % n, self.outputs)
        network = EventNetwork(
            whole.neuron,
            jnp.concatenate([weights, jnp.where(to_outputs, weights[hidden], 0.0)]),
            None if mask is None else jnp.concatenate([mask, mask[hidden]]),
            outputs=self.outputs,
            delays=None if delays is None else jnp.concatenate([delays, 0 * delays[hidden]]),
            max_events=self.max_events + len(hidden),
            max_steps=self.max_steps + len(hidden),
            queue_capacity=self.queue_capacity,
            **options,
        )
        return network, _joined(in_times, late)

    def _returned(self, times: Array) -> Array:
        """Spike times as queries return them; those of pseudospikes may be limited to `t_max`."""
        return times if self.pseudospikes is None else self.pseudospikes.returned(times, self.t_max)

    def _diverges(self) -> Bool[Array, " outputs"]:
        """Mask of the outputs whose observable is infinite at a spike."""
        n, outputs = self.n_neurons, np.array(self.outputs)
        neuron = self._leaves(None)[0]
        after = neuron.reset(neuron.init_state(n), jnp.ones(n, bool))
        return jnp.isinf(neuron.observe(after))[outputs]

    def _answer(
        self, query: Query, in_times: ArrayLike | Sequence, throw: bool, times: Array | None = None
    ) -> Array:
        """Check the input and return the answer, from one compiled program."""
        checks.flag("throw", throw)
        in_times = checks.input_times(in_times, self.n_inputs, self.weights.dtype, throw)
        out, status = compiled(answered, self, query, in_times, times)
        return raise_if_failed(out, status) if throw else out

    def _simulate(
        self,
        query: Query,
        in_times: Array,
        times: Array | None = None,
        start: NetworkState | None = None,
    ) -> Record:
        # Pseudospikes apply only to `ttfs` and `spikes`.
        pseudospikes = None if query.stop_after is None else self.pseudospikes
        if isinstance(self.weights, Synapses) and not self._in_rounds(query):
            return self.as_dense()._simulate(query, in_times, times, start)
        plan = Plan(
            n=self.n_neurons,
            n_sources=self.weights.shape[0],
            outputs=self.outputs,
            t_max=self.t_max,
            max_events=self.max_events,
            max_steps=self._max_iterations(in_times, times, start),
            t_end=self.t_max if pseudospikes is None else pseudospikes.end(self.t_max),
            stop_after=query.stop_after,
            capacity=self.queue_capacity,
            readout=Readout() if query.reading is None else Readout(query.reading, self.outputs),
            keep_end=start is not None,
        )
        if isinstance(self.weights, Synapses) and self._rounds is not None:
            plan = plan._replace(max_steps=self.max_steps)
            parts = self.weights, self.neuron, self.flow, self.adjoint
            return sparse.simulate(self._rounds, *parts, plan, in_times, start, times)
        start = jax.lax.stop_gradient(start)
        network = self._network(pseudospikes)

        def one(in_times, start):
            delayed = self.delays is not None
            events = external_events(in_times, times, plan, delayed, start)
            return solve(plan, network, self.adjoint, events)

        for _ in in_times.shape[:-2]:
            one = jax.vmap(one)
        return one(in_times, start)

    def _in_rounds(self, query: Query) -> bool:
        """Return whether a query is answered by a simulation in rounds."""
        if self._rounds is None or (query.stop_after is not None and self.pseudospikes is not None):
            return False
        return query.reading is None or self._rounds.observed.fits

    def _max_iterations(
        self, in_times: Array, times: Array | None, start: NetworkState | None
    ) -> int:
        """Maximum number of iterations of the event loop for a query with these inputs."""
        arrivals = math.prod(in_times.shape[-2:])
        arrivals += 0 if start is None else start.sources.shape[-1]
        observed = 0 if times is None else len(times)
        return self.max_steps + arrivals * self._steps_per_input + observed

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
        neuron = unwrap(self.neuron)
        drive = None if pseudospikes is None else unwrap(pseudospikes).current(neuron)
        leaves = neuron, *unwrap((self.weights, self.delays)), drive
        dtype = self.weights.dtype
        return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, leaves)


def _joined(
    a: Float[Array, "*batch first k"], b: Float[Array, "*batch second m"]
) -> Float[Array, "*batch channels most"]:
    """Spike trains of the channels of `a`, followed by those of `b`."""
    most = max(a.shape[-1], b.shape[-1])
    none = [(0, 0)] * (a.ndim - 1)
    wide = [jnp.pad(x, [*none, (0, most - x.shape[-1])], constant_values=jnp.inf) for x in (a, b)]
    return jnp.concatenate(wide, axis=-2)


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
