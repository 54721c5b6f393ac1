"""Spiking Heidelberg Digits (SHD) and Spiking Speech Commands (SSC): spoken words as spike trains.

Cramer, Stradmann, Schemmel & Zenke, IEEE Transactions on Neural Networks and Learning Systems
33:2744, 2022, arXiv:1910.07407. A model of the inner ear converts each recording to the spikes of
700 channels. SHD has the digits 0 to 9 in English and in German, spoken by 12 speakers; two of them
occur only in the test set. SSC has 35 words of many speakers.
"""

import contextlib
import dataclasses
import gzip
import os
import pathlib
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32, PRNGKeyArray, Shaped

from .. import checks
from ..encoders.events import ranked
from . import folders

__all__ = [
    "N_CHANNELS",
    "SPLITS",
    "URL",
    "SpikeTrains",
    "draw_speakers",
    "find",
    "read",
    "split_by_speaker",
    "synthetic",
]

#: Address of the files.
URL = "https://zenkelab.org/datasets/"
#: Number of channels of the files.
N_CHANNELS = 700
#: Names of the splits, by data set. The file of a split is named `<data set>_<split>.h5`.
SPLITS = {"shd": ("train", "test"), "ssc": ("train", "valid", "test")}

_GZIP = b"\x1f\x8b"
# Number of samples that are read at a time.
_BLOCK = 256


@dataclasses.dataclass(frozen=True)
class SpikeTrains:
    """Labelled spike trains."""

    in_times: Float32[np.ndarray, "n channels k"]
    """Spike times of each channel (ms), in ascending order, padded with inf."""
    labels: Int32[np.ndarray, " n"]
    """Classes, from 0 to `len(classes) - 1`."""
    speakers: Shaped[np.ndarray, " n"]
    """Speaker of each sample: integers, or strings if the file has strings."""
    dropped: Int32[np.ndarray, " n"]
    """Number of spikes of each sample that exceed the limit `max_spikes` and were dropped."""
    classes: tuple[str, ...]
    """Names of the classes."""


def read(
    dataset: str,
    split: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    merge: int = 1,
    thin: int = 1,
    max_spikes: int,
) -> SpikeTrains:
    """Read one split of SHD or SSC from its HDF5 file. This requires the package `h5py`.

    The spikes of a channel are reduced in three steps. Groups of `merge` adjacent channels become
    one channel. Of each `thin` successive spikes of a channel, the first one is kept. If a channel
    then still has more than `max_spikes` spikes, `max_spikes` of them are kept, at evenly spaced
    ranks: the rate decreases, and no part of the word is cut off.

    **Arguments:**

    - `dataset`: `"shd"` or `"ssc"`.
    - `split`: `"train"` or `"test"`, for SSC also `"valid"`.
    - `data_dir`: the folder with the files, as published (`shd_train.h5.gz`) or unpacked
        (`shd_train.h5`). They may also be in its subfolder `shd` or `SHD`, for SSC `ssc` or `SSC`.
        Default: None, the folder in the environment variable `EVENTSNN_DATA`.
    - `merge`: number of adjacent channels per group, a divisor of 700. Default: 1.
    - `thin`: one in `thin` spikes of a channel is kept. Default: 1, all spikes.
    - `max_spikes`: maximum number of spikes per channel.

    **Returns:** the [`SpikeTrains`][], of shape `(samples, 700 / merge, max_spikes)`. Times are in
    ms.

    **Raises:** `FileNotFoundError` if the folder or the file is missing. `ModuleNotFoundError`
    without `h5py`. `ValueError` for an invalid argument, and if the file is damaged or has another
    layout. `MemoryError` if there is not enough memory for the array. `TypeError` if `data_dir` is
    not a path.
    """
    merge, thin = checks.count("merge", merge), checks.count("thin", thin)
    if N_CHANNELS % merge:
        raise checks.value_error("merge", merge, f"a divisor of {N_CHANNELS}")
    max_spikes = checks.count("max_spikes", max_spikes)
    path = find(dataset, split, data_dir)
    with _opened(path) as file:
        times, units, labels, speakers, classes = _fields(path, file)
        n, channels = len(labels), N_CHANNELS // merge
        in_times, dropped = _empty(path, (n, channels, max_spikes)), np.zeros(n, np.int32)
        for start in range(0, n, _BLOCK):
            block = slice(start, start + _BLOCK)
            found, rows = _spikes(path, times[block], units[block], start)
            cells = rows[0] * channels + rows[1] // merge
            _fill(in_times[block], dropped[block], found, cells, thin)
    return SpikeTrains(in_times, labels, speakers, dropped, classes)


