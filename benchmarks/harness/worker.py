"""Harness side of the protocol: worker processes that answer one request at a time."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from . import environments


class WorkerError(RuntimeError):
    """Error of a worker that rejected a request or died."""


def worker_environment() -> dict[str, str]:
    """Return the environment without JAX and XLA settings: CPU only, no compilation cache."""
    own = ("JAX_", "XLA_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}


class Worker:
    """Process that serves the `Commands` of a module, in the repository root; ended by `close`."""

    def __init__(self, python: str | Path, module: str) -> None:
        self.module = module
        self.process = subprocess.Popen(
            [str(python), "-m", "benchmarks.workers", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=environments.ROOT,
            env=worker_environment(),
        )
        self.requests = cast(IO[str], self.process.stdin)
        self.replies = cast(IO[str], self.process.stdout)

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for its reply. Paths are sent as text."""
        line = ""
        with contextlib.suppress(BrokenPipeError):
            request = json.dumps({"command": command, **arguments}, default=str)
            print(request, file=self.requests, flush=True)
            line = self.replies.readline()
        if not line:
            code = self.process.wait()
            raise WorkerError(f"{self.module} ended during {command!r} (exit code {code})")
        reply = json.loads(line)
        if not reply.pop("ok"):
            raise WorkerError(f"{self.module}: {command!r} failed: {reply['error']}")
        return reply

    def close(self) -> None:
        """End the worker: closes its input, and the worker exits after its current request."""
        with contextlib.suppress(BrokenPipeError):
            self.requests.close()
        self.process.wait()
        self.replies.close()


Workers = dict[str, Worker]


@contextlib.contextmanager
def started(
    folder: str, peer: str | None = None, ours: Sequence[str] = ("ours",)
) -> Iterator[tuple[Workers, Path]]:
    """Start the workers of a benchmark, and make a temporary directory for their files.

    The workers are the module `ours` of the benchmark, one process per name in `ours`, and the
    module of the peer, named "peer", in the environment of the peer.
    """
    commands: dict[str, tuple[str | Path, str]] = dict.fromkeys(
        ours, (sys.executable, f"benchmarks.{folder}.ours")
    )
    if peer is not None:
        commands["peer"] = (environments.ensure(peer), f"benchmarks.{folder}.peer_{peer}")
    with tempfile.TemporaryDirectory() as files, contextlib.ExitStack() as stack:
        workers = {name: Worker(*command) for name, command in commands.items()}
        for worker in workers.values():
            stack.enter_context(contextlib.closing(worker))
        yield workers, Path(files)
