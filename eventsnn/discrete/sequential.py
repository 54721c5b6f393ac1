"""Layers one after the other, some with a memory and some without."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from .base import AbstractCell, Like, call


class Sequential(AbstractCell):
    """A stack of layers, itself a cell. What comes out of one layer in a step enters the next in
    the same step.

    **Arguments:**

    - `layers`: cells, Equinox layers (`equinox.nn.Linear`, `Conv2d`, `Dropout`, pooling, ...) or
        plain functions of an array.

    **Raises:** `ValueError` for no layers, or one that cannot be used.
    """

    layers: tuple[Any, ...]

    def __init__(self, layers: Sequence[AbstractCell | Callable[..., Array]]):
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("layers must name at least one layer, got none.")
        for i, layer in enumerate(self.layers):
            if isinstance(layer, eqx.nn.StatefulLayer) and layer.is_stateful():
                raise ValueError(
                    f"layers[{i}] is {type(layer).__name__}, whose state is Equinox's, not a "
                    "cell's; use a layer without running statistics."
                )
            if not callable(layer):
                raise ValueError(f"layers[{i}] must be a cell or a callable, got {layer!r}.")

    def init_state(self, x: Like) -> tuple[PyTree, ...]:
        """One state a layer, None for one without. Shapes are followed from `x` through the
        layers, nothing is computed."""
        states = []
        key = jax.eval_shape(lambda: jax.random.key(0))
        for layer in self.layers:
            state = layer.init_state(x) if isinstance(layer, AbstractCell) else None
            states.append(state)
            x, _ = eqx.filter_eval_shape(_apply, layer, x, state, key)
        return tuple(states)

    def __call__(
        self, x: Array, state: tuple[PyTree, ...], *, key: PRNGKeyArray | None = None
    ) -> tuple[Any, tuple[PyTree, ...]]:
        n = len(self.layers)
        keys = [None] * n if key is None else list(jax.random.split(key, n))
        outs, state = self.step(x, state, keys)
        return outs[-1], state

    def step(
        self, x: Array, state: tuple[PyTree, ...], keys: Sequence[PRNGKeyArray | None]
    ) -> tuple[tuple[Any, ...], tuple[PyTree, ...]]:
        """As calling the model, but with a key a layer, and the outputs of all layers."""
        outs, states = [], []
        for layer, before, layer_key in zip(self.layers, state, keys, strict=True):
            x, after = _apply(layer, x, before, layer_key)
            outs.append(x)
            states.append(after)
        return tuple(outs), tuple(states)


def _apply(layer, x, state, key):
    if isinstance(layer, AbstractCell):
        return layer(x, state, key=key)
    return call(layer, x, key), None
