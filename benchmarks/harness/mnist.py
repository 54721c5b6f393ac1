"""MNIST from a local folder, and a small data set in its place."""

import os

import numpy as np
from sklearn.datasets import load_digits

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


def digits(n_train: int = 512, n_test: int = 256) -> Arrays:
    """Return small digits of scikit-learn, enlarged to the size and range of MNIST."""
    images, labels = load_digits(return_X_y=True)
    large = np.kron(images.reshape(-1, 8, 8), np.full((3, 3), 255 / 16)).astype(np.uint8)
    large, labels = np.pad(large, ((0, 0), (2, 2), (2, 2))), labels.astype(np.uint8)
    train, test = slice(n_train), slice(n_train, n_train + n_test)
    return dict(zip(NAMES, (large[train], labels[train], large[test], labels[test]), strict=True))
