"""Versions of this package and of the packages that it uses."""

import importlib.metadata
import platform

_PACKAGES = ("eventsnn", "jax", "jaxlib", "equinox", "optax", "diffrax")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that it needs, by name."""
    found = {name: installed(name) or "not installed" for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def installed(package: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
