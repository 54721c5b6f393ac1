"""Input of the discrete-time workers: settings, batches and initial state.

A problem file contains all images of an image task. A start file contains the data that depend on
the seed: the initial parameters, and the order of the samples or the curve of the regression. Only
NumPy is used, so that every environment can run this module.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..workers.files import Arrays, read

# Arrays of a start file that are not parameters.
DRAWN = {"x", "y", "order", "test_order", "corners"}


@dataclass(frozen=True)
class Setting:
    """Settings of one task.

    - `sizes`: number of neurons per layer, input first.
    - `loss`: `ce_membrane` (cross entropy of the output membrane potentials, summed over steps),
      `mse_count`, `mse_membrane`, or `mse` (of the membrane potential and a curve).
    - `beta`: decay per step. With None, the decays are drawn at random and trained.
    - `test_pass`: whether each training step is followed by the loss of a test batch.
    - `canvas`: side of the square over which each image moves, one frame per step. 0: no motion.
    """

    sizes: Sequence[int]
    num_steps: int
    loss: str
    beta: float | None = None
    learning_rate: float = 1e-3
    batch: int = 128
    recurrent: bool = False
    dropout: float = 0.0
    test_pass: bool = False
    canvas: int = 0


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


def frames(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """Place images (*batch, h, w) at corners (*batch, time, 2) of a canvas.

    The result has shape (*batch, time, side^2).
    """
    shape, (height, width) = corners.shape[:-1], images.shape[-2:]
    canvas = np.zeros((*shape, side, side), images.dtype)
    for at in np.ndindex(shape):
        top, left = corners[at]
        canvas[at][top : top + height, left : left + width] = images[at[:-1]]
    return canvas.reshape(*shape, side * side)


class Data:
    """Batches of a problem, in the order of the start file loaded last."""

    def __init__(self, problem: str, setting: Setting) -> None:
        self.setting, self.problem = setting, read(problem)
        self.drawn: Arrays = {}
        # Frames take much memory, so only a few batches of them are made at a time.
        self.largest_chunk = 4 if setting.canvas else 30

    def load(self, path: str) -> Arrays:
        """Load the parameters of a start file, and its order of samples if there is one."""
        values = read(path)
        self.drawn = {name: values.pop(name) for name in DRAWN & values.keys()} or self.drawn
        return values

    def chunks(self, first: int, steps: int, largest: int | None = None) -> Iterator[Chunk]:
        """Batches of steps `first` to `first + steps`, in chunks of the same shape."""
        sizes = range(1, min(steps, largest or self.largest_chunk) + 1)
        size = max(size for size in sizes if steps % size == 0)
        for begin in range(first, first + steps, size):
            yield self._chunk(slice(begin, begin + size))

    def tests(self, size: int = 250) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All test images with their classes, in batches of `size`."""
        for begin in range(0, len(self.problem["test_labels"]), size):
            at = slice(begin, begin + size)
            corners = self.problem["test_corners"][at] if self.setting.canvas else None
            yield self._images("test", at, corners)

    def _chunk(self, steps: slice) -> Chunk:
        if self.setting.loss == "mse":
            n = steps.stop - steps.start
            return Chunk(*(np.broadcast_to(self.drawn[k], (n, *self.drawn[k].shape)) for k in "xy"))
        corners = self.drawn["corners"][steps] if self.setting.canvas else None
        x, y = self._images("train", self.drawn["order"][steps], corners)
        if not self.setting.test_pass:
            return Chunk(x, y)
        return Chunk(x, y, *self._images("test", self.drawn["test_order"][steps], None))

    def _images(self, kind: str, index: Any, corners: np.ndarray | None) -> Any:
        """Flat images between 0 and 1, moving if there are corners, and their classes."""
        x, y = self.problem[f"{kind}_images"][index], self.problem[f"{kind}_labels"][index]
        still = x.reshape(*y.shape, -1)
        x = still if corners is None else frames(x, corners, self.setting.canvas)
        return x.astype(np.float32) / np.float32(255), y.astype(np.int32)
