"""Labelled images of handwritten digits."""

import dataclasses
import os
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from .. import checks
from . import mnist

__all__ = ["ImageData", "load"]


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Disjoint training and test sets of images."""

    train_images: Float32[np.ndarray, "n_train h w"]
    """Grey values from 0 (background) to 1."""
    train_labels: Int32[np.ndarray, " n_train"]
    """Classes, from 0 to `n_classes - 1`."""
    test_images: Float32[np.ndarray, "n_test h w"]
    """Grey values from 0 (background) to 1."""
    test_labels: Int32[np.ndarray, " n_test"]
    """Classes, from 0 to `n_classes - 1`."""
    n_classes: int = 10
    """Number of classes. Default: 10."""


def load(dataset: str, *, data_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Load a data set of handwritten digits.

    - `"digits"`: 1797 images of 8 x 8 pixels, bundled with scikit-learn (the test set of
        Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
        Repository, 1998). A fifth of each class, drawn at random once and for all, is the test set:
        1442 training and 355 test images.
    - `"mnist"`: 60000 training and 10000 test images of 28 x 28 pixels (LeCun, Bottou, Bengio &
        Haffner, Proceedings of the IEEE 86:2278, 1998), from local files or downloaded once, see
        [`eventsnn.data.mnist.read`][].

    **Arguments:**

    - `dataset`: `"digits"` or `"mnist"`.
    - `data_dir`: the folder of the MNIST files, not used for `"digits"`. Default: None, the folder
        in the environment variable `EVENTSNN_DATA`, or else a download.

    **Returns:** an [`ImageData`][], with grey values from 0 to 1 in float32.

    **Raises:** `ValueError` for an unknown name or an invalid `data_dir`, and for `"mnist"` all
    errors of [`eventsnn.data.mnist.read`][].
    """
    checks.choice("dataset", dataset, ("digits", "mnist"))
    folder = str | os.PathLike | None
    checks.instance("data_dir", data_dir, folder, "the path of a folder or None")
    if dataset == "digits":
        return _digits()
    (train_images, train_labels), (test_images, test_labels) = mnist.read(data_dir)
    return _scaled(train_images, train_labels, test_images, test_labels, white=255)


def _digits():
    from sklearn.datasets import load_digits  # slow to import

    digits: Any = load_digits()
    images, labels = digits.images, digits.target
    test, random = np.zeros(len(labels), bool), np.random.RandomState(0)  # its stream is frozen
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test[random.permutation(members)[: len(members) // 5]] = True
    return _scaled(images[~test], labels[~test], images[test], labels[test], white=16)


def _scaled(train_images, train_labels, test_images, test_labels, *, white):
    return ImageData(
        train_images.astype(np.float32) / np.float32(white),
        train_labels.astype(np.int32),
        test_images.astype(np.float32) / np.float32(white),
        test_labels.astype(np.int32),
    )
