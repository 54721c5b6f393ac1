"""Consecutive steps of the run of one sample. The steps after its end change nothing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from .arguments import Inputs


class Steps(NamedTuple):
    """Consecutive steps of a run."""

    first: int | Int[Array, ""]
    """Index of the first of these steps in the run."""
    number: int
    length: Int[Array, ""] | None
    """Number of steps of the sample, counted from the start of the run. None: it has no end."""

    @property
    def indices(self) -> Int[Array, " steps"]:
        """Indices of the steps in the run."""
        return self.first + jnp.arange(self.number, dtype=jnp.int32)

    @property
    def active(self) -> Bool[Array, " steps"] | None:
        """Mask of the steps before the end of the sample. None if all are."""
        return None if self.length is None else self.indices < self.length

    def keys(self, key: PRNGKeyArray) -> PRNGKeyArray:
        """One key per step, which depends only on the index of the step in the run."""
        return jax.vmap(lambda step: jax.random.fold_in(key, step))(self.indices)

    def silence(self, values: PyTree) -> PyTree:
        """Replace the values of all steps, time axis first, by 0 after the end of the sample."""
        if self.active is None:
            return values
        return jax.vmap(silenced)(self.active, values)

    def mask(self, inputs: Inputs) -> Inputs:
        """Replace the inputs after the end by that of the first step of the sample.

        Values there have no effect, but a NaN would make gradients NaN, and so would a 0 in a layer
        that is not differentiable at 0.
        """
        if inputs.constant or self.active is None:
            return inputs
        fill = jax.vmap(chosen, in_axes=(0, 0, None))
        return inputs._replace(x=fill(self.active, inputs.x, inputs.start))

    def hold(self, states: PyTree, before: PyTree) -> PyTree:
        """Hold the states of all steps, time axis first, after the end of the sample.

        `before` is the state before the first of these steps.
        """
        if self.length is None:
            return states
        last = self.length - 1 - self.first

        def end(each, before):
            return jnp.where(last < 0, before, each[jnp.clip(last, 0, self.number - 1)])

        ended = jax.tree.map(end, states, before)
        return jax.vmap(chosen, in_axes=(0, 0, None))(self.active, states, ended)


def silenced(active: Bool[Array, ""] | None, values: PyTree) -> PyTree:
    """Return the values of one step, replaced by 0 unless it is active. None means active."""
    return chosen(active, values, jax.tree.map(jnp.zeros_like, values))


def chosen(active: Bool[Array, ""] | None, values: PyTree, others: PyTree) -> PyTree:
    """Return the values of one step if it is active, otherwise the others. None means active."""
    if active is None:
        return values
    return jax.tree.map(lambda x, other: jnp.where(active, x, other), values, others)
