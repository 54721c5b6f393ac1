"""MNIST images and labels, from four files in a local folder or downloaded once.

LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86:2278, 1998.
"""

import os
import pathlib

import numpy as np
from jaxtyping import UInt8

from . import folders, idx
from .folders import VARIABLE

__all__ = ["MIRROR", "SHA256", "find", "read"]

#: Address of the folder from which the files are downloaded.
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"

#: Checksums of the gzipped files of the mirror, by file name without the suffix `.gz`.
SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# The folder itself, its subfolder for this data set, and the layout of torchvision.
_SUBFOLDERS = ("", "mnist", "MNIST/raw")
_MANUALLY = (
    "put the four MNIST files in a folder and give it as data_dir (option --data-dir) or in the "
    f"environment variable {VARIABLE}"
)

_Part = tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, " n"]]


def read(data_dir: str | os.PathLike[str] | None = None) -> tuple[_Part, _Part]:
    """Read the images and labels of the training set and of the test set, as stored in the files.

    **Arguments:**

    - `data_dir`: the folder with the four files, under any of their usual names, gzipped or not.
        The files may also be in its subfolder `mnist` or `MNIST/raw`. Default: None, the folder in
        the environment variable `EVENTSNN_DATA`. If the variable is not set, or its folder has no
        MNIST file, the files are downloaded once into the cache folder of the user.

    **Returns:** `(train, test)`. Each is a pair of images of shape `(n, height, width)`, grey
    values from 0 (background) to 255, and labels of shape `(n,)`, classes from 0 to 9. Both are
    unsigned bytes.

    **Raises:** `FileNotFoundError` if the folder or a file is missing. `ValueError` if the content
    of a file does not match its name, or a checksum is wrong. `ConnectionError` if the download
    fails. `TypeError` if `data_dir` is not a path.
    """
    source = folders.given(data_dir)
    paths = _in_folder(*source) if source else {}
    paths = paths or {name: _download(name) for name in SHA256}
    train, test = (
        _part(paths[f"{part}-images-idx3-ubyte"], paths[f"{part}-labels-idx1-ubyte"])
        for part in ("train", "t10k")
    )
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"'{paths['t10k-images-idx3-ubyte']}' holds images of shape {test[0].shape[1:]}, "
            f"expected {train[0].shape[1:]} as in '{paths['train-images-idx3-ubyte']}'."
        )
    return train, test


def find(data_dir: str | os.PathLike[str] | None = None) -> dict[str, pathlib.Path]:
    """Find the four files, without a download.

    **Arguments:**

    - `data_dir`: the folder, see [`read`][]. Default: None, the folder in the environment variable
        `EVENTSNN_DATA`, or else the cache folder of the user, if the files were downloaded.

    **Returns:** the paths, by the names in `SHA256`.

    **Raises:** `FileNotFoundError` if the folder or a file is missing. `TypeError` if `data_dir` is
    not a path.
    """
    source = folders.given(data_dir)
    found = _in_folder(*source) if source else {}
    found = found or {name: _cache() / f"{name}.gz" for name in SHA256}
    if not all(path.is_file() for path in found.values()):
        raise FileNotFoundError(
            f"the four MNIST files are not in '{_cache()}'; their first use downloads them there."
        )
    return found


def _in_folder(argument, folder):
    """Find the four files. The folder of the environment may have none of them."""
    paths = {name: folders.find(folder, _SUBFOLDERS, _spellings(name)) for name in SHA256}
    found = {name: path for name, path in paths.items() if path is not None}
    missing = [name for name in SHA256 if name not in found]
    if missing and (found or argument != VARIABLE):
        raise FileNotFoundError(
            f"{argument} must be a folder with the four MNIST files, gzipped or not, got "
            f"'{folder}' without {', '.join(missing)}."
        )
    return found


def _spellings(name):
    """Usual names of a file: also with a dot (train-images.idx3-ubyte), and gzipped."""
    dotted = name.replace("-idx", ".idx")
    return name, dotted, f"{name}.gz", f"{dotted}.gz"


def _cache():
    import pooch  # slow to import

    return pathlib.Path(pooch.os_cache("eventsnn"), "mnist")


def _download(name):
    import pooch  # slow to import, and rarely needed

    file, folder = f"{name}.gz", _cache()
    try:
        path = pooch.retrieve(
            MIRROR + file,
            known_hash=f"sha256:{SHA256[name]}",
            fname=file,
            path=folder,
        )
    except ValueError:
        raise ValueError(
            f"{file}, downloaded from {MIRROR}, has a wrong checksum, expected SHA256 "
            f"{SHA256[name]}; try again, or {_MANUALLY}."
        ) from None
    except OSError as error:  # includes the errors of requests
        raise ConnectionError(
            f"{file} could not be downloaded from {MIRROR} into '{folder}' "
            f"({type(error).__name__}); {_MANUALLY}."
        ) from error
    return pathlib.Path(path)


def _part(images_path, labels_path):
    images, labels = idx.read(images_path), idx.read(labels_path)
    for path, array, ndim, what in (
        (images_path, images, 3, "images, unsigned bytes of shape (n, height, width)"),
        (labels_path, labels, 1, "labels, unsigned bytes of shape (n,)"),
    ):
        if array.dtype != np.uint8 or array.ndim != ndim or array.size == 0:
            raise ValueError(
                f"'{path}' holds {array.dtype} of shape {array.shape}, expected {what}."
            )
    if labels.max() > 9:
        raise ValueError(f"'{labels_path}' holds the label {labels.max()}, expected labels 0 to 9.")
    if len(images) != len(labels):
        raise ValueError(
            f"'{labels_path}' holds {len(labels)} labels, expected {len(images)}, one per image in "
            f"'{images_path}'."
        )
    return images, labels
