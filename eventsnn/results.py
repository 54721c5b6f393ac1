"""Folder of a run's results: for one run at a time, every file whole, all files of one run.

The metrics are written first. Once their file is whole, the pictures of an earlier run are removed
and its metrics replaced; then the pictures follow one by one. So at every moment, after a crash as
well, the folder holds the metrics of one run with none, some or all of its pictures.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Collection

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

METRICS = "metrics.json"

SPACE = 16 * 2**20
"""Bytes that a folder must have room for: several times the size of the largest task's results."""

_PARTIAL = ".partial-"
_folders: set["Folder"] = set()


class Folder:
    """Folder for the results of one run: created if needed, and locked until it is closed.

    The system drops the lock when the process ends, however it ends.

    **Arguments:**

    - `path`: the folder.
    - `pictures`: names of the files that a run may write besides the metrics.

    **Attributes:** `locked` is false on a file system without locks.

    **Raises:** `BlockingIOError` if another run holds the folder; `OSError` if it cannot be written
    or has no room for `SPACE` bytes; `ValueError` for a path with a zero byte.
    """

    def __init__(self, path: pathlib.Path, pictures: Collection[str] = ()):
        self.path, self._pictures = path, tuple(pictures)
        path.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDONLY) if fcntl else None
        try:
            self.locked = _lock(self._descriptor)
            self.discard()
            self._check()
        except BaseException:
            self.close()
            raise
        _folders.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Give the folder back."""
        _folders.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, name: str, save: Callable[[pathlib.Path], object]):
        """Write one file whole or not at all. Metrics remove the pictures of an earlier run.

        **Arguments:**

        - `name`: the name of the file.
        - `save`: writes it to the path that it is called with, which has the same suffix.

        **Raises:** `OSError` if it cannot be written; what `save` raises.
        """
        partial = self.path / f"{_PARTIAL}{name}"
        try:
            save(partial)
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            if name == METRICS:
                for picture in self._pictures:
                    (self.path / picture).unlink(missing_ok=True)
            os.replace(partial, self.path / name)
        finally:
            partial.unlink(missing_ok=True)

    def discard(self):
        """Remove files that are not whole."""
        for partial in self.path.glob(f"{_PARTIAL}*"):
            partial.unlink(missing_ok=True)

    def _check(self):
        for name in (METRICS, *self._pictures):
            if (self.path / name).is_dir():
                raise IsADirectoryError(f"'{name}' in it is a folder")
        with tempfile.TemporaryFile(dir=self.path) as file:
            file.write(bytes(SPACE))
            file.flush()
            os.fsync(file.fileno())


def discard():
    """Remove the files of this process that are not whole, before it ends."""
    for folder in _folders:
        folder.discard()


def _lock(descriptor):
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a network file system, say
        return False
    return True
