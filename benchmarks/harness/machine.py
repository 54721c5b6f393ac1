"""Description of the machine on which the results were measured."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Describe CPU, cores, memory, load, Python and JAX, without the host's name or paths."""
    kilobytes = _first_match("/proc/meminfo", r"^MemTotal:\s*(\d+) kB")
    cpu = _first_match("/proc/cpuinfo", r"^model name\s*:\s*(.+)$")
    return {
        "cpu": cpu or platform.processor() or platform.machine(),
        "cores": _cores(),
        "memory_gb": round(int(kilobytes) * 1024 / 1e9, 1) if kilobytes else None,
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "jax": metadata.version("jax"),
    }


def slug(machine: dict[str, Any]) -> str:
    """Return a short machine name for file names, e.g. `amd-epyc-4-cores`."""
    name = f"{machine['cpu']} {machine['cores']} cores".lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def _first_match(path: str, pattern: str) -> str | None:
    """Return the first group of `pattern` in a file, or None without such a file or line."""
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def _cores() -> int:
    """Number of logical cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
