"""Images of the discrete-time benchmarks: MNIST from a folder, or a small stand-in from a seed.

The files are read with NumPy alone, so that all libraries get the same bytes and none depends on
another library's reader.
"""

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VARIABLE = "EVENTSNN_DATA"
FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


class DataError(RuntimeError):
    """Error of missing or malformed data."""


@dataclass(frozen=True)
class Images:
    """Grey values 0 to 255 of shape (samples, height, width), and classes of shape (samples,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def folder_of(given: Path | None) -> Path:
    """Return the given folder or, by default, the one named by the environment variable."""
    named = os.environ.get(VARIABLE)
    if given is None and not named:
        raise DataError(f"give the folder of MNIST by --data-dir or {VARIABLE}, or try --quick")
    return given or Path(str(named))


def read_idx(path: Path) -> np.ndarray:
    """Read one gzipped IDX file of bytes: two zeros, the type 8, the number of axes, their
    sizes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    axes = content[3] if len(content) > 3 else 0
    start = 4 + 4 * axes
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if content[:3] != b"\0\0\x08" or len(content) != start + int(np.prod(shape)):
        raise DataError(f"{path} is not a whole IDX file of bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def mnist(folder: Path) -> Images:
    """Read the four MNIST files, from the folder or its subfolder `mnist`."""
    inner = folder / "mnist"
    folder = inner if inner.is_dir() else folder
    missing = [name for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"no {missing[0]} in {folder}; it should hold {', '.join(FILES.values())}")
    return Images(**{key: read_idx(folder / name) for key, name in FILES.items()})


def synthetic(n_train: int = 512, n_test: int = 256, seed: int = 0) -> Images:
    """Draw ten smooth shapes with noise, of MNIST's size and range; learnable in a few steps."""
    rng = np.random.default_rng(seed)
    shapes = np.kron(rng.random((10, 7, 7)) < 0.3, np.ones((4, 4)))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 10, n)
        grey = 200 * shapes[labels] * rng.uniform(0.6, 1.0, (n, 1, 1))
        return (grey + rng.uniform(0, 50, grey.shape)).astype(np.uint8), labels.astype(np.uint8)

    return Images(*draw(n_train), *draw(n_test))
