"""Description of the machine on which the results were measured."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Describe CPU, cores, memory, load, Python and JAX, without the host's name or paths."""
    known = hasattr(os, "sched_getaffinity")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _model_name() or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1,
        "memory_gb": round(memory / 1e9, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "jax": metadata.version("jax"),
    }


def slug(machine: dict[str, Any]) -> str:
    """Return a short machine name for file names, e.g. `amd-epyc-4-cores`."""
    name = f"{machine['cpu']} {machine['cores']} cores".lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")


def _model_name() -> str | None:
    """Return the name of the CPU on Linux."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found and found.group(1).strip()
