"""Devices of JAX, with one message if it cannot open them."""

import os

import jax


def opened() -> list[jax.Device]:
    """Open the devices of JAX and return them.

    **Raises:** `RuntimeError` if there are none, with a message that names the variable
    `JAX_PLATFORMS`, if it is set.
    """
    try:
        return jax.devices()
    except Exception as error:  # an assertion without a message, if JAX lacks CUDA
        platforms = os.environ.get("JAX_PLATFORMS")
        setting = f" with JAX_PLATFORMS={platforms}" if platforms else ""
        reason = str(error) or "no such device"
        raise RuntimeError(f"JAX cannot start{setting}: {reason}") from None
