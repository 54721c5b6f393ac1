"""Exact simulation of sparse networks with delays, which updates only the targets of a spike."""

from .rounds import Rounds, rounds_of, simulate

__all__ = ["Rounds", "rounds_of", "simulate"]
