"""Shared configuration: float64 with strict promotion; warnings are errors (pyproject.toml)."""

import ast
import contextlib
import ctypes
import functools
import gc
import os
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import psutil
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# JAX writes source locations into every program, which takes a tenth of the time of the tests. The
# environment variables switch this off in the processes that tests start.
for name in ("jax_include_full_tracebacks_in_locations", "jax_traceback_in_locations_limit"):
    jax.config.update(name, 0)
    os.environ[name.upper()] = "0"

# JAX creates many small objects during tracing, and scanning them all takes a tenth of the time of
# the tests; garbage is collected only when programs are dropped.
gc.set_threshold(200_000, 50, 1000)

GB_PER_WORKER = 2  # maximum
GB_OF_PROGRAMS = 1.1  # programs and all other memory of a worker; above it, programs are dropped
GB_OF_NEW_PROGRAMS = 0.3  # since programs were last dropped, which takes a second; likewise
CACHED = type(functools.lru_cache(len))
MEMORY = pytest.StashKey["Memory"]()
REMAINING = pytest.StashKey[float]()  # GB after programs were last dropped


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def getkey():
    """Function that returns a new key at every call; the sequence is the same in every run."""
    key = jax.random.key(0)

    def next_key():
        nonlocal key
        key, now = jax.random.split(key)
        return now

    return next_key


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item):
    """Drop all compiled programs when a worker uses much memory.

    Their memory is returned to the system explicitly, because glibc does not do so by itself.
    """
    process, stash = psutil.Process(), item.config.stash
    if resident_gb(process) < max(GB_OF_PROGRAMS, stash.get(REMAINING, 0.0) + GB_OF_NEW_PROGRAMS):
        return
    jax.clear_caches()
    for cached in gc.get_objects():  # JAX does not know our caches; they refer to programs, too
        if isinstance(cached, CACHED) and cached.__module__.startswith("eventsnn"):
            cached.cache_clear()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    stash[REMAINING] = resident_gb(process)


def pytest_configure(config):
    """Compile with few optimisations, here and in the processes that tests start.

    Compilation takes most of the time. XLA reads the flags once, when JAX opens its devices, and
    ends a process that has an unknown flag; a separate process therefore finds out which flags are
    known.
    """
    if hasattr(config, "workerinput"):
        return
    config.stash[MEMORY] = Memory()
    if "XLA_FLAGS" in os.environ:
        return
    code = (
        f"import sys; sys.path.append({os.path.dirname(__file__)!r});"
        "from helpers import registry;"
        "print(registry.known_options(registry.QUICK))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    options = ast.literal_eval(run.stdout)
    flags = [f"--{name}={str(value).lower()}" for name, value in options.items()]
    os.environ["XLA_FLAGS"] = " ".join(flags)


class Memory(threading.Thread):
    """Memory monitor: twice per second, measures this process and its descendants.

    These are the workers and the processes that tests start. Shared pages count once per process.
    """

    peak = 0.0

    def __init__(self):
        super().__init__(daemon=True)
        self.start()

    def run(self):
        while True:
            tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
            self.peak = max(self.peak, sum(map(resident_gb, tree)))
            time.sleep(0.5)


def resident_gb(process):
    try:
        return process.memory_info().rss / 2**30
    except psutil.NoSuchProcess:
        return 0.0


def limit_gb(config):
    return GB_PER_WORKER * max(1, config.getoption("numprocesses", None) or 1)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    memory = session.config.stash.get(MEMORY, None)
    if memory and memory.peak > limit_gb(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    peak, limit = config.stash[MEMORY].peak, limit_gb(config)
    line = f"peak memory of all processes: {peak:.2f} GB (at most {limit} GB)"
    terminalreporter.write_line(line, red=peak > limit)


@pytest.fixture
def as_users_do():
    """Default settings of a user: float32, with JAX's own promotion (needed by Adam's bias
    correction)."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield
