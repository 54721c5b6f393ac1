"""Checkpoints: a resumed run equals an uninterrupted one, and damage is noticed."""

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eventsnn import files
from eventsnn.train import Evaluation, fingerprints, fit

STEPS = 40
#: Number of random moments at which the test below kills a process.
KILLS = int(os.environ.get("EVENTSNN_KILLS", 3))


class Model(eqx.Module):
    """A trained matrix, a vector in bfloat16 and a key, which are not trained."""

    weights: jax.Array
    bias: jax.Array
    key: jax.Array


def model():
    weights = jax.random.normal(jax.random.key(1), (3, 2))
    return Model(weights, jnp.ones(2, jnp.bfloat16), jax.random.key(7))


def batches(seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield rng.normal(size=(4, 3))


def loss(model, batch, key):
    kept = jax.random.bernoulli(jax.random.fold_in(key, jnp.int32(1)), 0.7, batch.shape)
    x = jnp.where(kept, batch, 0.0)
    return jnp.mean((x @ model.weights + model.bias.astype(x.dtype)) ** 2)


def adam(rate, steps):
    return optax.inject_hyperparams(optax.adam)(optax.linear_schedule(rate, 0.0, steps))


def train(folder=None, callbacks=(), **options):
    trained = Model(True, False, False)
    with jax.numpy_dtype_promotion("standard"):  # needed by Adam's bias correction
        return fit(
            options.pop("model", model()),
            options.pop("batches", batches()),
            options.pop("loss_fn", loss),
            options.pop("optimizer", adam(0.1, STEPS)),
            steps=options.pop("steps", STEPS),
            key=options.pop("key", jax.random.key(3)),
            steps_per_dispatch=options.pop("steps_per_dispatch", 4),
            filter_spec=trained,
            snapshot=lambda m: {"w": m.weights},
            snapshot_every=8,
            average=options.pop("average", 30),
            monitor=loss,
            gradient_norms=True,
            callbacks=callbacks,
            checkpoint=folder,
            progress=options.pop("progress", False),
            **options,
        )


def evaluation(**options):
    return Evaluation(lambda m: jnp.sum(m.weights), 6, **options)


def leaves(result, evaluated):
    """All results but times."""
    trees = result.model, result.average, result.snapshots, evaluated.best_model
    arrays = [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(trees)]
    names = "losses", "monitored", "gradient_norms", "learning_rates", "snapshot_steps"
    arrays += [getattr(result, name) for name in names]
    own = evaluated.steps, evaluated.values, evaluated.best_step
    return [np.asarray(x) for x in [*arrays, *own]]


def _is_key(x):
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uninterrupted():
    evaluated = evaluation()
    return leaves(train(callbacks=[evaluated]), evaluated)


def interrupting(step):
    def callback(progress):
        if progress.step >= step:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("step", [4, 20, 36, 40])
@pytest.mark.parametrize("order", [0, 1])
def test_a_resumed_run_equals_an_uninterrupted_one(step, order, tmp_path, uninterrupted):
    """The other callback is interrupted before or after the evaluation of the same step."""
    callbacks = [evaluation(), interrupting(step)][:: 1 - 2 * order]
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(tmp_path, callbacks)
    assert len(stopped.value.result.losses) == step
    evaluated = evaluation()
    callbacks = [evaluated, lambda progress: None][:: 1 - 2 * order]
    result = train(tmp_path, callbacks, resume=True)
    assert_same(leaves(result, evaluated), uninterrupted)
    again = evaluation()
    callbacks = [again, lambda progress: None][:: 1 - 2 * order]
    result = train(tmp_path, callbacks, resume=True)  # of a complete run
    assert_same(leaves(result, again), uninterrupted)


def test_without_a_checkpoint_a_resumed_run_starts_anew(tmp_path, uninterrupted):
    evaluated = evaluation()
    result = train(tmp_path / "new", [evaluated], resume=True, checkpoint_every=10)
    assert_same(leaves(result, evaluated), uninterrupted)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["checkpoint-0000000032.npz", "checkpoint-0000000040.npz"]


class Crash(BaseException):
    """End of the process, at which no code runs any more."""


@pytest.mark.parametrize("moment", ["while it is written", "before it is renamed"])
def test_a_crash_within_a_save_loses_nothing(moment, tmp_path, uninterrupted, monkeypatch):
    def crash(*_, **__):
        raise Crash

    def interrupted_save(progress):
        if progress.step == 20:
            target = ("savez", np) if moment == "while it is written" else ("replace", files.os)
            monkeypatch.setattr(target[1], target[0], crash)
            monkeypatch.setattr(files.pathlib.Path, "unlink", crash)

    callbacks = [evaluation(), interrupted_save]
    with pytest.raises(Crash):
        train(tmp_path, callbacks, checkpoint_every=4)
    monkeypatch.undo()
    assert any(path.name.startswith(files.PARTIAL) for path in tmp_path.iterdir())
    evaluated = evaluation()
    result = train(tmp_path, [evaluated, lambda progress: None], resume=True)
    assert_same(leaves(result, evaluated), uninterrupted)
    assert not any(path.name.startswith(files.PARTIAL) for path in tmp_path.iterdir())


def interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, [evaluation(), interrupting(20)], checkpoint_every=8)
    older, newest = sorted(tmp_path.iterdir())
    return older, newest


