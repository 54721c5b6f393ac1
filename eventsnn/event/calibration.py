"""Scale the weights of a model, layer by layer, until its neurons fire as wanted on data."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import checks
from ..constraints import AbstractWrapper
from .layers import AbstractLayer, EventConv2d, EventSequential
from .layers.base import InTimes
from .network import EventNetwork
from .responses import Responses, batch_for, next_trains, responses

Model = TypeVar("Model", bound=AbstractLayer | EventSequential | EventNetwork)

# The search doubles or halves the factor of the weights at most 60 times, and then bisects.
_DOUBLINGS, _BISECTIONS = 60, 8
# Tried shifts of the weights, in units of their root mean square.
_SHIFTS = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0)
# Steps by which the best of them is then changed as long as the error decreases.
_STEPS = (0.25, 0.125, 0.0625, 0.03125)
# Error of a batch in which all samples fail.
_FAILURE = 100.0


def calibrate(
    model: Model,
    in_times: InTimes,
    *,
    firing: float = 0.5,
    spikes: float | None = None,
    first_spike: float | None = None,
    potential: float = 1.0,
) -> Model:
    r"""Scale the weights of every layer until its neurons fire as wanted on a batch of data.

    The weights of one layer after the other are multiplied by a factor, so that the wanted fraction
    of its responses (one neuron in one sample) has a spike. If no factor suffices, or if `spikes`
    or `first_spike` is given, a constant is added to the weights of the layer in addition.

    The weights of readouts are multiplied by a factor, so that the input spikes raise the maximal
    potentials by `potential`, as a root mean square over all samples and neurons together:

    $$\sqrt{\langle (m_{si} - m^0_{si})^2 \rangle_{s,i}} = \text{potential}$$

    with the maximum $m_{si}$ of neuron $i$ in sample $s$, and the maximum $m^0_{si}$ with all of
    the weights 0, which is the initial potential without a bias. Without a bias, this holds
    exactly. With the default, scores that are maxima are of order 1. The mean is included: if the
    maxima hardly vary, a factor that scales only their deviation would be arbitrarily large.

    The method is that of layer-sequential unit-variance initialisation (Mishkin & Matas, ICLR 2016,
    arXiv:1511.06422).

    In an [`eventsnn.EventNetwork`][] the weights of all hidden neurons, including recurrent ones,
    have one factor, and those of the outputs another.

    ```python
    model = esn.calibrate(model, in_times[:100])
    print(esn.activity(model, in_times[:100]))
    ```

    **Arguments:**

    - `model`: an [`eventsnn.EventSequential`][], a layer, or an [`eventsnn.EventNetwork`][].
    - `in_times`: input spikes of one sample or, better, of a batch; about 100 samples suffice.
    - `firing`: wanted fraction of responses with a spike, between 0 and 1. Default: 0.5.
    - `spikes`: wanted mean number of spikes of a response, > 0. Default: None, any.
    - `first_spike`: wanted median time to first spike, > 0. Default: None, any. If both `spikes`
        and `first_spike` are given, the sum of both relative errors is minimised.
    - `potential`: wanted root mean square of the increase of the maximal potentials of readouts by
        the input spikes, > 0, in the units of the potential. Default: 1.

    **Returns:** a copy of the model with other weights.

    **Raises:** `ValueError` for an argument out of range, and, before any layer is simulated, for
    weights that are wrapped by [`eventsnn.constrain`][] or all zero (calibrate first; delays and
    neuron parameters may be wrapped). `ValueError` for a layer without input spikes, a layer whose
    share of responses with a spike is below `firing` with any weights, or if all samples fail with
    the weights that are found. A `UserWarning` if some samples fail, for example because they reach
    `max_events`, and if the input spikes change no maximum of the readouts of a layer, whose
    weights then remain as they are.
    """
    in_times = batch_for(model, in_times)
    _check_weights(model, "model")
    wanted = _Wanted(
        checks.number("firing", firing, "between 0 and 1", lambda x: 0 < x < 1),
        None if spikes is None else checks.positive("spikes", spikes),
        None if first_spike is None else checks.positive("first_spike", first_spike),
        checks.positive("potential", potential),
    )
    fitted = _calibrated(model, in_times, wanted, "model")
    _check_failures(fitted, in_times, wanted)
    return fitted


def _check_failures(model: Any, in_times: Array, wanted: "_Wanted") -> None:
    """Warn if some samples fail, and raise if all of them do."""
    found = [(name, each.failures()) for name, each in responses(model, in_times)]
    # The neurons of a network are simulated together.
    unique = {"model" if isinstance(model, EventNetwork) else name: x for name, x in found}
    shares = [(x, status, name) for name, each in unique.items() for status, x in each.items()]
    total = sum(x for x, *_ in shares)
    if not shares:
        return
    causes = ", ".join(f"{x:.0%} with the status {status} in {name}" for x, status, name in shares)
    if total > 1 - 1e-9:
        raise ValueError(
            f"firing must be a fraction that the neurons reach without failure, got {wanted.firing}"
            f" and the samples fail: {causes}."
        )
    warnings.warn(
        f"calibrate: with the new weights some samples fail, {causes}. Choose a smaller `firing` "
        "or a larger limit, see eventsnn.activity.",
        stacklevel=3,
    )


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Wanted activity."""

    firing: float
    spikes: float | None
    first_spike: float | None
    potential: float

    def error(self, found: Responses) -> float:
        """Sum of the relative errors of the secondary targets, and a penalty for failed samples."""
        counts, first = found.counts[found.good], found.first[found.good]
        pairs = [(self.spikes, counts.mean() if counts.size else 0.0)]
        fired = first[counts > 0]
        pairs.append((self.first_spike, float(np.median(fired)) if fired.size else math.inf))
        failed = _FAILURE * float(np.mean(~found.good))
        return failed + sum(abs(value - x) / x for x, value in pairs if x is not None)


