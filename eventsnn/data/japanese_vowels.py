"""Japanese Vowels: two vowels spoken by nine speakers, as series of cepstral coefficients.

Kudo, Toyama & Shimbo, Pattern Recognition Letters 20:1103, 1999; UCI Machine Learning Repository,
doi:10.24432/C5NS47. The speakers uttered the vowels /ae/ in succession. Each utterance is a series
of 7 to 29 frames with 12 LPC cepstral coefficients, one frame per 6.4 ms. The class is the speaker.
There are 30 utterances per speaker for training, and 370 in total for the test.
"""

import importlib.util
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32

from .. import checks
from ..encoders import from_events
from . import folders

__all__ = ["N_COEFFICIENTS", "N_SPEAKERS", "SIZES", "Utterances", "encode", "find", "read"]

#: Number of coefficients per frame.
N_COEFFICIENTS = 12
#: Number of speakers, the classes.
N_SPEAKERS = 9
#: Number of utterances of each speaker in the UCI files, which have no labels.
SIZES = {"train": (30,) * N_SPEAKERS, "test": (31, 35, 88, 44, 29, 24, 40, 50, 29)}

_SUBFOLDERS = ("", "japanese_vowels", "JapaneseVowels")
# Names of the two files, in the format of UCI and in that of the UEA archive.
_UCI = {"train": "ae.train", "test": "ae.test"}
_TS = {"train": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}
_FILES = f"{' and '.join(_TS.values())}, or {' and '.join(_UCI.values())}"


class Utterances(NamedTuple):
    """Utterances and their speakers."""

    series: tuple[Float[np.ndarray, "_ 12"], ...]
    """Cepstral coefficients of each utterance, one row per frame."""
    labels: Int32[np.ndarray, " n"]
    """Speakers, from 0 to 8."""


def read(data_dir: str | os.PathLike[str] | None = None) -> tuple[Utterances, Utterances]:
    """Read the training set and the test set.

    **Arguments:**

    - `data_dir`: the folder with the files `ae.train` and `ae.test` of the UCI repository, or
        `JapaneseVowels_TRAIN.ts` and `JapaneseVowels_TEST.ts` of the UEA archive. They may also be
        in its subfolder `japanese_vowels` or `JapaneseVowels`. Default: None, the folder in the
        environment variable `EVENTSNN_DATA`. If the variable is not set, or its folder has no such
        file, the files are those of the Python package `aeon`, which is not imported.

    **Returns:** `(train, test)`.

    **Raises:** `FileNotFoundError` if the folder or a file is missing. `ValueError` if a file is
    damaged. `TypeError` if `data_dir` is not a path.
    """
    paths = find(data_dir)
    train, test = (
        (_read_ts if path.suffix == ".ts" else _read_uci)(path, split)
        for split, path in paths.items()
    )
    return train, test


def find(data_dir: str | os.PathLike[str] | None = None) -> dict[str, pathlib.Path]:
    """Find the two files.

    **Arguments:**

    - `data_dir`: the folder, see [`read`][]. Default: None, the folder in the environment variable
        `EVENTSNN_DATA`, or else the package `aeon`.

    **Returns:** the paths, by the names `"train"` and `"test"`.

    **Raises:** `FileNotFoundError` if the folder or a file is missing. `TypeError` if `data_dir` is
    not a path.
    """
    source = folders.given(data_dir)
    for argument, folder in [source] if source else []:
        paths = _in_folder(folder)
        if paths or argument == "data_dir":
            return _complete(paths, argument, folder)
    package = importlib.util.find_spec("aeon")  # does not import it
    for place in (package.submodule_search_locations or []) if package else []:
        paths = _in_folder(pathlib.Path(place, "datasets", "data"))
        if paths:
            return _complete(paths, "aeon", place)
    raise FileNotFoundError(
        f"{_FILES} are missing; give their folder as data_dir (option --data-dir) or in the "
        f"environment variable {folders.VARIABLE}, or install the package aeon, which has them: "
        "pip install 'eventsnn[data]'."
    )


