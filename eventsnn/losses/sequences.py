"""Arrays over time, of samples that may have different numbers of steps."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .. import checks
from .classes import at_least_float32


class Sequences(NamedTuple):
    """Spikes or membrane potentials of a batch of samples."""

    values: Float[Array, "time *batch n_out"]
    """0 at the steps after the end of a sample."""
    lengths: Int[Array, "*batch"] | None
    """Number of steps of each sample. None: all steps."""

    @property
    def steps(self) -> Float[Array, "..."]:
        """Number of steps of each sample, in the precision of the values."""
        steps = self.values.shape[0] if self.lengths is None else self.lengths
        return jnp.asarray(steps, self.values.dtype)

    @property
    def last(self) -> Int[Array, "..."]:
        """Index of the last step of each sample."""
        steps = self.values.shape[0] if self.lengths is None else self.lengths
        return jnp.asarray(steps, jnp.int32) - 1

    @property
    def total(self) -> Float[Array, ""]:
        """Number of steps of all samples together."""
        samples = self.values[0, ..., 0].size if self.lengths is None else 1
        return jnp.sum(self.steps) * samples

    def until_end(self, x: Array, after: float = 0.0) -> Array:
        """Replace the entries of an array of shape (time, *batch, ...) after the end of a sample.

        Neither the new values nor their gradients depend on what was there before, NaN included.
        """
        if self.lengths is None:
            return x
        active = _active(x.shape[0], self.lengths)
        axes = tuple(range(active.ndim, x.ndim))
        return jnp.where(jnp.expand_dims(active, axes), x, jnp.asarray(after, x.dtype))

    def sum(self, x: Float[Array, " time *batch"]) -> Float[Array, "*batch"]:
        """Sum over the steps of each sample."""
        return jnp.sum(self.until_end(x), axis=0)

    def mean(self, x: Float[Array, " time *batch"]) -> Float[Array, "*batch"]:
        """Mean over the steps of each sample."""
        return self.sum(x) / self.steps


def sequences(name: str, value: ArrayLike, lengths: Int[ArrayLike, "*batch"] | None) -> Sequences:
    """Convert spikes or membrane potentials to float32 or higher precision and check the shapes.

    In that precision spike counts and step indices are exact integers.
    """
    x = at_least_float32(name, value)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"{name} must have shape (time, *batch, outputs), at least one of each, "
            f"got shape {x.shape}."
        )
    found = Sequences(x, checks.lengths(lengths, x.shape[1:-1], x.shape[0]))
    return found._replace(values=found.until_end(x))


def _active(num_steps: int, lengths: Int[Array, "*batch"]) -> Bool[Array, " time *batch"]:
    """Mask of the steps before the end of each sample."""
    steps = jnp.arange(num_steps, dtype=lengths.dtype)
    return jnp.expand_dims(steps, tuple(range(1, lengths.ndim + 1))) < lengths
