"""Diagnosis of a gradient step: non-finite values, zero gradients, silent outputs.

Used by [`eventsnn.train.fit`][], and available for your own training loops.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from .. import checks
from ..event import EventNetwork, Status
from ..event.solution import MEMBERS

# Maximum number of names, and of groups of outputs, in one line.
_SHOWN = 6

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
        known = self.silent.shape[1] > outputs.max()
        return bool(known and self.silent[:, outputs].all())


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Result of [`diagnose`][]."""

    symptoms: tuple[str, ...]
    """Problems of the step: values that are not finite, or gradients that are all 0."""
    causes: tuple[str, ...]
    """Problems of the batch and the outputs: NaN, failed samples, silent outputs."""
    advice: tuple[str, ...]
    """Suggestions to fix the problem."""
    silent: Float[np.ndarray, " outputs"] | None
    """Fraction of samples in which each output is silent. `None` without outputs."""
    finite: bool
    """True if the loss, the gradients and the parameters are finite."""

    def message(self, where: str = "") -> str:
        """Format all findings in one line. Return an empty string without findings.

        **Arguments:**

        - `where`: text that follows the symptoms, for example `"at step 3"`. Default: empty.
        """
        parts = [f"{listed(self.symptoms)} {where}".strip()] if self.symptoms else []
        parts += [listed(self.causes)] if self.causes else []
        if not parts:
            return ""
        tries = f" Try {listed(self.advice, 'or')}." if self.advice else ""
        return f"{': '.join(parts)}.{tries}"

    def report(self, where: str = "") -> None:
        """Raise an error or issue a warning if there are findings.

        If all values are finite but there are other findings, a `UserWarning` with the
        [`message`][] is issued.

        **Arguments:**

        - `where`: as for [`message`][].

        **Raises:** `FloatingPointError` with the [`message`][] if the loss, a gradient or a
        parameter is not finite.
        """
        message = self.message(where)
        if not self.finite:
            raise FloatingPointError(message)
        if message:
            warnings.warn(message, stacklevel=2)


def diagnose(
    *,
    loss: Float[ArrayLike, ""] | None = None,
    model: PyTree = None,
    grads: PyTree = None,
    outputs: ArrayLike | None = None,
    batch: PyTree = None,
) -> Diagnosis:
    """Check whether a gradient step went wrong, and why.

    For your own training loops, outside `jax.jit`. All arguments are optional:

    ```python
    model, opt_state, loss = step(model, opt_state, batch)
    if not jnp.isfinite(loss):
        times = net.ttfs(batch[0], throw=False)
        diagnose(loss=loss, outputs=times, batch=batch).report(f"at step {i}")
    ```

    **Arguments:**

    - `loss`: the loss, a scalar. It should be finite.
    - `model`: the parameters after the step, any pytree. Its floating-point arrays should be
        finite.
    - `grads`: the gradients, any pytree. They should be finite, and not all 0 unless the loss is 0.
    - `outputs`: activity of the outputs, of shape `(batch, n_outputs)`. Floating-point numbers are
        spike times, `inf` for a silent output (`net.ttfs(in_times, throw=False)`,
        `net.spikes(...)[..., 0]`). Integers or booleans are spike counts, 0 for a silent output
        (`net.counts(in_times)`, or `run.spikes.any(axis=0)` in the discrete-time mode).
    - `batch`: a pytree of arrays with the batch as their first axis. They should contain no NaN.

    An argument that is None, the default, is not checked.

    **Returns:** a [`Diagnosis`][]. Outputs are named by their position along the last axis.

    **Raises:** `ValueError` for a loss or outputs of another shape, and for traced values.
    """
    given = {"loss": loss, "model": model, "grads": grads, "outputs": outputs, "batch": batch}
    for name, tree in given.items():
        if not all(checks.is_concrete(x) for x in jax.tree.leaves(tree)):
            raise ValueError(f"{name} must hold known values, got traced ones (under jax.jit).")
    if loss is not None and np.shape(checks.numbers("loss", loss, "a real number")) != ():
        raise ValueError(f"loss must be a scalar, got shape {np.shape(loss)}.")
    evidence = None if outputs is None else evidence_of(outputs)
    return weigh(loss, model, grads, evidence, batch, networks=has_network(model))


def weigh(
    loss: Any,
    model: PyTree,
    grads: PyTree,
    evidence: Evidence | None,
    batch: PyTree,
    *,
    networks: bool,
) -> Diagnosis:
    """Make the [`Diagnosis`][] from the evidence of the outputs.

    `networks` states whether the model contains an event network.
    """
    symptoms = []
    if loss is not None and not np.isfinite(loss):
        symptoms.append(f"the loss is {float(loss)}")
    symptoms += _not_finite("parameter", model) + _not_finite("gradient", grads)
    finite = not symptoms
    if finite and _all_zero(grads) and (loss is None or loss != 0):
        symptoms.append("all gradients are exactly 0")
    bad_data = _in_batch(batch, np.isnan, "NaN")
    causes, advice = bad_data, ["batches without NaN"] if bad_data else []
    silent = None
    if evidence is not None:
        silent = evidence.silent.mean(axis=0)
        causes = [*causes, *evidence.causes, *_grouped(silent, "silent")]
        advice += evidence.advice
        if silent.any():
            advice += _advice_for_silence(evidence.times, finite)
    times = evidence is not None and evidence.times
    if not causes and not finite and not times and not networks:  # inf is padding in times
        causes = _in_batch(batch, np.isinf, "infinite")
    if not finite and not bad_data:
        advice += ["a lower learning rate", "clipped gradients (optax.clip_by_global_norm)"]
    if symptoms and not causes and evidence is None:
        advice.append("outputs=... to see which outputs are silent")
    return Diagnosis(tuple(symptoms), tuple(causes), tuple(advice), silent, finite)


