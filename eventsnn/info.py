"""Report on the installation: versions, devices, precision and data sets."""

import os
import pathlib
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from . import devices
from .cpu import cores, prepare_cpu
from .data import folders, heidelberg, japanese_vowels, mnist
from .versions import installed, versions

#: Packages that each extra installs.
EXTRAS = {"data": ("aeon", "h5py"), "nir": ("nir",), "tensorboard": ("tensorboardX",)}

_VARIABLES = ("JAX_", "XLA_", "EVENTSNN_", "CUDA_VISIBLE_DEVICES")


def facts() -> dict[str, Any]:
    """Collect the report, as values for JSON. This opens the devices of JAX, as a run does.

    `versions` are those of Python and of the packages that eventsnn needs, `extras` those of the
    optional packages (None: not installed), `devices` those of JAX (with the error, if there are
    none), `dtype` the default precision, `cpus` the number of CPUs available to this process,
    `environment` the variables that change settings, and `data` the `status` of each data set:
    "bundled" with a package that is installed, "found" in a `folder`, or "missing". The `reason`
    names the package, or the missing file with a remedy.
    """
    environment = {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)}
    prepare_cpu()
    return {
        "versions": versions(),
        "extras": {name: installed(name) for names in EXTRAS.values() for name in names},
        "system": platform.platform(),
        "cpus": cores(),
        **_devices(),
        "dtype": str(jax.dtypes.canonicalize_dtype(float)),
        "environment": environment,
        "data": {
            **{name: _place("bundled", reason=f"with {x}") for name, x in _BUNDLED.items()},
            **{name: _found(find) for name, find in _DATA.items()},
        },
    }


def text(report: Mapping[str, Any]) -> str:
    """Format a report as lines of a name and a value."""
    pairs = list(_lines(report))
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in pairs)


def _lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = report["versions"]
    yield "eventsnn", found["eventsnn"]
    yield from ((name, version) for name, version in found.items() if name != "eventsnn")
    for extra, names in EXTRAS.items():
        parts = (f"{name} {report['extras'][name] or 'not installed'}" for name in names)
        yield f"[{extra}]", ", ".join(parts)
    yield "system", report["system"]
    yield "CPUs", f"{report['cpus']} available"
    yield "devices", ", ".join(report["devices"]) or f"none: {report['error']}"
    yield "precision", report["dtype"]
    yield from ({folders.VARIABLE: "not set"} | report["environment"]).items()
    for name, place in report["data"].items():
        yield name, place["folder"] or _WORDS[place["status"]] + place["reason"]


def _devices() -> dict[str, Any]:
    try:
        found, error = devices.opened(), None
    except RuntimeError as caught:
        found, error = [], str(caught)
    return {"devices": [f"{device} ({device.device_kind})" for device in found], "error": error}


def _found(find: Callable[[], str]) -> dict[str, str | None]:
    try:
        return _place("found", folder=find())
    except FileNotFoundError as error:
        return _place("missing", reason=str(error))


def _place(
    status: str, *, folder: str | None = None, reason: str | None = None
) -> dict[str, str | None]:
    return {"status": status, "folder": folder, "reason": reason}


def _folder(paths: Mapping[str, pathlib.Path]) -> str:
    """Folder of the files of a data set."""
    return str(next(iter(paths.values())).parent)


def _spoken(dataset: str) -> str:
    splits = heidelberg.SPLITS[dataset]
    return _folder({split: heidelberg.find(dataset, split) for split in splits})


#: Words before the reason of a data set without a folder, by its status.
_WORDS = {"bundled": "bundled ", "missing": "not found: "}

#: Data sets that need no files, and the packages that contain or generate them.
_BUNDLED = {"digits": "scikit-learn", "yin-yang": "eventsnn"}

#: Functions that find the folder of each data set with files.
_DATA: dict[str, Callable[[], str]] = {
    "mnist": lambda: _folder(mnist.find()),
    "shd": lambda: _spoken("shd"),
    "ssc": lambda: _spoken("ssc"),
    "japanese-vowels": lambda: _folder(japanese_vowels.find()),
}
