"""Networks and spikes of many networks in one file of arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..workers import files
from ..workers.files import Arrays


def unstack(arrays: Arrays) -> Iterator[Arrays]:
    """Iterate over the first axis of all arrays."""
    for k in range(len(next(iter(arrays.values())))):
        yield {name: values[k] for name, values in arrays.items()}


def write(path: str | Path, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the times and sources of the spikes of each network."""
    times, sources = (np.concatenate(parts) for parts in zip(*found, strict=True))
    numbers = np.array([len(one) for one, _ in found])
    files.write(path, {"times": times, "sources": sources, "numbers": numbers})


def read(path: str | Path) -> list[Arrays]:
    """Read the times and sources of the spikes of each network."""
    arrays = files.read(path)
    ends = np.cumsum(arrays["numbers"])[:-1]
    parts = (np.split(arrays[name], ends) for name in ("times", "sources"))
    return [{"times": times, "sources": sources} for times, sources in zip(*parts, strict=True)]
