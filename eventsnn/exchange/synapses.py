"""Weights, masks and delays as NIR nodes, and back."""

from typing import Any, NamedTuple

import numpy as np

from .. import checks
from .package import nir_package
from .parameters import Field, numbers, read, record, recorded, time

WEIGHTS = ("Linear", "Affine")


class Synapses(NamedTuple):
    """Weights of shape `(receivers, sources)`, in the layout of NIR, and their mask."""

    weights: np.ndarray
    mask: np.ndarray | None

    def node(self, bias: Any = None) -> Any:
        """NIR node `Linear`, or `Affine` with a bias. The weights of missing synapses are 0."""
        weights, metadata = self.weights, {}
        if self.mask is not None:
            weights = np.where(self.mask, weights, np.zeros((), weights.dtype))
            metadata = record(mask=self.mask)
        if bias is None:
            return nir_package().Linear(weights, metadata=metadata)
        return nir_package().Affine(weights, np.asarray(bias), metadata=metadata)


def synapses_of(node: Any, factor: np.ndarray | None = None) -> Synapses:
    """Return the weights of a node, with the row of each receiver multiplied by a factor."""
    weights, mask = np.asarray(node.weight), recorded(node, "mask")
    if mask is not None and not (np.shape(mask) == weights.shape and not np.any(weights[~mask])):
        mask = None
    return Synapses(scaled(weights, factor), mask)


def scaled(weights: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """Weights, with the first axis multiplied by a factor, in their own floating-point dtype."""
    weights = weights if weights.dtype.kind == "f" else weights.astype(float)
    checks.check_elements("weight", weights, np.isfinite, "finite")
    if factor is None or np.all(factor == 1):
        return weights
    rows = factor if factor.ndim == 0 else factor.reshape(-1, *[1] * (weights.ndim - 1))
    return (weights * rows).astype(weights.dtype)


def without_bias(node: Any) -> None:
    """Raise if a node has a bias: in NIR it is an input of the synapse, not of the membrane."""
    bias = np.asarray(getattr(node, "bias", 0.0))
    checks.raise_if(
        "bias", bias, bias != 0, "must be 0 in the event mode; for a constant current use v_leak"
    )


def delay_node(delays: Any, unit: float) -> Any:
    """NIR node `Delay` of axonal delays in the given unit of time."""
    values = np.asarray(delays)
    seconds = time("delay", unit).to_nir(values)
    return nir_package().Delay(seconds, metadata=record(delays=values))


def delays_of(node: Any, unit: float) -> np.ndarray:
    """Return the delays of a node in the given unit of time."""
    fields: dict[str, Field] = {"delays": time("delay", unit)}
    return read(node, fields)["delays"]


def pair(node: Any, name: str) -> tuple[int, int]:
    """Return the two values of a field such as `stride`, which may be one number."""
    value = np.broadcast_to(numbers(node, name), (2,))
    return int(value[0]), int(value[1])


def padding(node: Any) -> tuple[int, int]:
    """Return the padding of a convolution, also of one with the padding "same" or "valid"."""
    if not isinstance(node.padding, str):
        return pair(node, "padding")
    size = np.shape(node.weight)[2:]
    if node.padding == "valid":
        return 0, 0
    if pair(node, "stride") != (1, 1) or size[0] % 2 == 0 or size[1] % 2 == 0:
        raise ValueError(
            f'padding must be numbers, or "same" for an odd kernel with a stride of 1, '
            f"got {node.padding!r} for the size {size}."
        )
    return size[0] // 2, size[1] // 2
