"""Classification from membrane potentials at given times, as `EventNetwork.potentials_at` returns
them.

Here the time axis is last. The module `membranes` has the losses of the discrete mode, whose time
axis is first, with one value per step.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ..checks import floating, is_concrete, raise_if
from .classes import array_and_labels
from .cross_entropy import cross_entropy


def ce_max_potential(
    potentials: Float[ArrayLike, "*batch classes times"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    r"""Cross entropy of the maximal membrane potentials,
    $-\log\operatorname{softmax}(\max_t V)_y$ (Wunderlich & Pehle, Scientific Reports 11:12829,
    2021, arXiv:2009.08378).

    The maximum is taken over the given times. The paper uses the maximum over continuous time.

    **Arguments:**

    - `potentials`: membrane potential of the output of each class, time axis last. The potential of
        a neuron that fires never exceeds its threshold. Give the outputs a threshold that they do
        not reach.
    - `labels`: the correct class of each sample.

    **Returns:** the mean over the batch, in float32 or higher precision.

    **Raises:** `ValueError` if the shapes do not match, or a label is out of range.
    """
    potentials, labels = array_and_labels("potentials", potentials, labels, ("classes", "times"))
    return jnp.mean(cross_entropy(jnp.max(potentials, axis=-1), labels))


def ce_integrated_potential(
    potentials: Float[ArrayLike, "*batch classes times"],
    labels: Int[ArrayLike, "*batch"],
    *,
    times: Float[ArrayLike, " times"],
) -> Float[Array, ""]:
    r"""Cross entropy of the membrane potentials integrated over time,

    $$-\log\operatorname{softmax}\left(\int V \,dt\right)_y$$

    (Nowotny, Turner & Knight, Neuromorphic Computing and Engineering 5:014001, 2025,
    arXiv:2212.01232). The integral uses the trapezoidal rule between the given times. The loss is
    differentiable with respect to the times, too.

    **Arguments:** as for [`ce_max_potential`][], and

    - `times`: times of the potentials, at least two, strictly increasing. Their unit sets the scale
        of the logits. Divide the times by their span to use the mean potentials as logits.

    **Raises:** `ValueError` if the shapes do not match, a label is out of range, or the times are
    not strictly increasing.
    """
    potentials, labels = array_and_labels("potentials", potentials, labels, ("classes", "times"))
    times = floating("times", times)
    if times.shape != potentials.shape[-1:] or times.size < 2:
        raise ValueError(
            f"times must have shape ({potentials.shape[-1]},) with at least two entries, one per "
            f"entry of the last axis of potentials, got shape {times.shape}."
        )
    if is_concrete(times):
        rising = np.all(np.diff(np.asarray(times, float)) > 0)
        raise_if("times", times, ~rising, "must be strictly increasing")
    widths = jnp.diff(times.astype(potentials.dtype))
    integral = jnp.sum((potentials[..., 1:] + potentials[..., :-1]) / 2 * widths, axis=-1)
    return jnp.mean(cross_entropy(integral, labels))
