"""Labelled images of handwritten digits, and batches of labelled samples."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int32, Num, PRNGKeyArray, Shaped

from .. import checks
from . import mnist

__all__ = ["ImageData", "batches", "load", "padded_batches", "test_batches"]

_Batch = tuple[Num[np.ndarray, "batch ..."], Shaped[np.ndarray, " batch"]]
_TestBatch = tuple[
    Num[np.ndarray, "batch ..."], Shaped[np.ndarray, " batch"], Bool[np.ndarray, " batch"]
]


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


def batches(
    key: PRNGKeyArray | int,
    images: Num[np.ndarray, "n ..."],
    labels: Shaped[np.ndarray, " n"],
    *,
    batch_size: int,
    epochs: int | None = None,
    drop_last: bool = True,
) -> Iterator[_Batch]:
    """Yield batches in a random order that differs in every epoch.

    Each sample occurs at most once per epoch.

    **Arguments:**

    - `key`: a JAX random key or an integer seed >= 0. The order of an epoch depends only on the
        key, the number of the epoch and the number of samples.
    - `images`, `labels`: arrays with one row per sample, of any shape.
    - `batch_size`: number of samples per batch.
    - `epochs`: number of epochs. Default: None, no end.
    - `drop_last`: whether to drop the samples at the end of an epoch that do not fill a batch, so
        that all batches have the same shape. If False, the last batch of an epoch may be smaller.
        Default: True.

    **Returns:** an iterator of `(images, labels)`.

    **Raises:** `ValueError` for an invalid key, for arrays without one row per sample, for numbers
    that are not integers >= 1, and with `drop_last` for a batch size larger than the data set.
    """
    x, y = _check(images, labels)
    n, batch_size = len(x), checks.count("batch_size", batch_size)
    epochs = None if epochs is None else checks.count("epochs", epochs)
    if checks.flag("drop_last", drop_last) and batch_size > n:
        raise ValueError(
            f"batch_size must be at most {n}, the number of samples, got {batch_size}."
        )
    end = n - n % batch_size if drop_last else n
    return _shuffled(_seed(key), x, y, batch_size, epochs, end)


def test_batches(
    images: Num[np.ndarray, "n ..."], labels: Shaped[np.ndarray, " n"], *, batch_size: int
) -> Iterator[_TestBatch]:
    """Yield all samples once, in their original order, in batches of the same shape.

    **Arguments:**

    - `images`, `labels`: arrays with one row per sample, of any shape.
    - `batch_size`: number of samples per batch, >= 1. It may exceed the number of samples.

    **Returns:** an iterator of `(x, y, valid)`. The last batch is padded with zeros, and `valid` is
    false for the padding. The accuracy is `sum(correct & valid) / sum(valid)`, with both sums over
    all batches.

    **Raises:** `ValueError` for arrays without one row per sample, or `batch_size` < 1.
    """
    parts = padded_batches(_check(images, labels), batch_size=batch_size)
    return ((x, y, valid) for (x, y), valid in parts)


def padded_batches(
    arrays: Sequence[Num[np.ndarray, "n ..."]], *, batch_size: int
) -> Iterator[tuple[tuple[Num[np.ndarray, "batch ..."], ...], Bool[np.ndarray, " batch"]]]:
    """Yield all rows of several arrays once, in their original order, in batches of the same shape.

    **Arguments:**

    - `arrays`: a sequence of arrays with the same number of rows.
    - `batch_size`: number of rows per batch, >= 1. It may exceed the number of rows.

    **Returns:** an iterator of `(batch, valid)`, where `batch` has one array for each of `arrays`.
    The last batch is padded with zeros, and `valid` is false for the padding.

    **Raises:** `ValueError` for arrays of different lengths, or `batch_size` < 1.
    """
    expected = "a sequence of arrays with the same number of rows, at least one"
    found = checks.instance("arrays", arrays, list | tuple, expected)
    found = [checks.numbers("arrays", x, expected, boolean=True) for x in found]
    if not found or any(x.ndim == 0 or len(x) != len(found[0]) or len(x) == 0 for x in found):
        raise ValueError(f"arrays must be {expected}, got shapes {[x.shape for x in found]}.")
    size = checks.count("batch_size", batch_size)
    return (_padded(found, start, size) for start in range(0, len(found[0]), size))


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


def _check(images, labels) -> tuple[Any, Any]:
    """Convert both to arrays of numbers. Raise unless they have one row per sample."""
    images, labels = (
        checks.numbers(name, value, boolean=True)
        for name, value in (("images", images), ("labels", labels))
    )
    if min(images.ndim, labels.ndim) == 0 or len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            "images and labels must have one row per sample, at least one, got shapes "
            f"{images.shape} and {labels.shape}."
        )
    return images, labels


def _seed(key):
    if isinstance(key, int | np.integer):
        if isinstance(key, bool) or key < 0:
            raise checks.value_error("key", key, "a jax.random key or a seed >= 0")
        return [int(key)]
    checks.key("key", key)
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    return [int(word) for word in np.asarray(key)]


def _shuffled(seed, images, labels, batch_size, epochs, end):
    epoch = 0
    while epochs is None or epoch < epochs:
        order = np.random.default_rng([epoch, *seed]).permutation(len(images))[:end]
        for start in range(0, end, batch_size):
            rows = order[start : start + batch_size]
            yield images[rows], labels[rows]
        epoch += 1


def _padded(arrays, start, batch_size):
    parts = [x[start : start + batch_size] for x in arrays]
    valid = np.arange(batch_size) < len(parts[0])
    missing = batch_size - len(parts[0])
    if missing:
        parts = [np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) for x in parts]
    return tuple(parts), valid