def find(dataset: str, split: str, data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Find the file of one split of SHD or SSC.

    **Arguments:**

    - `dataset`, `split`, `data_dir`: see [`read`][]. Default of `data_dir`: None, the folder in the
        environment variable `EVENTSNN_DATA`.

    **Returns:** the path of the file.

    **Raises:** `FileNotFoundError` if the folder or the file is missing. `ValueError` for an
    unknown data set or split. `TypeError` if `data_dir` is not a path.
    """
    checks.choice("dataset", dataset, tuple(SPLITS))
    checks.choice("split", split, SPLITS[dataset])
    name = f"{dataset}_{split}.h5"
    source = folders.given(data_dir)
    if source is None:
        raise FileNotFoundError(
            f"{name} from {URL} is missing; give its folder as data_dir (option --data-dir) or in "
            f"the environment variable {folders.VARIABLE}."
        )
    argument, folder = source
    path = folders.find(folder, ("", dataset, dataset.upper()), (name, f"{name}.gz"))
    if path is None:
        raise FileNotFoundError(
            f"{argument} must be a folder with {name} or {name}.gz from {URL}, got '{folder}' "
            "without it."
        )
    return path


def draw_speakers(key: PRNGKeyArray, data: SpikeTrains, n: int) -> Shaped[np.ndarray, " {n}"]:
    """Draw `n` of the speakers, without replacement.

    **Arguments:**

    - `key`: a JAX random key.
    - `data`: the spike trains.
    - `n`: number of speakers, less than the number of all speakers.

    **Returns:** the drawn speakers, in ascending order.

    **Raises:** `ValueError` for an invalid key or number.
    """
    checks.key("key", key)
    every = np.unique(checks.instance("data", data, SpikeTrains, "SpikeTrains").speakers)
    if not checks.is_integer_scalar(n) or not 1 <= n < len(every):
        expected = f"an integer from 1 to {len(every) - 1}, less than the number of speakers"
        raise checks.value_error("n", n, expected)
    return np.sort(every[np.asarray(jax.random.permutation(key, len(every)))[:n]])


def split_by_speaker(
    data: SpikeTrains, speakers: Sequence | Shaped[np.ndarray, " held_out"]
) -> tuple[SpikeTrains, SpikeTrains]:
    """Split off the samples of some speakers, for example as a validation set.

    **Arguments:**

    - `data`: the spike trains.
    - `speakers`: the speakers of the second part.

    **Returns:** the samples of all other speakers, and those of `speakers`, in their original
    order.

    **Raises:** `ValueError` if a speaker does not occur in `data`, or a part is empty.
    """
    checks.instance("data", data, SpikeTrains, "SpikeTrains")
    every = np.unique(data.speakers).tolist()
    names: list[Any] = list(speakers) if isinstance(speakers, Sequence | np.ndarray) else []
    chosen = np.isin(data.speakers, names)
    if any(name not in every for name in names) or chosen.all() or not chosen.any():
        expected = f"some of the {len(every)} speakers, {checks.short_repr(every)}"
        raise checks.value_error("speakers", speakers, expected)
    return _rows(data, ~chosen), _rows(data, chosen)


def synthetic(
    key: PRNGKeyArray,
    *,
    n_samples: int = 640,
    n_classes: int = 10,
    n_speakers: int = 8,
    n_channels: int = 20,
    max_spikes: int = 4,
    duration: float = 100.0,
) -> SpikeTrains:
    r"""Sample random spike trains with classes and speakers, as a stand-in for SHD.

    Each class has a template: `max_spikes` times per channel, uniformly distributed over the
    duration. Each speaker has a tempo, uniformly distributed between 0.8 and 1.2. A sample has the
    times $a t + \varepsilon$ for the times $t$ of its class, the tempo $a$ of its speaker and
    normally distributed $\varepsilon$ with a standard deviation of 2 % of the duration; negative
    times are set to 0.

    **Arguments:**

    - `key`: a JAX random key.
    - `n_samples`, `n_classes`, `n_speakers`, `n_channels`: numbers of samples, classes, speakers
        and channels. Defaults: 640, 10, 8 and 20. Classes and speakers take turns.
    - `max_spikes`: number of spikes per channel. Default: 4.
    - `duration`: duration of the templates (ms), > 0. Default: 100.

    **Raises:** `ValueError` for an invalid key, number or duration.
    """
    counts = {"n_samples": n_samples, "n_classes": n_classes, "n_speakers": n_speakers}
    counts |= {"n_channels": n_channels, "max_spikes": max_spikes}
    for name, value in counts.items():
        checks.count(name, value)
    duration = checks.positive("duration", duration)
    keys = jax.random.split(checks.key("key", key), 3)
    templates = jax.random.uniform(keys[0], (n_classes, n_channels, max_spikes), jnp.float32)
    tempi = jax.random.uniform(keys[1], (n_speakers,), jnp.float32, 0.8, 1.2)
    index = np.arange(n_samples)
    labels, speakers = index % n_classes, index // n_classes % n_speakers
    noise = jax.random.normal(keys[2], (n_samples, n_channels, max_spikes), jnp.float32)
    times = tempi[speakers][:, None, None] * templates[labels] + 0.02 * noise
    times = np.sort(np.maximum(np.asarray(times), 0), axis=-1) * np.float32(duration)
    classes = tuple(map(str, range(n_classes)))
    none = np.zeros(n_samples, np.int32)
    return SpikeTrains(times, labels.astype(np.int32), speakers, none, classes)


@contextlib.contextmanager
def _opened(path):
    """Open an HDF5 file; if it is gzipped, it is unpacked into a temporary file."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"h5py must be installed to read '{path}', got no such package: pip install "
            "'eventsnn[data]'."
        ) from None
    try:
        with open(path, "rb") as file, tempfile.TemporaryFile() as unpacked:
            if file.read(len(_GZIP)) == _GZIP:
                with gzip.open(path) as packed:
                    shutil.copyfileobj(packed, unpacked)
                file = unpacked
            with h5py.File(file, "r") as opened:
                yield opened
    except (EOFError, KeyError, OSError, RuntimeError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"'{path}' cannot be read ({reason}), expected a complete HDF5 file from {URL}."
        ) from None


