"""Classification of speakers by two vowels, encoded as spike trains."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..data import japanese_vowels
from ..data.japanese_vowels import Utterances
from .settings import option
from .speech import SpeechData, SpeechTask, Trains

__all__ = ["JapaneseVowels"]

_N_FOLDS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class JapaneseVowels(SpeechTask):
    """Identification of nine speakers by the vowels /ae/ (Japanese Vowels).

    The data are series of 12 cepstral coefficients, see [`eventsnn.data.japanese_vowels`][]. Each
    coefficient is encoded by two integrate-and-fire channels, see
    [`eventsnn.data.japanese_vowels.encode`][]. The network is that of [`SpeechTask`][].

    The default settings were chosen by cross-validation on the training set. With `fold`, a run
    trains on four fifths of the training set and is evaluated on the rest, and the test set is not
    used. Otherwise the network is evaluated on the test set after the last step, with its
    parameters averaged over the last epoch.

    Accuracies of other classifiers on the same test set: 94.1 % for the method of Kudo, Toyama &
    Shimbo and 96.2 % for a hidden Markov model with five states (Pattern Recognition Letters
    20:1103, 1999; not recomputed); 94.9 % for the nearest neighbour in dynamic time warping, and
    96.8 % for a linear discriminant analysis of the mean coefficients (both recomputed from the
    files).
    """

    name: ClassVar[str] = "japanese-vowels"
    summary: ClassVar[str] = "identification of speakers by two vowels, event mode"
    quick_settings: ClassVar[dict[str, Any]] = {
        "steps": 5,
        "batch_size": 10,
        "n_hidden": 10,
        "n_spikes": 3.0,
        "max_spikes": 5,
    }

    data_dir: str | None = option(
        None,
        "folder of the files JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts, or ae.train and "
        "ae.test",
        unset="$EVENTSNN_DATA, or the installed package aeon",
    )
    duration: float = option(100.0, "duration to which all utterances are scaled, in ms", above=0)
    n_spikes: float = option(
        16.0,
        "number of input spikes for a coefficient that is one standard deviation above its mean",
        above=0,
    )
    fold: int | None = option(
        None,
        f"number of the fold of the training set, 0 to {_N_FOLDS - 1}, on which the network is "
        "evaluated instead of the test set",
        unset="none, the test set",
        least=0,
        most=_N_FOLDS - 1,
    )

    def defaults(self) -> Mapping[str, Any]:
        return {
            "epochs": 30,
            "batch_size": 27,
            "test_batch_size": 74,
            "learning_rate": 1e-2,
            "n_hidden": 60,
            "delay_lines": 1,
            "delay_spacing": 0.0,
            "tau_mem": 50.0,
            "tau_syn": 30.0,
            "t_max": 300.0,
        }

    def read(self) -> SpeechData:
        train, test = japanese_vowels.read(self.data_dir)
        if self.fold is not None:
            held_out = _folds(train.labels) == self.fold
            train, test = _rows(train, ~held_out), _rows(train, held_out)
        frames = np.concatenate(train.series)
        scale = {"mean": frames.mean(axis=0), "deviation": frames.std(axis=0)}
        scale |= {"duration": self.duration, "n_spikes": self.n_spikes}
        parts = [
            Trains(japanese_vowels.encode(part.series, **scale), part.labels)
            for part in (train, test)
        ]
        names = [str(speaker + 1) for speaker in range(japanese_vowels.N_SPEAKERS)]
        if self.fold is not None:
            return SpeechData(parts[0], validation=parts[1], test=None, classes=names)
        return SpeechData(parts[0], validation=None, test=parts[1], classes=names)


def _folds(labels):
    """Fold of each utterance: the utterances of each speaker take turns."""
    order = [np.sum(labels[:i] == label) for i, label in enumerate(labels)]
    return np.array(order) % _N_FOLDS


def _rows(utterances, chosen):
    series = [x for x, taken in zip(utterances.series, chosen, strict=True) if taken]
    return Utterances(tuple(series), utterances.labels[chosen])
