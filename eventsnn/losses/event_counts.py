"""Spike-count losses of spike times, as `EventNetwork.spikes` returns them."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..checks import floating, positive
from .classes import at_least_float32


def soft_counts(
    times: Float[ArrayLike, "*batch k"], *, t_max: float, tau: float
) -> Float[Array, "*batch"]:
    r"""Smooth spike count until `t_max`, in which late spikes count less:

    $$c = \sum_{t_i < t_\text{max}} \left(1 - e^{-(t_\text{max} - t_i)/\tau}\right)$$

    A spike count is a step function of the parameters and has no useful gradient. In $c$ the
    contribution of a spike that crosses `t_max` grows gradually, over about `tau`. Hence $c$ is a
    differentiable function of the spike times. It is continuous in the parameters of the network
    if spikes appear only at the end of the simulation, as those of QIF neurons do (Klos &
    Memmesheimer, arXiv:2309.14523).

    **Arguments:**

    - `times`: spike times of each output along the last axis, in any order, padded with `inf`.
    - `t_max`: end of the simulation, > 0, in the unit of `times`.
    - `tau`: time constant, > 0, in the unit of `times`. As it tends to 0, $c$ tends to the number
        of spikes.

    **Returns:** the counts, in float32 or higher precision.

    **Raises:** `ValueError` unless `t_max` and `tau` are > 0 and `times` is an array of numbers.
    """
    t_max, tau = positive("t_max", t_max), positive("tau", tau)
    times = at_least_float32("times", times)
    if times.ndim == 0:
        raise ValueError("times must have shape (*batch, k), got shape ().")
    # Neither the value nor the derivative of padding may become inf - inf. NaN is kept.
    late = times >= t_max
    left = t_max - jnp.where(late, t_max, times)
    return jnp.sum(jnp.where(late, 0.0, -jnp.expm1(-left / tau)), axis=-1)


def mse_soft_count(
    times: Float[ArrayLike, "*batch k"],
    targets: Float[ArrayLike, "*batch"],
    *,
    t_max: float,
    tau: float,
) -> Float[Array, ""]:
    r"""Mean squared error of [`soft_counts`][]: $\operatorname{mean}[(c - c^*)^2]$.

    Set `max_spikes` of `EventNetwork.spikes` to more than the largest target. Otherwise the loss
    does not detect an excess of spikes.

    **Arguments:** as for [`soft_counts`][], and

    - `targets`: target spike count of each output.

    **Returns:** the mean over outputs and batch, in float32 or higher precision.

    **Raises:** `ValueError` if the shapes do not match, or for a constant out of range.
    """
    counts = soft_counts(times, t_max=t_max, tau=tau)
    targets = floating("targets", targets)
    if targets.shape != counts.shape:
        raise ValueError(
            f"targets must have shape {counts.shape}, the shape of times without its last axis, "
            f"got shape {targets.shape}."
        )
    return jnp.mean((counts - targets.astype(counts.dtype)) ** 2)
