"""The optional package `nir`, imported at its first use."""

from typing import Any


def nir_package() -> Any:
    """Import the package `nir`.

    **Raises:** `ModuleNotFoundError` if it is not installed.
    """
    try:
        import nir
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "nir must be installed to exchange models and spike trains, got no such package: "
            "pip install 'eventsnn[nir]'."
        ) from None
    return nir
