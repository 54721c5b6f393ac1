"""Results folder of a run: locked for one run at a time, with complete files of one run only.

The metrics are written first. When their file is complete, the other files of an earlier run are
removed and its metrics replaced. The other new files follow one by one. At any time, also after a
crash, the folder contains the metrics of one run with none, some or all of its other files.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable, Collection

from . import files

METRICS = "metrics.json"

SPACE = 16 * 2**20
"""Required free space in bytes: several times the size of the results of the largest task."""

_folders: set["Folder"] = set()


class Folder:
    """Folder for the results of one run, created if needed and locked until it is closed.

    The operating system releases the lock when the process ends, also after a crash.

    **Arguments:**

    - `path`: path of the folder.
    - `others`: names of the files that a run may write besides the metrics.

    **Attributes:** `locked` is false on a file system without locks.

    **Raises:** `BlockingIOError` if another run has locked the folder. `OSError` if it cannot be
    written or has less than `SPACE` bytes of free space. `ValueError` for a path with a zero byte.
    """

    def __init__(self, path: pathlib.Path, others: Collection[str] = ()):
        self.path, self._others = path, tuple(others)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = files.Lock(path)
        try:
            self.locked = self._lock.held
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
        self._lock.release()

    def write(self, name: str, save: Callable[[pathlib.Path], object]):
        """Write one file atomically. Writing the metrics removes the other files of an earlier run.

        **Arguments:**

        - `name`: the name of the file.
        - `save`: function that writes the file to a given path, which has the same suffix.

        **Raises:** `OSError` if the file cannot be written, and all errors of `save`.
        """
        earlier = self._others if name == METRICS else ()

        def remove():
            for other in earlier:
                (self.path / other).unlink(missing_ok=True)

        files.write(self.path / name, save, before=remove)

    def discard(self):
        """Remove incomplete files."""
        files.discard_partial(self.path)

    def _check(self):
        for name in (METRICS, *self._others):
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
