"""Every test runs in float64 with strict promotion; warnings are errors (pyproject.toml)."""

import os

import jax
import pytest
from registry import QUICK

from eventsnn.cpu import known_options

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def getkey():
    """A function that gives a new key at every call; the same ones in every run."""
    key = jax.random.key(0)

    def next_key():
        nonlocal key
        key, now = jax.random.split(key)
        return now

    return next_key


def pytest_configure(config):
    """Most of the time goes into compiling, so the workers compile quickly, and so do the processes
    that they start. (An unknown flag would end a process: the first one leaves them out.)"""
    if hasattr(config, "workerinput") or "XLA_FLAGS" in os.environ:
        return
    flags = [f"--{name}={str(value).lower()}" for name, value in known_options(QUICK).items()]
    os.environ["XLA_FLAGS"] = " ".join(flags)
