"""Interface of layers: functions from spike trains to spike trains, and their other queries."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, Real

from ... import checks
from ...constraints import unwrap
from ..adjoint import AbstractAdjoint
from ..engine.batching import on_any_mesh
from ..engine.programs import compiled
from ..flows import AbstractFlow
from ..inputs import with_inputs
from ..lanes import Outcome
from ..neurons import AbstractNeuron
from ..pseudospikes import Pseudospikes
from ..solution import CODE, Solution, raise_if_failed, status_of
from .dense import Dense, Limits

#: Spike times of each input channel, in any order, padded with inf.
InTimes = Real[ArrayLike, "*batch_inputs k"] | Sequence


class AbstractLayer(eqx.Module):
    """Layer of neurons that do not interact: a function from spike trains to spike trains.

    A spike train is an array of times, padded with inf. Below, `...` stands for any number of
    leading batch axes, `inputs` for the axes of the input channels, and `neurons` for the axes of
    the neurons: one axis each for [`eventsnn.EventLinear`][], and the axes channel, row and column
    for [`eventsnn.EventConv2d`][].

    Every query except `counts` and `simulate` is differentiable with respect to the parameters and
    the input times. The queries work under `jax.jit` and `jax.vmap`.

    The attributes `neuron`, `flow`, `adjoint`, `t_max`, `max_spikes`, `truncate`, `max_events` and
    `max_steps` are the arguments of the layers.
    """

    neuron: eqx.AbstractVar[AbstractNeuron]
    flow: eqx.AbstractVar[AbstractFlow]
    adjoint: eqx.AbstractVar[AbstractAdjoint]
    t_max: eqx.AbstractVar[float]
    max_spikes: eqx.AbstractVar[int | None]
    truncate: eqx.AbstractVar[bool]
    max_events: eqx.AbstractVar[int | None]
    max_steps: eqx.AbstractVar[int | None]
    _extra_steps: eqx.AbstractVar[int]

    #: Number of axes of the input channels, and of the neurons.
    axes: ClassVar[int] = 1

    @abc.abstractmethod
    def _dense(self) -> Dense:
        """Fully connected layer that is applied to `_received`."""

    @abc.abstractmethod
    def _received(self, in_times: InTimes, throw: bool) -> Float[Array, "*batch inputs k"]:
        """Check the input spikes, and gather those that each group of neurons receives.

        Their values are checked with `throw` only.
        """

    @abc.abstractmethod
    def _arranged(self, out: Any, trailing: int) -> Any:
        """Arrange a result of the layer, which has `trailing` axes after that of the neurons."""

    @on_any_mesh
    def __call__(
        self, in_times: InTimes, *, throw: bool = True
    ) -> Float[Array, "*batch_neurons max_spikes"]:
        """Spike times of each neuron until `t_max`, in ascending order, padded with inf.

        **Arguments:**

        - `in_times`: spike times of each input channel, >= 0, in any order, padded with inf, of
            shape `(..., inputs, k)`.
        - `throw`: whether to raise an error if a sample fails: if a neuron fires more than
            `max_spikes` times (unless `truncate` is true), if its input or a parameter is invalid,
            or if a state is not finite. With False, all outputs of a failed sample are NaN.

        **Returns:** an array of shape `(..., neurons, max_spikes)`.

        **Raises:** `ValueError` for a wrong shape, or a layer without `max_spikes`. With
        `throw=True`, `ValueError` for NaN, -inf or negative times, and `RuntimeError` if a sample
        fails; under `jit` it is an Equinox runtime error.
        """
        return self._spikes(in_times, self._called_spikes(), self.truncate, throw)

    @on_any_mesh
    def spikes(
        self, in_times: InTimes, max_spikes: int, *, throw: bool = True
    ) -> Float[Array, "*batch_neurons max_spikes"]:
        """First `max_spikes` spike times of each neuron, padded with inf.

        Arguments and errors are as for [`__call__`][]; further spikes are not an error.
        """
        return self._spikes(in_times, checks.count("max_spikes", max_spikes), True, throw)

    @on_any_mesh
    def ttfs(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "*batch_neurons"]:
        """Time to first spike of each neuron, of shape `(..., neurons)`; inf for silent neurons.

        Arguments and errors are as for [`__call__`][]; further spikes are not an error.
        """
        return self._spikes(in_times, 1, True, throw)[..., 0]

    @on_any_mesh
    def counts(self, in_times: InTimes, *, throw: bool = True) -> Int[Array, "*batch_neurons"]:
        """Number of spikes of each neuron until `t_max`, of shape `(..., neurons)`.

        Arguments and errors are as for [`__call__`][]. With `throw=False` the counts of a
        failed sample are -1. Integers have no gradient.
        """
        checks.flag("throw", throw)
        return self._arranged(self._dense().counts(self._received(in_times, throw), throw), 0)

    @on_any_mesh
    def potentials_at(
        self,
        in_times: InTimes,
        times: Real[ArrayLike, " times"] | Sequence,
        *,
        throw: bool = True,
    ) -> Float[Array, "*batch_neurons times"]:
        """Membrane potentials at the given times, of shape `(..., neurons, times)`.

        See [`eventsnn.EventNetwork.potentials_at`][]. The potentials of a
        [`eventsnn.LeakyIntegrator`][] are computed in closed form.

        **Arguments:**

        - `in_times`, `throw`: as for [`__call__`][].
        - `times`: times in [0, t_max], of shape `(times,)`, in any order.

        **Raises:** as [`__call__`][], and `ValueError` for a time outside [0, t_max]. Under
        `jit` the value at such a time is NaN instead.
        """
        checks.flag("throw", throw)
        dense = self._dense()
        times = checks.observation_times(times, dense.limits.t_max, dense.weights.dtype)
        return self._arranged(dense.potentials_at(self._received(in_times, throw), times, throw), 1)

    @on_any_mesh
    def integrals(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "*batch_neurons"]:
        r"""Integral of each membrane potential, $\int_0^{t_\text{max}} V\, dt$.

        The shape is `(..., neurons)`. See [`eventsnn.EventNetwork.integrals`][]. Arguments and
        errors are as for [`__call__`][].
        """
        checks.flag("throw", throw)
        return self._arranged(self._dense().integrals(self._received(in_times, throw), throw), 0)

    @on_any_mesh
    def maxima(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "*batch_neurons"]:
        r"""Maximum of each membrane potential, $\max_{t \le t_\text{max}} V$.

        The shape is `(..., neurons)`. See [`eventsnn.EventNetwork.maxima`][]. Arguments and errors
        are as for [`__call__`][].
        """
        checks.flag("throw", throw)
        return self._arranged(self._dense().maxima(self._received(in_times, throw), throw), 0)

    @on_any_mesh
    def simulate(self, in_times: InTimes, *, throw: bool = True) -> Solution:
        """Simulate until `t_max` and return all events: spikes and input spikes.

        With `truncate=True` only the first `max_spikes` spikes of each neuron are events, and
        pseudospikes are none. A sample with an invalid input or parameter has no events.

        The sources are numbered as in an [`eventsnn.EventNetwork`][]: neurons first, then input
        channels, each in the order of the flattened axes. With delays, the time of an input spike
        is the time at which it is sent. There are `n_neurons * max_spikes` slots for spikes and one
        for each input time. Arguments and errors are as for [`__call__`][]. With `throw=False`
        the status of the solution reports how each sample ended.
        """
        checks.flag("throw", throw)
        count = 0 if self.max_spikes is None and self._is_readout() else self._called_spikes()
        dense = self._dense()._replace(pseudospikes=None)
        out = dense.outcome(self._received(in_times, throw), count, self.truncate)
        spikes = self._arranged(out.times, 1)
        inputs = jnp.asarray(in_times, spikes.dtype)
        trains = (lax.collapse(x, -1 - self.axes, -1) for x in (spikes, inputs))
        solution = compiled(_solution, *trains, out.status, out.steps, self.t_max)
        return raise_if_failed(solution, out.status) if throw else solution

    def _called_spikes(self) -> int:
        """Return `max_spikes`, which a call needs."""
        if self.max_spikes is None:
            raise ValueError("max_spikes must be given to a layer that is called, got None.")
        return self.max_spikes

    def _is_readout(self) -> bool:
        """Return whether the neurons never fire, such as [`eventsnn.LeakyIntegrator`][] neurons."""
        return bool(self.neuron.never_reset(self._dense().n).all())

    def _outcome(self, in_times: InTimes, count: int) -> Outcome:
        """First `count` spike times and numbers of spikes of all neurons, and status codes.

        `in_times` is as for [`__call__`][]. Failed samples do not raise an error.
        """
        out = self._dense().outcome(self._received(in_times, False), count, self.truncate)
        return out._replace(
            times=self._arranged(out.times, 1), counts=self._arranged(out.counts, 0)
        )

    def _spikes(self, in_times: InTimes, max_spikes: int, truncate: bool, throw: bool) -> Array:
        checks.flag("throw", throw)
        times = self._dense().trains(self._received(in_times, throw), max_spikes, truncate, throw)
        return self._arranged(times, 1)


def _solution(
    spikes: Float[Array, "*batch n spikes"],
    inputs: Float[Array, "*batch inputs k"],
    status: Int[Array, " *batch"],
    steps: Int[Array, " *batch"],
    t_max: float,
) -> Solution:
    """Solution of these spikes and input spikes."""
    n, count = spikes.shape[-2:]
    times = lax.collapse(spikes, -2)
    sources = jnp.arange(n * count, dtype=jnp.int32) // max(count, 1)
    sources = jnp.where(times < jnp.inf, sources, -1)
    order = jnp.argsort(lax.stop_gradient(times), axis=-1)
    times, sources = (jnp.take_along_axis(x, order, axis=-1) for x in (times, sources))
    number = jnp.sum(sources >= 0, axis=-1, dtype=jnp.int32)
    invalid = [CODE[x] for x in ("invalid_input", "invalid_parameters", "not_finite")]
    started = ~jnp.isin(status, jnp.array(invalid, status.dtype))[..., None]
    until = jnp.where(started, jnp.asarray(t_max, times.dtype), -jnp.inf)
    times, sources = with_inputs(inputs, times, sources, until, n)
    events = jnp.sum(sources >= 0, axis=-1, dtype=jnp.int32)
    stats = {"events": events, "spikes": number, "steps": steps}
    return Solution(times, sources, status_of(status), stats)


def dense_of(
    layer: AbstractLayer,
    weights: PyTree,
    mask: Array | None,
    delays: PyTree,
    pseudospikes: Pseudospikes | None = None,
    positions: int = 0,
) -> Dense:
    """Return the fully connected layer with these leaves: unwrapped, and of one dtype.

    A leaf may have been replaced since `__init__`, by one of another dtype.
    """
    checks.precision(weights.dtype)
    leaves = unwrap((layer.neuron, weights, delays, pseudospikes))
    leaves = jax.tree.map(
        lambda x: x.astype(weights.dtype) if eqx.is_inexact_array(x) else x, leaves
    )
    neuron, values, delays, pseudospikes = leaves
    return Dense(
        neuron=neuron,
        weights=values,
        mask=mask,
        delays=delays,
        pseudospikes=pseudospikes,
        flow=layer.flow,
        adjoint=layer.adjoint,
        limits=Limits(
            t_max=layer.t_max,
            max_spikes=layer.max_spikes,
            truncate=layer.truncate,
            max_events=layer.max_events,
            max_steps=layer.max_steps,
            extra_steps=layer._extra_steps,
        ),
        positions=positions,
    )
