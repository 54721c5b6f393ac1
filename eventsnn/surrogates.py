"""Surrogate derivatives of the spike function, defined in `eventsnn.discrete.surrogates`."""

from .discrete.surrogates import (
    AbstractSurrogate,
    ATan,
    Custom,
    FastSigmoid,
    Heaviside,
    LeakySpike,
    Sigmoid,
    SparseFastSigmoid,
    SpikeRateEscape,
    StochasticSpike,
    StraightThrough,
    Triangular,
)

__all__ = [
    "ATan",
    "AbstractSurrogate",
    "Custom",
    "FastSigmoid",
    "Heaviside",
    "LeakySpike",
    "Sigmoid",
    "SparseFastSigmoid",
    "SpikeRateEscape",
    "StochasticSpike",
    "StraightThrough",
    "Triangular",
]
