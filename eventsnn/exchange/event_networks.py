"""Networks of the event mode as NIR graphs, and back.

The neurons of each population are one node. Each pair of a source, the input or a population, and a
population has one `Linear` node, between which a source has at most one `Delay` node.
"""

from typing import Any

import numpy as np

from ..event import EventNetwork, LeakyIntegrator, Populations
from .event_layers import axonal, no_pseudospikes
from .event_neurons import MODELS, Units, neuron_node, neuron_of
from .graphs import Edge, Graph, naming_node
from .package import nir_package
from .synapses import WEIGHTS, Synapses, delay_node, delays_of, synapses_of, without_bias

INPUT, OUTPUT = "input", "output"


def network_graph(net: EventNetwork, units: Units) -> tuple[dict[str, Any], list[Edge]]:
    """Return nodes and edges of a network, between the nodes `input` and `output`.

    The populations are in the order in which the edges name them.
    """
    no_pseudospikes(net)
    net = net.as_dense()
    neuron, n = net.neuron, net.n_neurons
    several = isinstance(neuron, Populations)
    parts = neuron.parts if several else (neuron,)
    columns = _blocks(neuron.sizes if several else (n,))
    names = [f"neurons_{k}" for k in range(len(parts))]
    nodes: dict[str, Any] = {}
    for name, part, block in zip(names, parts, columns, strict=True):
        nodes[name] = neuron_node(part, (block.stop - block.start,), units)
    sources = {INPUT: slice(n, len(net.matrix))}
    sources |= {
        name: block
        for name, part, block in zip(names, parts, columns, strict=True)
        if not isinstance(part, LeakyIntegrator)  # it sends no spikes
    }
    delayed, to_delays = _delays(net, sources, units)
    nodes |= delayed
    edges: list[Edge] = []
    for source, rows in sources.items():
        for target, block in zip(names, columns, strict=True):
            synapses = _synapses(net, rows, block)
            if source != INPUT and synapses.mask is not None and not synapses.mask.any():
                continue
            name = f"{source}_to_{target}"
            nodes[name] = synapses.node()
            edges += [(f"{source}_delays" if delayed else source, name), (name, target)]
    chosen, to_output = _outputs(net, names, columns)
    return nodes | chosen, [*edges, *to_delays, *to_output]


def network(graph: Graph, units: Units, options: dict[str, Any]) -> EventNetwork:
    """Return the network of a graph. Its options must not include `outputs`."""
    order = dict.fromkeys(name for edge in graph.edges for name in edge)
    names = [name for name in order if graph.kind(name) in MODELS]
    if not names:
        raise ValueError(
            "graph must have neurons (CubaLIF or CubaLI) in the event mode, got "
            f"{sorted({graph.kind(name) for name in graph.nodes})}."
        )
    neurons = [_part(graph, name, units) for name in names]
    parts, factors = [part for part, _ in neurons], [factor for _, factor in neurons]
    sizes = [np.size(graph.nodes[name].v_leak) for name in names]
    n_in = int(np.prod(graph.nodes[graph.only("Input")].input_type["input"]))
    blocks = dict(zip(names, _blocks(sizes), strict=True))
    rows = blocks | {graph.only("Input"): slice(sum(sizes), sum(sizes) + n_in)}
    spiking = np.ones(sum(sizes) + n_in, bool)
    for name, part in zip(names, parts, strict=True):
        spiking[blocks[name]] = not isinstance(part, LeakyIntegrator)
    found: dict[tuple[str, str], Synapses] = {}
    delays: dict[str, np.ndarray | None] = {}
    for target, factor in zip(names, factors, strict=True):
        for node in graph.before(target):
            with naming_node(node):
                source = _source(graph, node, delays, units)
                if source not in rows or not spiking[rows[source]].all():
                    raise ValueError(f"graph must have spikes as inputs of a Linear, got {source}.")
                if (source, target) in found:
                    raise ValueError(
                        f"graph must have one Linear node from {source} to {target}, got several."
                    )
                found[source, target] = synapses_of(graph.nodes[node], factor)
    weights, mask = _assembled(found, rows, blocks)
    missing = ~mask & spiking[:, None]
    return EventNetwork(
        Populations(list(zip(parts, sizes, strict=True))) if len(parts) > 1 else parts[0],
        weights,
        mask if missing.any() else None,
        outputs=_output_indices(graph, blocks),
        delays=_delay_vector(delays, rows),
        **options,
    )


# ------------------------------------------------------------------ network to graph


def _blocks(sizes: Any) -> list[slice]:
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for end, size in zip(ends, sizes, strict=True)]


