"""Classification by the first spike of each output, as `EventNetwork.ttfs` gives them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from ..checks import not_negative, positive
from .classes import class_labels, cross_entropy, wide


def ttfs_cross_entropy(
    times: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    tau0: float,
    t_max: float,
    tau1: float | None = None,
    alpha: float = 0.0,
) -> Float[Array, ""]:
    r"""The cross entropy of first spikes, and a price of late ones:

    $$\operatorname{mean}\left(-\log \frac{e^{-t_y/\tau_0}}{\sum_k e^{-t_k/\tau_0}}
    + \alpha \left(e^{t_y/\tau_1} - 1\right)\right)$$

    where $t_y$ is the first spike of the right class: it is to come first, and early (Wunderlich &
    Pehle, Scientific Reports 11:12829, 2021, arXiv:2009.08378).

    A silent output counts as one that fires at `t_max`, in the value only: there is no spike that
    could be shifted, so it passes no gradient back. Where the right class is silent the others
    pass none either, as in that paper's code. They could only fire later, until they are silent
    as well: with that gradient a whole network can fall silent for good.

    **Arguments:**

    - `times`: the first spike of the output of each class (ms); `inf` where there is none.
    - `labels`: the right class of each sample.
    - `tau0`: by how much the right class should be first (ms).
    - `t_max`: the time limit of the simulation (ms); what fires later is silent.
    - `tau1`: what is late (ms). Needed where `alpha` is not 0.
    - `alpha`: the weight of the second term, >= 0.

    **Returns:** the mean over the batch, without units, in float32 or more. The first term is
    stable however small `tau0` is; the second overflows in float32 for `t_max / tau1` above 88.

    **Raises:** `ValueError` if shapes do not fit, a label is not a class, a constant is out of
    range, or `tau1` is missing.
    """
    tau0, t_max = positive("tau0", tau0), positive("t_max", t_max)
    alpha = not_negative("alpha", alpha)
    tau1 = None if tau1 is None else positive("tau1", tau1)
    times, labels = scored("times", times, labels, ("classes",))
    right = jnp.take_along_axis(times, labels[..., None], axis=-1, mode="clip")
    times = jnp.where(right > t_max, jax.lax.stop_gradient(times), times)
    # Not `minimum`, which halves the gradient of a spike exactly at the limit. A NaN passes
    # through, so that training sees it.
    right, times = (jnp.where(t > t_max, t_max, t) for t in (right, times))
    losses = cross_entropy(-times / tau0, labels)
    if alpha > 0:
        if tau1 is None:
            raise ValueError(f"tau1 must be a time in ms with alpha = {alpha}, got None.")
        losses = losses + alpha * jnp.expm1(right[..., 0] / tau1)
    return jnp.mean(losses)


def accuracy_ttfs(
    times: Float[ArrayLike, "*batch classes"], labels: Int[ArrayLike, "*batch"]
) -> Float[Array, ""]:
    """The share of samples in which the right output fired first.

    Of equal times the first output's wins. A sample in which nobody fired is wrong, and so is one
    with a NaN.

    **Arguments:**

    - `times`: the first spike of the output of each class; `inf` where there is none.
    - `labels`: the right class of each sample.

    **Returns:** a number in [0, 1].

    **Raises:** `ValueError` if shapes do not fit, or a label is not a class.
    """
    times, labels = scored("times", times, labels, ("classes",))
    answers = jnp.argmin(times, axis=-1).astype(labels.dtype)
    return jnp.mean((answers == labels) & (jnp.min(times, axis=-1) < jnp.inf))


def scored(
    name: str, value: ArrayLike, labels: ArrayLike, axes: tuple[str, ...]
) -> tuple[Float[Array, "..."], Int[Array, "*batch"]]:
    """A record of the shape (*batch, *axes), in float32 or more, and its labels.

    **Raises:** `ValueError` if shapes do not fit, or a label is not a class.
    """
    x = wide(name, value)
    if x.ndim < len(axes) or x.size == 0:
        raise ValueError(
            f"{name} must have shape (*batch, {', '.join(axes)}), at least one of each, "
            f"got shape {x.shape}."
        )
    batch = x.shape[: x.ndim - len(axes)]
    return x, class_labels(labels, batch, x.shape[len(batch)], of=name)
