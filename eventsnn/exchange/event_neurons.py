"""Neurons of the event mode as NIR nodes, and back."""

from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..event import LIF, AbstractNeuron, LeakyIntegrator
from .package import nir_package
from .parameters import Field, Fields, numbers, read, time, written

NODES: dict[type, str] = {LIF: "CubaLIF", LeakyIntegrator: "CubaLI"}
MODELS: dict[str, type] = {node: model for model, node in NODES.items()}


class Units(NamedTuple):
    """Units of the conversion, in seconds."""

    time: float
    """Unit of time of the model."""
    spike: float
    """Integral of a spike over time."""


def fields_of(model: type, units: Units) -> Fields:
    """Fields of the NIR node that represent the parameters of a neuron model."""
    fields = {name: time(name, units.time) for name in ("tau_mem", "tau_syn")}
    fields["bias"] = Field("v_leak")
    if model is LIF:
        fields |= {"threshold": Field("v_threshold"), "v_reset": Field("v_reset")}
    return fields


def neuron_node(neuron: AbstractNeuron, shape: tuple[int, ...], units: Units) -> Any:
    """Return the NIR node of neurons of the given shape.

    **Raises:** `ValueError` for a neuron that NIR cannot express.
    """
    _check(neuron)
    values, metadata = written(neuron, fields_of(type(neuron), units), shape)
    node = getattr(nir_package(), NODES[type(neuron)])
    w_in = values["tau_syn"] / units.spike
    return node(**values, r=np.ones(shape), w_in=w_in, metadata=metadata)


def neuron_of(node: Any, units: Units) -> tuple[AbstractNeuron, np.ndarray]:
    """Return the neurons of a node, and the factor of their weights.

    The neurons of an image have one set of parameters per channel.
    """
    model = MODELS[type(node).__name__]
    parameters = {k: _per_channel(k, v) for k, v in read(node, fields_of(model, units)).items()}
    r, w_in, tau_syn = (numbers(node, name) for name in ("r", "w_in", "tau_syn"))
    # Exactly 1 for r = 1 and w_in = tau_syn / units.spike.
    factor = _per_channel("r w_in / tau_syn", r * (w_in / (tau_syn / units.spike)))
    return model(**parameters), factor


def _check(neuron: AbstractNeuron) -> None:
    """Raise for a neuron that NIR cannot express."""
    if type(neuron) not in NODES:
        raise ValueError(
            "neuron must be LIF, LeakyIntegrator or, in an EventNetwork, Populations of them to be "
            f"expressed in NIR, got {type(neuron).__name__}."
        )
    start = np.asarray(0.0)
    if isinstance(neuron, LIF):
        start = np.asarray(neuron.v_reset)
        if neuron.reset_mode != "set":
            raise ValueError(
                'reset_mode must be "set" to be expressed in NIR, which has no reset by '
                f'subtraction, got "{neuron.reset_mode}".'
            )
    expected = "be the reset potential, or 0 without reset, since NIR has no initial state"
    v_init = np.asarray(getattr(neuron, "v_init", start))
    checks.raise_if("v_init", v_init, v_init != start, f"must {expected}")


def _per_channel(name: str, value: np.ndarray) -> np.ndarray:
    """Convert a parameter of the neurons of an image to one value per channel."""
    if value.ndim <= 1:
        return value
    first = value.reshape(len(value), -1)[:, 0]
    differs = value != first.reshape(-1, *[1] * (value.ndim - 1))
    checks.raise_if(name, value, differs, "must be the same at all positions of a channel")
    return first
