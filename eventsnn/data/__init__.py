"""Data sets: keyed functions that return arrays."""

from . import regression as regression
