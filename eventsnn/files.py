"""Files that are complete or absent, and locks on folders."""

import os
import pathlib
from collections.abc import Callable

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

#: Prefix of the names of incomplete files.
PARTIAL = ".partial-"


def write(
    path: pathlib.Path,
    save: Callable[[pathlib.Path], object],
    before: Callable[[], object] = lambda: None,
) -> None:
    """Write a file atomically: after a crash it is complete, unchanged or absent.

    **Arguments:**

    - `path`: path of the file.
    - `save`: function that writes the file to a given path, which has the same suffix.
    - `before`: function that is called when the file is complete, before it replaces an earlier
        one. Default: no function.

    **Raises:** `OSError` if the file cannot be written, and all errors of `save`.
    """
    partial = path.with_name(PARTIAL + path.name)
    try:
        save(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        before()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def discard_partial(folder: pathlib.Path) -> None:
    """Remove the incomplete files of a folder."""
    for partial in folder.glob(f"{PARTIAL}*"):
        partial.unlink(missing_ok=True)


class Lock:
    """Lock of a folder for one process at a time.

    The operating system releases it when the process ends, also after a crash. On a file system
    without locks, `held` is false.

    **Raises:** `BlockingIOError` if another process, or another lock of this one, holds it.
    """

    def __init__(self, folder: pathlib.Path):
        self._descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
        try:
            self.held = _lock(self._descriptor)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int | None) -> bool:
    if fcntl is None or descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # for example, a network file system
        return False
    return True
