"""Layers of a model, with their shapes and numbers of parameters."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .. import checks, discrete
from ..constraints import AbstractWrapper
from ..discrete import AbstractCell
from ..event.selection import trainable
from .shapes import Shape, follow
from .table import aligned
from .walk import Part, parts, type_of

# Names under which layers store their synaptic weights.
_WEIGHTS = ("weights", "kernel", "weight", "weight_ih", "weight_hh")


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer of a model."""

    name: str
    """Place in the model, for example `layers[0]`; empty for the model itself."""
    type: str
    """Type of the layer and of its neurons, for example `EventLinear (LIF)`."""
    input: Shape | None
    """Shape of the input of one sample, without the axis of the spikes or of the time; None if it
    is not known."""
    output: Shape | None
    """Shape of the output, likewise."""
    parameters: int
    """Number of parameters: weights of the existing synapses, and all other floating-point
    numbers."""
    trainable: int
    """Number of these parameters that train by default."""
    masked: int
    """Number of synapses that the mask of the layer removes."""
    zeros: int
    """Number of weights of existing synapses that are 0."""
    synapses: int
    """Number of weights, including those of masked synapses."""
    bytes: int
    """Size of all arrays of the layer, including masks."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """Layers and parameters of a model: result of [`summary`][]. `print` shows a table."""

    layers: tuple[LayerSummary, ...]
    """Layers, in order."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable(self) -> int:
        """Number of parameters that train by default."""
        return sum(layer.trainable for layer in self.layers)

    @property
    def masked(self) -> int:
        """Number of masked synapses."""
        return sum(layer.masked for layer in self.layers)

    @property
    def footprint(self) -> int:
        """Size of all arrays of the model in bytes."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def connection_sparsity(self) -> float:
        """Fraction of the weights that are masked or 0; NaN for a model without weights."""
        missing = sum(layer.masked + layer.zeros for layer in self.layers)
        weights = sum(layer.synapses for layer in self.layers)
        return missing / weights if weights else math.nan

    def __str__(self) -> str:
        header = ("layer", "type", "input", "output", "parameters", "trainable", "masked")
        total = ("total", "", "", "", *map(str, (self.parameters, self.trainable, self.masked)))
        rows = [header, *map(_row, self.layers), total]
        facts = f"{self.footprint:,} bytes, connection sparsity {self.connection_sparsity:.1%}"
        return f"{aligned(rows, texts=4)}\n{facts}"


def summary(model: PyTree, in_shape: Sequence[int] | None = None) -> Summary:
    """List the layers of a model with their shapes and numbers of parameters.

    ```python
    print(esn.summary(model))
    # layer      type                           input  output  parameters  trainable  masked
    # layers[0]  EventLinear (LIF)              (64,)  (100,)        6406       6401       0
    # layers[1]  EventLinear (LeakyIntegrator)  (100,) (10,)         1004       1001       0
    # total                                                          7410       7402       0
    # 29,640 bytes, connection sparsity 0.0%
    ```

    The layers are those of an [`eventsnn.EventSequential`][] or [`eventsnn.discrete.Sequential`][],
    and the modules in the fields of a user-defined module. Feedback connections belong to their
    cell. A weight of a masked synapse is not a parameter. Parameters that train by default are
    those of [`eventsnn.trainable`][] or, for a model with cells,
    [`eventsnn.discrete.trainable`][].

    The footprint and the connection sparsity are those of NeuroBench (Yik et al., Nature
    Communications 16:1545, 2025, arXiv:2304.04640).

    **Arguments:**

    - `model`: a network, a layer, a cell, a sequence of layers, or any Equinox module made of them.
    - `in_shape`: shape of the input of one sample: the channels of spike trains (`(1, 28, 28)` for
        an image), or the features of one time step. Default: None, shapes are given as far as they
        follow from the layers.

    **Returns:** a [`Summary`][].

    **Raises:** `ValueError` for a model that is no Equinox module, or an `in_shape` that a layer
    does not accept.
    """
    checks.instance("model", model, eqx.Module, "an Equinox module, such as a network or a layer")
    shape = None if in_shape is None else checks.shape("in_shape", in_shape)
    trained = _trained(model)
    shapes = follow(model, shape)
    return Summary(tuple(_layer(part, trained, shapes) for part in parts(model)))


def _trained(model: PyTree) -> set[int]:
    """Identities of the arrays that train by default."""
    if not any(map(eqx.is_inexact_array, jax.tree.leaves(model))):
        return set()
    inner = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, AbstractCell))
    cells = any(isinstance(x, AbstractCell) for x in inner)
    spec = discrete.trainable(model) if cells else trainable(model)
    return {id(x) for x in jax.tree.leaves(eqx.filter(model, spec))}


def _layer(part: Part, trained: set[int], shapes: dict[str, tuple]) -> LayerSummary:
    exists = {id(x): mask for x, mask in _masked(part.content)}
    arrays = [x for x in jax.tree.leaves(part.content) if eqx.is_array(x)]
    numbers = [x for x in arrays if eqx.is_inexact_array(x)]
    sizes = {id(x): int(np.sum(exists.get(id(x), np.ones(x.shape, bool)))) for x in numbers}
    weights = list(_weights(part.content))
    zeros = (np.sum((np.asarray(x) == 0) & exists.get(id(x), True)) for x in weights)
    given, found = shapes.get(part.name, (None, None))
    return LayerSummary(
        name=part.name,
        type=type_of(part.content) if part.whole else f"{type_of(part.owner)} itself",
        input=given,
        output=found,
        parameters=sum(sizes.values()),
        trainable=sum(size for i, size in sizes.items() if i in trained),
        masked=sum(x.size - sizes[id(x)] for x in weights),
        zeros=int(sum(zeros)),
        synapses=sum(x.size for x in weights),
        bytes=sum(x.nbytes for x in arrays),
    )


def _masked(tree: PyTree) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield the arrays with one value per synapse of a masked layer, and the mask."""
    for module in _modules(tree):
        mask: Any = getattr(module, "mask", None)
        for name in (*_WEIGHTS, "delays") if eqx.is_array(mask) else ():
            values = _raw(getattr(module, name, None))
            if eqx.is_array(values) and values.shape == mask.shape:
                yield values, np.asarray(mask)


def _weights(tree: PyTree) -> Iterator[Any]:
    """Yield the arrays of synaptic weights."""
    for module in _modules(tree):
        names = ("v",) if isinstance(module, discrete.OneToOne) else _WEIGHTS
        found = (_raw(getattr(module, name, None)) for name in names)
        yield from (values for values in found if eqx.is_inexact_array(values))


def _raw(values: Any) -> Any:
    return values.raw if isinstance(values, AbstractWrapper) else values


def _modules(tree: PyTree) -> Iterator[eqx.Module]:
    """Yield all modules in a tree."""
    if isinstance(tree, eqx.Module) and not isinstance(tree, AbstractWrapper):
        yield tree
    inner = jax.tree.leaves(tree, is_leaf=lambda x: x is not tree and isinstance(x, eqx.Module))
    for node in inner:
        if isinstance(node, eqx.Module) and node is not tree:
            yield from _modules(node)


def _row(layer: LayerSummary) -> tuple[str, ...]:
    shapes = (str(shape) if shape is not None else "?" for shape in (layer.input, layer.output))
    numbers = map(str, (layer.parameters, layer.trainable, layer.masked))
    return layer.name or "model", layer.type, *shapes, *numbers
