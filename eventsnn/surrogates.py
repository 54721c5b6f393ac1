"""Surrogate derivatives of the spike function, defined in `eventsnn.discrete.surrogates`."""

from .discrete.surrogates import AbstractSurrogate as AbstractSurrogate
from .discrete.surrogates import ATan as ATan
from .discrete.surrogates import Custom as Custom
from .discrete.surrogates import FastSigmoid as FastSigmoid
from .discrete.surrogates import Heaviside as Heaviside
from .discrete.surrogates import LeakySpike as LeakySpike
from .discrete.surrogates import Sigmoid as Sigmoid
from .discrete.surrogates import SparseFastSigmoid as SparseFastSigmoid
from .discrete.surrogates import SpikeRateEscape as SpikeRateEscape
from .discrete.surrogates import StochasticSpike as StochasticSpike
from .discrete.surrogates import StraightThrough as StraightThrough
from .discrete.surrogates import Triangular as Triangular
