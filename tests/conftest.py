"""Every test runs in float64 with strict promotion; warnings are errors (pyproject.toml)."""

import jax
import pytest

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
