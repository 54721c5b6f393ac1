"""Spike-time regression: the target of an input spike at `x` is an output spike at `target(x)`.

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
# The output spike must come after the input spike and its propagation through the network.
DELAY = 30.0

_BLOCK = 256


def target(x: Float[Array, " *batch"]) -> Float[Array, " *batch"]:
    r"""Target time of the output spike, $5\sin(2\pi x/10) + x + 30$.

    **Arguments:**

    - `x`: input spike times (ms), of any shape.
    """
    x = checks.floating("x", x)
    return AMPLITUDE * jnp.sin(2 * jnp.pi * x / PERIOD) + x + DELAY


def event_inputs(x: Float[Array, " *batch"]) -> Float[Array, "*batch 1 2"]:
    """Input spike times of one channel: one at 0 as a time reference, and one at `x`."""
    x = checks.floating("x", x)
    return jnp.stack([jnp.zeros_like(x), x], axis=-1)[..., None, :]


def sample(
    key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[Float[Array, "*batch 1 2"], Float[Array, "*batch 1"]]:
    """Sample input spikes and target times, with `x` uniformly distributed in [0, 30).

    **Arguments:**

    - `key`: a JAX random key.
    - `shape`: shape of the batch.
    """
    shape = checks.shape("shape", shape)
    x = jax.random.uniform(checks.key("key", key), shape, maxval=X_MAX)
    return event_inputs(x), target(x)[..., None]


def grid(n: int = 100) -> Float[Array, " {n}"]:
    """Test inputs: `n` evenly spaced points in [0, 30]."""
    return jnp.linspace(0.0, X_MAX, checks.count("n", n))


def batches(
    key: PRNGKeyArray, *, batch_size: int
) -> Iterator[tuple[Float[Array, "{batch_size} 1 2"], Float[Array, "{batch_size} 1"]]]:
    """Yield batches of new samples, without end.

    **Arguments:**

    - `key`: a JAX random key.
    - `batch_size`: number of samples per batch.

    **Raises:** `ValueError` for an invalid key, or `batch_size` < 1.
    """
    return _batches(checks.key("key", key), checks.count("batch_size", batch_size))


def _batches(key, batch_size):
    for block in itertools.count():
        # Many batches per dispatch: one small dispatch per batch would cost more than the samples.
        drawn = sample(jax.random.fold_in(key, block), (_BLOCK, batch_size))
        yield from zip(*jax.device_get(drawn), strict=True)
