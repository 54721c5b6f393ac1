"""Layers in sequence."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Real

from ... import checks
from ..flows import PopulationsFlow
from ..network import EventNetwork
from ..neurons import Populations
from ..pseudospikes import Pseudospikes
from ..solution import Solution
from .base import AbstractLayer, InTimes
from .dense import Dense
from .linear import EventLinear


class EventSequential(eqx.Module):
    """Layers in sequence: each receives the spike trains that the one before returns.

    A layer is an [`eventsnn.EventLinear`][], an [`eventsnn.EventConv2d`][], an
    [`eventsnn.EventNetwork`][] with `max_spikes`, another sequence, or any function from spike
    trains to spike trains, for example an [`eventsnn.EventPool2d`][]. The queries are those of the
    last layer, with the spikes of the layers before it as its input. `model[i]` is layer `i`, and
    `model[:i]` the sequence of the layers before it.
    """

    layers: tuple[Callable[..., Any], ...]

    def __init__(self, layers: Sequence[Callable[..., Any]]):
        """**Arguments:**

        - `layers`: layers, in the order in which the spikes pass them.

        **Raises:** `ValueError` if `layers` is empty or contains an object that is not callable.
        """
        expected = "a sequence of at least one layer"
        self.layers = tuple(checks.instance("layers", layers, Sequence, expected))
        if not self.layers:
            raise checks.value_error("layers", layers, expected)
        for i, layer in enumerate(self.layers):
            checks.function(f"layers[{i}]", layer)

    def __getitem__(self, index: int | slice) -> Any:
        """Return one layer or, for a slice, the sequence of these layers."""
        if isinstance(index, slice):
            return EventSequential(self.layers[index])
        return self.layers[index]

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def __call__(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "..."]:
        """Spike trains that the last layer returns.

        **Arguments:**

        - `in_times`: spike times of the input channels of the first layer, see the layer.
        - `throw`: whether to raise an error if a sample fails in a layer. With False, the outputs
            of a failed sample are NaN: spikes that are NaN are an invalid input of the next layer.
            Functions are called without `throw`.

        **Raises:** as the layers.
        """
        return self.trains(in_times, throw=throw)[-1]

    def trains(self, in_times: InTimes, *, throw: bool = True) -> list[Float[Array, "..."]]:
        """Spike trains that each layer returns, in order.

        Arguments and errors are as for [`__call__`][].
        A last layer without spikes, such as a readout, cannot be called; use `model[:-1].trains`.
        """
        out: list[Any] = []
        for i, layer in enumerate(self.layers):
            with _named(i):
                out.append(_call(layer, out[-1] if out else in_times, throw))
        return out

    def ttfs(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "..."]:
        """Time to first spike of each neuron of the last layer.

        Arguments and errors are as for [`__call__`][].
        """
        return self._last("ttfs", in_times, throw)

    def spikes(
        self, in_times: InTimes, max_spikes: int, *, throw: bool = True
    ) -> Float[Array, "..."]:
        """First `max_spikes` spike times of each neuron of the last layer, padded with inf.

        The other arguments are as for [`__call__`][].
        """
        return self._last("spikes", in_times, throw, max_spikes)

    def counts(self, in_times: InTimes, *, throw: bool = True) -> Int[Array, "..."]:
        """Number of spikes of each neuron of the last layer.

        Arguments and errors are as for [`__call__`][].
        """
        return self._last("counts", in_times, throw)

    def potentials_at(
        self,
        in_times: InTimes,
        times: Real[ArrayLike, " times"] | Sequence,
        *,
        throw: bool = True,
    ) -> Float[Array, "..."]:
        """Membrane potentials of the last layer at the given times.

        `times` is as for [`eventsnn.EventNetwork.potentials_at`][], and the other arguments are as
        for [`__call__`][].
        """
        return self._last("potentials_at", in_times, throw, times)

    def integrals(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "..."]:
        """Integral of each membrane potential of the last layer.

        Arguments and errors are as for [`__call__`][].
        """
        return self._last("integrals", in_times, throw)

    def maxima(self, in_times: InTimes, *, throw: bool = True) -> Float[Array, "..."]:
        """Maximum of each membrane potential of the last layer.

        Arguments and errors are as for [`__call__`][].
        """
        return self._last("maxima", in_times, throw)

    def simulate(self, in_times: InTimes, *, throw: bool = True) -> Solution:
        """All events of the last layer and of its input.

        Arguments and errors are as for [`__call__`][].
        """
        return self._last("simulate", in_times, throw)

    def as_network(self, max_events: int = 500) -> EventNetwork:
        """Return the equivalent network: all neurons and synapses in one event loop.

        The neurons of the last layer are its outputs. Neurons are numbered layer by layer. Every
        spike reaches the next layer, also those that a layer with `truncate=True` leaves out. The
        limits of the layers, `max_steps` and `max_events`, do not apply.

        **Arguments:**

        - `max_events`: maximum number of events per sample: spikes and, without delays, input
            spikes.

        **Raises:** `ValueError` for layers that are not all [`eventsnn.EventLinear`][] layers with
        one receptor, and with the same adjoint, `t_max` and duration of pseudospikes; for
        pseudospikes at `t_max`; for numbers of inputs and neurons that do not fit each other; or
        for `max_events` < 1.
        """
        return _merged(self.layers, checks.count("max_events", max_events))

    def _last(self, query: str, in_times: InTimes, throw: bool, *args: Any) -> Any:
        """Apply a query of the last layer to the spikes of the layers before it."""
        last = self.layers[-1]
        if not hasattr(last, query):
            raise ValueError(f"layers[-1] must have the query {query}, got {type(last).__name__}.")
        trains = self[:-1](in_times, throw=throw) if len(self) > 1 else in_times
        with _named(len(self) - 1):
            return getattr(last, query)(trains, *args, throw=throw)


@contextlib.contextmanager
def _named(i: int) -> Iterator[None]:
    """Add the name of a layer to an error."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        error.add_note(f"This error is from layers[{i}] of an EventSequential.")
        raise


