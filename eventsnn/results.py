"""Results folder of a run: locked for one run at a time, with complete files of one run only.

The metrics are written first. When their file is complete, the figures of an earlier run are
removed and its metrics replaced. The new figures follow one by one. At any time, also after a
crash, the folder contains the metrics of one run with none, some or all of its figures.
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
"""Required free space in bytes: several times the size of the results of the largest task."""

_PARTIAL = ".partial-"
_folders: set["Folder"] = set()


class Folder:
    """Folder for the results of one run, created if needed and locked until it is closed.

    The operating system releases the lock when the process ends, also after a crash.

    **Arguments:**

    - `path`: path of the folder.
    - `pictures`: names of the files that a run may write besides the metrics.

    **Attributes:** `locked` is false on a file system without locks.

    **Raises:** `BlockingIOError` if another run has locked the folder. `OSError` if it cannot be
    written or has less than `SPACE` bytes of free space. `ValueError` for a path with a zero byte.
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
        """Release the lock of the folder."""
        _folders.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, name: str, save: Callable[[pathlib.Path], object]):
        """Write one file atomically. Writing the metrics removes the figures of an earlier run.

        **Arguments:**

        - `name`: the name of the file.
        - `save`: function that writes the file to a given path, which has the same suffix.

        **Raises:** `OSError` if the file cannot be written, and all errors of `save`.
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
        """Remove incomplete files."""
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
    """Remove the incomplete files of this process, before it ends."""
    for folder in _folders:
        folder.discard()


def _lock(descriptor):
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # for example, a network file system
        return False
    return True