def _calibrated(model: Any, in_times: Array, wanted: _Wanted, name: str) -> Any:
    if isinstance(model, EventSequential):
        layers = []
        for i, layer in enumerate(model.layers):
            if isinstance(layer, AbstractLayer | EventSequential | EventNetwork):
                layer = _calibrated(layer, in_times, wanted, f"{name}.layers[{i}]")
            layers.append(layer)
            if i < len(model) - 1:
                in_times = next_trains(layer, in_times)
        return eqx.tree_at(lambda m: m.layers, model, tuple(layers))
    for group, columns in _groups(model):
        model = _fitted(model, in_times, wanted, group, columns, name)
    return model


def _check_weights(model: Any, name: str) -> None:
    """Raise unless the weights of all layers can be scaled. No layer is simulated."""
    if isinstance(model, EventSequential):
        for i, layer in enumerate(model.layers):
            _check_weights(layer, f"{name}.layers[{i}]")
    elif isinstance(model, AbstractLayer | EventNetwork):
        field = _field(model)
        weights = getattr(model, field)
        if isinstance(weights, AbstractWrapper):
            raise ValueError(
                f"{field} of {name} must not be wrapped before calibrate, got {weights}. "
                "Calibrate first, then call eventsnn.constrain."
            )
        for _, columns in _groups(model):
            if not 0 < _scale(weights, _mask(model, columns)) < math.inf:
                raise ValueError(f"{field} of {name} must be finite and not all 0.")


def _field(model: AbstractLayer | EventNetwork) -> str:
    return "kernel" if isinstance(model, EventConv2d) else "weights"


def _mask(model: Any, columns: np.ndarray | None) -> np.ndarray:
    """Mask of the weights of one group."""
    shape = getattr(model, _field(model)).shape
    mask = np.ones(shape, bool) if model.mask is None else np.asarray(model.mask)
    return mask if columns is None else mask & columns


def _scale(weights: Array, mask: np.ndarray) -> float:
    """Root mean square of the weights of one group, 0 for a group without weights."""
    return float(np.sqrt(np.mean(np.asarray(weights)[mask] ** 2))) if mask.any() else 0.0


