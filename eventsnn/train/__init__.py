"""Gradient-based training: many steps per dispatch, each batch split across the local devices."""

from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .fit import FitResult as FitResult
from .fit import fit as fit
from .step import make_step as make_step
