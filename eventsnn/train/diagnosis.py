"""Diagnosis of a gradient step: non-finite values, zero gradients, silent outputs.

Used by [`eventsnn.train.fit`][], and available for your own training loops.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree

from .. import checks
from .evidence import Evidence, evidence_of, has_network
from .wording import grouped, is_floating, listed, paths_of, percent


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
            raise ValueError(f"{name} must have concrete values, got traced ones, as in jax.jit.")
    if loss is not None and np.shape(checks.numbers("loss", loss, "a real number")) != ():
        raise ValueError(f"loss must be a scalar, got shape {np.shape(loss)}.")
    evidence = None if outputs is None else evidence_of(outputs)
    return make_diagnosis(loss, model, grads, evidence, batch, has_networks=has_network(model))


def make_diagnosis(
    loss: Any,
    model: PyTree,
    grads: PyTree,
    evidence: Evidence | None,
    batch: PyTree,
    *,
    has_networks: bool,
) -> Diagnosis:
    """Make the [`Diagnosis`][] from the evidence of the outputs.

    `has_networks` states whether the model contains an event network.
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
        causes = [*causes, *evidence.causes, *grouped(silent, "silent")]
        advice += evidence.advice
        if silent.any():
            advice += _advice_for_silence(evidence.times, finite)
    times = evidence is not None and evidence.times
    if not causes and not finite and not times and not has_networks:  # inf is padding in times
        causes = _in_batch(batch, np.isinf, "infinite")
    if not finite and not bad_data:
        advice += ["a lower learning rate", "clipped gradients (optax.clip_by_global_norm)"]
    if symptoms and not causes and evidence is None:
        advice.append("outputs=... to see which outputs are silent")
    return Diagnosis(tuple(symptoms), tuple(causes), tuple(advice), silent, finite)


def _all_zero(tree: PyTree) -> bool:
    leaves = [x for x in jax.tree.leaves(tree) if is_floating(x)]
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


def _in_batch(batch: PyTree, condition: Callable[[Any], Any], what: str) -> list[str]:
    found = []
    for path, x in jax.tree_util.tree_leaves_with_path(batch):
        if np.ndim(x) and np.size(x) and is_floating(x):
            share = float(condition(np.asarray(x)).reshape(len(x), -1).any(axis=1).mean())
            if share:
                name = f"batch{jax.tree_util.keystr(path)}"
                found.append(f"{name} is {what} in {percent(share)} of the samples")
    return found


def _advice_for_silence(times: bool, finite: bool) -> list[str]:
    if not times:
        return ["larger initial weights", "lower thresholds"]
    advice = ["larger initial weights", "pseudospikes (eventsnn.Pseudospikes)"]
    if not finite:
        loss = "a loss that is finite for silent outputs (eventsnn.losses.ce_ttfs)"
        advice.append(loss)
    return advice
