"""Shapes of the inputs and outputs of the layers of a model."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import checks
from ..discrete import AbstractCell
from ..discrete.layers import call_layer
from ..discrete.sequential import apply_in_batch
from ..event import AbstractLayer, EventConv2d, EventLinear, EventNetwork, EventSequential
from .walk import SEQUENCES, children, is_composed, joined, parts, type_of

Shape = tuple[int, ...]
Shapes = dict[str, tuple[Shape | None, Shape | None]]


def follow(model: Any, shape: Shape | None) -> Shapes:
    """Shapes of the input and the output of each layer, by its name; None if it is not known.

    `shape` is that of the input of the model, or None. Layers in the fields of a user-defined
    module have no known order.
    """
    found: Shapes = {}
    event = isinstance(model, AbstractLayer | EventNetwork)
    _visit(model, "", shape, _dtype(model), found, event)
    return found


def _visit(
    node: Any, name: str, given: Shape | None, dtype: Any, found: Shapes, event: bool
) -> Shape | None:
    """Add the shapes of a node and of its layers to `found`. Return the shape of its output."""
    if isinstance(node, SEQUENCES):
        shape, event = given, isinstance(node, EventSequential)
        for path, layer in children(node):
            shape = _visit(layer, joined(name, path), shape, dtype, found, event)
        return shape
    if is_composed(node):
        found |= {part.name: _declared(part.content) for part in parts(node, name)}
    return _leaf(node, name, given, dtype, found, event=event)


def _leaf(
    layer: Any, name: str, given: Shape | None, dtype: Any, found: Shapes, *, event: bool
) -> Shape | None:
    """Add the shapes of one layer to `found`. Return that of its output."""
    known_in, known_out = _declared(layer)
    shape = known_in if given is None else given
    if given is not None and known_in is not None and given != known_in:
        raise _refused(given, name, layer, f"must have shape {known_in}")
    out = known_out
    if out is None and shape is not None and not (is_composed(layer) and given is None):
        try:
            out = _inferred(layer, shape, dtype, event=event)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise _refused(shape, name, layer, first) from None
    found[name] = shape, out
    return out


def _declared(layer: Any) -> tuple[Shape | None, Shape | None]:
    """Shapes that a layer itself defines."""
    if isinstance(layer, EventLinear):
        return (layer.n_inputs,), (layer.n_neurons,)
    if isinstance(layer, EventNetwork):
        return (layer.n_inputs,), (len(layer.outputs),)
    if isinstance(layer, eqx.nn.Linear):
        sizes = layer.in_features, layer.out_features
        known = tuple(() if n == "scalar" else (n,) for n in sizes)
        return known[0], known[1]
    return None, None


def _inferred(layer: Any, shape: Shape, dtype: Any, *, event: bool) -> Shape:
    if isinstance(layer, EventConv2d):
        return _convolved(layer, shape)
    if event:  # one sample, and one spike per channel
        trains = jax.ShapeDtypeStruct((1, *shape, 1), dtype)
        return eqx.filter_eval_shape(layer, trains).shape[1:-1]
    x, key = jax.ShapeDtypeStruct(shape, dtype), jax.eval_shape(lambda: jax.random.key(0))
    return eqx.filter_eval_shape(_step, layer, x, key).shape


def _convolved(layer: EventConv2d, shape: Shape) -> Shape:
    out, channels, *window = layer.kernel.shape
    image = jnp.broadcast_to(jnp.inf, (*shape, 1))
    checks.image_of_trains(image, (window[0], window[1]), layer.padding, channels)
    extents = zip(shape[1:], window, layer.stride, layer.padding, strict=True)
    return (out, *((n + 2 * pad - k) // step + 1 for n, k, step, pad in extents))


def _step(layer: Any, x: Any, key: Any) -> Any:
    if isinstance(layer, AbstractCell):
        return apply_in_batch(layer, x, layer.init_state(x), key)[0]
    return call_layer(layer, x, key)


def _dtype(model: Any) -> Any:
    arrays = (x for x in jax.tree.leaves(model) if eqx.is_inexact_array(x))
    return next((x.dtype for x in arrays), jnp.result_type(float))


def _refused(shape: Shape, name: str, layer: Any, reason: str) -> ValueError:
    place = f"{name} ({type_of(layer)})" if name else type_of(layer)
    return ValueError(f"in_shape must be accepted by all layers, got {shape} at {place}: {reason}.")
