"""Process of the command line: Ctrl-C at chosen moments; closed and full streams."""

import json
import os
import shlex
import subprocess
import sys

import pytest

# Each process interrupts itself at one moment and continues if nothing ends it. It restores the
# default handler first, because in the background pytest may ignore Ctrl-C.
INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)

"""
AT_IMPORT = """
class Finder:
    def find_spec(name, *_):
        if name == "{module}":
            interrupt()

sys.meta_path.insert(0, Finder)
"""
# A task that takes no time; its effects are in the hook of each moment.
TASK = """
from eventsnn.tasks import TASKS, LazyFigures, TaskResult

class Figure:
    def get_suptitle(self):
        return ""

    def suptitle(self, text, **_):
        pass

    def savefig(self, path):
        path.write_text("drawn")
        hook("writing")

def draw():
    return {"loss": Figure(), "raster": Figure()}

def run(self, **_):
    from tqdm import tqdm
    with tqdm(total=2) as bar:
        bar.update()
        hook("training")
        bar.update()
    return TaskResult({"test_accuracy": 0.5}, LazyFigures(draw))

def hook(moment):
    pass

TASKS["yin-yang"].run = run
"""
AT_WRITING = """
def hook(now):
    if now == "writing":
        interrupt()
"""
TRACED = """
import jax

def hook(now):
    if now == "training":
        jax.jit(lambda x: interrupt() or x + 1)(1.0)
"""
# JAX has such a callback; an exception raised in it is printed and lost.
COLLECTED = """
import gc

def hook(now):
    if now == "training":
        gc.callbacks.append(interrupt)
        gc.collect()
"""
MAIN = "from eventsnn.cli import main; sys.exit(main())"

MOMENTS = {  # and the remaining files, None for no folder
    "first import": (AT_IMPORT.format(module="jax"), None),
    "last import": (AT_IMPORT.format(module="eventsnn.tasks.yin_yang"), None),
    "compiling": (TASK + TRACED, ["checkpoints"]),
    "training": (TASK + COLLECTED, ["checkpoints"]),
    "resumed training": (TASK + COLLECTED, ["checkpoints"]),
    "writing": (TASK + AT_WRITING, ["checkpoints", "metrics.json"]),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_is_one_line_at_any_moment(moment, tmp_path):
    code, files = MOMENTS[moment]
    out = tmp_path / "out"
    program, argv = INTERRUPT + code + MAIN, ["run", "yin-yang", "--out", str(out)]
    expected = "eventsnn: interrupted"
    if moment == "resumed training":
        (out / "checkpoints").mkdir(parents=True)
        (out / "checkpoints" / "checkpoint-0000000060.npz").touch()
        argv += ["--seed", "7", "--steps", "7", "--resume"]
        expected += f"; to continue from step 60: {shlex.join(['eventsnn', *argv])}"
    run = subprocess.run(
        [sys.executable, "-c", program, *argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    *bar, last = run.stderr.splitlines()
    assert last == expected and run.returncode == 130
    assert all("/2 [" in line or not line for line in bar)
    assert (sorted(path.name for path in out.iterdir()) if out.exists() else None) == files
    assert bool(run.stdout) == ("metrics.json" in (files or ()))


DURING_TRAINING = """
from eventsnn.train import callbacks

def call(self, progress, original=callbacks.Callbacks.call):
    original(self, progress)
    if progress.step == 40:
        interrupt()

callbacks.Callbacks.call = call
"""


def test_ctrl_c_during_training_writes_a_checkpoint(tmp_path):
    """It stops after the steps that are running, which are the next ones."""
    out = tmp_path / "out"
    program = INTERRUPT + DURING_TRAINING + MAIN
    options = ["ttfs-regression", "--quick", "--steps", "200", "--out", str(out)]
    run = subprocess.run(
        [sys.executable, "-c", program, "run", *options], capture_output=True, text=True
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith("eventsnn: ")]
    assert lines[0].startswith("eventsnn: stopping after these steps, for --resume")
    command = shlex.join(["eventsnn", "run", *options, "--resume"])
    assert lines[1:] == [f"eventsnn: interrupted; to continue from step 60: {command}"]
    assert run.returncode == 130
    assert run.stdout == ""
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept == ["checkpoint-0000000060.npz", "settings.json"]


@pytest.mark.parametrize(("streams", "code"), [("<&- >&- 2>&-", 0), (">/dev/full 2>/dev/full", 1)])
def test_files_are_whole_whatever_becomes_of_the_streams(streams, code, tmp_path):
    out = tmp_path / "out"
    program = "import sys\n" + TASK + MAIN
    shell = f'exec "$0" -c "$1" run yin-yang --out "$2" {streams}'
    run = subprocess.run(
        ["sh", "-c", shell, sys.executable, program, str(out)],
        env=os.environ | {"MPLBACKEND": "garbage"},
        timeout=120,
        check=False,
    )
    assert run.returncode == code
    assert {path.name for path in out.iterdir()} == {"metrics.json", "loss.png", "raster.png"}
    assert json.loads((out / "metrics.json").read_text())["test_accuracy"] == 0.5
    assert (out / "raster.png").read_text() == "drawn"


def test_an_environment_that_jax_refuses_is_one_line():
    run = subprocess.run(
        [sys.executable, "-m", "eventsnn", "tasks"],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "abc"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 2 and run.stdout == "" and run.stderr.count("\n") == 1
    assert run.stderr.startswith("eventsnn: error: import failed: ") and "abc" in run.stderr
