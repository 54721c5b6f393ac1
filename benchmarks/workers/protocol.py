"""Worker side of the harness's protocol: one JSON line in, one JSON line out.

A request is `{"command": name, ...arguments}`; the reply is `{"ok": true, ...result}` or `{"ok":
false, "error": message}`. Only the standard library is used, so that every environment can run this
module.
"""

import importlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

Handler = Callable[..., dict[str, Any] | None]


def answer(line: str, commands: Mapping[str, Handler]) -> dict[str, Any]:
    """Carry out one request. Every failure becomes a reply, so that the harness can report it."""
    try:
        request = json.loads(line)
        name = request.pop("command")
        if name not in commands:
            raise ValueError(f"command must be one of {', '.join(commands)}, got {name!r}.")
        return {"ok": True, **(commands[name](**request) or {})}
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def serve(module: str, requests: IO[str] = sys.stdin) -> None:
    """Import a module and answer requests until the input ends.

    The commands are the public methods of an object made by `Commands` of the module, and `memory`.
    Standard output is reserved for replies: output that a library prints, also when it is imported,
    is redirected to standard error.
    """
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        worker = importlib.import_module(module).Commands()
        names = [name for name in dir(worker) if not name.startswith("_")]
        commands = {"memory": memory} | {name: getattr(worker, name) for name in names}
        for line in requests:
            print(json.dumps(answer(line, commands)), file=replies, flush=True)


def memory() -> dict[str, float]:
    """Peak resident size of this process, compiler included, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