def evidence_of(outputs: ArrayLike) -> Evidence:
    """Evidence from spike times, spike counts or booleans of shape (batch, n_outputs)."""
    expected = "have shape (batch, n_outputs): first spike times, spike counts or booleans"
    x = np.asarray(checks.numbers("outputs", outputs, f"real and {expected}", boolean=True))
    if x.ndim != 2 or not x.size:
        raise ValueError(f"outputs must {expected}, got shape {x.shape}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return Evidence(x == 0, times=False)
    causes = _grouped(np.isnan(x).mean(axis=0), "NaN")
    return Evidence(np.isposinf(x), times=True, causes=tuple(causes))


def no_evidence(error: Exception) -> Evidence:
    """Empty evidence, with the error that prevented it as cause."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return Evidence(np.zeros((1, 0), bool), False, (f"outputs cannot be found: {reason}",))


def has_network(model: PyTree) -> bool:
    """Return whether a pytree contains an event network."""
    return bool(_nets(model))


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
        if np.ndim(x) == 3 and x.shape[1] == net.n_inputs and _is_floating(x):
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
    received = weights[0].reshape(len(weights[0]), nets[0].neuron.ports, -1)
    return jnp.any(received[..., list(nets[0].outputs)] != 0, axis=(0, 1))


def paths_of(tree: PyTree, holds: Callable[[Any], Any]) -> list[str]:
    """Paths, such as `layers[0].weight`, of the floating-point arrays for which `holds` is true."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [path_name(path) for path, x in leaves if _is_floating(x) and holds(np.asarray(x))]


def path_name(path: Any) -> str:
    """Format a path in a pytree in Python syntax, without leading dot: `layers[0].weight`."""
    return jax.tree_util.keystr(path).removeprefix(".")


def _simulated(net, in_times):
    solution = _simulate(net, jnp.asarray(in_times))
    sources = np.asarray(solution.sources)[..., None]
    silent = ~np.any(sources == np.asarray(net.outputs), axis=1)
    silent &= ~net.neuron.never_reset(net.n_neurons)[list(net.outputs)]  # a readout never fires
    done = np.asarray(solution.status == Status.completed)
    # In a failed sample, an output without a spike does not count as silent.
    causes, advice = [], []
    for name in MEMBERS[1:]:
        met = np.asarray(solution.status == getattr(Status, name)) & silent.any(axis=1)
        if met.any():
            causes.append(f"{_percent(met.mean())} of the samples end with the status {name}")
            advice += [f"a larger {_LIMITS[name]}"] if name in _LIMITS else []
    return Evidence(silent & done[:, None], True, tuple(causes), tuple(advice))


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


def _is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)


def _all_zero(tree: PyTree) -> bool:
    leaves = [x for x in jax.tree.leaves(tree) if _is_floating(x)]
    return bool(leaves) and not any(np.any(np.asarray(x) != 0) for x in leaves)


def _not_finite(kind: str, tree: PyTree) -> list[str]:
    names = paths_of(tree, lambda x: not np.all(np.isfinite(x)))
    if not names:
        return []
    if names == [""]:
        return [f"the {kind} is not finite"]
    if len(names) == 1:
        return [f"the {kind} {names[0]} is not finite"]
    return [f"the {kind}s {listed(names)} are not finite"]


def _in_batch(batch: PyTree, holds: Callable[[Any], Any], what: str) -> list[str]:
    found = []
    for path, x in jax.tree_util.tree_leaves_with_path(batch):
        if np.ndim(x) and np.size(x) and _is_floating(x):
            share = float(holds(np.asarray(x)).reshape(len(x), -1).any(axis=1).mean())
            if share:
                name = f"batch{jax.tree_util.keystr(path)}"
                found.append(f"{name} is {what} in {_percent(share)} of the samples")
    return found


def _grouped(shares: np.ndarray, what: str) -> list[str]:
    """Format shares as `outputs 0 and 2 are silent in 37 % of the samples of the batch`.

    The largest share comes first.
    """
    groups: dict[str, list[str]] = {}
    for i in np.argsort(-shares, kind="stable"):
        if shares[i] > 0:
            groups.setdefault(_percent(float(shares[i])), []).append(str(i))
    if not groups:
        return []
    found = []
    for share, names in list(groups.items())[:_SHOWN]:
        verb = "" if found else f" {'is' if len(names) == 1 else 'are'} {what}"
        found.append(f"{outputs_named(names)}{verb} in {share}")
    found += ["others in fewer"] if len(groups) > _SHOWN else []
    return [f"{listed(found)} of the samples of the batch"]


def outputs_named(names: Iterable[Any]) -> str:
    """Format outputs as `output 1`, or `outputs 0 and 2`."""
    words = [str(name) for name in names]
    return f"output {words[0]}" if len(words) == 1 else f"outputs {listed(words)}"


def _advice_for_silence(times: bool, finite: bool) -> list[str]:
    if not times:
        return ["larger initial weights", "lower thresholds"]
    advice = ["larger initial weights", "pseudospikes (eventsnn.Pseudospikes)"]
    if not finite:
        loss = "a loss that is finite for silent outputs (eventsnn.losses.ce_ttfs)"
        advice.append(loss)
    return advice


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def listed(words: Iterable[str], last: str = "and") -> str:
    """Format words as `a, b and c`. A long list ends with the number of omitted words."""
    words = list(words)
    if len(words) > _SHOWN + 1:
        words = [*words[:_SHOWN], f"{len(words) - _SHOWN} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
