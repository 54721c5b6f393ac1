"""Data sets as arrays, one module per data set or file format."""

from . import idx, images, membrane, mnist, moving_mnist, spike_time_regression, yin_yang

__all__ = [
    "idx",
    "images",
    "membrane",
    "mnist",
    "moving_mnist",
    "spike_time_regression",
    "yin_yang",
]
