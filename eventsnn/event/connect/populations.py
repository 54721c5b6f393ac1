"""Populations of neurons, and the connections between them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Int

from ... import checks

#: A number of neurons, a range, or distinct indices.
Population = int | range | Sequence[int] | Int[ArrayLike, " neurons"]


class Connections(NamedTuple):
    """Sources and targets of synapses, as NumPy arrays of type int32."""

    sources: Int[np.ndarray, " synapses"]
    """Index of the source of each synapse, shape `(synapses,)`."""
    targets: Int[np.ndarray, " synapses"]
    """Index of the target neuron of each synapse, shape `(synapses,)`."""

    @property
    def n_synapses(self) -> int:
        """Number of synapses."""
        return len(self.sources)


def join(connections: Sequence[Connections]) -> Connections:
    """Join connections, in their order. Values of the synapses are joined by `numpy.concatenate`.

    **Arguments:**

    - `connections`: at least one [`Connections`][].

    **Raises:** `ValueError` for anything else.
    """
    expected = "a list of connections, at least one"
    parts = list(checks.instance("connections", connections, list | tuple, expected))
    if not parts or not all(isinstance(part, Connections) for part in parts):
        raise checks.value_error("connections", connections, expected)
    return Connections(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def one_to_one(sources: Population, targets: Population | None = None) -> Connections:
    """Connect the first source to the first target, the second to the second, and so on.

    **Arguments:**

    - `sources`: population of sources.
    - `targets`: population of target neurons of the same size. Default: None, neurons 0, 1, ...

    **Raises:** `ValueError` for populations of different sizes.
    """
    pre = checks.population("sources", sources)
    post = checks.population("targets", len(pre) if targets is None else targets)
    if len(pre) != len(post):
        sizes = f"got {len(pre)} and {len(post)}"
        raise ValueError(f"sources and targets must be populations of the same size, {sizes}.")
    return Connections(pre, post)


def without_self(sources: np.ndarray, targets: np.ndarray, self_connections: bool) -> Connections:
    """Connections, without those of a neuron to itself unless they are allowed."""
    if self_connections:
        return Connections(sources, targets)
    others = sources != targets
    return Connections(sources[others], targets[others])


def generator(key: Any) -> np.random.Generator:
    """Make a NumPy generator whose seed is a random key."""
    checks.key("key", key)
    if not checks.is_concrete(key):
        raise checks.value_error("key", key, "one jax.random key, not traced by JAX")
    with jax.ensure_compile_time_eval():
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        words = jax.random.key_data(key) if typed else key
    return np.random.default_rng([int(word) for word in np.asarray(words)])
