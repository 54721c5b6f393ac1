"""Activity of the outputs in a batch, as evidence for a diagnosis."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, PyTree

from .. import checks
from ..event import AbstractLayer, EventNetwork, Status
from ..event.solution import MEMBERS
from .wording import grouped, is_floating, percent

# Arguments of `EventNetwork` that set a limit, by the status of a sample that exceeds it.
_LIMITS = {
    "max_events": "max_events",
    "max_steps": "max_steps",
    "queue_overflow": "queue_capacity",
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
    kinds = EventNetwork | AbstractLayer
    leaves = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, kinds))
    return any(isinstance(x, kinds) for x in leaves)


def event_evidence(model: PyTree, batch: PyTree) -> Evidence | None:
    """Simulate the event network of `model` on its input in the batch. Return the evidence.

    The input is the first floating-point array of shape (batch, n_inputs, k). None unless `model`
    contains exactly one event network, and the batch its input.
    """
    nets = _nets(model)
    if len(nets) != 1:
        return None
    (net,) = nets
    for x in jax.tree.leaves(batch):
        if np.ndim(x) == 3 and x.shape[1] == net.n_inputs and is_floating(x):
            if net.pseudospikes is not None:  # an output with a pseudospike has a time
                return evidence_of(_first_spikes(net, jnp.asarray(x)))
            return _simulated(net, x)
    return None


def output_gradients(grads: PyTree) -> Bool[Array, " outputs"]:
    """Mask of the outputs whose incoming weights have a non-zero gradient.

    Empty unless the pytree of gradients contains exactly one event network, and its weights train.
    """
    nets = _nets(grads)
    weights = jax.tree.leaves(nets[0].weights) if len(nets) == 1 else []
    if len(weights) != 1 or weights[0].ndim != 2:
        return jnp.zeros(0, bool)
    received = weights[0].reshape(len(weights[0]), nets[0].neuron.receptors, -1)
    return jnp.any(received[..., list(nets[0].outputs)] != 0, axis=(0, 1))


def _simulated(net, in_times):
    solution = _simulate(net, jnp.asarray(in_times))
    sources = np.asarray(solution.sources)[..., None]
    silent = ~np.any(sources == np.asarray(net.outputs), axis=1)
    silent &= ~net.neuron.never_reset(net.n_neurons)[list(net.outputs)]  # a readout never fires
    completed = np.asarray(solution.status == Status.completed)
    # In a failed sample, an output without a spike does not count as silent.
    causes, advice = [], []
    for name in MEMBERS[1:]:
        failed = np.asarray(solution.status == getattr(Status, name)) & silent.any(axis=1)
        if failed.any():
            causes.append(f"{percent(failed.mean())} of the samples end with the status {name}")
            advice += [f"a larger {_LIMITS[name]}"] if name in _LIMITS else []
    return Evidence(silent & completed[:, None], True, tuple(causes), tuple(advice))


@eqx.filter_jit
def _first_spikes(net, in_times):
    return net.ttfs(in_times, throw=False)


@eqx.filter_jit
def _simulate(net, in_times):
    return net.simulate(in_times, throw=False)


def _nets(tree: PyTree) -> list[EventNetwork]:
    def is_net(x):
        return isinstance(x, EventNetwork)

    return [x for x in jax.tree.leaves(tree, is_leaf=is_net) if is_net(x)]
