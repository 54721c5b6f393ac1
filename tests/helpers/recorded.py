"""Recorded values of other programs, in `tests/fixtures`."""

import pathlib

import numpy as np


def recorded(file, prefix=""):
    """Read the arrays of a file whose names have the prefix, by their names without it."""
    with np.load(pathlib.Path(__file__).parents[1] / "fixtures" / file) as arrays:
        return {
            name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)
        }
