"""Stack of stateful and stateless layers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from .. import axes, checks
from ..constraints import unwrap
from .base import AbstractCell
from .layers import call_layer, callable_instance, first_line


class Sequential(AbstractCell):
    """Stack of layers, which is a cell itself.

    The output of a layer is the input of the next layer in the same step. Each layer gets one
    sample: the input of `equinox.nn.Conv2d` has shape `(channels, height, width)`.

    **Arguments:**

    - `layers`: cells, Equinox layers (`equinox.nn.Linear`, `Conv2d`, `Dropout`, pooling, ...) or
        plain functions of an array. A module that takes a `key` gets one.

    A function among the layers is a leaf of the model that is not an array. Use
    `equinox.filter_jit`, `filter_vmap` and `filter_grad` for such a model, not `jax.jit`.

    **Raises:** `ValueError` if `layers` is empty or has a layer that cannot be used. At the first
    step, `ValueError` for a layer that does not accept its input.
    """

    layers: tuple[Any, ...]

    def __init__(self, layers: Sequence[AbstractCell | Callable[..., Array]]):
        self.layers = tuple(layers) if isinstance(layers, Iterable) else ()
        if not self.layers:
            raise checks.value_error("layers", layers, "a sequence of at least one layer")
        for i, layer in enumerate(self.layers):
            if isinstance(layer, eqx.nn.StatefulLayer) and layer.is_stateful():
                raise ValueError(
                    f"layers[{i}] must be a layer without `equinox.nn.State` (for batch "
                    f"normalisation, discrete.BatchNorm), got {type(layer).__name__}."
                )
            callable_instance(f"layers[{i}]", layer)

    def init_state(self, x: Any) -> tuple[PyTree, ...]:
        """Return one initial state per layer, None for a stateless layer.

        `x` is one sample at one step. The shapes are inferred layer by layer, without computing
        outputs. For a batch: `jax.vmap(model.init_state)(x)`.
        """
        states = []
        key = jax.eval_shape(lambda: jax.random.key(0))
        for i, layer in enumerate(unwrap(self.layers)):
            with naming_layer(i, layer, x):
                state = layer.init_state(x) if isinstance(layer, AbstractCell) else None
                states.append(state)
                x, _ = eqx.filter_eval_shape(apply_in_batch, layer, x, state, key)
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
        """Like `__call__`, but takes one key per layer and returns the outputs of every layer.

        **Arguments:**

        - `x`: the input of this step.
        - `state`: one state per layer, None for a stateless layer.
        - `keys`: one random key or None per layer. With None the layer gets no key.
        - `first`: index of the first layer in error messages. With None they name no layer.
            Default: 0.

        **Returns:** the outputs and the new states, one per layer.
        """
        layers, outs, states = unwrap(self.layers), [], []
        if not isinstance(state, tuple | list) or len(state) != len(layers):
            found = checks.describe(state)
            raise ValueError(f"state must have {len(layers)} entries, one per layer, got {found}.")
        for i, (layer, before, layer_key) in enumerate(zip(layers, state, keys, strict=True)):
            with naming_layer(None if first is None else first + i, layer, x):
                x, after = _apply(layer, x, before, layer_key)
            outs.append(x)
            states.append(after)
        return tuple(outs), tuple(states)


@contextmanager
def naming_layer(index: int | None, layer: Any, x: Any) -> Iterator[None]:
    """Add the layer and its input to the message of an error raised inside.

    With `index` None, the error is left unchanged.
    """
    try:
        yield
    except jax.errors.ConcretizationTypeError:
        raise  # not caused by the input, and its own message gives advice
    except (TypeError, ValueError) as error:
        if index is None:
            raise
        integers = any(not jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(x))
        hint = " (integers become floating-point by astype)" if integers else ""
        raise ValueError(
            f"layers[{index}] ({type(layer).__name__}) must accept {checks.describe(x)}, the input "
            f"of one sample at one step, got the error: {first_line(error)}{hint}."
        ) from error


def _apply(layer, x, state, key):
    if isinstance(layer, AbstractCell):
        return layer(x, state, key=key)
    return call_layer(layer, x, key), None


def apply_in_batch(layer, x, state, key):
    """Apply a layer to one of two equal samples, for layers with statistics of the batch."""
    among = jax.vmap(
        lambda _: _apply(layer, x, state, key), out_axes=None, axis_name=axes.SAMPLES, axis_size=2
    )
    return among(jnp.zeros(2))
