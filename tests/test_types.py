"""The annotations of the package hold: they are executed by jaxtyping and beartype."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def test_annotations_hold():
    run = subprocess.run(
        [sys.executable, HERE / "typed.py"], capture_output=True, text=True, check=False, cwd=HERE
    )
    assert run.stdout.strip() == "0 failed", run.stderr[-6000:]
