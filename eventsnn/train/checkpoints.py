"""Checkpoints of a training run: complete files in a folder, from which the run can go on.

A checkpoint is a NumPy archive of arrays, without Python objects, so that loading it executes
nothing. Its checksums detect damage.
"""

import json
import pathlib
import time
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .. import checks, files

Arrays = Mapping[str, np.ndarray]

#: Number of checkpoints that are kept: the newest one, and one in case it is damaged.
_KEPT = 2
#: Time between checkpoints in seconds, unless a number of steps is given.
_SECONDS = 60.0
_FACTS = "facts"
_NAMES = f"checkpoint-{'[0-9]' * 10}.npz"


class Checkpoints:
    """Checkpoints in a folder, which is created if needed and locked until it is closed.

    **Arguments:**

    - `folder`: path of the folder.
    - `every`: number of steps between checkpoints. None: one checkpoint per minute.
    - `resume`: whether a run continues from the newest checkpoint. If not, the folder must not
        contain any.

    **Raises:** `ValueError` for a folder that is in use by another run, or that contains
    checkpoints of an earlier one without `resume`. `OSError` if it cannot be written.
    """

    def __init__(self, folder: pathlib.Path, every: int | None, resume: bool):
        self._folder, self._every = folder, every
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = files.Lock(folder)
        except BlockingIOError:
            raise ValueError(
                f"checkpoint must be a folder that no other run uses, got '{folder}'."
            ) from None
        if not resume and _paths(folder):
            self.close()
            raise ValueError(
                "checkpoint must be a folder without checkpoints of an earlier run, "
                f"got '{folder}'. resume=True continues that run."
            )
        files.discard_partial(folder)
        self._saved = time.monotonic()
        self.loaded: pathlib.Path | None = None

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()

    def is_due(self, before: int, done: int) -> bool:
        """True if a checkpoint is due after step `done`, the last one of a dispatch."""
        if self._every is None:
            return time.monotonic() - self._saved >= _SECONDS
        return done // self._every > before // self._every

    def save(self, done: int, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint after `done` steps, and remove old ones.

        `facts` are values for JSON which a resumed run must share, and those that it needs.
        """
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        content: dict[str, Any] = {_FACTS: text, **arrays}

        def write(path):
            with open(path, "wb") as file:
                np.savez(file, **content)

        files.write(self._folder / f"checkpoint-{done:010d}.npz", write)
        self._saved = time.monotonic()
        for old in _paths(self._folder)[_KEPT:]:
            old.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays and the facts of the newest checkpoint; None if there is none.

        Its path is `loaded`.

        **Raises:** `ValueError` if all checkpoints are damaged. A `UserWarning` names each damaged
        one.
        """
        paths = _paths(self._folder)
        for path in paths:
            try:
                found = _read(path)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
                reason = str(e) or type(e).__name__
                message = f"the checkpoint '{path}' is damaged and is skipped: {reason}"
                warnings.warn(message, stacklevel=4)
            else:
                self.loaded = path
                return found
        if paths:
            raise ValueError(f"checkpoint must have an undamaged file, got '{self._folder}'.")
        return None


def newest_step(folder: pathlib.Path) -> int | None:
    """Number of completed steps of the newest checkpoint in a folder, None if there is none."""
    return next((int(path.stem.rpartition("-")[2]) for path in _paths(folder)), None)


def _paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files of all checkpoints, the newest first."""
    return sorted(folder.glob(_NAMES), reverse=True)


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"wrong checksum of {damaged}")
    with np.load(path, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    return arrays, json.loads(arrays.pop(_FACTS).tobytes().decode())


def packed(name: str, tree: PyTree) -> dict[str, np.ndarray]:
    """Arrays of a pytree in host memory, by name. Random keys and types of JAX become integers."""
    return {f"{name}-{i}": _plain(x) for i, x in enumerate(jax.tree.leaves(tree))}


def unpacked(name: str, arrays: Arrays, like: PyTree) -> PyTree:
    """Return the pytree of `packed`, with the types and on the devices of the pytree `like`."""
    leaves, structure = jax.tree.flatten(like)
    found = [_restored(arrays[f"{name}-{i}"], x) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(structure, found)


def signature(tree: PyTree) -> list[str]:
    """Path, type and shape of each array."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [f"{jax.tree_util.keystr(path)}: {x.dtype}{list(x.shape)}" for path, x in leaves]


def require_equal(facts: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless a checkpoint was made by a run with the same settings.

    The names of the settings are those of the arguments of `fit`.
    """
    for name, value in expected.items():
        if name not in facts:
            raise ValueError(
                f"checkpoint must be one of this version of eventsnn, got one without {name!r}."
            )
        found = facts[name]
        if found != value:
            if isinstance(value, list) and isinstance(found, list):
                pairs = [p for p in zip(found, value, strict=False) if p[0] != p[1]]
                found, value = pairs[0] if pairs else (len(found), len(value))
            found, value = (checks.short_repr(x) for x in (found, value))
            raise ValueError(_different(name, found, value))


def _different(name: str, found: str, value: str) -> str:
    """Message about a setting that differs from that of the run of the checkpoint."""
    of_run = "of the run that is resumed"
    if name == "batches":
        return f"batches must begin with the first batch {of_run}, got other data or another order."
    if name == "optimizer":
        return f"optimizer must be that {of_run}, got other hyperparameters or another schedule."
    if name == "arrays":
        return f"model and optimizer must have the arrays {of_run}, {found}, got {value}."
    message = f"{name} must be {found}, as in the run that is resumed, got {value}."
    if name == "steps":
        message += " To train for longer, start a new run from the model of the complete one."
    return message


def _plain(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    x = np.asarray(x)
    return x.view(f"u{x.dtype.itemsize}") if x.dtype.kind == "V" else x


def _restored(found: np.ndarray, like: Any) -> Any:
    if not isinstance(like, jax.Array):
        return np.asarray(found, np.asarray(like).dtype)
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        keys = jax.random.wrap_key_data(jnp.asarray(found), impl=jax.random.key_impl(like))
        return jax.device_put(keys, like.sharding)
    return jax.device_put(found.view(like.dtype), like.sharding)