def _groups(model: AbstractLayer | EventNetwork) -> list[tuple[str, np.ndarray | None]]:
    """Names of the groups of neurons that have a common factor, and masks of their weights.

    A group is named as in the activity, or `readout`. None: all weights.
    """
    if isinstance(model, AbstractLayer):
        return [("readout" if model._is_readout() else "layer", None)]
    never = model.neuron.never_reset(model.n_neurons)
    outputs = np.isin(np.arange(model.n_neurons), model.outputs)
    masks = {"hidden": ~never & ~outputs, "outputs": ~never & outputs, "readout": never & outputs}
    receptors = model.neuron.receptors
    return [(name, np.tile(mask, receptors)) for name, mask in masks.items() if mask.any()]


def _fitted(
    model: Any, in_times: Array, wanted: _Wanted, group: str, columns: np.ndarray | None, name: str
) -> Any:
    """Return the model with the weights of one group scaled and shifted."""
    field, mask = _field(model), _mask(model, columns)
    weights = getattr(model, field)
    scale = _scale(weights, mask)
    if not np.any(np.isfinite(np.asarray(in_times))):
        raise ValueError(f"in_times of {name} must contain spikes; the layer before is silent.")

    def changed(factor: float, shift: float = 0.0) -> Any:
        new = jnp.where(mask, factor * (weights + shift * scale), weights)
        return eqx.tree_at(lambda m: getattr(m, field), model, new)

    def found(factor: float, shift: float) -> Responses:
        return dict(responses(changed(factor, shift), in_times))[group]

    if group == "readout":
        increase = _increase(model, changed(0.0), in_times)
        if increase > 0:
            return changed(wanted.potential / increase)
        warnings.warn(
            f"calibrate: the input spikes change no maximal potential of the readouts of {name}, "
            f"whose {field} are not changed. Maxima have no gradient there: use positive {field}.",
            stacklevel=4 + name.count(".layers["),  # the caller of calibrate
        )
        return model
    return changed(*_search(found, wanted, name))


def _increase(model: Any, silent: Any, in_times: Array) -> float:
    """Root mean square, over samples and readouts, of the increase of their maximal potentials.

    `silent` is the model without the weights of the readouts.
    """
    increase = np.asarray(_maxima(model, in_times) - _maxima(silent, in_times))
    if isinstance(model, EventNetwork):
        never = np.asarray(model.neuron.never_reset(model.n_neurons))
        increase = increase[..., never[list(model.outputs)]]
    failed = np.isnan(increase)
    return 0.0 if failed.all() else float(np.sqrt(np.mean(increase[~failed] ** 2)))


@eqx.filter_jit
def _maxima(model: Any, in_times: Array) -> Array:
    return model.maxima(in_times, throw=False)


def _search(
    found: Callable[[float, float], Responses], wanted: _Wanted, name: str
) -> tuple[float, float]:
    """Factor and shift of the weights with which the neurons fire as wanted."""
    free = wanted.spikes is None and wanted.first_spike is None
    tried: dict[float, tuple[float, float]] = {}  # error and factor, by shift

    def attempt(shift: float) -> None:
        factor = _factor(lambda factor: _firing(found(factor, shift)), wanted.firing)
        if factor is not None:
            tried[shift] = wanted.error(found(factor, shift)), factor

    def best() -> float:
        return min(tried, key=lambda shift: tried[shift])

    for shift in _SHIFTS:
        attempt(shift)
        if free and tried and tried[best()][0] == 0:
            break
    if not tried:
        raise ValueError(
            f"{name} must fire in {wanted.firing:.0%} of its responses for some weights."
        )
    for step in () if free else _STEPS:
        middle = best()
        attempt(middle - step)
        attempt(middle + step)
    return tried[best()][1], best()


def _factor(share: Callable[[float], float], firing: float) -> float | None:
    """Factor of the weights with which the wanted share of responses fires, if there is one."""
    low, high = 0.0, math.inf
    factor = 1.0
    for _ in range(_DOUBLINGS):
        low, high = (low, factor) if share(factor) >= firing else (factor, high)
        if low > 0 and high < math.inf:
            break
        factor *= 2.0 if high == math.inf else 0.5
    else:
        return None
    for _ in range(_BISECTIONS):
        factor = math.sqrt(low * high)
        low, high = (low, factor) if share(factor) >= firing else (factor, high)
    return high


def _firing(found: Responses) -> float:
    """Share of the responses with a spike. Neurons of a sample that fails count as firing."""
    return float(np.mean(np.where(found.good[:, None], found.counts > 0, True)))
