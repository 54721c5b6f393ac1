"""Regression between spike times: an input spike at `x` asks for an output spike at `target(x)`.

All times are in ms.
"""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import checks

X_MAX = 30.0
AMPLITUDE = 5.0
PERIOD = 10.0
# The output can only follow its input, and it has to travel through the network first.
DELAY = 30.0

_BLOCK = 256


def target(x: Float[Array, " *batch"]) -> Float[Array, " *batch"]:
    r"""The time the output should fire: $5\sin(2\pi x/10) + x + 30$."""
    x = checks.floating("x", x)
    return AMPLITUDE * jnp.sin(2 * jnp.pi * x / PERIOD) + x + DELAY


def event_inputs(x: Float[Array, " *batch"]) -> Float[Array, "*batch 1 2"]:
    """The input spikes of one channel: one at 0, which starts the clock, and one at `x`."""
    x = checks.floating("x", x)
    return jnp.stack([jnp.zeros_like(x), x], axis=-1)[..., None, :]


def sample(
    key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[Float[Array, "*batch 1 2"], Float[Array, "*batch 1"]]:
    """Input spikes and target times of `x` drawn uniformly from [0, 30)."""
    shape = checks.shape("shape", shape)
    x = jax.random.uniform(checks.key("key", key), shape, maxval=X_MAX)
    return event_inputs(x), target(x)[..., None]


def grid(n: int = 100) -> Float[Array, " {n}"]:
    """The test inputs: `n` points evenly spaced over [0, 30]."""
    return jnp.linspace(0.0, X_MAX, checks.count("n", n))


def batches(
    key: PRNGKeyArray, *, batch_size: int
) -> Iterator[tuple[Float[Array, "{batch_size} 1 2"], Float[Array, "{batch_size} 1"]]]:
    """Batches of fresh samples, without end.

    **Raises:** `ValueError` for what is no key, or `batch_size` < 1.
    """
    return _batches(checks.key("key", key), checks.count("batch_size", batch_size))


def _batches(key, batch_size):
    for block in itertools.count():
        # Drawn many batches at a time: one small dispatch a batch would cost more than the sample.
        drawn = sample(jax.random.fold_in(key, block), (_BLOCK, batch_size))
        yield from zip(*jax.device_get(drawn), strict=True)
