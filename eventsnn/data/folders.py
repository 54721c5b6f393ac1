"""Folders with the files of data sets, given as an argument or by the environment."""

import contextlib
import os
import pathlib
from collections.abc import Sequence

from .. import checks

__all__ = ["VARIABLE", "find", "given"]

#: Environment variable with the path of a folder.
VARIABLE = "EVENTSNN_DATA"


def given(data_dir: str | os.PathLike[str] | None) -> tuple[str, pathlib.Path] | None:
    """Return the folder given by the argument or, if it is None, by the environment.

    **Arguments:**

    - `data_dir`: path of the folder, or None for the path in the environment variable
        `EVENTSNN_DATA`.

    **Returns:** the name of the argument or variable, and the path. None if both are missing.

    **Raises:** `FileNotFoundError` if there is no such folder. `TypeError` if `data_dir` is not a
    path.
    """
    named = "data_dir", data_dir
    name, value = named if data_dir is not None else (VARIABLE, os.environ.get(VARIABLE) or None)
    if value is None:
        return None
    folder = checks.path(name, value)
    with contextlib.suppress(RuntimeError):  # ~name of an unknown user
        folder = folder.expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{name} must be an existing folder, got '{folder}'.")
    return name, folder


def find(
    folder: str | os.PathLike[str], subfolders: Sequence[str], names: Sequence[str]
) -> pathlib.Path | None:
    """Return the path of the first file that exists, None if there is none.

    **Arguments:**

    - `folder`: path of the folder.
    - `subfolders`: the subfolders that may have the file, in this order. An empty string stands for
        the folder itself.
    - `names`: the names that the file may have, in this order.

    **Raises:** `TypeError` if `folder` is not a path, and `ValueError` if `subfolders` or `names`
    is not a list or tuple.
    """
    root = checks.path("folder", folder)
    for name, value in (("subfolders", subfolders), ("names", names)):
        checks.instance(name, value, list | tuple, "a list or tuple of names")
    paths = (root / subfolder / name for subfolder in subfolders for name in names)
    return next((path for path in paths if path.is_file()), None)
