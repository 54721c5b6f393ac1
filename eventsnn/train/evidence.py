"""Activity of the outputs in a batch, as evidence for a diagnosis."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, PyTree

from .. import checks
from ..constraints import unwrap
from ..event import AbstractLayer, EventLinear, EventNetwork, EventSequential
from ..event.responses import responses
from .wording import grouped, is_floating, percent

_EventModel = EventNetwork | AbstractLayer | EventSequential

# Advice by the status of a sample that exceeds a limit.
_LIMITS = {
    "max_events": "a larger max_events",
    "max_steps": "a larger max_steps",
    "queue_overflow": "a larger queue_capacity",
    "max_spikes": "a larger max_spikes or truncate=True",
}


class Evidence(NamedTuple):
    """Activity of the outputs in one batch."""

    silent: Bool[np.ndarray, "batch outputs"]
    times: bool
    """True if the outputs were given as spike times."""
    causes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    def always_silent(self, outputs: np.ndarray) -> bool:
        """Return whether the given outputs are silent in every sample."""
        enough = self.silent.shape[1] > outputs.max()
        return bool(enough and self.silent[:, outputs].all())


def evidence_of(outputs: ArrayLike) -> Evidence:
    """Make the evidence from spike times, spike counts or booleans of shape (batch, n_outputs)."""
    expected = "have shape (batch, n_outputs): first spike times, spike counts or booleans"
    x = np.asarray(checks.numbers("outputs", outputs, f"real and {expected}", boolean=True))
    if x.ndim != 2 or not x.size:
        raise ValueError(f"outputs must {expected}, got shape {x.shape}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return Evidence(x == 0, times=False)
    causes = grouped(np.isnan(x).mean(axis=0), "NaN")
    return Evidence(np.isposinf(x), times=True, causes=tuple(causes))


def no_evidence(error: Exception) -> Evidence:
    """Make evidence without outputs, with the error that prevented their computation as cause."""
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return Evidence(np.zeros((1, 0), bool), False, (f"the outputs cannot be computed: {reason}",))


def has_network(model: PyTree) -> bool:
    """Return whether a pytree contains an event network or a layer of one."""
    return bool(_event_models(model))


def event_evidence(model: PyTree, batch: PyTree) -> Evidence | None:
    """Simulate the event network or the layers of `model` on their input in the batch.

    The input is the first floating-point array in the batch that has the right shape. None unless
    `model` contains exactly one network, layer or sequence of layers, and the batch its input.
    """
    found = _with_input(model, batch)
    return None if found is None else _simulated(*found)


def flat_readouts(model: PyTree, batch: PyTree) -> Bool[np.ndarray, " outputs"]:
    """Mask of the readouts whose potential exceeds its initial value in no sample of the batch.

    The input is that of [`event_evidence`][]. Empty without it, and for a convolutional layer.
    """
    found = _with_input(model, batch)
    last = None if found is None else unwrap(_last(found[0]))
    if found is None or not isinstance(last, EventNetwork | EventLinear):
        return np.zeros(0, bool)
    n = last.n_neurons
    outputs = list(last.outputs) if isinstance(last, EventNetwork) else slice(None)
    never = last.neuron.never_reset(n)[outputs]
    if not never.any():
        return never
    initial = np.asarray(last.neuron.observe(last.neuron.init_state(n)))[outputs]
    return never & ~np.any(np.asarray(_maxima(*found)) > initial, axis=0)


def _with_input(model: PyTree, batch: PyTree) -> tuple[_EventModel, Array] | None:
    """Return the only network or sequence of layers of `model`, and its input in the batch."""
    models = _event_models(model)
    for x in jax.tree.leaves(batch) if len(models) == 1 else ():
        if is_floating(x) and _takes(models[0], x):
            return models[0], jnp.asarray(x)
    return None


def output_gradients(grads: PyTree) -> Bool[Array, " outputs"]:
    """Mask of the outputs whose incoming weights have a non-zero gradient.

    Empty unless the pytree of gradients contains exactly one network, layer or sequence of layers,
    and the weights of its outputs train.
    """
    models = _event_models(grads)
    last = _last(models[0]) if len(models) == 1 else None
    weights = jax.tree.leaves(getattr(last, "weights", None))
    if last is None or len(weights) != 1 or weights[0].ndim != 2:
        return jnp.zeros(0, bool)
    received = weights[0].reshape(len(weights[0]), last.neuron.receptors, -1)
    outputs = list(last.outputs) if isinstance(last, EventNetwork) else slice(None)
    return jnp.any(received[..., outputs] != 0, axis=(0, 1))


def _simulated(model: _EventModel, in_times: Array) -> Evidence:
    """Evidence from the spikes of all neurons: silent outputs, silent layers, failed samples."""
    last = _last(model)
    late = getattr(last, "pseudospikes", None) is not None
    silent, causes, advice = np.zeros((len(in_times), 0), bool), [], []
    for name, found in responses(model, in_times):
        for status, share in found.failures().items():
            where = "" if isinstance(model, EventNetwork) else f" in {name}"
            causes.append(f"{percent(share)} of the samples end with the status {status}{where}")
            advice += [_LIMITS[status]] if status in _LIMITS else []
        missing = found.good[:, None] & (found.counts == 0)
        if found.outputs is not None and late:  # an output with a pseudospike has a time
            silent = np.isposinf(_first_spikes(model, in_times))
        elif found.outputs is not None:
            # In a failed sample, an output without a spike does not count as silent.
            silent = np.zeros((len(in_times), len(found.outputs)), bool)
            silent[:, found.outputs] = missing
        elif found.good.any() and missing[found.good].all():
            causes.append(f"all neurons of {name} are silent")
    # A failed sample counts for the outputs and for the hidden neurons of a network.
    return Evidence(silent, True, *(tuple(dict.fromkeys(x)) for x in (causes, advice)))


@eqx.filter_jit
def _first_spikes(model: _EventModel, in_times: Array) -> Array:
    return model.ttfs(in_times, throw=False)


@eqx.filter_jit
def _maxima(model: _EventModel, in_times: Array) -> Array:
    return model.maxima(in_times, throw=False)


def _event_models(tree: PyTree) -> list[_EventModel]:
    """Networks and layers of a pytree. A sequence of layers counts as one."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, _EventModel))
    return [x for x in leaves if isinstance(x, _EventModel)]


def _last(model: Any) -> EventNetwork | AbstractLayer | None:
    """Return the network or the layer that contains the outputs, or None."""
    if isinstance(model, EventSequential):
        return _last(model.layers[-1])
    return model if isinstance(model, EventNetwork | AbstractLayer) else None


def _takes(model: _EventModel, x: ArrayLike) -> bool:
    """Return whether an array has the shape of a batch of input spikes."""
    if isinstance(model, EventNetwork):
        return np.ndim(x) == 3 and np.shape(x)[1] == model.n_inputs
    try:
        eqx.filter_eval_shape(lambda model, x: model.counts(x, throw=False), model, x)
    except (TypeError, ValueError):
        return False
    return np.ndim(x) >= 3