def _call(layer: Callable[..., Any], in_times: Any, throw: bool) -> Any:
    if isinstance(layer, AbstractLayer | EventNetwork | EventSequential):
        return layer(in_times, throw=throw)
    return layer(in_times)


def _merged(layers: tuple[Any, ...], max_events: int) -> EventNetwork:
    """Return the network of fully connected layers."""
    for i, layer in enumerate(layers):
        simple = isinstance(layer, EventLinear) and layer.neuron.receptors == 1
        late = simple and layer.pseudospikes is not None and layer.pseudospikes.at_t_max
        if not simple or late or _common(layer) != _common(layers[0]):
            raise ValueError(
                f"layers[{i}] must be an EventLinear with one receptor and without pseudospikes at "
                "t_max, and its adjoint, t_max and duration of pseudospikes must be those of "
                f"layers[0], got {checks.short_repr(layer)}."
            )
        if i > 0 and layer.n_inputs != layers[i - 1].n_neurons:
            raise ValueError(
                f"layers[{i}] must have an input channel for each of the "
                f"{layers[i - 1].n_neurons} neurons of layers[{i - 1}], got {layer.n_inputs}."
            )
    parts = [layer._dense() for layer in layers]
    sizes = [part.n for part in parts]
    n, n_in = sum(sizes), layers[0].n_inputs
    rows = [range(n, n + n_in)]
    for size in sizes[:-1]:
        start = rows[-1].stop if len(rows) > 1 else 0
        rows.append(range(start, start + size))
    weights = jnp.zeros((n + n_in, n), parts[0].weights.dtype)
    mask = jnp.zeros(weights.shape, bool)
    delays = jnp.zeros(weights.shape, weights.dtype)
    first = 0
    for row, part in zip(rows, parts, strict=True):
        block = slice(row.start, row.stop), slice(first, first + part.n)
        exists = jnp.ones(part.weights.shape, bool) if part.mask is None else part.mask
        weights, mask = weights.at[block].set(part.weights), mask.at[block].set(exists)
        if part.delays is not None:
            own = part.delays[:, None] if part.delays.ndim == 1 else part.delays
            delays = delays.at[block].set(jnp.broadcast_to(own, part.weights.shape))
        first += part.n
    delayed = any(part.delays is not None for part in parts)
    populations = Populations([(part.neuron, part.n) for part in parts])
    return EventNetwork(
        populations,
        weights,
        mask,
        outputs=range(n - sizes[-1], n),
        t_max=layers[0].t_max,
        delays=delays if delayed else None,
        pseudospikes=_pseudospikes(parts),
        max_events=max_events,
        queue_capacity=max_events,
        solver=PopulationsFlow(tuple(part.flow for part in parts)),
        adjoint=layers[0].adjoint,
    )


def _common(layer: EventLinear) -> tuple[Any, ...]:
    """Options that must be equal in all layers of a network."""
    late = layer.pseudospikes and layer.pseudospikes.end(layer.t_max)
    return layer.t_max, late, layer.adjoint


def _pseudospikes(parts: list[Dense]) -> Pseudospikes | None:
    """Pseudospikes of all layers."""
    found = [(p.pseudospikes, p) for p in parts if p.pseudospikes is not None]
    if not found:
        return None
    drive, duration = None, found[0][0].duration
    if any(one.drive is not None for one, _ in found):
        currents = [jnp.broadcast_to(one.current(part.neuron), (part.n,)) for one, part in found]
        drive = jnp.concatenate(currents)
    return Pseudospikes(drive, duration)
