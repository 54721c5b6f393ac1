"""How XLA should use a CPU for event loops."""

import contextlib
import functools
import os
from collections.abc import Mapping
from typing import Any

import jax

from . import checks

#: Compile a `while` loop whose arrays take less than so many bytes as one function, instead of
#: one task for each of its many small operations.
_ONE_FUNCTION_BYTES = 100_000_000


def prepare_cpu(devices: int | None = None) -> None:
    """Set JAX up for event loops on a CPU. Call it before JAX computes anything; it is too late
    afterwards, and then nothing happens.

    One host device a core, so that [`eventsnn.train.fit`][] (or your own `jax.shard_map`) can
    spread a batch: one event loop keeps one core busy. And XLA compiles each event loop as one
    function. What you set yourself, by `XLA_FLAGS` or `JAX_NUM_CPU_DEVICES`, is kept.

    **Arguments:**

    - `devices`: how many host devices; by default one per core that this process may use.

    **Raises:** `ValueError` for a number that is no integer >= 1.
    """
    if devices is not None:
        devices = checks.count("devices", devices)
    flags = os.environ.get("XLA_FLAGS", "")
    chosen = "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in flags
    if devices is not None or not chosen:
        # JAX refuses when its devices are open already.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices or _cores())
    # XLA ends the process at a flag that it does not know. This one is as old as XLA's backends;
    # among its options those that begin with xla_ are ignored where they are not known.
    if "xla_backend_extra_options" not in flags:
        option = f"xla_cpu_small_while_loop_byte_threshold={_ONE_FUNCTION_BYTES}"
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={option}".strip()


def compiler_options() -> Any:
    """Options for `jax.jit(..., compiler_options=...)` that suit event loops: on a CPU, vectors
    as wide as the processor has them (XLA's default is half that)."""
    if jax.default_backend() != "cpu":
        return None
    return known_options({"xla_cpu_prefer_vector_width": 512})


def known_options(options: Mapping[str, bool | int | float | str]) -> dict[str, Any]:
    """The options for `jax.jit(..., compiler_options=...)` that the XLA installed takes.

    Options come and go with versions of jaxlib, and XLA refuses to compile with one that it does
    not know. Each is tried once per process, on a trivial program.

    **Arguments:**

    - `options`: values by name, without dashes.
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


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
