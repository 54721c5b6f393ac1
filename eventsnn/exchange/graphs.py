"""Structure of a NIR graph: nodes, edges and sequences of nodes, without subgraphs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

Edge = tuple[str, str]


class Graph(NamedTuple):
    """Nodes by name, and edges, of a graph without subgraphs."""

    nodes: dict[str, Any]
    edges: list[Edge]

    def before(self, name: str) -> list[str]:
        """Names of the nodes with an edge to the node `name`, in the order of the edges."""
        return [a for a, b in self.edges if b == name]

    def after(self, name: str) -> list[str]:
        """Names of the nodes to which the node `name` has an edge, in the order of the edges."""
        return [b for a, b in self.edges if a == name]

    def kind(self, name: str) -> str:
        """Type of a node, such as `CubaLIF`."""
        return type(self.nodes[name]).__name__

    def only(self, kind: str) -> str:
        """Name of the only node of a type. Raise if there are several, or none."""
        names = [name for name in self.nodes if self.kind(name) == kind]
        if len(names) != 1:
            raise ValueError(f"graph must have one {kind} node, got {len(names)}: {names}.")
        return names[0]

    def without(self, names: set[str]) -> "Graph":
        """Graph without the nodes `names` and their edges."""
        nodes = {name: node for name, node in self.nodes.items() if name not in names}
        return Graph(nodes, [edge for edge in self.edges if not names & {*edge}])

    def sequence(self) -> list[str] | None:
        """Names of the nodes between input and output, if they are one sequence; None if not."""
        name, end, names = self.only("Input"), self.only("Output"), []
        while name != end:
            after = self.after(name)
            if len(after) != 1 or len(self.before(after[0])) != 1 or after[0] in names:
                return None
            name = after[0]
            names.append(name)
        return names[:-1] if len(names) == len(self.nodes) - 1 else None


def flattened(graph: Any) -> Graph:
    """Replace the subgraphs of a NIR graph by their nodes, named `subgraph.node`."""
    nodes: dict[str, Any] = {}
    edges: list[Edge] = [(str(a), str(b)) for a, b in graph.edges]
    for name, node in graph.nodes.items():
        if type(node).__name__ != "NIRGraph":
            nodes[name] = node
            continue
        inner = flattened(node)
        start, end = (f"{name}.{inner.only(kind)}" for kind in ("Input", "Output"))
        edges = [(end if a == name else a, start if b == name else b) for a, b in edges]
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inner.edges]
        nodes |= {f"{name}.{key}": value for key, value in inner.nodes.items()}
        for wire in (start, end):
            edges = _shortcut(edges, wire)
            del nodes[wire]
    unknown = {name for edge in edges for name in edge} - set(nodes)
    if unknown:
        raise ValueError(f"graph must have edges between its nodes, got {sorted(unknown)}.")
    return Graph(nodes, edges)


def _shortcut(edges: list[Edge], name: str) -> list[Edge]:
    """Connect the nodes before a node with those after it, and remove its edges."""
    around = [(a, d) for a, b in edges for c, d in edges if b == c == name]
    return [edge for edge in edges if name not in edge] + around


@contextmanager
def naming_node(name: str) -> Iterator[None]:
    """Add the name of a node to an error."""
    try:
        yield
    except (TypeError, ValueError) as error:
        error.add_note(f"This error is from the node {name!r} of the graph.")
        raise
