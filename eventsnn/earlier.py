"""The earlier run in a results folder: unfinished, or complete.

The folder of the checkpoints exists from the start of a run until all results are written. It marks
an unfinished run. Metrics without that folder are those of a complete run.
"""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from . import files
from .results import METRICS
from .tasks.settings import flag
from .train.checkpoints import newest_step

#: Folder of the checkpoints in that of the results.
CHECKPOINTS = "checkpoints"
# File of the settings in it.
_SETTINGS = "settings.json"
# Names in it that are no options of the task.
_OTHERS = ("task", "dtype")

Settings = Mapping[str, Any]


def step(out: pathlib.Path) -> int | None:
    """Step of the newest checkpoint of an unfinished run in a results folder, None without one."""
    return newest_step(out / CHECKPOINTS)


def check(out: pathlib.Path, own: Settings, *, resume: bool) -> None:
    """Check that a run with these settings may start in a results folder, or resume the one in it.

    **Raises:** `ValueError` if there are checkpoints without `resume`, or if an unfinished run that
    is resumed has other settings.
    """
    if resume:
        _require_equal("unfinished", out / CHECKPOINTS / _SETTINGS, own)
    else:
        _require_no_checkpoints(out)


def complete(out: pathlib.Path, own: Settings) -> Settings | None:
    """Metrics of the complete run in a results folder, None if there is no such run.

    **Raises:** `ValueError` if it has other settings.
    """
    if (out / CHECKPOINTS).exists():
        return None
    return _require_equal("complete", out / METRICS, own)


def begin(out: pathlib.Path, own: Settings) -> pathlib.Path:
    """Create the folder of the checkpoints of a run, with its settings, and return its path.

    **Raises:** `OSError` if they cannot be written.
    """
    folder, text = out / CHECKPOINTS, json.dumps(own)
    folder.mkdir(exist_ok=True)
    files.write(folder / _SETTINGS, lambda part: part.write_text(text, encoding="utf-8"))
    return folder


def end(out: pathlib.Path) -> None:
    """Remove the checkpoints of a run whose results are written."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _require_no_checkpoints(out: pathlib.Path) -> None:
    found = step(out)
    if found is not None:
        raise ValueError(
            f"'{out}' has an unfinished run with a checkpoint of step {found}: add --resume to "
            f"continue it, or choose another --out, or delete '{out / CHECKPOINTS}'"
        )


def _require_equal(state: str, path: pathlib.Path, own: Settings) -> Settings | None:
    """Return the content of a file with the settings of a run, None if there is no file."""
    if not path.is_file():
        return None
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ValueError(f"'{path}' is damaged") from None
    for name, value in own.items():
        if found.get(name) != value:
            label = name if name in _OTHERS else flag(name)
            raise ValueError(f"the {state} run has {label} {found.get(name)}, got {value}")
    return found
