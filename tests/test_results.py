"""Results folder of a run: complete files, files of one run, one run at a time."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from eventsnn import files, results
from eventsnn.results import METRICS, Folder

OLD = {METRICS: "old", "loss.png": "old", "mine.png": "mine"}


@pytest.fixture
def out(tmp_path):
    for name, text in OLD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def say(text):
    return lambda path: path.write_text(text)


def test_metrics_take_the_place_of_an_earlier_run(out):
    with Folder(out, ["loss.png", "raster.png"]) as folder:
        assert content(out) == OLD
        folder.write(METRICS, say("new"))
        assert content(out) == {METRICS: "new", "mine.png": "mine"}
        folder.write("raster.png", say("new raster"))
    assert content(out) == {METRICS: "new", "mine.png": "mine", "raster.png": "new raster"}


@pytest.mark.parametrize("name", OLD)
def test_a_file_that_is_not_finished_leaves_everything_as_it_was(name, out):
    def half(path):
        path.write_text("hal")
        assert path.suffix == pathlib.Path(name).suffix  # The suffix determines the format.
        raise OSError("no room")

    with Folder(out, ["loss.png"]) as folder, pytest.raises(OSError, match="no room"):
        folder.write(name, half)
    assert content(out) == OLD


def test_what_a_killed_run_left_is_removed(out):
    (out / ".partial-loss.png").write_text("hal")
    with Folder(out):
        assert content(out) == OLD


HOLD = """
import pathlib, sys
from eventsnn.results import Folder
folder = Folder(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_for_one_run_at_a_time_and_free_once_that_is_killed(out):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                Folder(out)
        other.send_signal(signal.SIGKILL)
        other.wait()
    with Folder(out), pytest.raises(BlockingIOError):
        Folder(out)
    with Folder(out) as folder:
        assert folder.locked
    assert content(out) == OLD  # The lock is not a file.


def test_a_file_system_without_locks_is_reported(out, monkeypatch):
    def flock(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with Folder(out) as first, Folder(out) as second:
        assert not first.locked and not second.locked


def test_a_refused_folder_is_closed(out, monkeypatch):
    open_files = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(results, "SPACE", 2**60)  # larger than the available memory
    for _ in range(3):
        with contextlib.suppress(MemoryError):
            Folder(out)
            pytest.fail("there is no such room")
    monkeypatch.undo()
    Folder(out).close()
    assert len(os.listdir("/dev/fd")) == open_files
