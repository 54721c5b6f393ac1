"""Data sets as arrays, one module per data set or file format."""

from . import (
    arrays,
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
    "arrays",
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
