"""A trained network is saved and loaded again."""

import json

import equinox as eqx
import jax
import numpy as np

from eventsnn import tasks
from eventsnn.tasks import saved


def check_saved(task, result, folder):
    """Write the trained network of a run of a task to a folder, load it and compare all leaves."""
    saved.write(folder / saved.MODEL, task, result)
    found = tasks.load(folder)
    assert found.task == task
    expected = eqx.nn.inference_mode(result.model)
    assert jax.tree.structure(found.model) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (found.model, expected)), strict=True):
        assert type(a) is type(b) and (not eqx.is_array(a) or a.dtype == b.dtype)
        if eqx.is_array_like(a):
            np.testing.assert_array_equal(a, b)
    # The file is as documented, without the package.
    with open(folder / saved.MODEL, "rb") as file:
        header = json.loads(file.readline())
        arrays = [np.load(file, allow_pickle=False) for _ in header["leaves"]]
        assert not file.read()
    leaves = [x for x in jax.tree.leaves(result.model) if eqx.is_array_like(x)]
    for a, b in zip(arrays, leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    assert header["task"] == task.name and header["settings"]["seed"] == task.seed
    assert {"eventsnn", "python", "jax", "equinox"} <= set(header["versions"])
