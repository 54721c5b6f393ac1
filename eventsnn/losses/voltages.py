"""Classification by membrane potentials at given times, as `EventNetwork.states_at` gives them.

Here the time is the last axis. The losses of traces with the time first, one value a step, are in
`membranes`.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..checks import floating, known, refuse
from .classes import cross_entropy
from .ttfs import scored


def max_voltage_ce(
    voltages: Float[ArrayLike, "*batch classes times"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    r"""The cross entropy of each output's largest potential,
    $-\log\operatorname{softmax}(\max_t V)_y$ (Wunderlich & Pehle, Scientific Reports 11:12829,
    2021, arXiv:2009.08378, who find the maximum itself; here it is that of the sampled times).

    **Arguments:**

    - `voltages`: the potential of the output of each class, the time last. An output that spikes
        has no larger maximum than its threshold, so use one that it does not reach.
    - `labels`: the right class of each sample.

    **Returns:** the mean over the batch, in float32 or more.

    **Raises:** `ValueError` if shapes do not fit, or a label is not a class.
    """
    voltages, labels = scored("voltages", voltages, labels, ("classes", "times"))
    return jnp.mean(cross_entropy(jnp.max(voltages, axis=-1), labels))


def integrated_voltage_ce(
    voltages: Float[ArrayLike, "*batch classes times"],
    labels: Int[ArrayLike, "*batch"],
    *,
    times: Float[ArrayLike, " times"],
) -> Float[Array, ""]:
    r"""The cross entropy of each output's potential, integrated over the time:

    $$-\log\operatorname{softmax}\left(\int V \,dt\right)_y$$

    by the trapezoidal rule between the given times (Nowotny, Turner & Knight, Neuromorphic
    Computing and Engineering 5:014001, 2025, arXiv:2212.01232). Differentiable in the times, too.

    **Arguments:** as for [`max_voltage_ce`][], and

    - `times`: when the potentials were read, at least two and rising. They set the scale of the
        logits: divide them by their span for the mean potential instead.

    **Raises:** `ValueError` if shapes do not fit, a label is not a class, or the times do not rise.
    """
    voltages, labels = scored("voltages", voltages, labels, ("classes", "times"))
    times = floating("times", times)
    if times.shape != voltages.shape[-1:] or times.size < 2:
        raise ValueError(
            f"times must have shape ({voltages.shape[-1]},), that of the last axis of voltages, "
            f"and at least two entries, got shape {times.shape}."
        )
    if known(times):
        rising = np.all(np.diff(np.asarray(times, float)) > 0)
        refuse("times", times, ~rising, "must rise")
    widths = jnp.diff(times.astype(voltages.dtype))
    integral = jnp.sum((voltages[..., 1:] + voltages[..., :-1]) / 2 * widths, axis=-1)
    return jnp.mean(cross_entropy(integral, labels))
