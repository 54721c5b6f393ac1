"""Gradient-based training: many steps per dispatch, each batch split across the local devices."""

from .diagnosis import Diagnosis, diagnose
from .fit import FitResult, fit
from .step import make_step

__all__ = [
    "Diagnosis",
    "FitResult",
    "diagnose",
    "fit",
    "make_step",
]
