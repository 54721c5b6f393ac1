"""Public functions that convert models to NIR graphs and back."""

import itertools
from typing import Any

import jax
import numpy as np

from .. import checks
from ..constraints import unwrap
from ..discrete import AbstractCell, Sequential
from ..event import EventNetwork, EventSequential
from .discrete_models import discrete_sequential, sequential_graph
from .event_layers import NODES, layer_nodes, layers_of, sequential
from .event_networks import INPUT, OUTPUT, network, network_graph
from .event_neurons import Units
from .graphs import Edge, flattened, naming_node
from .package import nir_package
from .parameters import KEY, recorded

Shape = tuple[int, ...]
EVENT = (EventNetwork, EventSequential, *NODES)
KIND = "model"
"""Key of the type of the model in the metadata of a graph."""


def to_nir(
    model: Any,
    *,
    input_shape: tuple[int, ...] | None = None,
    dt: float | None = None,
    unit: float = 1e-3,
    spike_area: float | None = None,
) -> Any:
    r"""Convert a model to a graph in NIR, the Neuromorphic Intermediate Representation.

    `nir.write(file, graph)` saves it. The equations are those of `eventsnn.exchange`: in the event
    mode $r = 1$ and $w_\text{in} = \tau_\text{syn}$ in seconds, so that the weights are unchanged.
    The graph contains what NIR defines: neurons, synapses, delays and outputs, but neither
    simulation options such as `t_max` nor surrogate gradients. Masked synapses, and those of
    neurons that never fire, have the weight 0 or are left out.

    **Arguments:**

    - `model`: in the event mode an [`eventsnn.EventNetwork`][], or an
        [`eventsnn.EventSequential`][] or a single layer, of [`eventsnn.LIF`][] neurons and
        [`eventsnn.LeakyIntegrator`][] readouts, with axonal delays or none. In the discrete-time
        mode a `discrete.Sequential` or a cell. Wrapped parameters are unwrapped.
    - `input_shape`: shape of the input without time, such as `(c, h, w)`. None (the default): the
        number of input channels of the first layer, if that defines it.
    - `dt`: time step of a discrete-time model, in units of time. None (the default): event mode.
    - `unit`: unit of time of the model in seconds. Default: 1e-3, milliseconds.
    - `spike_area`: integral of a spike over time in seconds, in the event mode. None (the default)
        is 1, Dirac's impulse. For a reader in which a spike is 1 during each step, it is the time
        step of the reader in seconds.

    **Returns:** a `nir.NIRGraph`. [`eventsnn.from_nir`][] converts it back exactly; the metadata of
    the nodes have what is needed for it.

    `nir` 1.0.8 infers wrong output shapes for kernels that are not square: a file with such a
    kernel is read by `nir.read(file, type_check=False)`.

    **Raises:** `ValueError` for a model that NIR cannot express: other neurons, `reset_mode` or
    `reset` by subtraction, an initial potential `v_init` other than that after a reset (or 0),
    synaptic delays, pseudospikes, pooling with `max_spikes`, and other types of layers.
    `ModuleNotFoundError` if the package `nir` is not installed.
    """
    nir = nir_package()
    event = isinstance(model, EVENT)
    expected = "an event network, a layer or a sequence of them, or a discrete-time model"
    checks.instance("model", model, (*EVENT, AbstractCell), expected)
    if not all(map(checks.is_concrete, jax.tree.leaves(model))):
        raise ValueError("model must have concrete arrays, outside of jax.jit, got traced ones.")
    units = _units(unit, spike_area, event)
    shape = None if input_shape is None else checks.shape("input_shape", input_shape)
    plain = unwrap(model)
    if event:
        _no_step(dt)
        convert = _network if isinstance(model, EventNetwork) else _layers
        nodes, edges, sizes = convert(plain, shape, units)
    else:
        step = checks.positive("dt", dt) * units.time
        layers = plain.layers if isinstance(plain, Sequential) else (plain,)
        start = _input_shape(layers[0], shape)
        nodes, edges, end = sequential_graph(layers, start, step)
        sizes = start, end
    ends = {INPUT: nir.Input(np.array(sizes[0])), OUTPUT: nir.Output(np.array(sizes[1]))}
    metadata = {KEY: {KIND: type(model).__name__}}
    return nir.NIRGraph({**ends, **nodes}, edges, metadata=metadata)


