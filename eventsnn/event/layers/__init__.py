"""Feed-forward layers: functions from spike trains to spike trains."""

from .base import AbstractLayer
from .conv import EventConv2d
from .linear import EventLinear
from .sequential import EventSequential
from .trains import EventFlatten, EventPool2d, merge

__all__ = [
    "AbstractLayer",
    "EventConv2d",
    "EventFlatten",
    "EventLinear",
    "EventPool2d",
    "EventSequential",
    "merge",
]
