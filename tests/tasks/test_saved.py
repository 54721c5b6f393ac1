"""Loading of a trained network: errors, and the precision. The tests of the tasks save networks."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest

from eventsnn import tasks
from eventsnn.tasks import TASKS, TaskResult, saved

TASK = TASKS["membrane-regression"](n_hidden=2)


@pytest.fixture
def folder(tmp_path):
    result = TaskResult({}, {}, model=TASK.untrained({}))
    saved.write(tmp_path / saved.MODEL, TASK, result)
    return tmp_path


def test_a_folder_without_a_network_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            FileNotFoundError, match=r"^folder must be one with the file model\.eqx"
        ):
            tasks.load(folder)
    with pytest.raises(TypeError, match=r"^folder must be .*, got 3"):
        tasks.load(3)


def flip(content):
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: content.replace(b'"n_hidden": 2', b'"n_hidden": 3', 1),
        lambda content: b"",
        lambda content: b"[]\n" + content,
        lambda content: b"\xff" + content,
        lambda content: content.partition(b"\n")[2],
    ],
)
def test_a_damaged_file_is_an_error(damage, folder):
    path = folder / saved.MODEL
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^folder must have an undamaged file model\.eqx, got '"):
        tasks.load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": "other"}, r"KeyError: 'other'"),
        ({"settings": {"n_hidden": 3}}, r"layers\[0\]\.weight: \[2, 1\] instead of .*\[3, 1\]"),
        ({"settings": {"no": 3}}, "unexpected keyword argument 'no'"),
        ({"settings": {"n_hidden": 0}}, "n_hidden must be"),
        ({"leaves": []}, "0 instead of"),
    ],
)
def test_a_file_of_another_version_is_an_error(change, reason, folder):
    path = folder / saved.MODEL
    header, arrays = path.read_bytes().split(b"\n", 1)
    changed = json.loads(header) | change
    del changed["sha256"]
    changed["sha256"] = saved._digest(changed, arrays)
    path.write_bytes(json.dumps(changed).encode() + b"\n" + arrays)
    with pytest.raises(ValueError, match=rf"^folder must be one of a run .*{reason}") as error:
        tasks.load(folder)
    assert "\n" not in str(error.value)


def test_parameters_have_the_current_precision(folder):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        task, model = tasks.load(folder)
    assert task == TASK
    expected = TASK.untrained({})
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (model, expected)), strict=True
    ):
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(a, np.asarray(b, np.float32))


def test_settings_may_be_numbers_of_numpy(tmp_path):
    task = TASKS["membrane-regression"](n_hidden=2, seed=np.int64(3), learning_rate=np.float32(0.5))
    saved.write(tmp_path / saved.MODEL, task, TaskResult({}, {}, model=task.untrained({})))
    assert tasks.load(tmp_path).task == task
