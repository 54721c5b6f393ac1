"""Models of the discrete-time mode as NIR graphs, and back.

The time step enters by the forward Euler method, as in snnTorch. A spike is 1 during one step.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .. import checks
from ..discrete import (
    Leaky,
    LeakyIntegrator,
    MaskedLinear,
    OneToOne,
    RLeaky,
    RSynaptic,
    Sequential,
    Synaptic,
)
from .graphs import Edge, Graph, naming_node
from .package import nir_package
from .parameters import Field, Fields, decay, numbers, read, written
from .synapses import WEIGHTS, Synapses, padding, pair, scaled, synapses_of

Shape = tuple[int, ...]
#: Cell, its counterpart with feedback, NIR node, and the decays with their time constants.
CELLS = (
    (Leaky, RLeaky, "LIF", {"beta": "tau"}),
    (Synaptic, RSynaptic, "CubaLIF", {"alpha": "tau_syn", "beta": "tau_mem"}),
    (LeakyIntegrator, None, "LI", {"beta": "tau"}),
)
CELL_NODES = {node: (cell, recurrent, decays) for cell, recurrent, node, decays in CELLS}


def sequential_graph(
    layers: tuple[Any, ...], shape: Shape, dt: float
) -> tuple[dict[str, Any], list[Edge], Shape]:
    """Return nodes and edges of layers between the nodes `input` and `output`.

    The last value is the shape of the output. `shape` is that of the input, and `dt` the time step
    in seconds.
    """
    nodes: dict[str, Any] = {}
    edges, last = [], "input"
    for i, layer in enumerate(layers):
        name = f"layer_{i}"
        with naming_node(name):
            if isinstance(layer, RLeaky | RSynaptic):
                nodes[f"{name}_feedback"] = _linear_node(layer.feedback, "feedback")
                edges += [(name, f"{name}_feedback"), (f"{name}_feedback", name)]
            nodes[name] = _node(layer, shape, dt)
            shape = _output_shape(layer, shape)
        edges.append((last, name))
        last = name
    return nodes, [*edges, (last, "output")], shape


def discrete_sequential(graph: Graph, dt: float, options: dict[str, Any]) -> Sequential:
    """Return the model of a sequence of nodes, in which neurons may have feedback."""
    feedback = _feedback(graph)
    names = graph.without({*feedback.values()}).sequence()
    if not names:
        raise ValueError(
            "graph must be a sequence of nodes, with feedback of neurons to themselves only, in "
            f"the discrete-time mode, got the edges {graph.edges}."
        )
    layers: list[Any] = []
    for name in names:
        with naming_node(name):
            node, kind = graph.nodes[name], graph.kind(name)
            if kind in CELL_NODES:
                layers += _cell(node, graph.nodes.get(feedback.get(name, "")), dt, options)
            elif kind in LAYERS:
                layers.append(LAYERS[kind](node))
            else:
                raise ValueError(
                    f"graph must have nodes of the types {', '.join([*CELL_NODES, *LAYERS])} in "
                    f"the discrete-time mode, got {kind}."
                )
    return Sequential(layers)


# ------------------------------------------------------------------ layers to nodes


def _node(layer: Any, shape: Shape, dt: float) -> Any:
    """Return the node of a layer whose input has the given shape."""
    for cell, recurrent, kind, decays in CELLS:
        if type(layer) in (cell, recurrent):
            return _cell_node(layer, kind, decays, shape, dt)
    if isinstance(layer, eqx.nn.Linear | MaskedLinear):
        return _linear_node(layer, "model")
    if isinstance(layer, eqx.nn.Conv2d):
        return _conv_node(layer, shape)
    if isinstance(layer, OneToOne):
        return nir_package().Scale(np.broadcast_to(np.asarray(layer.v), shape).copy())
    if isinstance(layer, eqx.nn.AvgPool2d):
        sizes = (layer.kernel_size, layer.stride, [low for low, _ in layer.padding])
        return nir_package().AvgPool2d(*map(np.array, sizes))
    if layer is jnp.ravel:
        return nir_package().Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
    raise ValueError(
        "model must have layers of the types Leaky, RLeaky, Synaptic, RSynaptic, LeakyIntegrator, "
        "Linear, MaskedLinear, OneToOne, Conv2d, AvgPool2d and jnp.ravel to be expressed in NIR, "
        f"got {checks.short_repr(layer)}."
    )


def _cell_node(layer: Any, kind: str, decays: dict[str, str], shape: Shape, dt: float) -> Any:
    _check(layer)
    values, metadata = written(layer, _fields(kind, decays, dt), shape)
    values |= {"r": values[decays["beta"]] / dt, "v_leak": np.zeros(shape)}
    if kind == "CubaLIF":
        values["w_in"] = values["tau_syn"] / dt
    if kind != "LI":
        values["v_reset"] = np.zeros(shape)
    return getattr(nir_package(), kind)(**values, metadata=metadata)


def _fields(kind: str, decays: dict[str, str], dt: float) -> Fields:
    fields = {name: decay(field, dt) for name, field in decays.items()}
    return fields if kind == "LI" else fields | {"threshold": Field("v_threshold")}


def _check(cell: Any) -> None:
    """Raise for a cell that NIR cannot express."""
    required = {"reset": "zero", "reset_delay": False, "inhibition": False, "state_quant": None}
    required |= {"graded": 1}
    for name, value in required.items():
        found = getattr(cell, name, value)
        found = np.asarray(found)[()] if name == "graded" else found
        if np.any(found != value):
            raise ValueError(f"{name} must be {value!r} to be expressed in NIR, got {found!r}.")
    for name in ("alpha", "beta"):
        x = np.asarray(getattr(cell, name, 0.0))
        checks.raise_if(name, x, ~((x >= 0) & (x < 1)), "must lie in [0, 1) in NIR")


def _linear_node(layer: Any, argument: str) -> Any:
    if isinstance(layer, OneToOne) and np.ndim(layer.v) == 1:
        weights = np.diag(np.asarray(layer.v))
        return Synapses(weights, np.eye(len(weights), dtype=bool)).node()
    if not isinstance(layer, eqx.nn.Linear | MaskedLinear) or np.ndim(layer.weight) != 2:
        raise ValueError(
            f"{argument} must be Linear, MaskedLinear or OneToOne with one value per neuron to be "
            f"expressed in NIR, got {checks.short_repr(layer)}."
        )
    mask = np.asarray(layer.mask) if isinstance(layer, MaskedLinear) else None
    return Synapses(np.asarray(layer.weight), mask).node(layer.bias)


def _conv_node(layer: eqx.nn.Conv2d, shape: Shape) -> Any:
    kernel = np.asarray(layer.weight)
    pads = [] if isinstance(layer.padding, str) else [p for p in layer.padding if p[0] == p[1]]
    if len(pads) != 2 or layer.padding_mode.lower() != "zeros":
        raise ValueError(
            "padding must be zeros, the same number on both sides, to be expressed in NIR, "
            f"got {layer.padding!r}."
        )
    bias = np.zeros(len(kernel), kernel.dtype) if layer.bias is None else np.asarray(layer.bias)
    node = nir_package().Conv2d(
        input_shape=shape[1:],
        weight=kernel,
        stride=layer.stride,
        padding=tuple(low for low, _ in pads),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=bias.ravel(),
    )
    node.output_type = {"output": np.array(_output_shape(layer, shape))}
    return node


def _output_shape(layer: Any, shape: Shape) -> Shape:
    if type(layer) in {cell for row in CELLS for cell in row[:2]}:
        return shape
    x = jax.ShapeDtypeStruct(shape, jnp.result_type(float))
    weight = getattr(layer, "weight", None)
    x = x if weight is None else jax.ShapeDtypeStruct(shape, weight.dtype)
    try:
        return eqx.filter_eval_shape(layer, x).shape
    except (TypeError, ValueError):
        raise ValueError(
            f"input_shape must lead to an input of {type(layer).__name__}, got {shape}."
        ) from None


# ------------------------------------------------------------------ nodes to layers


def _feedback(graph: Graph) -> dict[str, str]:
    """Names of the nodes by which neurons have feedback to themselves only, by neuron."""
    return {
        name: inner
        for name in graph.nodes
        for inner in graph.after(name)
        if graph.kind(name) in CELL_NODES
        and graph.kind(inner) in WEIGHTS
        and graph.before(inner) == [name] == graph.after(inner)
    }


def _cell(node: Any, feedback: Any, dt: float, options: dict[str, Any]) -> list[Any]:
    """Return the cell of a node, after a layer that scales its input unless the factor is 1."""
    kind = type(node).__name__
    cell, recurrent, decays = CELL_NODES[kind]
    for name in ("v_leak", "v_reset"):
        value = numbers(node, name) if hasattr(node, name) else np.zeros(())
        checks.raise_if(name, value, value != 0, "must be 0 in the discrete-time mode")
    for field in decays.values():
        value = numbers(node, field)
        checks.raise_if(field, value, ~(value >= dt), f"must be >= dt = {dt:g} s")
    parameters: dict[str, Any] = read(node, _fields(kind, decays, dt))
    gain = _gain(node, kind, dt)
    if kind != "LI":
        parameters |= {"reset": "zero", "reset_delay": False} | options
    if feedback is not None:
        if recurrent is None:
            raise ValueError(f"graph must have feedback of LIF or CubaLIF only, got {kind}.")
        parameters["feedback"] = _linear_layer(feedback, gain)
        cell = recurrent
    neurons = cell(**parameters)
    return [neurons] if np.all(gain == 1) else [OneToOne(gain), neurons]


def _gain(node: Any, kind: str, dt: float) -> np.ndarray:
    """Return the factor of the input, rounded to 1 if the difference is a rounding error."""
    gain = numbers(node, "r") / (numbers(node, CELL_NODES[kind][2]["beta"]) / dt)
    if kind == "CubaLIF":
        gain = gain * (numbers(node, "w_in") / (numbers(node, "tau_syn") / dt))
    dtype = np.asarray(node.r).dtype
    eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0
    return np.where(np.abs(gain - 1) <= 4 * eps, 1.0, gain)


def _linear_layer(node: Any, gain: np.ndarray | None = None) -> Any:
    """Return the layer of a `Linear` or `Affine` node, with its output multiplied by a factor."""
    (weights, mask), bias = synapses_of(node, gain), getattr(node, "bias", None)
    bias = None if bias is None else jnp.asarray(scaled(np.asarray(bias), gain))
    diagonal = np.eye(len(weights), weights.shape[1], dtype=bool)
    if mask is not None and bias is None and np.array_equal(mask, diagonal):
        return OneToOne(np.diag(weights))
    if mask is not None:
        return MaskedLinear(weights, mask, bias)
    layer = eqx.nn.Linear(
        weights.shape[1], weights.shape[0], bias is not None, key=jax.random.key(0)
    )
    return _with_weights(layer, weights, bias)


def _conv_layer(node: Any) -> eqx.nn.Conv2d:
    kernel, groups = scaled(np.asarray(node.weight), None), int(numbers(node, "groups"))
    layer = eqx.nn.Conv2d(
        kernel.shape[1] * groups,
        kernel.shape[0],
        kernel.shape[2:],
        stride=pair(node, "stride"),
        padding=padding(node),
        dilation=pair(node, "dilation"),
        groups=groups,
        use_bias=bool(np.any(np.asarray(node.bias))),
        key=jax.random.key(0),
    )
    bias = None if layer.bias is None else jnp.asarray(node.bias).reshape(layer.bias.shape)
    return _with_weights(layer, kernel, bias)


def _with_weights(layer: Any, weights: np.ndarray, bias: Any) -> Any:
    layer = eqx.tree_at(lambda layer: layer.weight, layer, jnp.asarray(weights))
    return layer if bias is None else eqx.tree_at(lambda layer: layer.bias, layer, bias)


def _pool_layer(node: Any) -> eqx.nn.AvgPool2d:
    return eqx.nn.AvgPool2d(
        pair(node, "kernel_size"), pair(node, "stride"), padding=pair(node, "padding")
    )


def _flatten_layer(node: Any) -> Callable[..., Any]:
    size = math.prod(int(n) for n in np.ravel(node.input_type["input"]))
    if list(np.ravel(node.output_type["output"])) != [size]:
        raise ValueError(
            "Flatten must have start_dim = 0 and end_dim = -1, "
            f"got {int(node.start_dim)} and {int(node.end_dim)}."
        )
    return jnp.ravel


LAYERS: dict[str, Callable[[Any], Any]] = {
    "Linear": _linear_layer,
    "Affine": _linear_layer,
    "Scale": lambda node: OneToOne(node.scale),
    "Conv2d": _conv_layer,
    "AvgPool2d": _pool_layer,
    "Flatten": _flatten_layer,
}