def _fields(path, file: Any) -> tuple[Any, ...]:
    """Spike times and units, as in the file; labels, speakers and names of the classes."""
    named = "spikes/times", "spikes/units", "labels", "extra/speaker", "extra/keys"
    for name in named:
        if getattr(file.get(name), "ndim", None) != 1:
            raise ValueError(f"'{path}' must have a list '{name}', got none, see {URL}.")
    times, units, labels, speakers, keys = (file[name] for name in named)
    for name in named[:2]:
        kind = (file[name].dtype.metadata or {}).get("vlen", object)
        if not np.issubdtype(kind, np.number):
            raise ValueError(f"'{path}' must have arrays of numbers in '{name}', see {URL}.")
    lengths = {len(part) for part in (times, units, labels, speakers)}
    if len(lengths) > 1 or len(labels) == 0:
        raise ValueError(
            f"'{path}' must have as many spike trains as labels and speakers, at least one, got "
            f"{len(times)}, {len(units)}, {len(labels)} and {len(speakers)}."
        )
    labels, classes = np.asarray(labels), tuple(map(_text, keys))
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"'{path}' must have labels from 0 to {len(classes) - 1}, the index of the last key, "
            f"got {labels.dtype} from {labels.min()} to {labels.max()}."
        )
    speakers = np.asarray(speakers)
    if speakers.dtype.kind not in "iu":
        speakers = np.array([_text(speaker) for speaker in speakers])
    return times, units, labels.astype(np.int32), speakers, classes


def _text(name):
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _empty(path, shape):
    try:
        return np.full(shape, np.inf, np.float32)
    except MemoryError:
        raise MemoryError(
            f"'{path}' needs {4 * np.prod(shape, dtype=float):.2g} bytes for spike times of shape "
            f"{shape}, more than the free memory; increase merge, or decrease max_spikes."
        ) from None


def _spikes(path, times, units, start):
    """Spike times (ms) of a block of samples; index of the sample and unit of each spike."""
    lengths = [np.size(unit) for unit in units]
    for i, (time, length) in enumerate(zip(times, lengths, strict=True)):
        if np.size(time) != length:
            raise ValueError(
                f"'{path}' must have as many times as units in each sample, got {np.size(time)} "
                f"and {length} in sample {start + i}."
            )
    # Multiplication in the float16 of the file would round.
    time = np.concatenate([*times, ()]).astype(np.float32) * np.float32(1e3)
    unit, samples = np.concatenate([*units, ()]), np.repeat(np.arange(len(lengths)), lengths)
    bad = ~(np.isfinite(time) & (time >= 0) & (unit >= 0) & (unit < N_CHANNELS))
    if np.any(bad):
        first = np.argmax(bad)
        raise ValueError(
            f"'{path}' must have finite times >= 0 and units from 0 to {N_CHANNELS - 1}, got the "
            f"time {time[first] / 1e3:g} s and the unit {unit[first]:g} in sample "
            f"{start + samples[first]}."
        )
    return time, (samples, unit.astype(np.int64))


def _fill(in_times, dropped, times, cells, thin):
    """Write spikes of a block into `in_times`. A cell is a channel of a sample."""
    n, channels, k = in_times.shape
    cells, times, ranks, counts = ranked(cells, times, n * channels)
    kept = ranks % thin == 0
    times, cells, ranks = times[kept], cells[kept], ranks[kept] // thin
    counts = -(-counts // thin)
    # Slot i of a channel with c > k spikes gets the spike of rank floor(i c / k).
    many = np.maximum(counts[cells], k)
    slots = -(-ranks * k // many)
    kept = slots * many // k == ranks
    in_times.reshape(-1)[cells[kept] * k + slots[kept]] = times[kept]
    dropped += np.maximum(counts - k, 0).reshape(n, channels).sum(axis=1, dtype=np.int32)


def _rows(data, chosen):
    parts: dict[str, Any] = vars(data) | {
        name: value[chosen] for name, value in vars(data).items() if name != "classes"
    }
    return SpikeTrains(**parts)
