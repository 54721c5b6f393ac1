"""Plots: functions from arrays to a matplotlib `Figure`, which is neither shown nor saved.

The figures do not use pyplot. They need no display and leave no global state.
"""

from .errors import convergence as convergence
from .events import membranes as membranes
from .events import phase as phase
from .events import prediction as prediction
from .events import raster as raster
from .movies import animation as animation
from .movies import count_animation as count_animation
from .movies import frames as frames
from .movies import save_gif as save_gif
from .parameters import parameter_history as parameter_history
from .parameters import weights as weights
from .style import GOAL as GOAL
from .style import INK as INK
from .style import INPUT as INPUT
from .style import MODEL as MODEL
from .style import MUTED as MUTED
from .training import confusion as confusion
from .training import curves as curves
from .training import loss_curve as loss_curve
from .trains import membrane_traces as membrane_traces
from .trains import spike_counts as spike_counts
from .trains import spike_raster as spike_raster
from .trains import target_trace as target_trace
