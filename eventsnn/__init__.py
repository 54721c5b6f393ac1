"""Spiking neural networks with exact spike times and exact gradients, on JAX and Equinox.

The public names are imported at the first use of one of them, and the packages `plots`, `tasks` and
`train` at their own first use. The command line must handle Ctrl-C before JAX is imported, which
takes seconds.
"""

import importlib

TYPE_CHECKING = False  # type checkers treat it as true; importing `typing` takes 20 ms
if TYPE_CHECKING:
    from ._api import *  # noqa: F403

    __version__: str

_PACKAGES = ("plots", "tasks", "train")


def __getattr__(name: str):
    if name == "__version__":
        return _version()
    if name == "__all__":
        return [*_names()]
    if not name.startswith("_"):
        try:
            return importlib.import_module(f".{name}", __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
        if name in _names():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_names(), *_PACKAGES, "__version__"})


def _names():
    """Return the public names with their values, and set them as attributes of the package."""
    api = importlib.import_module("._api", __name__)
    names = {name: getattr(api, name) for name in api.__all__}
    globals().update(names)
    return names


def _version():
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(__name__)
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
