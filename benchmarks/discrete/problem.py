"""Settings, images, initial parameters and sample order of the discrete-time tasks.

Everything is drawn from a seed with NumPy. All libraries get the same files, so the results do not
depend on any library's random numbers, except for dropout. The settings are those of snnTorch's
tutorial 5 and regression tutorials; the moving digits use those of its network with feedback.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..harness.mnist import Images
from .data import Arrays, Setting

ALL = ("snntorch", "spyx", "jaxpike")


@dataclass(frozen=True)
class Task:
    """Task settings: network, length of training, losses, peers and timing."""

    text: str
    setting: Setting
    losses: tuple[str, ...]
    peers: tuple[str, ...]
    epochs: int
    seeds: int
    our_block: int
    peer_block: int

    def steps(self, images: Images | None) -> int:
        """Number of training steps of a full run: whole batches only; the regression repeats its
        sample."""
        if images is None:
            return self.epochs
        return self.epochs * (len(images.train_labels) // self.setting.batch)

    def with_loss(self, loss: str | None) -> Setting:
        return replace(self.setting, loss=loss or self.losses[0])


TASKS = {
    "leaky-classification": Task(
        "Leaky 784-1000-10, 25 steps, one epoch of MNIST: steps/s and accuracy",
        Setting(
            task="leaky-classification",
            sizes=(784, 1000, 10),
            num_steps=25,
            loss="ce_membrane",
            learning_rate=5e-4,
            batch=128,
            beta=0.95,
            test_pass=True,
        ),
        losses=("ce_membrane",),
        peers=ALL,
        epochs=1,
        seeds=3,
        our_block=40,
        peer_block=20,
    ),
    "rleaky-classification": Task(
        "RLeaky 784-128-10, 10 steps, five epochs of MNIST: steps/s and accuracy",
        Setting(
            task="rleaky-classification",
            sizes=(784, 128, 10),
            num_steps=10,
            loss="mse_count",
            learning_rate=1e-3,
            batch=128,
            beta=0.9,
            recurrent=True,
        ),
        losses=("mse_count", "mse_membrane"),
        peers=ALL,
        epochs=5,
        seeds=3,
        our_block=120,
        peer_block=60,
    ),
    "membrane-regression": Task(
        "Leaky 1-128-128-1 follows a curve, 100 iterations: steps/s and relative error",
        Setting(
            task="membrane-regression",
            sizes=(1, 128, 128, 1),
            num_steps=50,
            loss="mse",
            learning_rate=1e-3,
            batch=1,
        ),
        losses=("mse",),
        peers=("snntorch",),
        epochs=100,
        seeds=10,
        our_block=100,
        peer_block=20,
    ),
    "moving-mnist": Task(
        "RLeaky 4096-128-10 on moving digits, 10 frames, five epochs: steps/s and accuracy",
        Setting(
            task="moving-mnist",
            sizes=(4096, 128, 10),
            num_steps=10,
            loss="mse_count",
            learning_rate=1e-3,
            batch=128,
            beta=0.9,
            recurrent=True,
            dropout=0.2,
            canvas=64,
        ),
        losses=("mse_count",),
        peers=("snntorch",),
        epochs=5,
        seeds=1,
        our_block=40,
        peer_block=20,
    ),
}


def initial(setting: Setting, rng: np.random.Generator) -> Arrays:
    """Draw weights (out, in) and biases within +-1/sqrt(in), and the regression's neuron
    parameters."""

    def linear(n_in: int, n_out: int, name: str) -> Arrays:
        bound = 1 / np.sqrt(n_in)
        shapes = {"weight": (n_out, n_in), "bias": (n_out,)}
        return {name.format(k): rng.uniform(-bound, bound, shape) for k, shape in shapes.items()}

    values: Arrays = {}
    for i, (n_in, n_out) in enumerate(zip(setting.sizes, setting.sizes[1:], strict=False), 1):
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
    end, slope = rng.uniform(0, 1, 2)
    ramp = np.linspace(0, end, num_steps, dtype=np.float32).reshape(1, num_steps, 1)
    return {"x": ramp, "y": np.sqrt(ramp * np.float32(slope))}


def bounce(n: int, num_steps: int, room: int, rng: np.random.Generator) -> np.ndarray:
    """Corners (n, time, 2) of digits that move in straight lines and bounce at 0 and `room` pixels.

    The direction is random; the distance per frame is a tenth of the room.
    """
    start, angle = rng.uniform(0, room, (n, 1, 2)), rng.uniform(0, 2 * np.pi, (n, 1))
    velocity = room / 10 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    path = start + velocity * np.arange(num_steps)[:, None]
    return np.rint(room - np.abs(path % (2 * room) - room)).astype(np.uint8)


def order(n: int, batch: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (steps, batch): epochs in random order, each without its incomplete last batch."""
    each = n // batch
    epochs = [rng.permutation(n)[: each * batch] for _ in range(-(-steps // each))]
    return np.concatenate(epochs).reshape(-1, batch)[:steps].astype(np.int32)


def write(path: Path, setting: Setting, images: Images | None) -> Path:
    """Save the data common to all seeds in a file for the workers."""
    shared = {} if images is None else dict(vars(images))
    if images is not None and setting.canvas is not None:
        shared["test_corners"] = corners(setting, images, (len(images.test_labels),), 0)
    np.savez(path, allow_pickle=False, setting=setting.text(), **shared)
    return path


def corners(setting: Setting, images: Images, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Positions of the digits, (*shape, time, 2)."""
    room = (setting.canvas or 0) - images.train_images.shape[-1]
    rng = np.random.default_rng([seed, 1])
    made = bounce(int(np.prod(shape)), setting.num_steps, room, rng)
    return made.reshape(*shape, setting.num_steps, 2)


def start(setting: Setting, images: Images | None, seed: int, steps: int) -> Arrays:
    """Draw the seed-dependent data: initial parameters and order of the samples."""
    rng = np.random.default_rng(seed)
    made = initial(setting, rng)
    if images is None:
        return made | curve(setting.num_steps, rng)
    made["order"] = order(len(images.train_labels), setting.batch, steps, rng)
    if setting.test_pass:
        n = len(images.test_labels)
        made["test_order"] = np.stack(
            [rng.choice(n, setting.batch, replace=False).astype(np.int32) for _ in range(steps)]
        )
    if setting.canvas is not None:
        made["corners"] = corners(setting, images, made["order"].shape, seed + 1)
    return made


def write_start(path: Path, setting: Setting, images: Images | None, seed: int, steps: int) -> Path:
    """Save an initial state in a file for the workers."""
    np.savez(path, allow_pickle=False, **start(setting, images, seed, steps))
    return path
