"""Statistics of the spikes of a population: rates, irregularity and synchrony."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "SpikeTrains",
    "bin_edges",
    "coefficients_of_variation",
    "correlation",
    "fano_factor",
    "population_counts",
    "rates",
]

# Smallest number of intervals between spikes from which a coefficient of variation is computed.
_LEAST_INTERVALS = 5


class SpikeTrains(NamedTuple):
    """Spikes of `n` neurons from `start` to `end` (ms), in the order of their times."""

    times: Float[np.ndarray, " spikes"]
    sources: Int[np.ndarray, " spikes"]
    n: int
    start: float
    end: float


def rates(trains: SpikeTrains) -> Float[np.ndarray, " n"]:
    """Firing rate of each neuron (Hz)."""
    return 1e3 * np.bincount(trains.sources, minlength=trains.n) / (trains.end - trains.start)


def coefficients_of_variation(trains: SpikeTrains) -> Float[np.ndarray, " n"]:
    """Standard deviation of the intervals between spikes over their mean, for each neuron.

    It is 1 for a Poisson process and 0 for regular firing. It is NaN for neurons with less than
    five intervals, whose estimate would be far too small.
    """
    order = np.lexsort((trains.times, trains.sources))
    times, sources = trains.times[order].astype(float), trains.sources[order]
    same = np.diff(sources) == 0
    intervals, owner = np.diff(times)[same], sources[1:][same]
    number = np.bincount(owner, minlength=trains.n)
    enough = number >= _LEAST_INTERVALS
    mean = np.bincount(owner, intervals, trains.n) / np.maximum(number, 1)
    squares = np.bincount(owner, (intervals - mean[owner]) ** 2, trains.n)
    deviation = np.sqrt(squares / np.maximum(number - 1, 1))
    return np.divide(deviation, mean, out=np.full(trains.n, np.nan), where=enough)


def bin_edges(trains: SpikeTrains, width: float) -> Float[np.ndarray, " bins+1"]:
    """Edges of the bins of a width (ms) that fit between start and end; at least one bin."""
    number = max(1, int((trains.end - trains.start) / width * (1 + 1e-9)))
    return trains.start + width * np.arange(number + 1)


def population_counts(trains: SpikeTrains, width: float) -> Int[np.ndarray, " bins"]:
    """Number of spikes of all neurons in each bin of a width (ms)."""
    edges = bin_edges(trains, width)
    place, _ = _binned(trains, edges)
    return np.bincount(place, minlength=len(edges) - 1)


def fano_factor(trains: SpikeTrains, width: float) -> float:
    """Variance of the population counts over their mean; NaN without spikes.

    Independent Poisson processes have a Fano factor of 1.
    """
    counts = population_counts(trains, width)
    return float(np.var(counts) / np.mean(counts)) if counts.any() else float("nan")


def correlation(trains: SpikeTrains, width: float) -> float:
    r"""Mean correlation of the counts of two neurons, weighted with their standard deviations:

    $$\frac{\operatorname{Var}(\sum_i c_i) - \sum_i \operatorname{Var}(c_i)}
    {(n - 1) \sum_i \operatorname{Var}(c_i)}$$

    with the number $c_i$ of spikes of neuron $i$ in a bin. It is 0 for independent neurons, and 1
    if all fire together. It is NaN for a single neuron, and if all counts are constant.
    """
    edges = bin_edges(trains, width)
    bins = len(edges) - 1
    place, sources = _binned(trains, edges)
    index = sources.astype(np.int64) * bins + place
    filled, counts = np.unique(index, return_counts=True)
    counts = counts.astype(float)
    mean = np.bincount(filled // bins, counts, trains.n) / bins
    square = np.bincount(filled // bins, counts**2, trains.n) / bins
    alone = float(np.sum(square - mean**2))
    if trains.n == 1 or alone <= 0:
        return float("nan")
    return float((np.var(population_counts(trains, width)) - alone) / ((trains.n - 1) * alone))


def _binned(trains: SpikeTrains, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bin and neuron of each spike within the bins."""
    place = np.searchsorted(edges, trains.times, side="right") - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    return place[inside], trains.sources[inside]
