"""File of a trained network: one line of JSON, followed by the arrays of the network.

The line has the task with its settings, from which the network is built when the file is read. No
code is stored, and reading executes none. A checksum detects damage.
"""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .. import checks
from ..versions import versions
from .base import Task, TaskResult
from .registry import TASKS

__all__ = ["MODEL", "Trained", "load", "write"]

#: Name of the file in the results folder of a run.
MODEL = "model.eqx"

# Longest first line in bytes. A longer one is no header.
_MAX_HEADER = 2**20


class Trained(NamedTuple):
    """Trained network and its task."""

    task: Task
    """Task with the settings of the run."""
    model: PyTree
    """Trained network, in inference mode."""


def write(path: pathlib.Path, task: Task, result: TaskResult) -> None:
    """Write the trained network of a run of a task to a file."""
    arrays = io.BytesIO()
    eqx.tree_serialise_leaves(arrays, result.model)
    header = {
        "task": task.name,
        "settings": dataclasses.asdict(task),
        "sizes": dict(result.sizes),
        "versions": versions(),
        "leaves": _leaves(result.model),
    }
    header = json.loads(json.dumps(header, default=_plain))
    header["sha256"] = _digest(header, arrays.getvalue())
    with open(path, "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.write(arrays.getvalue())


def load(folder: str | os.PathLike[str]) -> Trained:
    """Load the trained network that `eventsnn run` left in a folder.

    The network is built from the saved settings, without the data set, and its parameters are read
    from `model.eqx`. They have the current precision of JAX, whatever that of the run was. Dropout
    and distortions are inactive; `eqx.nn.inference_mode(model, False)` activates them.

    ```python
    task, model = esn.tasks.load("runs/ttfs-regression")
    print(task.predict(model, jnp.array([2.0, 5.0])))
    ```

    **Arguments:**

    - `folder`: path of the results folder of a run.

    **Returns:** a pair `(task, model)`, a [`Trained`][].

    **Raises:** `FileNotFoundError` if the folder has no such file. `ValueError` if the file is
    damaged, or if its task has other settings or another network in this version of eventsnn.
    `TypeError` if `folder` is not a path.
    """
    path = checks.path("folder", folder) / MODEL
    if not path.is_file():
        raise FileNotFoundError(f"folder must be one with the file {MODEL}, got '{path.parent}'.")
    header, arrays = _read(path)
    task, model = _built(path, header)
    _require_equal(path, header, _leaves(model))
    model = eqx.tree_deserialise_leaves(io.BytesIO(arrays), model, _leaf)
    return Trained(task, eqx.nn.inference_mode(model))


def _read(path: pathlib.Path) -> tuple[Mapping[str, Any], bytes]:
    """Return the header and the arrays of an undamaged file."""
    with open(path, "rb") as file:
        first, arrays = file.readline(_MAX_HEADER), file.read()
    try:
        header = json.loads(first)
        intact = header.pop("sha256") == _digest(header, arrays)
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise ValueError(f"folder must have an undamaged file {MODEL}, got '{path.parent}'.")
    return header, arrays


def _digest(header: Mapping[str, Any], arrays: bytes) -> str:
    """Checksum of a header and the arrays."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + arrays).hexdigest()


def _built(path: pathlib.Path, header: Mapping[str, Any]) -> tuple[Task, PyTree]:
    """Build the task of a header and its untrained network."""
    try:
        task = TASKS[header["task"]](**header["settings"])
        return task, task.untrained(header["sizes"])
    except (LookupError, TypeError, ValueError) as error:
        raise _other_version(path, header, f"{type(error).__name__}: {error}") from None


def _require_equal(path: pathlib.Path, header: Mapping[str, Any], leaves: list[str]) -> None:
    """Raise unless the saved parameters are those of the network that was built."""
    found = header.get("leaves")
    if found != leaves:
        pairs = zip(leaves, found, strict=False) if isinstance(found, list) else ()
        lengths = len(leaves), len(found) if isinstance(found, list) else found
        expected, got = next(((a, b) for a, b in pairs if a != b), lengths)
        raise _other_version(path, header, f"{got} instead of {expected}")


def _other_version(path: pathlib.Path, header: Mapping[str, Any], reason: str) -> ValueError:
    ours, theirs = versions(), header.get("versions", {})
    by, made_by = (f"eventsnn {found.get('eventsnn')}" for found in (ours, theirs))
    return ValueError(
        f"folder must be one of a run with the same task as in {by}, got '{path.parent}', made by "
        f"{made_by}: {checks.short_repr(reason)}."
    )


def _leaves(model: PyTree) -> list[str]:
    """Path and shape of each leaf that is stored."""
    leaves = jax.tree_util.tree_leaves_with_path(model)
    stored = ((path, x) for path, x in leaves if eqx.is_array_like(x))
    return [f"{jax.tree_util.keystr(path)}: {list(np.shape(x))}" for path, x in stored]


def _leaf(file: Any, like: Any) -> Any:
    """Read a leaf in the type of that of the network that was built."""
    if not eqx.is_array_like(like):
        return like
    found = np.lib.format.read_array(file, allow_pickle=False)
    if isinstance(like, jax.Array):
        return jnp.asarray(found.astype(like.dtype))
    return found.astype(like.dtype) if isinstance(like, np.ndarray) else type(like)(found.item())


def _plain(value: Any) -> Any:
    """Value of a setting for JSON: a number of NumPy, or a path."""
    return value.item() if isinstance(value, np.generic) else os.fspath(value)
