"""Harness side of the protocol: a worker subprocess that answers one request at a time."""

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class WorkerError(RuntimeError):
    """Error of a worker that rejected a request or died."""


def worker_environment() -> dict[str, str]:
    """Return the environment without JAX and XLA settings: CPU only, no compilation cache."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("JAX_", "XLA_")) and k != "PYTHONPATH"
    }
    return kept | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}


class Worker:
    """Process `python -m module`, started by `python` in the repository root; ended by `close`."""

    def __init__(self, python: str | Path, module: str) -> None:
        self.module = module
        self.process = subprocess.Popen(
            [str(python), "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=worker_environment(),
        )

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for its reply."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(
                f"{self.module} ended during {command!r} (exit code {self.process.wait()})"
            )
        reply = json.loads(line)
        if not reply.pop("ok"):
            raise WorkerError(f"{self.module}: {command!r} failed: {reply['error']}")
        return reply

    def close(self) -> None:
        """End the worker: closes its input, and the worker exits after its current request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
