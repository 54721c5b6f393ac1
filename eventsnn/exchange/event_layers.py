"""Layers of the event mode as a sequence of NIR nodes, and back."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from ..event import EventConv2d, EventFlatten, EventLinear, EventPool2d, EventSequential
from .event_neurons import MODELS, Units, neuron_node, neuron_of
from .graphs import Graph, naming_node
from .package import nir_package
from .parameters import numbers
from .synapses import (
    WEIGHTS,
    Synapses,
    delay_node,
    delays_of,
    padding,
    pair,
    scaled,
    synapses_of,
    without_bias,
)

Shape = tuple[int, ...]
Named = list[tuple[str, Any]]


def layers_of(model: Any) -> list[Any]:
    """Layers of a model, with those of sequences in it."""
    if not isinstance(model, EventSequential):
        return [model]
    return [inner for layer in model.layers for inner in layers_of(layer)]


def layer_nodes(layer: Any, shape: Shape, units: Units) -> tuple[Named, Shape]:
    """Return the nodes of a layer, with their names, and the shape of its output.

    `shape` is the shape of its input.
    """
    for kind, nodes in NODES.items():
        if isinstance(layer, kind):
            return nodes(layer, shape, units)
    raise ValueError(
        "model must have layers of the types EventLinear, EventConv2d, EventPool2d and "
        f"EventFlatten to be expressed in NIR, got {checks.short_repr(layer)}."
    )


def sequential(graph: Graph, names: Sequence[str], units: Units, options: dict[str, Any]) -> Any:
    """Return the layers of a sequence of nodes as an `EventSequential`."""
    layers: list[Any] = []
    group: list[str] = []
    for name in names:
        group.append(name)
        if graph.kind(name) in MODELS or graph.kind(name) in FUNCTIONS:
            with naming_node(name):
                layers.append(_layer([graph.nodes[part] for part in group], units, options))
            group = []
    if group or not layers:
        raise ValueError(
            "graph must end with neurons, pooling or a Flatten node before its output, got "
            f"{[graph.kind(name) for name in group]}."
        )
    return EventSequential(layers)


def weights_shape(shape: Shape, n_in: int) -> None:
    """Raise unless spike trains of a shape are the input of `n_in` channels."""
    if shape != (n_in,):
        raise ValueError(f"input_shape must lead to {n_in} input channels, got {shape}.")


def no_pseudospikes(model: Any) -> None:
    """Raise if a network or layer has pseudospikes."""
    if model.pseudospikes is not None:
        raise ValueError(
            "pseudospikes must be None to be expressed in NIR, "
            f"got {checks.short_repr(model.pseudospikes)}."
        )


def axonal(delays: Any) -> None:
    """Raise unless delays have one value per source."""
    if np.ndim(delays) != 1:
        raise ValueError(
            "delays must have one value per source (axonal delays) to be expressed in NIR, "
            f"got shape {np.shape(delays)}."
        )


# ------------------------------------------------------------------ layers to nodes


def _linear(layer: EventLinear, shape: Shape, units: Units) -> tuple[Named, Shape]:
    weights_shape(shape, layer.n_inputs)
    no_pseudospikes(layer)
    out = (layer.n_neurons,)
    neurons = neuron_node(layer.neuron, out, units)
    nodes: Named = []
    if layer.delays is not None:
        axonal(layer.delays)
        nodes.append(("delays", delay_node(layer.delays, units.time)))
    mask = None if layer.mask is None else np.asarray(layer.mask).T
    weights = Synapses(np.asarray(layer.weights).T, mask).node()
    return [*nodes, ("weights", weights), ("neurons", neurons)], out


def _conv(layer: EventConv2d, shape: Shape, units: Units) -> tuple[Named, Shape]:
    kernel = np.asarray(layer.kernel)
    if len(shape) != 3 or shape[0] != kernel.shape[1]:
        raise ValueError(
            f"input_shape must lead to ({kernel.shape[1]}, h, w), the input of a convolution, "
            f"got {shape}."
        )
    no_pseudospikes(layer)
    for name, expected in (("delays", "None"), ("mask", "None")):
        if (value := getattr(layer, name)) is not None:
            raise ValueError(
                f"{name} must be {expected} in a convolution to be expressed in NIR, "
                f"got shape {value.shape}."
            )
    out = (len(kernel), *_windows(shape[1:], kernel.shape[2:], layer.stride, layer.padding))
    neurons = neuron_node(layer.neuron, out, units)
    node = nir_package().Conv2d(
        input_shape=shape[1:],
        weight=kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=1,
        groups=1,
        bias=np.zeros(len(kernel), kernel.dtype),
    )
    node.output_type = {"output": np.array(out)}  # nir takes every kernel for a square
    return [("weights", node), ("neurons", neurons)], out


def _pool(layer: EventPool2d, shape: Shape, units: Units) -> tuple[Named, Shape]:
    if layer.max_spikes is not None:
        raise ValueError(
            "max_spikes must be None in an EventPool2d to be expressed in NIR, "
            f"got {layer.max_spikes}."
        )
    if len(shape) != 3:
        raise ValueError(f"input_shape must lead to (c, h, w), the input of pooling, got {shape}.")
    out = (shape[0], *_windows(shape[1:], layer.size, layer.stride, layer.padding))
    sizes = (np.array(x) for x in (layer.size, layer.stride, layer.padding))
    node = nir_package().SumPool2d(*sizes)
    node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(out)}
    return [("pool", node)], out


def _flatten(layer: EventFlatten, shape: Shape, units: Units) -> tuple[Named, Shape]:
    node = nir_package().Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
    return [("flatten", node)], (math.prod(shape),)


def _windows(size: Shape, window: Shape, stride: Shape, pads: Shape) -> list[int]:
    """Numbers of windows along the two axes of an image."""
    zipped = zip(size, window, stride, pads, strict=True)
    return [(n + 2 * p - w) // s + 1 for n, w, s, p in zipped]


NODES = {
    EventLinear: _linear,
    EventConv2d: _conv,
    EventPool2d: _pool,
    EventFlatten: _flatten,
}


# ------------------------------------------------------------------ nodes to layers


def _layer(nodes: list[Any], units: Units, options: dict[str, Any]) -> Any:
    """Return the layer of nodes that end with neurons or a function of spike trains."""
    *before, last = nodes
    kinds = tuple("Linear" if _kind(node) in WEIGHTS else _kind(node) for node in before)
    if _kind(last) in FUNCTIONS and not kinds:
        return FUNCTIONS[_kind(last)](last)
    if _kind(last) in MODELS and kinds in LAYERS:
        return LAYERS[kinds](*before, last, units, options)
    raise ValueError(
        "graph must have layers of the form (Delay,) Linear, neurons or Conv2d, neurons, "
        f"got {', '.join([*kinds, _kind(last)])}."
    )


def _kind(node: Any) -> str:
    return type(node).__name__


def _event_linear(weights: Any, neurons: Any, units: Units, options: dict[str, Any]) -> EventLinear:
    without_bias(weights)
    neuron, factor = neuron_of(neurons, units)
    matrix, mask = synapses_of(weights, factor)
    return EventLinear(neuron, matrix.T, None if mask is None else mask.T, **options)


def _delayed_linear(
    delay: Any, weights: Any, neurons: Any, units: Units, options: dict[str, Any]
) -> EventLinear:
    options = options | {"delays": delays_of(delay, units.time)}
    return _event_linear(weights, neurons, units, options)


def _event_conv(conv: Any, neurons: Any, units: Units, options: dict[str, Any]) -> EventConv2d:
    without_bias(conv)
    dilation, groups = pair(conv, "dilation"), int(numbers(conv, "groups"))
    if dilation != (1, 1) or groups != 1:
        raise ValueError(
            "dilation and groups must be 1 in a convolution in the event mode, "
            f"got {dilation} and {groups}."
        )
    neuron, factor = neuron_of(neurons, units)
    kernel = scaled(np.asarray(conv.weight), factor)
    return EventConv2d(
        neuron, kernel, stride=pair(conv, "stride"), padding=padding(conv), **options
    )


def _event_pool(node: Any) -> EventPool2d:
    size, stride = pair(node, "kernel_size"), pair(node, "stride")
    return EventPool2d(size, stride=stride, padding=pair(node, "padding"))


def _event_flatten(node: Any) -> EventFlatten:
    if int(node.start_dim) != 0 or int(node.end_dim) not in (-1, 2):
        raise ValueError(
            "Flatten must have start_dim = 0 and end_dim = -1, "
            f"got {int(node.start_dim)} and {int(node.end_dim)}."
        )
    return EventFlatten()


LAYERS = {
    ("Linear",): _event_linear,
    ("Delay", "Linear"): _delayed_linear,
    ("Conv2d",): _event_conv,
}
FUNCTIONS = {"SumPool2d": _event_pool, "Flatten": _event_flatten}
