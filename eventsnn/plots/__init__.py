"""Plots: functions from arrays to a matplotlib `Figure`, which is neither shown nor saved.

The figures do not use pyplot. They need no display and leave no global state.
"""

from .errors import convergence
from .events import membranes, phase, prediction, raster
from .layers import activity
from .movies import animation, count_animation, frames, save_gif
from .parameters import parameter_history, weights
from .style import INK, INPUT, MODEL, MUTED, TARGET
from .training import confusion, curves, loss_curve
from .trains import membrane_traces, spike_counts, spike_raster, target_trace

__all__ = [
    "INK",
    "INPUT",
    "MODEL",
    "MUTED",
    "TARGET",
    "activity",
    "animation",
    "confusion",
    "convergence",
    "count_animation",
    "curves",
    "frames",
    "loss_curve",
    "membrane_traces",
    "membranes",
    "parameter_history",
    "phase",
    "prediction",
    "raster",
    "save_gif",
    "spike_counts",
    "spike_raster",
    "target_trace",
    "weights",
]
