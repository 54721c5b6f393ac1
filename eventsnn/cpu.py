"""XLA settings for event loops on a CPU."""

import functools
import os
import warnings
from collections.abc import Mapping
from typing import Any

import jax

from . import checks

#: XLA compiles a `while` loop whose arrays take fewer bytes than this as one function, instead of
#: as one task per small operation.
_ONE_FUNCTION_BYTES = 100_000_000


def prepare_cpu(devices: int | None = None) -> None:
    """Configure JAX for event loops on a CPU. Call it before JAX computes anything.

    Calling it later has no effect, except for a `UserWarning` if the settings have not been made
    already. It makes two settings:

    - One host device per core. A single event loop uses a single core, so
      [`eventsnn.train.fit`][] or your own `jax.shard_map` splits each batch across the devices.
    - XLA compiles each event loop as one function.

    Your own settings in `XLA_FLAGS` are kept. A number of devices in `XLA_FLAGS` or
    `JAX_NUM_CPU_DEVICES` is used if `devices` is None.

    **Arguments:**

    - `devices`: the number of host devices, >= 1. Default: None, your own setting or else one per
        core available to this process.

    **Raises:** `ValueError` if `devices` is not an integer >= 1.
    """
    if devices is not None:
        devices = checks.count("devices", devices)
    flags = os.environ.get("XLA_FLAGS", "")
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in flags
    wanted = devices or (None if chosen else cores())
    # XLA ends the process if it does not know a flag. The flag xla_backend_extra_options is as old
    # as XLA's backends, and unknown options in it that begin with xla_ are ignored.
    has_options = "xla_backend_extra_options" in flags
    if _has_devices():
        _warn_if_late(wanted, has_options)
        return
    if wanted is not None:
        jax.config.update("jax_num_cpu_devices", wanted)
    if not has_options:
        option = f"xla_cpu_small_while_loop_byte_threshold={_ONE_FUNCTION_BYTES}"
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={option}".strip()


def _has_devices() -> bool:
    """Return whether JAX has opened its devices. Their number cannot be changed afterwards."""
    name = "jax_num_cpu_devices"
    before = getattr(jax.config, name)
    try:
        jax.config.update(name, before + 1)
    except RuntimeError:
        return True
    jax.config.update(name, before)
    return False


def _warn_if_late(wanted: int | None, has_options: bool) -> None:
    """Warn unless the settings have been made already, for example by an earlier call."""
    try:
        found = len(jax.local_devices(backend="cpu"))
    except RuntimeError:  # JAX does not use the CPU
        return
    if wanted not in (None, found) or not has_options:
        number = "1 device" if found == 1 else f"{found} devices"
        warnings.warn(
            f"prepare_cpu has no effect, since JAX has already opened its devices ({number} on the "
            "CPU). Call it at the start of the program, before jax.devices() and the first array.",
            stacklevel=3,
        )


def compiler_options() -> Any:
    """Compiler options for event loops, to be used in `jax.jit(..., compiler_options=...)`.

    On a CPU, 512-bit vectors, twice the width that XLA uses by default. None on other backends.
    """
    if jax.default_backend() != "cpu":
        return None
    return known_options({"xla_cpu_prefer_vector_width": 512})


def known_options(options: Mapping[str, bool | int | float | str]) -> dict[str, Any]:
    """Select the options for `jax.jit(..., compiler_options=...)` that the installed XLA accepts.

    Options change between versions of jaxlib, and XLA does not compile with an unknown option. Each
    option is tested once per process, on a trivial program.

    **Arguments:**

    - `options`: option values by name. The names have no leading dashes.
    """
    return {name: value for name, value in options.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    program = jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0)
    try:
        program.compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def cores() -> int:
    """Number of CPUs that are available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
