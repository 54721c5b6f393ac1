"""Runs in blocks of steps, which the backward pass computes again, and truncated gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from .arguments import Inputs, Options

Index = int | Int[Array, ""]
#: Function of the inputs of some steps, the state before them, and the index of the first of them.
#: It returns records, with the time axis first, and the state after these steps.
RunSteps = Callable[[Inputs, PyTree, Index], tuple[Any, PyTree]]


def run_in_blocks(
    run_steps: RunSteps, inputs: Inputs, state: PyTree, options: Options
) -> tuple[Any, PyTree]:
    """Run all steps, in the blocks that the options ask for.

    The blocks of a truncated gradient are divided further by `options.checkpoint_every`. Without
    it, they are themselves computed again in the backward pass.

    **Returns:** the records of all steps, and the state after the last step.
    """
    every, truncate = options.checkpoint_every, options.truncate_every
    recomputed = partial(in_blocks, run_steps, every=every, keep=False)
    if truncate is None:
        return recomputed(inputs, state, 0)

    def segment(inputs, state, first):
        return recomputed(inputs, _constant_unless(first == 0, state), first)

    return in_blocks(segment, inputs, state, 0, every=truncate, keep=every is not None)


def _constant_unless(differentiable, state):
    """Return the state, without gradient unless `differentiable`."""
    return jax.tree.map(lambda x: jnp.where(differentiable, x, jax.lax.stop_gradient(x)), state)


def in_blocks(
    run_steps: RunSteps,
    inputs: Inputs,
    state: PyTree,
    first: Index,
    *,
    every: int | None,
    keep: bool,
) -> tuple[Any, PyTree]:
    """Run in blocks of `every` steps, the last of them shorter if necessary.

    **Arguments:**

    - `run_steps`: function that runs the steps of one block.
    - `inputs`, `state`, `first`: the inputs of all steps, the state before them, and the index of
        the first of them.
    - `every`: number of steps per block. None: all steps are one block, which is kept.
    - `keep`: whether the backward pass keeps what it needs of every block. Otherwise it keeps only
        the state before each block, and computes one block at a time again.

    **Returns:** the records of all steps, and the state after the last step.
    """
    if every is None:
        return run_steps(inputs, state, first)
    every = min(every, inputs.num_steps)
    number, rest = divmod(inputs.num_steps, every)
    # In a scan, the compiler cannot merge the recomputation with the forward pass.
    in_scan, alone = partial(jax.checkpoint, prevent_cse=False), jax.checkpoint

    def block(part, start, state):
        return run_steps(inputs.block(part, start, every), state, first + start)

    def last_block(x, state):
        return run_steps(inputs._replace(x=x, num_steps=rest), state, first + number * every)

    def body(state, at):
        part, start = at
        records, state = (block if keep else in_scan(block))(part, start, state)
        return state, records

    starts = every * jnp.arange(number, dtype=jnp.int32)
    state, records = jax.lax.scan(body, state, (inputs.in_blocks(number, every), starts))
    records = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), records)
    if rest:
        more, state = (last_block if keep else alone(last_block))(inputs.last(rest), state)
        records = jax.tree.map(lambda *parts: jnp.concatenate(parts), records, more)
    return records, state
