"""Images, initial parameters and sample order of the discrete-time tasks.

Everything is drawn from a seed with NumPy. All libraries get the same files, so the results do not
depend on any library's random numbers, except for dropout.
"""

from itertools import islice, pairwise

import numpy as np

from eventsnn.data import arrays

from ..harness.mnist import SIDE
from ..workers.files import Arrays
from .data import Setting


def shared(setting: Setting, images: Arrays | None) -> Arrays:
    """Data that all seeds share: the images, and the positions of moving test images."""
    if images is None or not setting.canvas:
        return images or {}
    return images | {"test_corners": corners(setting, images["test_labels"].shape, 0)}


def start(setting: Setting, images: Arrays | None, seed: int, steps: int) -> Arrays:
    """Draw the seed-dependent data: initial parameters and order of the samples."""
    rng = np.random.default_rng(seed)
    made = initial(setting, rng)
    if images is None:
        return made | curve(setting.num_steps, rng)
    made["order"] = order(len(images["train_labels"]), setting.batch, steps, seed)
    if setting.test_pass:
        made["test_order"] = order(len(images["test_labels"]), setting.batch, steps, seed)
    if setting.canvas:
        made["corners"] = corners(setting, made["order"].shape, seed + 1)
    return made


def order(n: int, batch: int, steps: int, seed: int) -> np.ndarray:
    """Draw indices (steps, batch) of `n` samples, with a new order in every epoch."""
    batches = arrays.batches(seed, np.arange(n), np.arange(n), batch_size=batch)
    return np.stack([index for index, _ in islice(batches, steps)]).astype(np.int32)


def initial(setting: Setting, rng: np.random.Generator) -> Arrays:
    """Draw weights (out, in) and biases within +-1/sqrt(in), and the regression's neurons."""

    def linear(n_in: int, n_out: int, name: str) -> Arrays:
        bound = 1 / np.sqrt(n_in)
        shapes = {"weight": (n_out, n_in), "bias": (n_out,)}
        return {name.format(k): rng.uniform(-bound, bound, shape) for k, shape in shapes.items()}

    values: Arrays = {}
    for i, (n_in, n_out) in enumerate(pairwise(setting.sizes), 1):
        values |= linear(n_in, n_out, f"{{}}_{i}")
        if setting.recurrent:
            values |= linear(n_out, n_out, f"feedback_{{}}_{i}")
        if setting.beta is None:
            last = i == len(setting.sizes) - 1
            values[f"beta_{i}"] = rng.uniform(0, 1, n_out)
            values[f"threshold_{i}"] = np.ones(n_out) if last else rng.uniform(0, 1, n_out)
    return {name: value.astype(np.float32) for name, value in values.items()}


def curve(num_steps: int, rng: np.random.Generator) -> Arrays:
    """Draw a ramp from zero to a random end, and the square root of a random multiple of it.

    Both have shape (1, time, 1).
    """
    end, factor = rng.uniform(0, 1, 2)
    ramp = np.linspace(0, end, num_steps, dtype=np.float32).reshape(1, num_steps, 1)
    return {"x": ramp, "y": np.sqrt(ramp * np.float32(factor))}


def corners(setting: Setting, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Corners (*shape, time, 2) of digits that move in straight lines, reflected at the borders.

    The direction is random. The distance per frame is a tenth of the largest corner coordinate.
    """
    rng, room = np.random.default_rng([seed, 1]), setting.canvas - SIDE
    start, angle = rng.uniform(0, room, (*shape, 1, 2)), rng.uniform(0, 2 * np.pi, (*shape, 1))
    velocity = room / 10 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    path = start + velocity * np.arange(setting.num_steps)[:, None]
    return np.rint(room - np.abs(path % (2 * room) - room)).astype(np.uint8)
