"""What a run is given: inputs over time, a key, layers to record, a state; refused if unusable."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..checks import count
from .base import described, kinds, one_line


class Feed(NamedTuple):
    """Input of a layer: one value per step, or one for all steps."""

    x: Any
    constant: bool
    num_steps: int

    def first(self) -> Any:
        """The input of the first step."""
        return self.x if self.constant else jax.tree.map(lambda x: x[0], self.x)

    def over_time(self) -> Any:
        """With a time axis."""
        if not self.constant:
            return self.x
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_steps, *x.shape)), self.x)


def feed(xs: Any, num_steps: int | None, *, batch: bool) -> Feed:
    """Inputs as arrays that agree on the axes of time and batch."""
    try:
        xs = jax.tree.map(jnp.asarray, xs, is_leaf=lambda x: isinstance(x, list))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"xs must be an array or a tree of arrays, got {one_line(xs)}.") from None
    constant, shapes = num_steps is not None, [x.shape for x in jax.tree.leaves(xs)]
    axes = batch + (not constant)
    short = not shapes or min(len(shape) for shape in shapes) < axes
    if short or len({shape[:axes] for shape in shapes}) > 1 or (not constant and not shapes[0][0]):
        got = f"shape {shapes[0]}" if len(shapes) == 1 else described(xs)
        raise ValueError(f"xs must have {_expected(constant, batch)}, got {got}.")
    return Feed(xs, constant, shapes[0][0] if num_steps is None else count("num_steps", num_steps))


def _expected(constant, batch):
    """The axes of an input, in words."""
    if constant:
        return "shape (batch, ...), the same for all steps" if batch else "at least one array"
    axes = "shape (T, batch, ...), with the time" if batch else "the time"
    return f"{axes} as first axis and at least one step (or num_steps, for a constant input)"


def asked(layers: int | Sequence[int], n: int) -> tuple[int, ...]:
    """The layers to record, counted from the first."""
    each = [layers] if isinstance(layers, int | np.integer) else layers
    try:
        found = [operator.index(i) for i in each]
    except TypeError:
        found = []
    if not found or not all(-n <= i < n for i in found):
        raise ValueError(f"layers must be indices of the {n} layers, got {layers!r}.")
    return tuple(i % n for i in found)


def typed_key(key: Any, n: int | None = None) -> PRNGKeyArray | None:
    """A key of the newer kind: one, or with `n` also one per sample."""
    if key is None:
        return None
    if jnp.issubdtype(getattr(key, "dtype", np.int64), np.uint32) and key.shape[-1:] == (2,):
        key = jax.random.wrap_key_data(key)  # of the older kind, plain integers
    if not jnp.issubdtype(getattr(key, "dtype", np.int64), jax.dtypes.prng_key):
        raise ValueError(f"key must be a jax.random key, got {one_line(key)}.")
    if key.shape not in ((), () if n is None else (n,)):
        more = "" if n is None else f" or {n} keys, one per sample (the second axis of xs)"
        raise ValueError(f"key must be one jax.random key{more}, got shape {key.shape}.")
    return key


def fitting(state: PyTree, init_state: Callable[[Any], PyTree], x: Array, name: str) -> PyTree:
    """A state, refused unless it is of the kind that `init_state(x)` gives."""
    expected = eqx.filter_eval_shape(init_state, x)
    if kinds(state) != kinds(expected):
        raise ValueError(
            f"state must be {described(expected)}, as {name} gives it, got {described(state)}."
        )
    return state