def encode(
    series: Sequence[Float[np.ndarray, "_ 12"]],
    *,
    mean: Float[np.ndarray, " 12"],
    deviation: Float[np.ndarray, " 12"],
    duration: float = 100.0,
    n_spikes: float = 16.0,
) -> Float32[np.ndarray, "n 24 k"]:
    r"""Encode series as spike trains by integrate-and-fire channels, two per coefficient.

    The time of each series is scaled to the same duration $D$: of $L$ frames, each is held for
    $D / L$. The two channels of coefficient $c$ integrate its positive and its negative part. Spike
    $k = 1, 2, \dots$ is at the time $t_k$ with

    $$\frac{r}{D} \int_0^{t_k} \max\left(\pm \frac{x_c(s) - \mu_c}{\sigma_c},\, 0\right) ds
        = k - \tfrac12 .$$

    The rate of a channel is therefore proportional to the coefficient, and its spike count is the
    integral, rounded. This is a time encoding machine without leak (Lazar & Tóth, IEEE Transactions
    on Circuits and Systems I 51:2060, 2004), started at half of its threshold.

    **Arguments:**

    - `series`: the series, one row per frame and one column per coefficient.
    - `mean`, `deviation`: $\mu$ and $\sigma$, mean and standard deviation of each coefficient,
        usually over the frames of the training set. `deviation` is > 0.
    - `duration`: $D$ (ms), > 0. Default: 100.
    - `n_spikes`: $r$, number of spikes if a coefficient always is one standard deviation above its
        mean, > 0. Default: 16.

    **Returns:** spike times (ms) in ascending order, padded with inf. The first 12 channels are
    those of the positive parts. The last axis has the length of the longest spike train.

    **Raises:** `ValueError` for series, means or deviations of the wrong shape, values that are not
    finite, or a `deviation`, `duration` or `n_spikes` that is not > 0.
    """
    expected = f"a sequence of arrays of finite numbers, of shape (frames, {N_COEFFICIENTS})"
    found = [_finite("series", x, expected, 2) for x in _sequence("series", series, expected)]
    per = f"finite, of shape ({N_COEFFICIENTS},)"
    mean = _finite("mean", mean, per, 1)
    deviation = _finite("deviation", deviation, f"> 0 and {per}", 1)
    if np.any(deviation <= 0):
        raise checks.value_error("deviation", deviation, f"> 0 and {per}")
    duration = checks.positive("duration", duration)
    scale = checks.positive("n_spikes", n_spikes) / deviation
    trains = [_trains((x - mean) * scale, duration) for x in found]
    every, n = [train for one in trains for train in one], 2 * N_COEFFICIENTS
    rows = np.repeat(np.arange(len(every)), [len(train) for train in every])
    times = np.concatenate(every).astype(np.float32)
    return from_events(times, rows % n, n_channels=n, samples=rows // n, n_samples=len(found))


def _trains(x, duration):
    """Spike times of each channel, for one series in spikes per duration."""
    n_frames = len(x)
    rates = np.maximum(np.concatenate([x, -x], axis=1), 0) / n_frames
    integrals = np.concatenate([np.zeros((1, rates.shape[1])), np.cumsum(rates, axis=0)])
    return [_crossings(integral) * (duration / n_frames) for integral in integrals.T]


def _crossings(integral):
    """Times at which a piecewise linear function reaches 1/2, 3/2, ..., in frames."""
    levels = np.arange(0.5, integral[-1] + 1)
    levels = levels[levels <= integral[-1]]
    frame = np.searchsorted(integral, levels) - 1
    start, end = integral[frame], integral[frame + 1]
    return frame + (levels - start) / (end - start)


def _sequence(name, value, expected):
    if not isinstance(value, list | tuple) or not value:
        raise checks.value_error(name, value, expected)
    return value


def _finite(name, value, expected, ndim):
    x = np.asarray(checks.numbers(name, value, expected), float)
    if x.ndim != ndim or x.shape[-1] != N_COEFFICIENTS or not len(x) or not np.isfinite(x).all():
        raise checks.value_error(name, value, expected)
    return x


def _in_folder(folder):
    """Path of each file that exists, in the first format with any."""
    for names in (_TS, _UCI):
        paths = {split: folders.find(folder, _SUBFOLDERS, [name]) for split, name in names.items()}
        if any(paths.values()):
            return paths
    return {}


def _complete(paths, argument, folder) -> dict[str, pathlib.Path]:
    found = {split: path for split, path in paths.items() if path is not None}
    if len(found) < len(SIZES):
        raise FileNotFoundError(
            f"{argument} must be a folder with {_FILES}, got '{folder}' without them."
        )
    return found


def _read_ts(path, _):
    """Read a file of the UEA archive: lines of 12 coefficients and a label, between colons."""
    lines = [line.strip() for line in _text(path).splitlines()]
    series, labels = [], []
    for line in lines:
        if line and line[0] not in "#@":
            *columns, label = line.split(":")
            series.append(_array(path, len(series), [column.split(",") for column in columns]).T)
            labels.append(_label(path, len(labels), label))
    return _utterances(path, series, labels)


def _read_uci(path, split):
    """Read a file of the UCI repository: a line per frame, and blank lines between utterances."""
    blocks = [[]]
    for line in _text(path).splitlines():
        if line.strip():
            blocks[-1].append(line.split())
        elif blocks[-1]:
            blocks.append([])
    blocks = [block for block in blocks if block]
    if len(blocks) != sum(SIZES[split]):
        raise ValueError(f"'{path}' must have {sum(SIZES[split])} series, got {len(blocks)}.")
    series = [_array(path, i, block) for i, block in enumerate(blocks)]
    return _utterances(path, series, np.repeat(np.arange(N_SPEAKERS), SIZES[split]))


def _text(path):
    try:
        return path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise ValueError(f"'{path}' must be a text file, got bytes that are not ASCII.") from None


def _label(path, i, text):
    if text not in map(str, range(1, N_SPEAKERS + 1)):
        raise ValueError(
            f"'{path}' must have labels from 1 to {N_SPEAKERS}, got {text[:9]!r} in series {i + 1}."
        )
    return int(text) - 1


def _array(path, i, rows):
    try:
        return np.array(rows, float)
    except ValueError:  # a text that is no number, or rows of different lengths
        raise _damaged(path, i) from None


def _utterances(path, series, labels):
    if not series:
        raise ValueError(f"'{path}' must have at least one series, got none.")
    for i, x in enumerate(series):
        if x.ndim != 2 or x.shape[1] != N_COEFFICIENTS or not np.isfinite(x).all():
            raise _damaged(path, i)
    return Utterances(tuple(series), np.asarray(labels, np.int32))


def _damaged(path, i):
    return ValueError(
        f"'{path}' must have {N_COEFFICIENTS} finite coefficients per frame, got others in series "
        f"{i + 1}."
    )
