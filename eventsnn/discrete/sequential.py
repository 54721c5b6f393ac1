"""Layers one after the other, some with a memory and some without."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..constraints import unwrap
from .base import AbstractCell, call, callable_instance, described, one_line, reason


class Sequential(AbstractCell):
    """A stack of layers, itself a cell. What comes out of one layer in a step enters the next in
    the same step. Layers see one sample: `equinox.nn.Conv2d` sees `(channels, height, width)`.

    **Arguments:**

    - `layers`: cells, Equinox layers (`equinox.nn.Linear`, `Conv2d`, `Dropout`, pooling, ...) or
        plain functions of an array. A module that takes a `key` gets one.

    A function is a leaf that is no array, as in all of Equinox: a model with one goes through
    `equinox.filter_jit`, `filter_vmap` and `filter_grad`, not through `jax.jit`.

    **Raises:** `ValueError` for no layers, or one that cannot be used, and at the first step for a
    layer that cannot take its input.
    """

    layers: tuple[Any, ...]

    def __init__(self, layers: Sequence[AbstractCell | Callable[..., Array]]):
        if not isinstance(layers, Iterable) or isinstance(layers, str | bytes | dict):
            raise ValueError(f"layers must be a sequence of layers, got {one_line(layers)}.")
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("layers must name at least one layer, got none.")
        for i, layer in enumerate(self.layers):
            if isinstance(layer, eqx.nn.StatefulLayer) and layer.is_stateful():
                raise ValueError(
                    f"layers[{i}] is {type(layer).__name__}, whose state is Equinox's, not a "
                    "cell's; use a layer without running statistics."
                )
            callable_instance(f"layers[{i}]", layer)

    def init_state(self, x: Any) -> tuple[PyTree, ...]:
        """One state per layer, None for one without. Shapes are followed from `x` (one sample)
        through the layers, nothing is computed. For a batch: `jax.vmap(model.init_state)(x)`."""
        states = []
        key = jax.eval_shape(lambda: jax.random.key(0))
        for i, layer in enumerate(unwrap(self.layers)):
            with named(i, layer, x):
                state = layer.init_state(x) if isinstance(layer, AbstractCell) else None
                states.append(state)
                x, _ = eqx.filter_eval_shape(_apply, layer, x, state, key)
        return tuple(states)

    def __call__(
        self, x: Any, state: tuple[PyTree, ...], *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, tuple[PyTree, ...]]:
        n = len(self.layers)
        keys = [None] * n if key is None else list(jax.random.split(key, n))
        outs, state = self.step(x, state, keys)
        return outs[-1], state

    def step(
        self,
        x: Any,
        state: tuple[PyTree, ...],
        keys: Sequence[PRNGKeyArray | None],
        first: int | None = 0,
    ) -> tuple[tuple[Any, ...], tuple[PyTree, ...]]:
        """As calling the model, but with a key per layer, and the outputs of all layers. Errors
        count layers from `first`; with None they name none."""
        layers, outs, states = unwrap(self.layers), [], []
        if not isinstance(state, tuple | list) or len(state) != len(layers):
            raise ValueError(
                f"state must have {len(layers)} entries, one per layer, got {described(state)}."
            )
        for i, (layer, before, layer_key) in enumerate(zip(layers, state, keys, strict=True)):
            with named(None if first is None else first + i, layer, x):
                x, after = _apply(layer, x, before, layer_key)
            outs.append(x)
            states.append(after)
        return tuple(outs), tuple(states)


@contextmanager
def named(index: int | None, layer: Any, x: Any) -> Iterator[None]:
    """Name the layer and its input in an error that it raises; with `index` None leave it."""
    try:
        yield
    except jax.errors.ConcretizationTypeError:
        raise  # not about the input, and with advice of its own
    except (TypeError, ValueError) as error:
        if index is None:
            raise
        integers = any(not jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(x))
        hint = " (integers become floating-point by astype)" if integers else ""
        raise ValueError(
            f"layers[{index}] ({type(layer).__name__}) must accept {described(x)}, the input of "
            f"one sample at one step, got: {reason(error)}{hint}."
        ) from error


def _apply(layer, x, state, key):
    if isinstance(layer, AbstractCell):
        return layer(x, state, key=key)
    return call(layer, x, key), None
