"""Validation of the arguments of a run: inputs over time, key, layers to record, state."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .. import checks
from .recording import Path


class Inputs(NamedTuple):
    """Inputs of a layer: one value per step, or one constant value for all steps."""

    x: Any
    constant: bool
    num_steps: int
    start: Any = None
    """Input of the first step of the run, if samples may end before the run."""

    def at_first_step(self) -> Any:
        """Input of the first step."""
        return self.x if self.constant else jax.tree.map(lambda x: x[0], self.x)

    def at_all_steps(self) -> Any:
        """Inputs of all steps, with the time axis first. A constant input is broadcast."""
        if not self.constant:
            return self.x
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_steps, *x.shape)), self.x)

    def in_blocks(self, number: int, size: int) -> Any:
        """Inputs of the first `number` blocks of `size` steps, with a first axis for the blocks.

        None for a constant input.
        """

        def split(x):
            return x[: number * size].reshape(number, size, *x.shape[1:])

        return None if self.constant else jax.tree.map(split, self.x)

    def block(self, part: Any, first: Int[Array, ""], size: int) -> "Inputs":
        """Inputs of the block `part` of `in_blocks`, whose first step is `first`."""
        x = self.x
        if not self.constant:
            x = jax.tree.map(lambda part, whole: _block(part, whole, first), part, x)
        return self._replace(x=x, num_steps=size)

    def last(self, size: int) -> Any:
        """Inputs of the last `size` steps."""
        return self.x if self.constant else jax.tree.map(lambda x: x[-size:], self.x)


@jax.custom_jvp
def _block(part, whole, first):
    """Return `part`, the steps of `whole` from `first` on, read from `whole`.

    Its derivative is that of `part`. The compiler then does not copy `whole` to divide it into
    blocks, and the backward pass does not add up arrays of the size of `whole`.
    """
    return jax.lax.dynamic_slice_in_dim(whole, first, part.shape[0])


@_block.defjvp
def _block_jvp(primals, tangents):
    return _block(*primals), tangents[0]


class Options(NamedTuple):
    """Static options of a run."""

    layers: tuple[int, ...]
    """Indices of the layers to record."""
    record: tuple[Path, ...]
    """Further states to record."""
    parallel: bool
    checkpoint_every: int | None
    truncate_every: int | None


def as_inputs(xs: Any, num_steps: int | None, *, batch: bool) -> Inputs:
    """Convert the inputs to arrays. Raise unless their time and batch axes agree."""
    xs = jax.tree.map(_array, xs, is_leaf=lambda x: isinstance(x, list))
    constant, shapes = num_steps is not None, [x.shape for x in jax.tree.leaves(xs)]
    axes = batch + (not constant)
    too_few_axes = not shapes or min(len(shape) for shape in shapes) < axes
    no_steps = not constant and not too_few_axes and not shapes[0][0]
    if too_few_axes or no_steps or len({shape[:axes] for shape in shapes}) > 1:
        got = f"shape {shapes[0]}" if len(shapes) == 1 else checks.describe(xs)
        raise ValueError(f"xs must have {_expected(constant, batch)}, got {got}.")
    steps = shapes[0][0] if num_steps is None else checks.count("num_steps", num_steps)
    return Inputs(xs, constant, steps)


def _array(x):
    expected = "an array of real numbers or a tree of such arrays"
    return jnp.asarray(checks.numbers("xs", x, expected, boolean=True))


def _expected(constant, batch):
    """Description of the expected axes of an input, for an error message."""
    if constant:
        return "shape (batch, ...), the same for all steps" if batch else "at least one array"
    axes = "(T, batch, ...)" if batch else "(T, ...)"
    return f"shape {axes} with T >= 1 (or pass num_steps, for a constant input)"


def layer_indices(layers: int | Sequence[int], n: int) -> tuple[int, ...]:
    """Convert the indices of the layers to record to non-negative integers."""
    each = [layers] if isinstance(layers, int | np.integer) else layers
    try:
        found = [_index(i) for i in each]
    except TypeError:
        found = []
    if not found or not all(-n <= i < n for i in found):
        raise checks.value_error("layers", layers, f"indices of the {n} layers")
    return tuple(i % n for i in found)


def _index(value):
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def typed_key(key: Any, n: int | None = None) -> PRNGKeyArray | None:
    """Convert a key to a typed key. Raise unless it is one key, or with `n` one key per sample."""
    if key is None:
        return None
    if jnp.issubdtype(getattr(key, "dtype", np.int64), np.uint32) and key.shape[-1:] == (2,):
        key = jax.random.wrap_key_data(key)  # a raw key, plain integers
    if not jnp.issubdtype(getattr(key, "dtype", np.int64), jax.dtypes.prng_key):
        raise checks.value_error("key", key, "a jax.random key")
    if key.shape not in ((), () if n is None else (n,)):
        more = "" if n is None else f" or {n} keys, one per sample (the second axis of xs)"
        raise ValueError(f"key must be one jax.random key{more}, got shape {key.shape}.")
    return key


def check_state(state: PyTree, init_state: Callable[[Any], PyTree], x: Array, name: str) -> PyTree:
    """Return `state`. Raise unless its structure, shapes and dtypes match `init_state(x)`."""
    return checks.like("state", state, eqx.filter_eval_shape(init_state, x), name)
