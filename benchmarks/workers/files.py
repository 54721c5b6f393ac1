"""Arrays by name in .npz files, by which the harness and the workers exchange data."""

from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def read(path: str | Path) -> Arrays:
    """Read all arrays of a file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def write(path: str | Path, arrays: dict[str, Any]) -> Path:
    """Save the arrays and return the path."""
    np.savez(path, allow_pickle=False, **arrays)
    return Path(path)
