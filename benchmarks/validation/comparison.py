"""Comparison of the spikes of two simulators of the same network."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..workers.files import Arrays

#: Largest difference of two spike times that are called equal, in ms.
EQUAL = 1e-6


def agreement(ours: Arrays, peer: Arrays) -> dict[str, Any]:
    """Compare the k-th spikes of each neuron, up to the first that differs.

    A spike differs if its times are more than `EQUAL` apart or if only one simulator has it.
    `equal` is the number of spikes before the first that differs, and `wrong` that of all others in
    the simulator that has more of them. `differs_at` is the time of the first that differs (inf:
    none), and `apart` the largest difference of equal spikes, in ms.
    """
    i, j = matched(ours, peer)
    ours_at, peer_at = ours["times"], peer["times"]
    earlier, apart = np.minimum(ours_at[i], peer_at[j]), np.abs(ours_at[i] - peer_at[j])
    alone = np.delete(ours_at, i), np.delete(peer_at, j)
    differs_at = np.min(np.concatenate([*alone, earlier[apart > EQUAL]]), initial=np.inf)
    equal = earlier < differs_at
    return {
        "spikes": len(peer_at),
        "equal": int(np.sum(equal)),
        "wrong": max(len(ours_at), len(peer_at)) - int(np.sum(equal)),
        "differs_at": float(differs_at),
        "apart": float(np.max(apart[equal], initial=0.0)),
    }


def matched(ours: Arrays, peer: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the spikes in both: the k-th spike of a neuron in one is that in the other."""
    _, i, j = np.intersect1d(_keys(ours), _keys(peer), assume_unique=True, return_indices=True)
    return i, j


def _keys(spikes: Arrays) -> np.ndarray:
    """Return one number per spike, from its neuron and its place in the train."""
    order = np.lexsort((spikes["times"], spikes["sources"]))
    sources = spikes["sources"][order].astype(np.int64)
    keys = np.empty(len(order), np.int64)
    keys[order] = (sources << 32) + np.arange(len(order)) - np.searchsorted(sources, sources)
    return keys


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the comparisons of several networks."""
    differing = [one["differs_at"] for one in found if np.isfinite(one["differs_at"])]
    return {
        "networks": len(found),
        "spikes": sum(one["spikes"] for one in found),
        "equal_spikes": sum(one["equal"] for one in found),
        "wrong_spikes": sum(one["wrong"] for one in found),
        "differing_networks": len(differing),
        "first_difference_at_ms": min(differing, default=None),
        "largest_difference_ms": max(one["apart"] for one in found),
        "agrees": not differing,
    }


def lateness(
    ours: Sequence[Arrays], peer: Sequence[Arrays], dt: float, until: float
) -> dict[str, Any]:
    """Differences of the k-th spikes of each neuron up to `until`, in ms and in steps `dt`.

    `unmatched` is the number of spikes that only one simulator has, and `first` the largest
    difference of the first spike of a network, which no other spike has delayed.
    """
    apart, first, unmatched = [], [], 0
    for own, other in zip(ours, peer, strict=True):
        i, j = matched(own, other)
        alone = np.delete(own["times"], i), np.delete(other["times"], j)
        unmatched += int(np.sum(np.concatenate(alone) <= until))
        i, j = i[own["times"][i] <= until], j[own["times"][i] <= until]
        apart.append(other["times"][j] - own["times"][i])
        first.append(np.min(other["times"], initial=until) - np.min(own["times"], initial=until))
    size = np.abs(np.concatenate(apart))
    mean, largest = float(np.mean(size)), float(np.max(size))
    return {
        "dt_ms": dt,
        "spikes": len(size),
        "unmatched_spikes": unmatched,
        "first_difference_steps": float(np.max(np.abs(first))) / dt,
        "mean_difference_steps": mean / dt,
        "mean_difference_ms": mean,
        "largest_difference_ms": largest,
    }


def order(values: Iterable[float], steps: Iterable[float]) -> float:
    """Slope of the logarithms of errors over those of the steps: the order of convergence."""
    return float(np.polyfit(np.log(list(steps)), np.log(list(values)), 1)[0])
