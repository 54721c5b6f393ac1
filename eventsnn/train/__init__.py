"""Gradient-based training: many steps per dispatch, each batch split across the local devices."""

from .callbacks import Callback, Evaluation, Progress, TensorBoard
from .diagnosis import Diagnosis, diagnose
from .fitting import FitResult, fit
from .step import make_step

__all__ = [
    "Callback",
    "Diagnosis",
    "Evaluation",
    "FitResult",
    "Progress",
    "TensorBoard",
    "diagnose",
    "fit",
    "make_step",
]