def _delays(
    net: EventNetwork, sources: dict[str, slice], units: Units
) -> tuple[dict[str, Any], list[Edge]]:
    """Return the `Delay` nodes of the sources, and the edges to them."""
    if net.delays is None:
        return {}, []
    axonal(net.delays)
    values = np.asarray(net.delays)
    nodes = {
        f"{name}_delays": delay_node(values[rows], units.time) for name, rows in sources.items()
    }
    return nodes, [(name, f"{name}_delays") for name in sources]


def _synapses(net: EventNetwork, rows: slice, columns: slice) -> Synapses:
    mask = None if net.mask is None else np.asarray(net.mask)[rows, columns].T
    return Synapses(np.asarray(net.weights)[rows, columns].T, mask)


def _outputs(
    net: EventNetwork, names: list[str], columns: list[slice]
) -> tuple[dict[str, Any], list[Edge]]:
    """Return the edges to the output, and the nodes that select the outputs.

    The output is one population, or a sum of selections: `Linear` nodes with one 1 per row.
    """
    for name, block in zip(names, columns, strict=True):
        if net.outputs == tuple(range(block.start, block.stop)):
            return {}, [(name, OUTPUT)]
    selection = np.zeros((len(net.outputs), net.n_neurons), net.weights.dtype)
    selection[np.arange(len(net.outputs)), net.outputs] = 1
    nodes = {
        f"outputs_of_{name}": nir_package().Linear(selection[:, block])
        for name, block in zip(names, columns, strict=True)
        if selection[:, block].any()
    }
    edges = [(name.removeprefix("outputs_of_"), name) for name in nodes]
    return nodes, edges + [(name, OUTPUT) for name in nodes]


# ------------------------------------------------------------------ graph to network


def _part(graph: Graph, name: str, units: Units) -> tuple[Any, np.ndarray]:
    with naming_node(name):
        return neuron_of(graph.nodes[name], units)


def _source(graph: Graph, node: str, delays: dict[str, np.ndarray | None], units: Units) -> str:
    """Return the source of the weights in a node, and add its delays to `delays`."""
    if graph.kind(node) not in WEIGHTS:
        raise ValueError(
            f"graph must have a Linear node before each node of neurons, got {graph.kind(node)}."
        )
    without_bias(graph.nodes[node])
    source = _only_before(graph, node)
    found = None
    if graph.kind(source) == "Delay":
        found = delays_of(graph.nodes[source], units.time)
        source = _only_before(graph, source)
    if source in delays and not np.array_equal(_or_zero(delays[source]), _or_zero(found)):
        raise ValueError(f"graph must have the same delays on all edges from {source}, got two.")
    delays[source] = found
    return source


def _or_zero(delays: np.ndarray | None) -> np.ndarray:
    return np.zeros(1) if delays is None else delays


def _only_before(graph: Graph, node: str) -> str:
    names = graph.before(node)
    if len(names) != 1:
        raise ValueError(f"graph must have one edge to the node {node}, got {len(names)}.")
    return names[0]


def _assembled(
    found: dict[tuple[str, str], Synapses], rows: dict[str, slice], columns: dict[str, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights and the mask of a network, with sources as rows."""
    shape = max(block.stop for block in rows.values()), max(b.stop for b in columns.values())
    dtype = np.result_type(*[synapses.weights.dtype for synapses in found.values()] or [float])
    weights, mask = np.zeros(shape, dtype), np.zeros(shape, bool)
    for (source, target), synapses in found.items():
        block = rows[source], columns[target]
        weights[block] = synapses.weights.T
        mask[block] = True if synapses.mask is None else synapses.mask.T
    return weights, mask


def _delay_vector(
    delays: dict[str, np.ndarray | None], rows: dict[str, slice]
) -> np.ndarray | None:
    given = {name: values for name, values in delays.items() if values is not None}
    if not given:
        return None
    vector = np.zeros(max(block.stop for block in rows.values()))
    for name, values in given.items():
        vector[rows[name]] = values
    return vector


def _output_indices(graph: Graph, blocks: dict[str, slice]) -> np.ndarray:
    """Return the indices of the neurons whose spikes or potentials are the output."""
    n, selections = max(block.stop for block in blocks.values()), []
    for name in graph.before(graph.only("Output")):
        source = name if name in blocks else _only_before(graph, name)
        if source not in blocks or not (name in blocks or graph.kind(name) == "Linear"):
            raise ValueError(f"graph must have neurons as its output, got {graph.kind(name)}.")
        block = blocks[source]
        own = np.eye(block.stop - block.start) if name in blocks else graph.nodes[name].weight
        wide = np.zeros((len(own), n))
        wide[:, block] = own
        selections.append(wide)
    selection = sum(selections[1:], selections[0]) if selections else np.zeros((1, n))
    if not np.all((selection == 0) | (selection == 1)) or not np.all(selection.sum(axis=1) == 1):
        raise ValueError(
            "graph must select neurons as outputs, by an edge or a Linear node with one 1 per row, "
            "got other weights before the output."
        )
    return selection.argmax(axis=1)
