"""Event lists, with one entry per spike, and padded spike trains."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Int, Real

from .. import checks


class Events(NamedTuple):
    """Event list: one entry per spike, in the order of the samples and times."""

    times: Float[np.ndarray, " events"]
    """Times of the spikes."""
    channels: Int[np.ndarray, " events"]
    """Channel of each spike."""
    samples: Int[np.ndarray, " events"]
    """Sample of each spike."""


def from_events(
    times: Real[ArrayLike, " events"],
    channels: Int[ArrayLike, " events"],
    *,
    n_channels: int,
    samples: Int[ArrayLike, " events"] | None = None,
    n_samples: int | None = None,
    max_spikes: int | None = None,
) -> Float[np.ndarray, "*n_samples channels k"]:
    """Convert an event list to padded spike trains, the inputs of the event mode.

    All batches of a training run need the same length `k` of the trains: convert the whole data set
    at once, or give `max_spikes`. The conversion runs in NumPy, not under `jax.jit`.

    **Arguments:**

    - `times`: times of the spikes, >= 0 and finite, in any order.
    - `channels`: channel of each spike, from 0 to `n_channels - 1`.
    - `n_channels`: number of channels.
    - `samples`: sample of each spike, from 0. Default: None, all spikes are of one sample.
    - `n_samples`: number of samples. Default: None, one more than the largest of `samples`.
    - `max_spikes`: length of the trains. Default: None, the largest number of spikes of a channel,
        and at least 1.

    **Returns:** spike times of shape `(n_channels, k)` or, with `samples`, of shape
    `(n_samples, n_channels, k)`, in ascending order, padded with `inf`. The dtype is that of
    `times`, at least float32.

    **Raises:** `ValueError` for arrays of different lengths, values out of range, or a channel with
    more than `max_spikes` spikes.
    """
    t, rows = _floating(_vector("times", times)), _vector("channels", channels)
    checks.check_elements("times", t, lambda t: (t >= 0) & (t < np.inf), "finite and >= 0")
    n, most = checks.count("n_channels", n_channels), checks.count_or_none("max_spikes", max_spikes)
    rows = _indices("channels", rows, len(t), n)
    if samples is None:
        if n_samples is not None:
            raise checks.value_error("n_samples", n_samples, "None without samples")
        return _padded(rows, t, (n,), most)
    parts, size = _vector("samples", samples), checks.count_or_none("n_samples", n_samples)
    good = (parts >= 0) & (parts < np.inf) & (parts == np.floor(parts))
    checks.check_elements("samples", parts, lambda _: good, "finite integers >= 0")
    size = size or int(np.max(parts, initial=0)) + 1
    return _padded(_indices("samples", parts, len(t), size) * n + rows, t, (size, n), most)


def to_events(times: Real[ArrayLike, "*samples channels k"]) -> Events:
    """Convert padded spike trains to an event list: the inverse of [`from_events`][].

    **Arguments:**

    - `times`: spike times of shape `(channels, k)` or `(samples, channels, k)`, >= 0, in any order,
        padded with `inf`.

    **Returns:** the [`Events`][], in the order of samples, times and channels. All `samples` are 0
    for times of shape `(channels, k)`.

    **Raises:** `ValueError` for another shape, and times that are NaN or negative.
    """
    t = _floating(np.asarray(checks.numbers("times", times)))
    if t.ndim not in (2, 3):
        expected = "(channels, k) or (samples, channels, k)"
        raise ValueError(f"times must have shape {expected}, got shape {t.shape}.")
    checks.check_elements("times", t, lambda t: t >= 0, ">= 0 (inf: no spike) and not NaN")
    samples, channels, _ = found = np.nonzero(np.isfinite(t.reshape(-1, *t.shape[-2:])))
    t = t.reshape(-1, *t.shape[-2:])[found]
    order = np.lexsort((channels, t, samples))
    return Events(t[order], channels[order], samples[order])


class _Ranked(NamedTuple):
    """Spikes, ordered by rows and times."""

    rows: Int[np.ndarray, " events"]
    times: Float[np.ndarray, " events"]
    ranks: Int[np.ndarray, " events"]
    """Number of earlier spikes in the same row."""
    counts: Int[np.ndarray, " rows"]
    """Number of spikes of each row."""


def ranked(
    rows: Int[np.ndarray, " events"], times: Float[np.ndarray, " events"], n_rows: int
) -> _Ranked:
    """Order spikes by row and time, and number those of each row. A row is one spike train."""
    order = np.lexsort((times, rows))
    rows, times = rows[order], times[order]
    counts = np.bincount(rows, minlength=n_rows)
    first = np.cumsum(counts) - counts
    return _Ranked(rows, times, np.arange(len(rows)) - first[rows], counts)


def _padded(
    rows: Int[np.ndarray, " events"],
    times: Float[np.ndarray, " events"],
    shape: tuple[int, ...],
    most: int | None,
) -> Float[np.ndarray, "*shape k"]:
    """Spike trains of all rows, padded with inf."""
    spikes = ranked(rows, times, int(np.prod(shape)))
    longest = int(spikes.counts.max(initial=0))
    if most is not None and longest > most:
        expected = f"at least {longest}, the largest number of spikes of a channel"
        raise checks.value_error("max_spikes", most, expected)
    trains = np.full((len(spikes.counts), most or max(longest, 1)), np.inf, times.dtype)
    trains[spikes.rows, spikes.ranks] = spikes.times
    return trains.reshape(*shape, -1)


def _vector(name: str, value: ArrayLike) -> np.ndarray:
    x = np.asarray(checks.numbers(name, value))
    if x.ndim != 1:
        raise ValueError(f"{name} must have shape (events,), got shape {x.shape}.")
    return x


def _indices(name: str, x: np.ndarray, length: int, n: int) -> Int[np.ndarray, " events"]:
    """Convert to indices. Raise unless there is one of 0 ... n - 1 for each event."""
    if len(x) != length:
        raise ValueError(f"{name} must have one value per time, {length}, got {len(x)}.")
    good = (x >= 0) & (x < n) & (x == np.floor(x))
    checks.raise_if(name, x, ~good, f"must be integers from 0 to {n - 1}")
    return x.astype(int)


def _floating(x: np.ndarray) -> Float[np.ndarray, "*shape"]:
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
