"""Activity of each layer of a model on a batch of input spikes."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .. import checks
from .layers import AbstractLayer, EventSequential
from .layers.base import InTimes
from .network import EventNetwork
from .solution import MEMBERS, Status, is_success

# Number of spikes per neuron that are counted in a layer without `max_spikes`.
_COUNTED = 100


@dataclasses.dataclass(frozen=True)
class LayerActivity:
    """Activity of the neurons of one layer.

    A *response* is one neuron in one sample. Samples that fail do not contribute.
    """

    name: str
    """`layers[i]`, or `hidden` and `outputs` of a network."""
    n_neurons: int
    """Number of neurons."""
    silent: float
    """Fraction of the responses without a spike."""
    dead: float
    """Fraction of the neurons that are silent in all samples."""
    spikes: float
    """Mean number of spikes of a response."""
    max_spikes: int
    """Largest number of spikes of a response, at most one more than the limit of the layer."""
    saturated: float
    """Fraction of the responses that reach the limit `max_spikes` of the layer; 0 without limit."""
    first_spike: tuple[float, float, float]
    """Quantiles 0.05, 0.5 and 0.95 of the time to first spike; NaN without a spike."""
    failed: dict[str, float]
    """Fraction of the samples that failed, by the name of their status."""


@dataclasses.dataclass(frozen=True)
class Activity:
    """Activity of a model, layer by layer: result of [`activity`][]. `print` shows a table."""

    layers: tuple[LayerActivity, ...]

    def __iter__(self) -> Iterator[LayerActivity]:
        return iter(self.layers)

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def __getitem__(self, index: int) -> LayerActivity:
        """Return the activity of one layer."""
        return self.layers[index]

    def __str__(self) -> str:
        header = ("layer", "neurons", "silent", "dead", "spikes", "max", "saturated", "first spike")
        rows = [header, *(_row(layer) for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) for row in rows]
        for layer in self.layers:
            for status, share in layer.failed.items():
                lines.append(f"{layer.name}: {share:.0%} of the samples failed: {status}")
        return "\n".join(lines)


def activity(model: Any, in_times: InTimes) -> Activity:
    """Count the spikes of every layer of a model.

    ```python
    print(esn.activity(model, in_times))
    #     layer  neurons  silent  dead  spikes  max  saturated  first spike
    # layers[0]      100     54%    8%    1.54   10         0%          7.2
    ```

    Of each layer it reports the share of silent neurons, the number of spikes, the times of the
    first spikes, and the samples that fail. Readouts, which never fire, are left out. A failed
    sample is left out of the layers after it.

    **Arguments:**

    - `model`: an [`eventsnn.EventSequential`][], a layer, or an [`eventsnn.EventNetwork`][].
        The neurons of a network form two layers: `hidden` and `outputs`.
    - `in_times`: input spikes of the model, with at least one batch axis.

    **Returns:** an [`Activity`][].

    **Raises:** `ValueError` for another model, or `in_times` of another shape.
    """
    return Activity(tuple(activity_of(*found) for found in responses(model, in_times)))


@dataclasses.dataclass(frozen=True)
class Responses:
    """First spikes and numbers of spikes of the neurons of one layer, one row per sample."""

    first: Float[np.ndarray, "samples n"]
    counts: Int[np.ndarray, "samples n"]
    status: Int[np.ndarray, " samples"]
    limit: int | None

    @property
    def good(self) -> np.ndarray:
        """Mask of the samples that did not fail."""
        return np.asarray(is_success(jnp.asarray(self.status)))


def activity_of(name: str, found: Responses) -> LayerActivity:
    """Statistics of the responses of one layer."""
    counts, first = found.counts[found.good], found.first[found.good]
    fired = counts > 0
    times = first[fired] if fired.any() else np.array([np.nan])
    low, middle, high = (float(x) for x in np.quantile(times, (0.05, 0.5, 0.95)))
    full = np.zeros(1, bool) if found.limit is None else counts >= found.limit
    failures = {code: float(np.mean(found.status == code)) for code in np.unique(found.status)}
    return LayerActivity(
        name=name,
        n_neurons=counts.shape[1],
        silent=_mean(~fired),
        dead=_mean(~fired.any(axis=0)),
        spikes=_mean(counts),
        max_spikes=int(counts.max(initial=0)),
        saturated=_mean(full),
        first_spike=(low, middle, high),
        failed={MEMBERS[code]: share for code, share in failures.items() if not is_success(code)},
    )


def responses(model: Any, in_times: InTimes) -> Iterator[tuple[str, Responses]]:
    """Simulate a model layer by layer. Yield the name and the responses of each layer."""
    kinds = AbstractLayer | EventSequential | EventNetwork
    checks.instance("model", model, kinds, "a layer, an EventSequential or an EventNetwork")
    if np.ndim(in_times) < 3:
        raise checks.value_error("in_times", in_times, "an array with a batch axis")
    if isinstance(model, EventSequential):
        trains = in_times
        for i, layer in enumerate(model.layers):
            last = i == len(model) - 1
            if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
                for name, found in responses(layer, trains):
                    yield _joined(f"layers[{i}]", name), found
            if not last:
                trains = next_trains(layer, trains)
    elif isinstance(model, EventNetwork):
        yield from _of_network(model, in_times)
    elif not model.is_readout():
        yield "layer", _of_layer(model, in_times)


@eqx.filter_jit
def next_trains(layer: Any, in_times: Array) -> Array:
    """Return the spike trains of a layer, or of a function."""
    if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
        return layer(in_times, throw=False)
    return layer(in_times)


def _of_layer(layer: AbstractLayer, in_times: InTimes) -> Responses:
    count = _COUNTED if layer.max_spikes is None else layer.max_spikes
    times, counts, status = _outcome(layer, jnp.asarray(in_times), count)
    flat = np.asarray(times[..., 0]).reshape(status.size, -1)
    late = flat > layer.t_max  # a pseudospike
    return Responses(
        first=np.where(late, np.inf, flat),
        counts=np.asarray(counts).reshape(flat.shape),
        status=np.asarray(status).reshape(-1),
        limit=layer.max_spikes,
    )


@eqx.filter_jit
def _outcome(layer: AbstractLayer, in_times: Array, count: int) -> tuple[Array, Array, Array]:
    """First spikes, numbers of spikes until t_max, and status codes."""
    out = layer.outcome(in_times, count)
    return out.times, out.counts, out.status


def _of_network(net: EventNetwork, in_times: InTimes) -> Iterator[tuple[str, Responses]]:
    times, sources, code = (np.asarray(x) for x in _events(net, jnp.asarray(in_times)))
    width, n = times.shape[-1], net.n_neurons
    times, sources = times.reshape(-1, width), sources.reshape(-1, width)
    first, counts = np.full((len(times), n), np.inf), np.zeros((len(times), n), int)
    sample, event = np.nonzero((sources >= 0) & (sources < n))
    neurons = sources[sample, event]
    np.minimum.at(first, (sample, neurons), times[sample, event])
    np.add.at(counts, (sample, neurons), 1)
    fires = ~net.neuron.never_reset(n)
    outputs = np.isin(np.arange(n), net.outputs)
    for name, mask in (("hidden", fires & ~outputs), ("outputs", fires & outputs)):
        if mask.any():
            limit = net.max_spikes if name == "outputs" else None
            yield name, Responses(first[:, mask], counts[:, mask], code.reshape(-1), limit)


@eqx.filter_jit
def _events(net: EventNetwork, in_times: Array) -> tuple[Array, Array, Array]:
    """Times, sources and status codes."""
    solution = net.simulate(in_times, throw=False)
    codes = [solution.status == getattr(Status, name) for name in MEMBERS]
    return solution.times, solution.sources, jnp.argmax(jnp.stack(codes), axis=0)


def _row(layer: LayerActivity) -> tuple[str, ...]:
    shares = (f"{x:.0%}" for x in (layer.silent, layer.dead))
    spikes = f"{layer.spikes:.3g}", str(layer.max_spikes), f"{layer.saturated:.0%}"
    return layer.name, str(layer.n_neurons), *shares, *spikes, f"{layer.first_spike[1]:.3g}"


def _joined(outer: str, inner: str) -> str:
    return outer if inner == "layer" else f"{outer}.{inner}"


def _mean(x: np.ndarray) -> float:
    return float(np.mean(x)) if x.size else math.nan