def from_nir(
    graph: Any,
    *,
    t_max: float | None = None,
    dt: float | None = None,
    unit: float = 1e-3,
    spike_area: float | None = None,
    **options: Any,
) -> Any:
    r"""Convert a NIR graph to a model. `nir.read(file)` reads the graph.

    With `t_max` the result is a model of the event mode, and with `dt` one of the discrete-time
    mode. The equations of both are those of `eventsnn.exchange`.

    The event mode reads `CubaLIF` as [`eventsnn.LIF`][] and `CubaLI` as
    [`eventsnn.LeakyIntegrator`][]. A sequence of nodes becomes an [`eventsnn.EventSequential`][],
    any other graph an [`eventsnn.EventNetwork`][]. In a graph of [`eventsnn.to_nir`][] the type is
    that of the original model. `LIF`, `LI` and `IF` nodes have no synaptic current: there is no
    neuron for them in the event mode.

    The discrete-time mode reads `LIF`, `CubaLIF` and `LI` as cells, in a sequence of nodes.
    snnTorch 1.0 exports $v_\text{reset} = 0$ for each of its resets, and a step of 1e-4 s: its
    default reset is `from_nir(graph, dt=0.1, reset="subtract", reset_delay=True)`.

    **Arguments:**

    - `graph`: a `nir.NIRGraph`, also with subgraphs.
    - `t_max`: end of the simulation in units of time, for the event mode. Default: None.
    - `dt`: time step in units of time, for the discrete-time mode. Default: None.
    - `unit`: unit of time of the model in seconds. Default: 1e-3, milliseconds.
    - `spike_area`: integral of a spike over time in seconds, in the event mode, as for
        [`eventsnn.to_nir`][]. None (the default) is 1, Dirac's impulse; for graphs of simulators
        with a spike of height 1 during each step, it is the time step in seconds.
    - `options`: further arguments of each layer or of the network, such as `max_spikes`; in the
        discrete-time mode of each spiking cell, by default `reset="zero"` and `reset_delay=False`,
        as NIR defines.

    **Returns:** an [`eventsnn.EventSequential`][], a layer, an [`eventsnn.EventNetwork`][] or a
    `discrete.Sequential`.

    **Raises:** `ValueError` for a graph that the mode cannot express, with the name of the node in
    a note; for both or neither of `t_max` and `dt`; and for values out of range.
    `ModuleNotFoundError` if the package `nir` is not installed.
    """
    checks.instance("graph", graph, nir_package().NIRGraph, "a nir.NIRGraph")
    if (t_max is None) == (dt is None):
        raise ValueError(
            "t_max (event mode) or dt (discrete-time mode) must be given, and not both, "
            f"got t_max={checks.short_repr(t_max)} and dt={checks.short_repr(dt)}."
        )
    units = _units(unit, spike_area, event=dt is None)
    flat = flattened(graph)
    if dt is not None:
        step = checks.positive("dt", dt) * units.time
        model = discrete_sequential(flat, step, options)
        alone = recorded(graph, KIND) not in (None, Sequential.__name__)
    else:
        options = {"t_max": checks.positive("t_max", t_max), **options}
        names, kind = flat.sequence(), recorded(graph, KIND)
        if not names or kind == EventNetwork.__name__:
            return network(flat, units, options)
        model = sequential(flat, names, units, options)
        alone = kind not in (None, EventSequential.__name__)
    return model.layers[0] if alone and len(model.layers) == 1 else model


def _units(unit: Any, spike_area: Any, event: bool) -> Units:
    """Check the units of the conversion."""
    if spike_area is not None and not event:
        raise ValueError(
            "spike_area must be None in the discrete-time mode, where it is the time step, "
            f"got {checks.short_repr(spike_area)}."
        )
    area = 1.0 if spike_area is None else checks.positive("spike_area", spike_area)
    return Units(checks.positive("unit", unit), area)


def _no_step(dt: Any) -> None:
    if dt is not None:
        raise ValueError(
            f"dt must be None for a model of the event mode, got {checks.short_repr(dt)}."
        )


Converted = tuple[dict[str, Any], list[Edge], tuple[Shape, Shape]]


def _network(net: EventNetwork, shape: Shape | None, units: Units) -> Converted:
    given = (net.n_inputs,) if shape is None else shape
    if given != (net.n_inputs,):
        raise ValueError(f"input_shape must be {(net.n_inputs,)}, got {shape}.")
    nodes, edges = network_graph(net, units)
    return nodes, edges, (given, (len(net.outputs),))


def _layers(model: Any, shape: Shape | None, units: Units) -> Converted:
    nodes: dict[str, Any] = {}
    layers = layers_of(model)
    start = shape = _input_shape(layers[0], shape)
    for i, layer in enumerate(layers):
        with naming_node(f"layer_{i}"):
            own, shape = layer_nodes(layer, shape, units)
        nodes |= {f"layer_{i}_{name}": node for name, node in own}
    names = [INPUT, *nodes, OUTPUT]
    return nodes, list(itertools.pairwise(names)), (start, shape)


def _input_shape(layer: Any, shape: Shape | None) -> Shape:
    """Return the shape of the input, by default that of the first layer."""
    if shape is not None:
        return shape
    size = getattr(layer, "n_inputs", getattr(layer, "in_features", None))
    if size is None and hasattr(layer, "mask"):
        size = np.shape(layer.weight)[-1]
    if not isinstance(size, int):
        raise ValueError(
            f"input_shape must be given for a model that begins with {type(layer).__name__}, "
            "got None."
        )
    return (size,)
