"""Checkpoints of the state, from which a backward pass recomputes the states of all rows."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ..neurons.base import State

#: Checkpoint interval: the state is stored at the first row of each block of this many rows. A
#: backward pass recomputes the other states.
CHECKPOINT_EVERY = 16


def state_table(rows: int, state: State) -> Float[Array, "rows components batch"]:
    """Allocate a table of `rows` states.

    It is one array, since XLA would fill and copy each of several arrays.
    """
    leaves = jax.tree.leaves(state)
    width = sum(x.size // x.shape[-1] for x in leaves)
    return jnp.zeros((rows, width, leaves[0].shape[-1]), leaves[0].dtype)


def n_checkpoints(rows: int) -> int:
    """Number of checkpoint slots for a record of `rows` rows.

    There is one slot per block, and one more that rows after the last checkpoint overwrite.
    """
    return 1 + -(-rows // CHECKPOINT_EVERY)


def write_state(table: Array, row: Int[Array, ""], state: State) -> Array:
    """Return the table with `state` written to row `row`."""
    offset = jnp.zeros_like(row)
    for x in jax.tree.leaves(state):
        flat = x.reshape(1, -1, x.shape[-1])
        table = lax.dynamic_update_slice(table, flat, (row, offset, jnp.zeros_like(row)))
        offset = offset + flat.shape[1]
    return table


def read_state(table: Array, row: Int[Array, ""], like: State) -> State:
    """Return the state stored in row `row`; `like` has its structure and shapes."""
    leaves, tree = jax.tree.flatten(like)
    offset, out = jnp.zeros_like(row), []
    for x in leaves:
        shape = (1, x.size // x.shape[-1], x.shape[-1])
        part = lax.dynamic_slice(table, (row, offset, jnp.zeros_like(row)), shape)
        out.append(part.reshape(x.shape))
        offset = offset + shape[1]
    return jax.tree.unflatten(tree, out)
