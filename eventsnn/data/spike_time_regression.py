"""Spike-time regression: the target for an input spike at `x` is an output spike at `target(x)`.

All times are in ms.
"""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .. import checks

__all__ = [
    "AMPLITUDE",
    "OFFSET",
    "PERIOD",
    "X_MAX",
    "batches",
    "event_inputs",
    "grid",
    "sample",
    "target",
]

#: Largest input time.
X_MAX = 30.0
#: Amplitude of the sine in the target.
AMPLITUDE = 5.0
#: Period of the sine in the target.
PERIOD = 10.0
#: Constant in the target. The output can fire only after the input spike has reached it.
OFFSET = 30.0

# Number of batches that are sampled at a time.
_BLOCK = 256


def target(x: Float[ArrayLike, " *batch"]) -> Float[Array, " *batch"]:
    r"""Target time of the output spike, $5\sin(2\pi x/10) + x + 30$.

    **Arguments:**

    - `x`: input spike times (ms), of any shape.

    **Returns:** the target times (ms), of the shape of `x`.

    **Raises:** `ValueError` if `x` is not an array of real numbers.
    """
    x = checks.floating("x", x)
    return AMPLITUDE * jnp.sin(2 * jnp.pi * x / PERIOD) + x + OFFSET


def event_inputs(x: Float[ArrayLike, " *batch"]) -> Float[Array, "*batch 1 2"]:
    """Encode `x` as two spikes of one input channel: one at 0 as a time reference, one at `x`.

    **Arguments:**

    - `x`: input spike times (ms), of any shape.

    **Returns:** the input spike times (ms), of shape `(*x.shape, 1, 2)`.

    **Raises:** `ValueError` if `x` is not an array of real numbers.
    """
    x = checks.floating("x", x)
    return jnp.stack([jnp.zeros_like(x), x], axis=-1)[..., None, :]


def sample(
    key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[Float[Array, "*batch 1 2"], Float[Array, "*batch 1"]]:
    """Sample input spikes and target times, with `x` uniformly distributed in [0, 30).

    **Arguments:**

    - `key`: a JAX random key.
    - `shape`: shape of the batch, a tuple of integers.

    **Returns:** `(in_times, targets)` in ms, input spike times of shape `(*shape, 1, 2)` and target
    times of shape `(*shape, 1)`.

    **Raises:** `ValueError` for an invalid key or shape.
    """
    shape = checks.shape("shape", shape)
    x = jax.random.uniform(checks.key("key", key), shape, maxval=X_MAX)
    return event_inputs(x), target(x)[..., None]


def grid(n: int = 100) -> Float[Array, " {n}"]:
    """Return evenly spaced test inputs from 0 to 30 ms.

    **Arguments:**

    - `n`: number of test inputs. Default: 100.

    **Raises:** `ValueError` if `n` is not an integer >= 1.
    """
    return jnp.linspace(0.0, X_MAX, checks.count("n", n))


def batches(
    key: PRNGKeyArray, *, batch_size: int
) -> Iterator[tuple[Float[Array, "{batch_size} 1 2"], Float[Array, "{batch_size} 1"]]]:
    """Yield batches `(in_times, targets)` of new samples as in [`sample`][], without end.

    **Arguments:**

    - `key`: a JAX random key.
    - `batch_size`: number of samples per batch.

    **Raises:** `ValueError` for an invalid key, or `batch_size` < 1.
    """
    return _batches(checks.key("key", key), checks.count("batch_size", batch_size))


def _batches(key, batch_size):
    for block in itertools.count():
        # One dispatch per batch would take longer than the sampling itself.
        drawn = sample(jax.random.fold_in(key, block), (_BLOCK, batch_size))
        yield from zip(*jax.device_get(drawn), strict=True)
