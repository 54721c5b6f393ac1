"""Data sets as arrays, one module per data set or file format."""

from . import (
    folders,
    heidelberg,
    idx,
    images,
    japanese_vowels,
    membrane,
    mnist,
    moving_mnist,
    spike_time_regression,
    yin_yang,
)

__all__ = [
    "folders",
    "heidelberg",
    "idx",
    "images",
    "japanese_vowels",
    "membrane",
    "mnist",
    "moving_mnist",
    "spike_time_regression",
    "yin_yang",
]
