"""Input of the discrete-time workers: setting, batches and initial state.

A problem file holds the setting and, for the image tasks, all images. A start file holds the
seed-dependent data: the initial parameters, and the order of the samples or the curve of the
regression. Only NumPy is used, so that every environment can run this module.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """Settings of one task. `sizes`: numbers of neurons, input first; `beta` None: drawn and
    trained.

    `loss` is one of `ce_membrane` (cross-entropy of the output membrane potentials, summed over the
    steps), `mse_count`, `mse_membrane`, `mse` (of the membrane potential against a curve). With
    `test_pass`, each training step is followed by the loss of a batch of test images. With
    `canvas`, each image moves over a square of that side, and a sample has one frame per step.
    """

    task: str
    sizes: tuple[int, ...]
    num_steps: int
    loss: str
    learning_rate: float
    batch: int
    beta: float | None = None
    recurrent: bool = False
    dropout: float = 0.0
    test_pass: bool = False
    canvas: int | None = None

    def text(self) -> np.ndarray:
        """JSON text of the setting as an array for a problem file."""
        return np.asarray(json.dumps(asdict(self)))

    @classmethod
    def parse(cls, text: np.ndarray) -> "Setting":
        fields = json.loads(str(text))
        return cls(**{**fields, "sizes": tuple(fields["sizes"])})


class Chunk(NamedTuple):
    """Batches of several training steps in float32; the first axis is the training step.

    `x` is (steps, batch, features) if every time step has the same image, else (steps, batch, time,
    features); `y` is (steps, batch) of classes, or (steps, batch, time, 1). `test_x` and `test_y`
    are the batches of the test pass, or None.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None


def read(path: str | Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def frames(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """Place images (batch, h, w) on empty squares, upper left corner at `corners` (batch, time, 2).

    Returns an array (batch, time, side * side).
    """
    n, times, _ = corners.shape
    _, height, width = images.shape
    canvas = np.zeros((n, times, side, side), images.dtype)
    for i in range(n):
        for t in range(times):
            top, left = corners[i, t]
            canvas[i, t, top : top + height, left : left + width] = images[i]
    return canvas.reshape(n, times, side * side)


def chunk_size(steps: int, largest: int) -> int:
    """Largest divisor of `steps` up to `largest`, so that all chunks have the same shape."""
    return max(size for size in range(1, min(steps, largest) + 1) if steps % size == 0)


class Data:
    """Batches of a problem, in the order of the start file loaded last."""

    def __init__(self, problem: str) -> None:
        self.problem = read(problem)
        self.setting = Setting.parse(self.problem["setting"])
        self.order: Arrays = {}
        # Frames are large, so only a few batches of them are made together.
        self.largest_chunk = 30 if self.setting.canvas is None else 4

    def load(self, path: str) -> Arrays:
        """Load the parameters of a start file, and its order of samples if there is one."""
        values = read(path)
        names = {name for name in values if name in ("x", "y") or "order" in name}
        names |= {name for name in values if name == "corners"}
        if names:
            self.order = {name: values[name] for name in names}
        return {name: value for name, value in values.items() if name not in names}

    def chunks(self, first: int, steps: int, largest: int | None = None) -> Iterator[Chunk]:
        """Batches of steps `first` to `first + steps`, in chunks."""
        size = chunk_size(steps, largest or self.largest_chunk)
        for begin in range(first, first + steps, size):
            yield self.chunk(slice(begin, begin + size))

    def chunk(self, steps: slice) -> Chunk:
        if self.setting.loss == "mse":
            n = steps.stop - steps.start
            return Chunk(*(np.broadcast_to(self.order[k], (n, *self.order[k].shape)) for k in "xy"))
        corners = self.order["corners"][steps] if self.setting.canvas else None
        x, y = self.images("train", self.order["order"][steps], corners)
        if not self.setting.test_pass:
            return Chunk(x, y)
        return Chunk(x, y, *self.images("test", self.order["test_order"][steps], None))

    def tests(self, size: int = 250) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All test images with their classes, in batches of `size`."""
        for begin in range(0, len(self.problem["test_labels"]), size):
            at = np.arange(begin, min(begin + size, len(self.problem["test_labels"])))
            corners = self.problem["test_corners"][at][None] if self.setting.canvas else None
            x, y = self.images("test", at[None], corners)
            yield x[0], y[0]

    def images(
        self, kind: str, index: np.ndarray, corners: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Flat images between 0 and 1, moving if there is a canvas, and their classes."""
        pixels, labels = self.problem[f"{kind}_images"], self.problem[f"{kind}_labels"]
        if self.setting.canvas is None or corners is None:
            x = pixels[index].reshape(*index.shape, -1)
        else:
            pairs = zip(index, corners, strict=True)
            x = np.stack([frames(pixels[i], c, self.setting.canvas) for i, c in pairs])
        return x.astype(np.float32) / np.float32(255), labels[index].astype(np.int64)
