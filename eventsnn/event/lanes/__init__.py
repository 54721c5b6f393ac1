"""Exact simulation of a feed-forward layer, in which every neuron is independent of the others.

A *lane* is one neuron in one sample. All lanes of a sample receive the same arrivals. A *row* is
the time between two successive arrivals of a sample; `docs/layers.md` calls it an interval.
"""

from .primitive import Outcome, solve
from .system import Arrivals, Setting, arrivals_of, initial_status

__all__ = ["Arrivals", "Outcome", "Setting", "arrivals_of", "initial_status", "solve"]
