"""Classification from first spike times, as `EventNetwork.ttfs` returns them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from ..checks import not_negative, positive
from .classes import array_and_labels
from .cross_entropy import cross_entropy


def ce_ttfs(
    times: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    tau0: float,
    t_max: float,
    tau1: float | None = None,
    alpha: float = 0.0,
) -> Float[Array, ""]:
    r"""Cross entropy of exact first spike times (event mode), plus a penalty for late spikes:

    $$\operatorname{mean}\left(-\log \frac{e^{-t_y/\tau_0}}{\sum_k e^{-t_k/\tau_0}}
    + \alpha \left(e^{t_y/\tau_1} - 1\right)\right)$$

    where $t_y$ is the first spike time of the correct class. The first term trains the correct
    output to fire before the others, the second term to fire early (Wunderlich & Pehle, Scientific
    Reports 11:12829, 2021, arXiv:2009.08378). [`ce_temporal`][] is the loss of the discrete-time
    mode, for the steps of spikes.

    A silent output counts as firing at `t_max` and has no gradient, since there is no spike to
    shift. If the output of the correct class is silent, the other outputs of that sample have no
    gradient either, as in the code of that paper. Their gradient would only delay them until they
    are silent as well, and could silence the whole network permanently.

    **Arguments:**

    - `times`: first spike time of the output of each class, as `EventNetwork.ttfs` or a layer
        returns it. `inf` means no spike.
    - `labels`: the correct class of each sample.
    - `tau0`: softmax temperature, > 0, in the unit of `times`.
    - `t_max`: the time limit of the simulation, > 0. Later spikes count as silent. With
        [`eventsnn.Pseudospikes`][], give the end of the pseudospikes, which is
        `layer.pseudospikes.end(layer.t_max)` for the layer or network of the outputs. With the
        `t_max` of the layer, pseudospikes count as silent and have no gradient.
    - `tau1`: time scale of the penalty for late spikes, > 0. Default: None, allowed only with
        `alpha=0`.
    - `alpha`: weight of the second term, >= 0. Default: 0.

    **Returns:** the mean over the batch, dimensionless, in float32 or higher precision. The first
    term is numerically stable for any `tau0`. The second term overflows in float32 if
    `t_max / tau1` exceeds 88.

    **Raises:** `ValueError` if the shapes do not match, a label or a constant is out of range, or
    `tau1` is missing.
    """
    tau0, t_max = positive("tau0", tau0), positive("t_max", t_max)
    alpha = not_negative("alpha", alpha)
    tau1 = None if tau1 is None else positive("tau1", tau1)
    times, labels = array_and_labels("times", times, labels, ("classes",))
    correct = jnp.take_along_axis(times, labels[..., None], axis=-1, mode="clip")
    times = jnp.where(correct > t_max, jax.lax.stop_gradient(times), times)
    # Not `minimum`, which halves the gradient of a spike exactly at the limit. NaN is kept, so
    # that training detects it.
    correct, times = (jnp.where(t > t_max, t_max, t) for t in (correct, times))
    losses = cross_entropy(-times / tau0, labels)
    if alpha > 0:
        if tau1 is None:
            raise ValueError(f"tau1 must be a time in ms with alpha = {alpha}, got None.")
        losses = losses + alpha * jnp.expm1(correct[..., 0] / tau1)
    return jnp.mean(losses)


def accuracy_ttfs(
    times: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    t_max: float | None = None,
) -> Float[Array, ""]:
    """Fraction of samples in which the correct output fires first.

    Ties go to the output with the lowest index. A sample without output spikes or with a NaN counts
    as misclassified.

    **Arguments:**

    - `times`: first spike time of the output of each class. `inf` means no spike.
    - `labels`: the correct class of each sample.
    - `t_max`: time after which a spike is no prediction, > 0: with the `t_max` of the network, a
        sample in which all outputs fire only pseudospikes counts as misclassified. Default: None,
        every spike is a prediction, including pseudospikes.

    **Returns:** a number in [0, 1].

    **Raises:** `ValueError` if the shapes do not match, a label is out of range, or `t_max` is not
    finite and > 0.
    """
    times, labels = array_and_labels("times", times, labels, ("classes",))
    if t_max is not None:
        times = jnp.where(times > positive("t_max", t_max), jnp.inf, times)
    answers = jnp.argmin(times, axis=-1).astype(labels.dtype)
    return jnp.mean((answers == labels) & (jnp.min(times, axis=-1) < jnp.inf))
