"""Measures of a model: its layers and parameters, and the operations that it takes on data."""

from .counting import operations
from .parameters import LayerSummary, Summary, summary
from .records import LayerOperations, Operations

__all__ = [
    "LayerOperations",
    "LayerSummary",
    "Operations",
    "Summary",
    "operations",
    "summary",
]
