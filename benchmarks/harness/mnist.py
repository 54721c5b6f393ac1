"""MNIST from a local folder, and a small stand-in drawn from a seed."""

import os

import numpy as np

from eventsnn.data import mnist
from eventsnn.tasks import DataError

from ..workers.files import Arrays

HELP = f"folder of the MNIST files; default: {mnist.VARIABLE}"
SIDE = 28
# Grey values 0 to 255 of shape (samples, height, width), and classes of shape (samples,).
NAMES = ("train_images", "train_labels", "test_images", "test_labels")


def folder_of(given: str | None) -> str:
    """Return the given folder or, by default, the one named by the environment variable."""
    folder = given or os.environ.get(mnist.VARIABLE)
    if not folder:
        raise DataError(f"--data-dir or {mnist.VARIABLE} must be the folder of MNIST, got none.")
    return folder


def read(given: str | None) -> Arrays:
    """Read the four MNIST files from the folder or its subfolder `mnist`."""
    try:
        train, test = mnist.read(folder_of(given))
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    return dict(zip(NAMES, (*train, *test), strict=True))


def synthetic(n_train: int = 512, n_test: int = 256, seed: int = 0) -> Arrays:
    """Draw ten smooth shapes with noise, of MNIST's size and range; learnable in a few steps."""
    rng = np.random.default_rng(seed)
    shapes = np.kron(rng.random((10, 7, 7)) < 0.3, np.ones((4, 4)))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 10, n)
        grey = 200 * shapes[labels] * rng.uniform(0.6, 1.0, (n, 1, 1))
        return (grey + rng.uniform(0, 50, grey.shape)).astype(np.uint8), labels.astype(np.uint8)

    return dict(zip(NAMES, (*draw(n_train), *draw(n_test)), strict=True))
