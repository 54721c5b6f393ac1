"""Classification of spoken words: SHD and SSC."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax

from ..data import heidelberg
from ..data.heidelberg import SpikeTrains
from ..event import EventSequential
from ..train import FitResult
from .epochs import snapshot_models
from .settings import option
from .speech import SpeechData, SpeechTask, Trains

__all__ = ["SHD"]

_SETTINGS = {
    "shd": {"epochs": 30, "t_max": 1400.0, "delay_lines": 5, "delay_spacing": 40.0},
    "ssc": {"epochs": 10, "t_max": 1200.0, "delay_lines": 5, "delay_spacing": 40.0},
    "synthetic": {"epochs": 20, "t_max": 150.0, "delay_lines": 1, "delay_spacing": 0.0},
}
_SHARED = {
    "batch_size": 64,
    "test_batch_size": 128,
    "learning_rate": 5e-3,
    "n_hidden": 128,
    "tau_mem": 20.0,
    "tau_syn": 10.0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SHD(SpeechTask):
    """Classification of spoken words from the spikes of a model of the inner ear.

    The data sets are Spiking Heidelberg Digits (SHD, 20 classes) and Spiking Speech Commands (SSC,
    35 classes; Cramer, Stradmann, Schemmel & Zenke, IEEE Transactions on Neural Networks and
    Learning Systems 33:2744, 2022, arXiv:1910.07407), see [`eventsnn.data.heidelberg.read`][].
    `dataset="synthetic"` needs no files, see [`eventsnn.data.heidelberg.synthetic`][]. The network
    is that of [`SpeechTask`][].

    Settings and the number of epochs are chosen on a validation set. For SHD, which has none, it
    consists of all samples of some speakers of the training set, drawn with the seed: the test set,
    too, has speakers that do not occur in the training set. SSC has its own validation set. The
    network after the epoch of the highest validation accuracy is evaluated on the test set, once.

    The default settings have not been tuned on these data. The delay lines provide a temporal
    context of 200 ms; the time of a step is proportional to their number.
    """

    name: ClassVar[str] = "shd"
    summary: ClassVar[str] = "classification of spoken words, event mode"
    quick_settings: ClassVar[dict[str, Any]] = {
        "dataset": "synthetic",
        "steps": 5,
        "batch_size": 10,
        "n_hidden": 10,
        "max_spikes": 5,
    }

    dataset: str = option(
        "shd",
        "data set; shd: spoken digits; ssc: spoken commands; synthetic: random spike trains, "
        "sampled with the seed",
        choices=tuple(_SETTINGS),
    )
    data_dir: str | None = option(
        None,
        f"folder of the HDF5 files from {heidelberg.URL}, only with --dataset shd or ssc",
        unset="$EVENTSNN_DATA",
    )
    merge: int = option(10, "number of adjacent input channels that are merged into one")
    thin: int = option(8, "one in this number of spikes of a merged input channel is kept")
    max_input_spikes: int = option(32, "maximum number of spikes per merged input channel")
    validation_speakers: int = option(
        2, "number of speakers in the validation set, except with --dataset ssc"
    )

    def defaults(self) -> Mapping[str, Any]:
        return {**_SHARED, **_SETTINGS[self.dataset]}

    def read(self) -> SpeechData:
        key_data, key_speakers = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), 1))
        if self.dataset == "synthetic":
            if self.data_dir is not None:
                raise ValueError(
                    f"data_dir must be None with dataset='synthetic', got '{self.data_dir}'."
                )
            train, test = _held_out(key_data, heidelberg.synthetic(key_data), 2)
        else:
            train, test = self.split("train"), self.split("test")
        if self.dataset == "ssc":
            validation = self.split("valid")
        else:
            train, validation = _held_out(key_speakers, train, self.validation_speakers)
        parts = train, validation, test
        kept = sum(int((part.in_times < float("inf")).sum()) for part in parts)
        dropped = sum(int(part.dropped.sum()) for part in parts)
        return SpeechData(
            *(Trains(part.in_times, part.labels) for part in parts),
            classes=train.classes,
            metrics={"dropped_input_spikes": dropped, "input_spikes": kept},
        )

    def split(self, name: str) -> SpikeTrains:
        """Read one split of the data set."""
        return heidelberg.read(
            self.dataset,
            name,
            data_dir=self.data_dir,
            merge=self.merge,
            thin=self.thin,
            max_spikes=self.max_input_spikes,
        )

    def select(
        self, result: FitResult, accuracies: Callable[[], Sequence[float]]
    ) -> tuple[EventSequential, dict[str, float | int]]:
        found = accuracies()
        best = max(range(len(found)), key=lambda i: (found[i], i))  # the last one of equal ones
        model = list(snapshot_models(result))[best]
        return model, {"selected_step": int(result.snapshot_steps[best])}


def _held_out(key, data, n):
    """Split off the samples of `n` speakers."""
    return heidelberg.split_by_speaker(data, heidelberg.draw_speakers(key, data, n))