@pytest.fixture(scope="module")
def interrupted_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    interrupted(folder)
    return folder


def cut(content):
    return content[: len(content) // 2]


def one_bit(content):
    at = content.index(b"state-0") + 300
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [cut, one_bit, lambda content: b""])
def test_a_damaged_checkpoint_is_skipped(damage, tmp_path, uninterrupted):
    _, newest = interrupted(tmp_path)
    newest.write_bytes(damage(newest.read_bytes()))
    evaluated = evaluation()
    with pytest.warns(UserWarning, match=f"'{newest}' is damaged and is skipped"):
        result = train(tmp_path, [evaluated, lambda progress: None], resume=True)
    assert_same(leaves(result, evaluated), uninterrupted)


def test_if_all_are_damaged_the_run_does_not_start_anew(tmp_path):
    for path in interrupted(tmp_path):
        path.write_bytes(b"no archive")
    expected = pytest.raises(ValueError, match="checkpoint must have an undamaged file")
    with pytest.warns(UserWarning, match="is damaged"), expected:
        train(tmp_path, [evaluation(), lambda progress: None], resume=True)


class Payload:
    """Object that creates a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_loading_executes_nothing(tmp_path):
    _, newest = interrupted(tmp_path / "run")
    target = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(tmp_path / "works")))
    assert (tmp_path / "works").exists()
    np.savez(newest, facts=np.array([Payload(target)], object))
    with pytest.warns(UserWarning, match="is damaged"):
        train(tmp_path / "run", [evaluation(), lambda progress: None], resume=True)
    assert not target.exists()


def wide():
    return Model(jnp.ones((3, 5)), jnp.ones(5, jnp.bfloat16), jax.random.key(7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average": 20}, "average must be 30, as in the run that is resumed, got 20"),
        ({"key": jax.random.key(4)}, "key must be"),
        ({"steps_per_dispatch": 2}, "steps_per_dispatch must be 4, .*, got 2"),
        ({"steps": 36}, r"steps must be 40, .*, got 36\. To train for longer, start a new run"),
        ({"model": wide()}, r"must have the arrays .*, got .*weights: float64\[3, 5\]"),
        ({"optimizer": optax.sgd(0.1)}, "model and optimizer must have the arrays of the run"),
        ({"optimizer": adam(0.2, STEPS)}, "optimizer must be that of the run that is resumed"),
        ({"optimizer": adam(0.1, STEPS + 1)}, "optimizer must be .* or another schedule"),
        ({"batches": batches(1)}, "batches must begin with the first batch of the run"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(options, message, interrupted_run, tmp_path):
    shutil.copytree(interrupted_run, tmp_path, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=message):
        train(tmp_path, [evaluation(), lambda progress: None], resume=True, **options)


def test_other_versions_do_not_refuse_an_optimiser(interrupted_run, tmp_path, monkeypatch, capsys):
    """The traced update may differ between versions; a resumed run says where it continues."""
    shutil.copytree(interrupted_run, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("eventsnn.train.fingerprints.versions", lambda: "JAX 99")
    callbacks = [evaluation(), lambda progress: True]
    other = adam(0.1, STEPS + 1)
    train(tmp_path, callbacks, resume=True, optimizer=other, progress=True)
    newest = tmp_path / "checkpoint-0000000020.npz"
    assert f"resumed at step 20 of 40 from '{newest}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "make",
    [
        optax.adam,
        optax.inject_hyperparams(optax.adam),
        lambda x: optax.sgd(0.1, momentum=x),
        lambda x: optax.adam(optax.piecewise_constant_schedule(0.1, {10: x})),
        lambda x: optax.chain(optax.clip_by_global_norm(x), optax.sgd(0.1)),
        lambda x: optax.partition({"a": optax.adam(x), "b": optax.sgd(0.1)}, {"w": "a", "v": "b"}),
    ],
)
def test_fingerprint_of_an_optimiser(make):
    trained = {"w": jnp.ones((2, 3)), "v": jnp.ones(2)}
    with jax.numpy_dtype_promotion("standard"):
        first, other = (fingerprints.of_optimizer(make(x), trained) for x in (0.1, 0.2))
        again = fingerprints.of_optimizer(make(0.1), jax.tree.map(lambda x: 2 * x, trained))
    assert again == first != other


def test_folders_that_are_used_are_refused(tmp_path):
    interrupted(tmp_path)
    with pytest.raises(ValueError, match=r"without checkpoints of an earlier run.*resume=True"):
        train(tmp_path)
    lock = files.Lock(tmp_path)
    with pytest.raises(ValueError, match="checkpoint must be a folder that no other run uses"):
        train(tmp_path, resume=True)
    lock.release()
    with pytest.raises(ValueError, match="checkpoint must be a folder if resume=True, got None"):
        train(resume=True)


def test_a_run_whose_loss_is_not_finite_writes_no_further_checkpoint(tmp_path):
    def bad():
        for i, batch in enumerate(batches()):
            yield batch * (np.nan if i == 22 else 1.0)

    with pytest.raises(FloatingPointError, match="at step 23"):
        train(tmp_path, batches=bad(), checkpoint_every=4)
    newest = max(path.name for path in tmp_path.iterdir())
    assert newest == "checkpoint-0000000020.npz"


def test_a_run_that_fails_before_its_first_step_leaves_no_checkpoint(tmp_path):
    def bad(model, batch, key):
        raise ValueError("a mistake in the loss")

    with pytest.raises(ValueError, match="a mistake in the loss"):
        train(tmp_path, loss_fn=bad)
    assert not list(tmp_path.iterdir())


SCRIPT = """
import os, sys
sys.path[:0] = sys.argv[3:]
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import test_checkpoints as this
print("ready", flush=True)
evaluated = this.evaluation()
result = this.train(sys.argv[1], [evaluated], resume=True, checkpoint_every=4)
np.savez(sys.argv[2] + ".part.npz", *this.leaves(result, evaluated))
os.replace(sys.argv[2] + ".part.npz", sys.argv[2])  # the process may be killed here, too
"""


def killed_run(folder, at_most, chance):
    """Results of a run that is killed at random moments, and the number of kills."""
    out, kills = folder / "out.npz", 0
    arguments = [str(folder / "run"), str(out), os.path.dirname(__file__)]
    while not out.exists():
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        if kills < at_most:
            # The compilation takes most of the time: wait for new checkpoints, then a random time.
            before = set((folder / "run").glob("*"))
            while process.poll() is None and set((folder / "run").glob("*")) == before:
                time.sleep(1e-4)
            time.sleep(chance.uniform(0.0, 0.01))
            process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    with np.load(out) as found:
        return [found[name] for name in found.files], kills


def test_a_run_that_is_killed_again_and_again(tmp_path, uninterrupted):
    """A run may be complete after a few kills: the next ones are those of a further run."""
    total, chance = 0, random.Random(0)
    while total < KILLS:
        folder = tmp_path / str(total)
        folder.mkdir()
        arrays, kills = killed_run(folder, KILLS - total, chance)
        for a, b in zip(arrays, uninterrupted, strict=True):
            np.testing.assert_array_equal(a, b.view(a.dtype) if a.dtype.kind == "V" else b)
        assert kills > 0
        total += kills
    assert total == KILLS
